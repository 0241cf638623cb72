package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inside tells a copy of this test that it runs in a network namespace of its own.
const inside = "ASSAY_K6_TEST_INSIDE"

// TestOffline is load/k6/offline: in a namespace with loopback alone the run is the same, and nothing
// listens on k6's port 6565.
func TestOffline(t *testing.T) {
	if os.Getenv(inside) != "" {
		offline(t)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestOffline$", "-test.v")
	cmd.Env = append(os.Environ(), inside+"="+assayK6)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	if err != nil && len(out) == 0 {
		if os.Getenv("CI") == "true" {
			t.Fatalf("no network namespace can be made here: %v", err)
		}
		t.Skipf("SKIPPED: no network namespace can be made here: %v", err)
	}
	if err != nil || !strings.Contains(string(out), "--- PASS: TestOffline") {
		t.Fatalf("%v\n%s", err, out)
	}
}

func offline(t *testing.T) {
	raiseLoopback(t)
	if routes := read(t, "/proc/net/route"); strings.Count(routes, "\n") > 1 {
		t.Fatalf("the namespace has routes to elsewhere:\n%s", routes)
	}
	c := countArrivals(t)
	script := filepath.Join(t.TempDir(), "script.js")
	text := strings.Replace(openLoop("tcp://"+c.listener.Addr().String(), ""), "rate: 2000", "rate: 1000", 1)
	text = strings.Replace(text, "duration: '1s'", "duration: '2s'", 1)
	if err := os.WriteFile(script, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if r, listens := watched(t, "run", script); r.code != 0 || listens || len(c.seen) != 2000 {
		t.Errorf("exit %d, %d arrivals, listens on 6565: %v: %s", r.code, len(c.seen), listens, r.errOut)
	}
	if _, listens := watched(t, "--address", "127.0.0.1:6565", "run", script); !listens {
		t.Error("with --address nothing is seen on 6565 either: this test proves nothing")
	}
	unknownImport(t)
}

// watched runs assay-k6 and tells whether something listened on port 6565 meanwhile.
func watched(t *testing.T, args ...string) (r ran, listens bool) {
	done := make(chan ran, 1)
	go func() { done <- run(t, nil, os.Getenv(inside), args...) }()
	for {
		select {
		case r := <-done:
			return r, listens
		case <-time.After(50 * time.Millisecond):
			for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
				raw, err := os.ReadFile(file)
				listens = listens || err == nil && strings.Contains(string(raw), ":19A5 ") // 6565
			}
		}
	}
}

// unknownImport: no build service is asked for an extension that this program does not have.
func unknownImport(t *testing.T) {
	script := filepath.Join(t.TempDir(), "script.js")
	if err := os.WriteFile(script, []byte("import 'k6/x/nothing'; export default function () {}"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := run(t, nil, os.Getenv(inside), "run", script)
	if r.code == 0 || !strings.Contains(r.errOut, `unknown modules [\"k6/x/nothing\"]`) {
		t.Errorf("exit %d: %s", r.code, r.errOut)
	}
}

func raiseLoopback(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		t.Fatal(err)
	}
}
