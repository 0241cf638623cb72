package target_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/scenarios/target"
	"github.com/assay-bench/assay/scenarios/target/targettest"
)

// selfStarted is a file that starts this binary with the given conduct at one chosen port.
func selfStarted(conduct, ready string) string {
	return fmt.Sprintf(`apiVersion: assay/v1
kind: Target
name: self
version: "1.0"
role: endpoint
endpoints: {admin: "127.0.0.1:{port.a}"}
claims: [admin.http]
start:
  command: [%s]
  env: {%s: %s, %s: "{endpoint.admin}", GORACE: atexit_sleep_ms=0}
  ready: {%s}
  timeout: 20s
`, quoted(os.Args[0]), childEnv, conduct, childArg, ready)
}

func build(t *testing.T, text string, b target.Build) target.Target {
	t.Helper()
	if b.Dial == nil {
		b.Dial = dial
	}
	tg, err := mustParse(t, "self.yaml", text).Target(b)
	if err != nil {
		t.Fatal(err)
	}
	return tg
}

func TestFileContract(t *testing.T) {
	t.Parallel()
	targettest.Contract(t, func(t *testing.T) target.Target { return build(t, selfStarted("tcp", "tcp: admin"), target.Build{}) })
}

func TestRemoteContract(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	text := strings.Replace(remote, "127.0.0.1:9000", l.Addr().String(), 1)
	targettest.Contract(t, func(t *testing.T) target.Target { return build(t, text, target.Build{}) })
}

// Each probe passes its way through the injected dial, more than once where it takes that.
func TestReadyProbes(t *testing.T) {
	t.Parallel()
	cases := []struct {
		conduct, ready string
		least          int64 // dials
	}{
		{"tcp", "tcp: admin", 1},
		{"http", `http: "http://{endpoint.admin}/readyz"`, 4},
		{"health", "grpcHealth: admin", 4},
	}
	seen := 0
	for _, c := range cases {
		seen++
		t.Run(c.conduct, func(t *testing.T) {
			t.Parallel()
			var dials atomic.Int64
			var elsewhere atomic.Pointer[string]
			var want atomic.Pointer[string]
			counted := func(ctx context.Context, network, addr string) (net.Conn, error) {
				if port := want.Load(); port != nil && !strings.HasSuffix(addr, *port) {
					elsewhere.Store(&addr)
				}
				conn, err := dial(ctx, network, addr)
				if err == nil {
					dials.Add(1)
				}
				return conn, err
			}
			ports := func(int) ([]int, error) {
				addr := freeAddress(t)
				_, port, _ := net.SplitHostPort(addr)
				port = ":" + port
				want.Store(&port)
				n, err := net.LookupPort("tcp", port[1:])
				return []int{n}, err
			}
			tg := build(t, selfStarted(c.conduct, c.ready), target.Build{Dial: counted, Ports: ports})
			addrs := mustStart(t, tg)
			if dials.Load() < c.least {
				t.Errorf("ready after %d dials, want %d", dials.Load(), c.least)
			}
			if e := elsewhere.Load(); e != nil {
				t.Errorf("dialled %s", *e)
			}
			if !strings.HasSuffix(addrs["admin"], *want.Load()) {
				t.Errorf("endpoints = %v", addrs)
			}
		})
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
}

// A probe that may not dial never holds, and the reason is told.
func TestRefusedProbe(t *testing.T) {
	t.Parallel()
	seen := 0
	for _, ready := range []string{"tcp: admin", `http: "http://{endpoint.admin}/"`, "grpcHealth: admin"} {
		seen++
		text := strings.Replace(selfStarted("tcp", ready), "20s", "150ms", 1)
		refuse := func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("not on the list") }
		_, err := build(t, text, target.Build{Dial: refuse}).Start(t.Context())
		var not *target.NotReady
		if !errors.As(err, &not) || not.Reason != "timeout" || !strings.Contains(not.Detail, "not on the list") {
			t.Errorf("%s: %v", ready, err)
		}
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
}

const telling = `apiVersion: assay/v1
kind: Target
name: from the file
role: proxy
endpoints: {rpc: "127.0.0.1:{port.rpc}"}
limits: {maxDepth: 9}
start:
  command: [./program, "{port.rpc} {backend.up} {dir}", "${shell}"]
  dir: work
  env: {ASSAY_TARGET_CHILD: tell, ASSAY_TARGET_ARG: "127.0.0.1:0", TOLD: "{endpoint.rpc}", GORACE: atexit_sleep_ms=0}
  files:
    conf/a.conf: "listen {port.rpc}; up {backend.up}; at {dir}; keep {this} {port} $x{ }"
    run.sh: "#!/bin/sh"
  ready: {line: json}
`

// Placeholders, paths, files and claims of a file that says much.
func TestFileIsCarriedOut(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	for _, err := range []error{os.Mkdir(filepath.Join(folder, "work"), 0o700), os.Symlink(os.Args[0], filepath.Join(folder, "program"))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	f := mustParse(t, filepath.Join(folder, "target.yaml"), telling)
	tg, err := f.Target(target.Build{Backends: map[string]string{"up": "127.0.0.1:7"}})
	if err != nil {
		t.Fatal(err)
	}
	first, dir := told(t, tg, folder)
	for path, want := range map[string]string{
		"conf/a.conf": fmt.Sprintf("listen %s; up 127.0.0.1:7; at %s; keep {this} {port} $x{ }", first, dir),
		"run.sh":      "#!/bin/sh",
	} {
		if got, err := os.ReadFile(filepath.Join(dir, path)); err != nil || string(got) != want {
			t.Errorf("%s = %q, %v; want %q", path, got, err, want)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "run.sh")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("run.sh: %v, %v", info, err)
	}
	if err := tg.(target.Local).Processes()[0].Kill(); err != nil {
		t.Fatal(err)
	}
	awaitExit(t, tg.(target.Local))
	second, fresh := told(t, tg, folder)
	if second != first || fresh == dir {
		t.Errorf("restart: port %s then %s, folder %s then %s", first, second, dir, fresh)
	}
	mustStop(t, tg)
	for _, gone := range []string{dir, fresh} {
		if _, err := os.Stat(gone); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", gone, err)
		}
	}
}

// told starts the target and checks what it was told; it returns the chosen port and the folder.
func told(t *testing.T, tg target.Target, folder string) (port, dir string) {
	t.Helper()
	addrs := mustStart(t, tg)
	claims, err := tg.Claims(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var said struct {
		Args        []string
		Env, Folder string
	}
	if err := json.Unmarshal([]byte(claims.Version), &said); err != nil {
		t.Fatal(err)
	}
	_, port, _ = net.SplitHostPort(addrs["rpc"])
	if len(addrs) != 2 || port == "1" || addrs["admin"] == "" {
		t.Errorf("endpoints = %v, want rpc of the file and admin of the line", addrs)
	}
	if len(said.Args) != 2 || said.Args[1] != "${shell}" || said.Env != addrs["rpc"] || said.Folder != filepath.Join(folder, "work") {
		t.Fatalf("told %+v", said)
	}
	rest, ok := strings.CutPrefix(said.Args[0], port+" 127.0.0.1:7 ")
	if !ok || !filepath.IsAbs(rest) {
		t.Fatalf("argument %q", said.Args[0])
	}
	claims.Version = ""
	want := target.Claims{
		Name: "from the file", Features: []string{"rpc.buffered"}, Defects: []string{"planted"},
		Limits: target.Limits{MaxDepth: 9, MaxFrameBytes: 8},
	}
	if diff := cmp.Diff(want, claims); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
	return port, rest
}

func TestFailedStartLeavesNoFolder(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	text := strings.Replace(telling, "./program", "./no-such-program", 1)
	tg := build(t, text, target.Build{Backends: map[string]string{"up": "127.0.0.1:7"}})
	if _, err := tg.Start(t.Context()); !errors.Is(err, target.ErrNotReady) {
		t.Errorf("start: %v", err)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestBuildRefusals(t *testing.T) {
	self := selfStarted("tcp", "tcp: admin")
	broken := errors.New("no ports left")
	cases := map[string]struct {
		text  string
		build target.Build
		want  string
	}{
		"no such backend": {telling, target.Build{Backends: map[string]string{"upp": "127.0.0.1:7"}}, "self.yaml: {backend.up} is not an upstream of the harness: did you mean upp?"},
		"no dial":         {self, target.Build{}, "self.yaml: start.ready needs a way to dial"},
		"no ports":        {self, target.Build{Ports: func(int) ([]int, error) { return nil, broken }}, "self.yaml: choose ports: no ports left"},
		"too few ports":   {self, target.Build{Ports: func(int) ([]int, error) { return nil, nil }}, "self.yaml: choose ports: 0 for 1 names"},
	}
	for name, c := range cases {
		if _, err := mustParse(t, "self.yaml", c.text).Target(c.build); err == nil || err.Error() != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
}
