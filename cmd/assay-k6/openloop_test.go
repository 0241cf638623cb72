package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/assay-bench/assay/results"
	house "github.com/assay-bench/assay/scenarios/k6"
	"github.com/assay-bench/assay/scenarios/load"
)

// counter is a TCP server that echoes and notes the arrival numbers that it sees.
type counter struct {
	listener net.Listener
	mu       sync.Mutex
	seen     map[uint64]int
}

const frame = 64 // bytes of an echo, the arrival number first

func countArrivals(t *testing.T) *counter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &counter{listener: l, seen: map[uint64]int{}}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go c.echo(conn)
		}
	}()
	return c
}

func (c *counter) echo(conn net.Conn) {
	defer conn.Close()
	buf := make([]byte, frame)
	for {
		if _, err := io.ReadFull(conn, buf); err != nil {
			return
		}
		c.mu.Lock()
		c.seen[binary.LittleEndian.Uint64(buf)]++
		c.mu.Unlock()
		if _, err := conn.Write(buf); err != nil {
			return
		}
	}
}

// openLoop is a script with one scenario of the executor.
func openLoop(target, more string) string {
	return fmt.Sprintf(`import 'k6/x/assay';
export const options = { scenarios: { open: { executor: 'assay-open-loop', target: '%s', rate: 2000, duration: '1s', timeout: '10s' } }, thresholds: { assay_failed: ['rate==0'], assay_response: ['p(99)<60000'] } };
export default function () { throw new Error('no VU runs'); }
%s`, target, more)
}

// TestOpenLoop is load/k6/executor: thresholds, summary and --out json are there, and no VU is.
func TestOpenLoop(t *testing.T) {
	c := countArrivals(t)
	samples := filepath.Join(t.TempDir(), "samples.json")
	r, b := k6(t, openLoop("tcp://"+c.listener.Addr().String(), ""), "--out", "json="+samples)
	if r.code != 0 {
		t.Fatalf("exit %d: %s", r.code, r.errOut)
	}
	for _, part := range []string{"THRESHOLDS", "'p(99)<60000'", "'count==0' count=0", "assay_response", "iteration_duration", "iterations...........: 2000"} {
		if !strings.Contains(r.out, part) {
			t.Errorf("the summary lacks %q:\n%s", part, r.out)
		}
	}
	if len(c.seen) != 2000 {
		t.Errorf("the server saw %d arrivals, want 2000", len(c.seen))
	}
	counts, most := points(t, samples)
	for _, name := range []string{"assay_response", "assay_service", "assay_lateness", "assay_failed", "iteration_duration"} {
		if counts[name] != 2000 {
			t.Errorf("%d samples of %s in --out json, want 2000", counts[name], name)
		}
	}
	if most["vus"] != 0 || most["vus_max"] != 0 {
		t.Errorf("VUs ran: %v", most)
	}
	v := verdict(t, b, house.GeneratorCheck, "")
	if v.Status != results.Pass && v.Reason != house.ReasonInvalid {
		t.Errorf("%s %s: %s", v.Status, v.Reason, v.Why.Observed)
	}
	checkResult(t, b)
}

// checkResult reads the result that the bundle keeps for merging.
func checkResult(t *testing.T, b *results.Bundle) {
	t.Helper()
	got, err := load.Decode([]byte(read(t, filepath.Join(b.Dir, "load", "open.json"))))
	if err != nil {
		t.Fatal(err)
	}
	if c := got.Counts; c.Scheduled != 2000 || c.Scheduled != c.OK+c.Error+c.Timeout+c.Unsent {
		t.Errorf("counts %+v", c)
	}
	for _, kind := range []string{"response", "service", "lateness", "all"} {
		if len(b.Histograms["open--"+kind+".hdr"]) == 0 {
			t.Errorf("no histogram of %s", kind)
		}
	}
}

// points counts the samples of each metric in k6's JSON output, and keeps the largest value.
func points(t *testing.T, path string) (counts map[string]int, most map[string]float64) {
	t.Helper()
	counts, most = map[string]int{}, map[string]float64{}
	for _, line := range strings.Split(strings.TrimSpace(read(t, path)), "\n") {
		var p struct {
			Type, Metric string
			Data         struct{ Value float64 }
		}
		if err := json.Unmarshal([]byte(line), &p); err != nil {
			continue // definitions of metrics have another shape of value
		}
		if p.Type == "Point" {
			counts[p.Metric]++
			most[p.Metric] = max(most[p.Metric], p.Data.Value)
		}
	}
	return counts, most
}

// TestSegments is load/k6/segments: 0:1/4 of 2,000 arrivals is 500, and four quarters are 2,000 arrivals.
func TestSegments(t *testing.T) {
	c := countArrivals(t)
	script := openLoop("tcp://"+c.listener.Addr().String(), "")
	var parts []*load.Result
	for i := range 4 {
		_, b := k6(t, script, "--execution-segment", fmt.Sprintf("%d/4:%d/4", i, i+1), "--execution-segment-sequence", "0,1/4,2/4,3/4,1")
		part, err := load.Decode([]byte(read(t, filepath.Join(b.Dir, "load", "open.json"))))
		if err != nil {
			t.Fatal(err)
		}
		if part.Counts.Scheduled != 500 || len(c.seen) != 500*(i+1) {
			t.Errorf("quarter %d: %d scheduled, %d seen in all", i, part.Counts.Scheduled, len(c.seen))
		}
		parts = append(parts, part)
	}
	for id, n := range c.seen {
		if n != 1 || id >= 2000 {
			t.Errorf("arrival %d was sent %d times", id, n)
		}
	}
	for i, p := range parts {
		if p.Schedule.Digest != parts[0].Schedule.Digest {
			t.Errorf("quarter %d plays another schedule", i)
		}
		if want := (load.Segment{Node: i + 1, Of: 4}).String(); p.Segment.String() != want {
			t.Errorf("quarter %d is segment %s", i, p.Segment)
		}
	}
	// These four ran one after the other: they merge, and the merged result says that they had no common start.
	whole, err := load.Merge(parts...)
	if err != nil {
		t.Fatal(err)
	}
	if whole.Counts.Scheduled != 2000 || whole.Valid || !slices.Contains(whole.Reasons, load.ReasonClock) {
		t.Errorf("merged: %+v, valid %v, %v", whole.Counts, whole.Valid, whole.Reasons)
	}
	// A quarter of an uneven sequence keeps its shares.
	_, b := k6(t, script, "--execution-segment", "0:1/4", "--execution-segment-sequence", "0,1/4,1")
	part, err := load.Decode([]byte(read(t, filepath.Join(b.Dir, "load", "open.json"))))
	if err != nil {
		t.Fatal(err)
	}
	if part.Counts.Scheduled != 500 || part.Segment.String() != "1/2:1,3" {
		t.Errorf("segment %s: %d arrivals", part.Segment, part.Counts.Scheduled)
	}
}

// TestOpenLoopUnreachable: nothing listens.
func TestOpenLoopUnreachable(t *testing.T) {
	r, b := k6(t, openLoop("tcp://127.0.0.1:1", ""))
	if r.code == 0 || !strings.Contains(r.errOut, "target is unreachable") {
		t.Errorf("exit %d: %s", r.code, r.errOut)
	}
	if v := verdict(t, b, house.GeneratorCheck, ""); v.Status != results.Fail || v.Reason != house.ReasonNoLoad {
		t.Errorf("%s %s: %s", v.Status, v.Reason, v.Why.Observed)
	}
	if j := run(t, nil, assay, "judge", b.Dir); j.code != int(results.ExitFail) {
		t.Errorf("assay judge: exit %d", j.code)
	}
}

// TestOpenLoopResets: a server that resets every connection makes errors, all accounted for.
func TestOpenLoopResets(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // the first connection only shows that someone listens
				_, _ = conn.Read(make([]byte, 1))
				_ = conn.(*net.TCPConn).SetLinger(0)
				_ = conn.Close()
			}()
		}
	}()
	r, b := k6(t, openLoop("tcp://"+l.Addr().String(), ""))
	if r.code != 99 {
		t.Errorf("exit %d: %s", r.code, r.errOut)
	}
	got, err := load.Decode([]byte(read(t, filepath.Join(b.Dir, "load", "open.json"))))
	if err != nil {
		t.Fatal(err)
	}
	if c := got.Counts; c.OK != 0 || c.Error != c.Scheduled-c.Unsent || c.Error == 0 {
		t.Errorf("counts %+v", c)
	}
}

func TestOpenLoopRefusals(t *testing.T) {
	tests := []struct{ scenario, want string }{
		{`{ executor: 'assay-open-loop', rate: 1, duration: '1s' }`, "target: want the URL"},
		{`{ executor: 'assay-open-loop', target: 'gopher://x:1', rate: 1, duration: '1s' }`, "scheme"},
		{`{ executor: 'assay-open-loop', target: 'tcp://127.0.0.1:1', duration: '1s' }`, "rate 0 per second is outside"},
		{`{ executor: 'assay-open-loop', target: 'tcp://127.0.0.1:1', rate: 1, duration: '1s', rte: 5 }`, "unknown field"},
		{`{ executor: 'assay-open-loop', target: 'tcp://127.0.0.1:1', rate: 1, duration: '1s', exec: 'f' }`, "exec: this executor runs no function"},
	}
	for _, tt := range tests {
		r, b := k6(t, `export const options = { scenarios: { s: `+tt.scenario+` } }; export default function () {}; export function f() {}`)
		if r.code == 0 || b != nil || !strings.Contains(r.errOut, tt.want) {
			t.Errorf("%s: exit %d: %s, want %q", tt.scenario, r.code, r.errOut, tt.want)
		}
	}
}

// TestUnreachableRate: a rate that no machine reaches is accounted for and INVALID.
func TestUnreachableRate(t *testing.T) {
	c := countArrivals(t)
	script := strings.Replace(openLoop("tcp://"+c.listener.Addr().String(), ""), "rate: 2000, duration: '1s'", "rate: 20000000, duration: '20ms'", 1)
	_, b := k6(t, script)
	got, err := load.Decode([]byte(read(t, filepath.Join(b.Dir, "load", "open.json"))))
	if err != nil {
		t.Fatal(err)
	}
	if got.Valid || got.Counts.Scheduled != 400_000 {
		t.Errorf("valid %v, counts %+v", got.Valid, got.Counts)
	}
	if v := verdict(t, b, house.GeneratorCheck, ""); v.Status != results.Inconclusive {
		t.Errorf("%s %s", v.Status, v.Reason)
	}
}

// TestOpenLoopAborts: samples reach k6 while the run goes on, so that a threshold can end it.
func TestOpenLoopAborts(t *testing.T) {
	c := countArrivals(t)
	script := openLoop("tcp://"+c.listener.Addr().String(), "")
	script = strings.Replace(script, "rate: 2000, duration: '1s'", "rate: 50, duration: '60s', gracefulStop: '0s'", 1)
	script = strings.Replace(script, "['p(99)<60000']", "[{ threshold: 'min<0', abortOnFail: true }]", 1)
	r, b := k6(t, script)
	if r.code != 99 {
		t.Errorf("exit %d: %s", r.code, r.errOut)
	}
	got, err := load.Decode([]byte(read(t, filepath.Join(b.Dir, "load", "open.json"))))
	if err != nil {
		t.Fatal(err)
	}
	if got.Valid || got.Counts.Unsent == 0 || len(c.seen) >= 3000 || !slices.Contains(got.Reasons, load.ReasonInterrupted) {
		t.Errorf("%d arrivals seen, counts %+v, %v", len(c.seen), got.Counts, got.Reasons)
	}
	if v := verdict(t, b, house.GeneratorCheck, ""); v.Status != results.Inconclusive {
		t.Errorf("%s %s: %s", v.Status, v.Reason, v.Why.Observed)
	}
}
