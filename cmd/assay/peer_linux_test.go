package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/assay-bench/assay/results"
)

// assay runs the program in a fresh folder and returns its exit code and the bundle, if there is one.
func assayIn(t *testing.T, dir string, args ...string) (int, *results.Bundle) {
	t.Helper()
	cmd := exec.Command(program, append(args, "--out", filepath.Join(dir, "out"))...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	b, err := results.Open(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s", out)
		}
	})
	return cmd.ProcessState.ExitCode(), b
}

func statuses(b *results.Bundle, prefix string) map[results.Status]int {
	out := map[results.Status]int{}
	for _, v := range b.Verdicts.Verdicts {
		if strings.HasPrefix(v.Check, prefix) {
			out[v.Status]++
		}
	}
	return out
}

// peer builds grpc-go's own interop service and writes a target file for it.
func peer(t *testing.T, claims ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if out, err := exec.Command("go", "build", "-o", filepath.Join(dir, "interop"), "../../reference/peers/interop").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	list, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	file := `apiVersion: assay/v1
kind: Target
name: grpc-go interop
version: 1.85.0
role: endpoint
start:
  command: [./interop, -watch-stdin, -addr, "127.0.0.1:{port.grpc}"]
  ready: {tcp: grpc}
endpoints: {grpc: "127.0.0.1:{port.grpc}", rpc: "127.0.0.1:{port.grpc}"}
claims: ` + string(list) + "\n"
	if err := os.WriteFile(filepath.Join(dir, "target.yaml"), []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestPeerOfAnotherProject runs the RPC suite against a server that this project did not write: what it
// claims passes, what it does not claim is NotClaimed and never a pass.
func TestPeerOfAnotherProject(t *testing.T) {
	code, b := assayIn(t, peer(t, "grpc.interop"), "run", "conformance", "--target", "target.yaml")
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	if got := statuses(b, "rpc/wire/grpc-interop"); got[results.Pass] < 15 || len(got) != 1 {
		t.Errorf("grpc-interop: %v, want passes only", got)
	}
	if got := statuses(b, "rpc/wire/seq-echo"); got[results.NotClaimed] == 0 || len(got) != 1 {
		t.Errorf("seq-echo: %v, want not claimed only", got)
	}
	listedPasses(t, "grpc-go's interop server", b)
}

// TestWrongClaimIsRed claims what the server does not have.
func TestWrongClaimIsRed(t *testing.T) {
	code, b := assayIn(t, peer(t, "grpc.interop", "rpc.framed", "rpc.behave"), "run", "--basis", "all", "rpc/wire/pipelining-order#framed", "--target", "target.yaml")
	if code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if got := statuses(b, "claims/rpc.framed"); got[results.Fail] != 1 {
		t.Errorf("claims/rpc.framed: %v, want one fail", got)
	}
	for _, v := range b.Verdicts.Verdicts {
		if v.Check == "rpc/wire/pipelining-order" && (v.Status != results.Fail || v.Reason != "claim-absent") {
			t.Errorf("%s is %s %s, want fail claim-absent", v.Key(), v.Status, v.Reason)
		}
	}
}

// TestThroughNginx judges a proxy that this project did not write: the run starts its own upstreams, puts
// nginx in front of them, and the upstreams witness what arrives.
func TestThroughNginx(t *testing.T) {
	nginx := lookNginx(t)
	dir := t.TempDir()
	file := `apiVersion: assay/v1
kind: Target
name: nginx
version: 1.22.1
role: proxy
start:
  command: [` + nginx + `, -p, "{dir}", -c, "{dir}/nginx.conf"]
  files:
    nginx.conf: |
      daemon off;
      master_process off;
      pid nginx.pid;
      error_log stderr;
      events {}
      http {
        access_log off;
        client_body_temp_path body;
        proxy_temp_path proxy;
        fastcgi_temp_path fastcgi;
        uwsgi_temp_path uwsgi;
        scgi_temp_path scgi;
        server {
          listen 127.0.0.1:{port.grpc} http2;
          location / { grpc_pass grpc://{backend.grpc-interop}; }
        }
      }
  ready: {tcp: grpc}
endpoints: {grpc: "127.0.0.1:{port.grpc}"}
claims: [grpc.interop]
`
	if err := os.WriteFile(filepath.Join(dir, "target.yaml"), []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	code, b := assayIn(t, dir, "run", "rpc/wire/grpc-interop", "--target", "target.yaml")
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	if got := statuses(b, "rpc/wire/grpc-interop"); got[results.Pass] != 15 || len(got) != 1 {
		t.Errorf("grpc-interop: %v, want 15 passes", got)
	}
	arrived := 0
	for _, e := range b.Evidence {
		if e.Source == results.FromUpstream {
			arrived++
		}
	}
	if arrived < 15 {
		t.Errorf("the upstream witnessed %d calls", arrived)
	}
}

// lookNginx finds nginx. Where it is not installed there is nothing to test; CI installs it.
func lookNginx(t *testing.T) string {
	for _, p := range []string{"/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/bin/nginx"} {
		if exists(p) {
			return p
		}
	}
	if os.Getenv("CI") != "" {
		t.Fatal("nginx is not installed, and CI should have installed it")
	}
	t.Skip("nginx is not installed")
	return ""
}

// TestBareAddress needs nothing but an address: what answers there is claimed and judged.
func TestBareAddress(t *testing.T) {
	dir := peer(t)
	addr := servePeer(t, filepath.Join(dir, "interop"))
	code, b := assayIn(t, dir, "run", "conformance", "--target", "grpc://"+addr)
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	if got := statuses(b, "rpc/wire/grpc-interop"); got[results.Pass] != 15 || len(got) != 1 {
		t.Errorf("grpc-interop: %v, want 15 passes", got)
	}
	if len(b.Run.NotRun) == 0 {
		t.Error("cases that need the target's process must be listed as not run")
	}
}

// servePeer starts the interop peer and returns its address; it ends with the test.
func servePeer(t *testing.T, path string) string {
	cmd := exec.Command(path, "-watch-stdin")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		cmd.Wait() // its error is not what is tested
	})
	var line struct {
		Endpoints map[string]string `json:"endpoints"`
	}
	if err := json.NewDecoder(out).Decode(&line); err != nil {
		t.Fatal(err)
	}
	return line.Endpoints["grpc"]
}

// TestEndlessTarget streams bytes without end at whatever is sent: the run ends, red, in bounded memory.
func TestEndlessTarget(t *testing.T) {
	dir := t.TempDir()
	file := `apiVersion: assay/v1
kind: Target
name: endless
version: 1.0.0
role: endpoint
start:
  command: [` + program + `, up, --watch-stdin, --hollow, endless]
  ready: {line: json}
`
	if err := os.WriteFile(filepath.Join(dir, "target.yaml"), []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "run", "conformance", "--no-probe", "--basis", "all", "--workers", "24", "--target", "target.yaml", "--out", "out")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	if code := cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("exit code %d, want 1\n%s", code, out)
	}
	const most = 1 << 20 // KiB: the budget of a run
	if used := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss; used > most {
		t.Errorf("the run took %d KiB", used)
	}
	b, err := results.Open(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	if got := statuses(b, "rpc/"); got[results.Pass] != 0 || got[results.Broken] != 0 || got[results.Fail] == 0 {
		t.Errorf("%v, want no pass and nothing broken", got)
	}
}
