package main

import (
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/assay-bench/assay/results"
	house "github.com/assay-bench/assay/scenarios/k6"
	"github.com/assay-bench/assay/scenarios/load"
	"github.com/assay-bench/assay/scenarios/load/bundle"
)

// TestOneFile is load/k6/one-file: assay load and assay-k6 take the same file, play the same schedule and
// come to the same verdicts.
func TestOneFile(t *testing.T) {
	c := countArrivals(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "load.json")
	for _, tt := range []struct {
		threshold string
		status    results.Status
	}{{"p(50)<60000", results.Pass}, {"p(50)>60000", results.Fail}} {
		text := `{"scenarios":{"open":{"executor":"assay-open-loop","target":"tcp://` + c.listener.Addr().String() +
			`","rate":200,"duration":"1s","arrivals":"poisson","seed":5,"timeout":"10s"}},"thresholds":{"assay_response":["` + tt.threshold + `","max<60000"]}}`
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		script := "import 'k6/x/assay'; export const options = JSON.parse(open('" + file + "')); export default function () {}"
		_, byK6 := k6(t, script)
		out := filepath.Join(t.TempDir(), "native")
		if r := run(t, nil, assay, "load", "--scenario", file, "--out", out); r.code == int(results.ExitUsage) {
			t.Fatalf("assay load refuses the file: %s", r.errOut)
		}
		native, err := results.Open(out)
		if err != nil {
			t.Fatal(err)
		}
		a, b := digestOf(t, filepath.Join(byK6.Dir, "load", "open.json")), digestOf(t, filepath.Join(out, "load.json"))
		if a == "" || a != b {
			t.Errorf("assay-k6 plays %s, assay load %s", a, b)
		}
		x, y := verdict(t, byK6, house.ThresholdCheck, "assay_response "+tt.threshold), verdict(t, native, bundle.ThresholdCheck, "assay_response "+tt.threshold)
		if x.Status == results.Inconclusive || y.Status == results.Inconclusive {
			t.Logf("this host was too noisy for two valid runs: %s and %s", x.Why.Observed, y.Why.Observed)
			continue
		}
		if x.Status != tt.status || y.Status != tt.status {
			t.Errorf("%s: %s in assay-k6, %s in assay load, want %s", tt.threshold, x.Status, y.Status, tt.status)
		}
	}
}

func digestOf(t *testing.T, path string) string {
	t.Helper()
	r, err := load.Decode([]byte(read(t, path)))
	if err != nil {
		t.Fatal(err)
	}
	return r.Schedule.Digest
}

// TestHostileServer: rpc() and pqtls() end with an error in the answer whatever a server sends, soon and in
// bounded memory.
func TestHostileServer(t *testing.T) {
	huge := "\x7f\xff\xff\xff\x10\x00\x00\x00" + strings.Repeat("\x00", 64)
	for name, answer := range map[string]string{
		"garbage": strings.Repeat("HTTP/1.1 400 Bad Request\r\n\r\n", 50), "a huge frame": huge, "a close": "", "half a frame": "\x00\x00\x00\x20\x10\x00",
	} {
		addr := answering(t, answer)
		text, err := json.Marshal(addr)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		r, _ := k6(t, `import { rpc, pqtls } from 'k6/x/assay';
export const options = { iterations: 2 };
export default function () {
  for (const a of [rpc(`+string(text)+`, { timeout: '2s' }), pqtls(`+string(text)+`, { timeout: '2s', insecureSkipVerify: true })]) {
    if (a.ok || a.error === '') throw new Error('unexpected: ' + JSON.stringify(a));
  }
}`)
		if r.code != 0 || strings.Contains(r.errOut, "unexpected") {
			t.Errorf("%s: exit %d: %s", name, r.code, r.errOut)
		}
		if took := time.Since(began); took > limit/2 {
			t.Errorf("%s: took %s", name, took)
		}
	}
}

// answering serves the same bytes to everyone and closes.
func answering(t *testing.T, answer string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = conn.Read(make([]byte, 512))
				_, _ = io.WriteString(conn, answer)
			}()
		}
	}()
	return l.Addr().String()
}
