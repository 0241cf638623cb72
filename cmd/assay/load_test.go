package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/assay-bench/assay/reference/stack"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios/load"
)

// outcomeOfLoad is what one assay load left.
type outcomeOfLoad struct {
	exit     results.Exit
	out, err string
	result   *load.Result // nil: there is none
}

// assayLoad runs the command in this process.
func assayLoad(ctx context.Context, t *testing.T, args ...string) outcomeOfLoad {
	t.Helper()
	file := filepath.Join(t.TempDir(), "result.json")
	var out, errs bytes.Buffer
	code := run(ctx, append(append([]string{"load"}, args...), "--save", file), strings.NewReader(""), &out, &errs)
	o := outcomeOfLoad{exit: code, out: out.String(), err: errs.String()}
	if r, err := readLoad(file); err == nil {
		o.result = r
	}
	return o
}

// lenient makes a result valid on a busy machine: what is judged lies far above its lateness.
var lenient = []string{"--host-limit", "1", "--latency-bound", "1h"}

func with(args ...string) []string { return append(args, lenient...) }

// webServer answers every request after the delay that the handler takes.
func webServer(t *testing.T, handle func(r *http.Request)) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handle(r)
		_, _ = io.WriteString(w, "ok") // the client may have gone
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// rawServer gives each connection to talk.
func rawServer(t *testing.T, talk func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	done := make(chan struct{})
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				ended := make(chan struct{})
				go func() { talk(conn); close(ended) }()
				select {
				case <-ended:
				case <-done:
				}
				_ = conn.Close() // ends talk
				<-ended
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); close(done); running.Wait() })
	return l.Addr().String()
}

// TestLoadReferenceStack sends to the reference stack by the protocols that it speaks. A closed model is
// labelled as such (load/gate/closed-label), and nothing else is.
func TestLoadReferenceStack(t *testing.T) {
	s, err := stack.Start(t.Context(), stack.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	at := s.Ready().Endpoints
	seen := 0
	for _, args := range [][]string{
		{"thrift://" + at.RPC}, {"ttheader://" + at.RPC, "--size", "3000"}, {"ttheader+buffered://" + at.RPC + "/Echo", "-H", "k: v"},
		{"grpc://" + at.GRPC + "/assay.behave.v1.Behave/Echo", "--body-json", `{"body":"aGk="}`},
		{"grpc://" + at.GRPC + "/grpc.testing.TestService/EmptyCall"},
		{"tls://" + at.TLS, "--insecure", "--groups", "X25519MLKEM768"},
		{"ttheader://" + at.RPC, "--closed", "2"},
	} {
		o := assayLoad(t.Context(), t, with(append(args, "-r", "100", "-d", "300ms")...)...)
		if o.exit != results.ExitPass || o.result.Counts.OK == 0 || o.result.Counts.OK != o.result.Counts.Scheduled {
			t.Errorf("%v: exit %d\n%s%s", args, o.exit, o.out, o.err)
		}
		if closed := slices.Contains(args, "--closed"); closed != strings.Contains(o.out, load.ClosedLabel) {
			t.Errorf("%v: label of the closed model: %s", args, o.out)
		}
		seen++
	}
	if seen == 0 {
		t.Error("nothing was sent")
	}
}

// Thresholds decide the exit code.
func TestLoadThresholds(t *testing.T) {
	url := webServer(t, func(*http.Request) {})
	for _, tt := range []struct {
		threshold string
		exit      results.Exit
	}{
		{"response:p(95)<60000", results.ExitPass},
		{"p(99)>0", results.ExitPass},
		{"rate<0.01", results.ExitPass},
		{"count==20", results.ExitPass},
		{"response:max<0.000001", results.ExitFail},
		{"http_req_failed:rate>0.5", results.ExitFail},
		{"count>20", results.ExitFail},
	} {
		o := assayLoad(t.Context(), t, with(url, "-r", "100", "-d", "200ms", "--threshold", tt.threshold)...)
		if o.exit != tt.exit {
			t.Errorf("%s: exit %d, want %d\n%s%s", tt.threshold, o.exit, tt.exit, o.out, o.err)
		}
	}
}

// TestLoadAccounts proves load/account/sum: the five numbers add up, and a server that takes everything has
// seen ok + error + timeout.
func TestLoadAccounts(t *testing.T) {
	var seen atomic.Int64
	url := webServer(t, func(r *http.Request) {
		if seen.Add(1)%10 == 0 {
			panic(http.ErrAbortHandler) // the request is taken and the connection closed
		}
	})
	o := assayLoad(t.Context(), t, with(url, "-X", "POST", "-r", "400", "-d", "500ms")...)
	c := o.result.Counts
	if c.Scheduled != 200 || c.OK+c.Error+c.Timeout+c.Unsent != c.Scheduled || seen.Load() != c.OK+c.Error+c.Timeout || c.Error != 20 {
		t.Errorf("server saw %d, counts %+v, errors %v", seen.Load(), c, o.result.Errors)
	}
	if !strings.Contains(o.out, "200 scheduled = 180 ok + 20 error + 0 timeout + 0 unsent") {
		t.Errorf("the output lacks the account:\n%s", o.out)
	}
}

// TestLoadUnsent proves load/account/unsent: an interrupt with a full queue leaves unsent arrivals with their
// waiting time, and the result is INVALID.
func TestLoadUnsent(t *testing.T) {
	hold := make(chan struct{})
	url := webServer(t, func(*http.Request) { <-hold })
	t.Cleanup(func() { close(hold) })
	ctx, interrupt := context.WithCancel(t.Context())
	time.AfterFunc(time.Second, interrupt) // the user's
	o := assayLoad(ctx, t, with(url, "-c", "2", "-r", "100", "-d", "1m", "--timeout", "1m")...)
	c, wait := o.result.Counts, o.result.Quantiles[load.UnsentWait]
	if o.exit != results.ExitInconclusive {
		t.Errorf("exit %d\n%s", o.exit, o.out)
	}
	if c.Unsent == 0 || c.Timeout != 2 || c.OK+c.Error+c.Timeout+c.Unsent != c.Scheduled || wait.Count != c.Unsent || wait.Max == 0 {
		t.Errorf("counts %+v, waits %+v", c, wait)
	}
	if !slices.Contains(o.result.Reasons, load.ReasonUnsent) || !slices.Contains(o.result.Reasons, load.ReasonInterrupted) {
		t.Errorf("reasons %v", o.result.Reasons)
	}
}

// TestLoadTimeoutsCount proves load/record/timeouts-count: of requests of which one in twenty is swallowed,
// with a timeout of 2 s, p99 of all is at least 2 s and p99 of ok is not.
func TestLoadTimeoutsCount(t *testing.T) {
	hold := make(chan struct{})
	url := webServer(t, func(r *http.Request) {
		if r.URL.Path == "/hole" {
			<-hold
		}
	})
	t.Cleanup(func() { close(hold) })
	rows := "path\nhole\n" + strings.Repeat("fine\n", 19)
	data := filepath.Join(t.TempDir(), "rows.csv")
	if err := os.WriteFile(data, []byte(rows), 0o600); err != nil {
		t.Fatal(err)
	}
	o := assayLoad(t.Context(), t, with(url+"/{{path}}", "--data", data, "-r", "200", "-d", "2s", "--timeout", "2s")...)
	all, ok := o.result.Quantiles[load.ResponseAll], o.result.Quantiles[load.ResponseOK]
	if o.result.Counts.Timeout < 20 || all.P99 < int64(1999*time.Millisecond) || all.Count != o.result.Counts.Scheduled || ok.Count != o.result.Counts.OK {
		t.Errorf("counts %+v, p99 of all %d ns", o.result.Counts, all.P99)
	}
}

// TestLoadUnderHog proves load/gate/validity: a generator that other work keeps from the processor gives an
// INVALID result for its lateness, no threshold verdict, and exit 3.
func TestLoadUnderHog(t *testing.T) {
	url := webServer(t, func(*http.Request) {})
	var stop atomic.Bool
	var running sync.WaitGroup
	for range 8 {
		running.Go(func() {
			for n := uint64(0); !stop.Load(); n += rand.Uint64() & 1 {
			}
		})
	}
	o := assayLoad(t.Context(), t, url, "-r", "500", "-d", "500ms", "--host-limit", "1", "--threshold", "response:p(99)<20")
	stop.Store(true)
	running.Wait()
	if o.exit != results.ExitInconclusive || !slices.Contains(o.result.Reasons, load.ReasonLateness) {
		t.Errorf("exit %d, reasons %v\n%s", o.exit, o.result.Reasons, o.out)
	}
	if !strings.Contains(o.out, "not judged: the result is INVALID") {
		t.Errorf("a threshold was judged:\n%s", o.out)
	}
	if !strings.Contains(o.err, "INVALID, lateness: p99 of its own lateness is") || !strings.Contains(o.err, "--latency-bound") {
		t.Errorf("nobody says what to do:\n%s", o.err)
	}
}

// Whatever makes a result INVALID, the user is told what to do.
func TestRemedies(t *testing.T) {
	r := &load.Result{LatenessJudged: load.Lateness, Quantiles: map[string]load.Quantiles{}}
	for _, reason := range load.Reasons() {
		if reason == load.ReasonServer {
			continue // the truth test's own
		}
		if text := remedy(reason, r); text == string(reason) || len(text) < 20 {
			t.Errorf("%s: %q", reason, text)
		}
	}
}

// TestLoadBadTargets: whatever is wrong with a target is one clear message or an accounted result, and its
// own exit code.
func TestLoadBadTargets(t *testing.T) {
	reset := rawServer(t, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 1))
		_ = c.(*net.TCPConn).SetLinger(0)
	})
	garbage := rawServer(t, func(c net.Conn) {
		_, _ = io.WriteString(c, strings.Repeat("\x00\xff garbage\r\n", 99))
		_, _ = io.Copy(io.Discard, c)
	})
	deaf := rawServer(t, func(c net.Conn) { // never reads
		_ = c.(*net.TCPConn).SetReadBuffer(4096)
		for {
			time.Sleep(10 * time.Millisecond)
			if _, err := c.Write(nil); err != nil {
				return
			}
		}
	})
	mute := rawServer(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	for name, addr := range map[string]string{"reset": reset, "garbage": garbage, "deaf": deaf, "mute": mute} {
		for _, url := range []string{"http://%s/", "grpc://%s/a.B/C", "ttheader://%s", "tcp://%s"} {
			o := assayLoad(t.Context(), t, with(fmt.Sprintf(url, addr), "-r", "100", "-d", "200ms", "--timeout", "400ms", "--size", "200000", "--body", "")...)
			if o.exit != results.ExitFail || o.result == nil {
				t.Errorf("%s %s: exit %d, want %d\n%s%s", name, url, o.exit, results.ExitFail, o.out, o.err)
				continue
			}
			if c := o.result.Counts; c.OK != 0 || c.Error+c.Timeout+c.Unsent != 20 || !strings.Contains(o.out, "FAIL:") {
				t.Errorf("%s %s: %+v\n%s", name, url, c, o.out)
			}
		}
	}
}

// A rate that the machine can not reach is the generator's failure: INVALID, everything accounted for.
func TestLoadUnreachableRate(t *testing.T) {
	echo := rawServer(t, func(c net.Conn) { _, _ = io.Copy(c, c) })
	o := assayLoad(t.Context(), t, "tcp://"+echo, "-r", "50000000", "-d", "4ms", "--host-limit", "1", "--latency-bound", "10ms")
	if c := o.result.Counts; o.exit != results.ExitInconclusive || c.Scheduled != 200_000 || c.OK+c.Error+c.Timeout+c.Unsent != c.Scheduled {
		t.Errorf("exit %d, counts %+v\n%s", o.exit, c, o.out)
	}
	if !slices.Contains(o.result.Reasons, load.ReasonLateness) {
		t.Errorf("reasons %v", o.result.Reasons)
	}
}

// TestLoadMergeThresholds proves load/merge/threshold-after: of four generators one meets a slower target.
// p(70) of the pooled requests is fast and p(80) is slow, whatever the mean of the four p(80) says
// (load/merge/no-average); each segment alone takes no thresholds. A missing and a doubled stripe, and what is
// no result, are refused with exit 2 (load/merge/refuse).
func TestLoadMergeThresholds(t *testing.T) {
	const slow = 60 * time.Millisecond
	fastURL, slowURL := webServer(t, func(*http.Request) {}), webServer(t, func(*http.Request) { time.Sleep(slow) })
	dir := t.TempDir()
	start := time.Now().Add(1500 * time.Millisecond).UTC().Format(time.RFC3339Nano)
	var files [4]string
	var running sync.WaitGroup
	for i := range files {
		files[i] = filepath.Join(dir, fmt.Sprintf("%d.json", i+1))
		url := fastURL
		if i == 2 {
			url = slowURL
		}
		running.Go(func() {
			var errs bytes.Buffer
			args := with("load", url, "-r", "400", "-d", "1s", "--segment", fmt.Sprintf("%d/4", i+1), "--start-at", start, "--save", files[i])
			if code := run(t.Context(), args, strings.NewReader(""), io.Discard, &errs); code != results.ExitPass {
				t.Errorf("segment %d: exit %d: %s", i+1, code, errs.String())
			}
		})
	}
	running.Wait()
	merge := func(args ...string) (results.Exit, string) {
		var out, errs bytes.Buffer
		code := run(t.Context(), append([]string{"load", "merge"}, args...), strings.NewReader(""), &out, &errs)
		return code, out.String() + errs.String()
	}
	for threshold, want := range map[string]results.Exit{
		"response:p(70)<40": results.ExitPass, "response:p(80)<40": results.ExitFail,
		"requests:count==400": results.ExitPass, "requests:count>400": results.ExitFail,
	} {
		if code, text := merge(append(files[:], "--threshold", threshold)...); code != want {
			t.Errorf("%s: exit %d, want %d\n%s", threshold, code, want, text)
		}
	}
	for name, args := range map[string][]string{
		"missing": files[:3], "twice": {files[0], files[1], files[2], files[2]}, "no file": {filepath.Join(dir, "no")}, "no result": {"load_test.go"},
	} {
		if code, text := merge(args...); code != results.ExitUsage || !strings.HasPrefix(text, "assay: ") || strings.Count(text, "\n") != 1 {
			t.Errorf("%s: exit %d\n%s", name, code, text)
		}
	}
}

// TestLoadOneFile proves load/k6/one-file for assay load: the file that assay-k6's tests play gives the
// verdict of its thresholds here too.
func TestLoadOneFile(t *testing.T) {
	s, err := stack.Start(t.Context(), stack.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	raw, err := os.ReadFile("../../scenarios/k6/load.json")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, tt := range []struct {
		old, new string
		exit     results.Exit
	}{{"", "", results.ExitPass}, {`"rate==0"`, `"rate>0"`, results.ExitFail}} {
		file := filepath.Join(dir, "load.json")
		if err := os.WriteFile(file, []byte(strings.Replace(string(raw), tt.old, tt.new, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		o := assayLoad(t.Context(), t, with("ttheader://"+s.Ready().Endpoints.RPC, "--scenario", file)...)
		if o.exit != tt.exit || o.result.Counts.OK != o.result.Counts.Scheduled || o.result.Schedule.Seed != 7 {
			t.Errorf("%q: exit %d, want %d\n%s%s", tt.new, o.exit, tt.exit, o.out, o.err)
		}
	}
}

// A sweep stands on its steps, ends where one fails, and its bundle can be verified.
func TestLoadSweep(t *testing.T) {
	url := webServer(t, func(r *http.Request) {})
	dir := filepath.Join(t.TempDir(), "sweep")
	o := assayLoad(t.Context(), t, with(url, "--sweep", "50..200x2", "-d", "200ms", "--out", dir)...)
	for _, want := range []string{"50/s", "100/s", "200/s", "the highest rate was reached"} {
		if !strings.Contains(o.out, want) {
			t.Errorf("no %q in\n%s", want, o.out)
		}
	}
	if o.exit != results.ExitPass {
		t.Errorf("exit %d\n%s%s", o.exit, o.out, o.err)
	}
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"verify", dir, "--unsigned"}, strings.NewReader(""), &out, &errs); code != results.ExitPass {
		t.Errorf("verify: exit %d\n%s%s", code, out.String(), errs.String())
	}
	o = assayLoad(t.Context(), t, with(url, "--sweep", "50..200x2", "-d", "200ms", "--threshold", "requests:count<15")...)
	if !strings.Contains(o.out, "at 100 per second a threshold broke") || o.exit != results.ExitPass {
		t.Errorf("exit %d\n%s%s", o.exit, o.out, o.err)
	}
}

// TestLoadInterrupt: a user's interrupt ends the program with the account of what was sent until then.
func TestLoadInterrupt(t *testing.T) {
	url := webServer(t, func(*http.Request) {})
	cmd := exec.Command(program, "load", url, "-r", "50", "-d", "1m")
	var out bytes.Buffer
	cmd.Stdout = &out
	progress, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	first := make([]byte, 1)
	if _, err := io.ReadFull(progress, first); err != nil { // it has begun to speak, hence to listen to signals
		t.Fatal(err)
	}
	time.Sleep(500 * time.Millisecond) // some of the load
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, progress) }()
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != int(results.ExitInconclusive) {
		t.Errorf("%v: exit %d, want %d", err, cmd.ProcessState.ExitCode(), results.ExitInconclusive)
	}
	for _, want := range []string{"3000 scheduled = ", "interrupted (the run was ended before its end)", "INCONCLUSIVE: "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

func TestParseSweep(t *testing.T) {
	for text, want := range map[string][]float64{
		"100..800x2": {100, 200, 400, 800}, "1..3+1": {1, 2, 3}, "5..5x2": {5}, "100..350x1.5": {100, 150, 225, 337.5},
	} {
		if got, err := parseSweep(text); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "1", "1..2", "2..1x2", "1..2x1", "1..9x0.5", "0..9x2", "1..1e9+1", "x..2x2", "1..2x-1", "1..2+NaN", "1..+2"} {
		if got, err := parseSweep(text); err == nil {
			t.Errorf("%q gives %v", text, got)
		}
	}
}
