package rpc

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios/backends"
	"github.com/assay-bench/assay/scenarios/grpc"
	"github.com/assay-bench/assay/scenarios/target"
	"github.com/assay-bench/assay/suites"
)

// nginxPath is where Debian installs nginx.
const nginxPath = "/usr/sbin/nginx"

// nginxConfig proxies gRPC; its verbs are a directory, the address to listen on, and the upstream.
const nginxConfig = `daemon off;
master_process off;
pid %[1]s/nginx.pid;
error_log stderr warn;
events { worker_connections 256; }
http {
	access_log off;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	server {
		listen %[2]s http2 reuseport;
		location / { grpc_pass grpc://%[3]s; }
	}
}
`

// reservePort takes a loopback port of the kernel's choice with a socket that never listens. Another
// socket with SO_REUSEPORT may bind it too, and then gets all connections.
// Tried: letting nginx inherit a listening socket (the variable NGINX). Lost: with master_process off
// nginx 1.22 then dies without a word.
func reservePort(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", name.(*unix.SockaddrInet4).Port)
}

// startNginx runs nginx as a proxy in front of upstream and returns its address once it listens.
func startNginx(t *testing.T, upstream string) string {
	t.Helper()
	if _, err := os.Stat(nginxPath); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("CI must have nginx: %v", err)
		}
		t.Skipf("nginx is not installed: %v", err)
	}
	addr, dir := reservePort(t), t.TempDir()
	config := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, nginxConfig, dir, addr, upstream), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd := exec.Command(nginxPath, "-p", dir, "-e", "stderr", "-c", config)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		cmd.Wait() // it is killed: the exit code says nothing
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
		if t.Failed() {
			t.Logf("nginx said: %s", log.Bytes())
		}
	})
	awaitListener(t, addr, ended)
	return addr
}

// awaitListener dials until someone answers; nginx has no other way to say that it is ready.
func awaitListener(t *testing.T, addr string, ended <-chan struct{}) {
	t.Helper()
	late := time.NewTimer(5 * time.Second)
	defer late.Stop()
	for {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
			return
		}
		select {
		case <-ended:
			t.Fatal("nginx ended")
		case <-late.C:
			t.Fatalf("nginx does not listen: %v", err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// proxied counts what reached the backend, by path.
type proxied struct {
	mu      sync.Mutex
	paths   map[string]int
	clients map[string]bool
	more    chan struct{}
}

func (p *proxied) put(_ results.Source, _ results.Kind, data any) error {
	a, ok := data.(backends.Arrival)
	if !ok {
		return fmt.Errorf("a backend wrote %T", data)
	}
	p.mu.Lock()
	p.paths[a.Path]++
	p.clients[a.Peer] = true
	p.mu.Unlock()
	select {
	case p.more <- struct{}{}:
	default:
	}
	return nil
}

// await waits until at least want calls of a path arrived: an upstream may know of a call's end a
// little later than the client.
func (p *proxied) await(path string, want int) int {
	late := time.NewTimer(5 * time.Second)
	defer late.Stop()
	for {
		p.mu.Lock()
		got := p.paths[path]
		p.mu.Unlock()
		if got >= want {
			return got
		}
		select {
		case <-p.more:
		case <-late.C:
			return got
		}
	}
}

// TestInteropThroughNginx runs the checks against a proxy that this project did not write. All fifteen
// cases and both raw ones hold through nginx's grpc_pass: it streams both ways, keeps
// trailers, and passes grpc-status of any code on. The backend's own witness must have seen every call
// whose status a server gave; those that the client gave up may never have left nginx.
func TestInteropThroughNginx(t *testing.T) {
	seenBy := &proxied{paths: map[string]int{}, clients: map[string]bool{}, more: make(chan struct{}, 1)}
	b, err := backends.Start(context.Background(), backends.Options{Put: seenBy.put})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Stop(); err != nil {
			t.Error(err)
		}
	})
	endpoints := target.Endpoints{"grpc": startNginx(t, b.Endpoints()[backends.GRPCInterop])}
	served := map[string]int{}
	ran := 0
	for _, id := range []string{"rpc/wire/grpc-interop", "rpc/wire/grpc-unimplemented"} {
		c := grpcFind(t, id)
		for _, kase := range grpcCaseIDs(c) {
			ran++
			f, evidence := grpcRun(t, c, kase, endpoints)
			// The upstream resets a call when its time is over, and nginx makes a 502 of that, or a reset of its own after
			// the headers, which may come three times before the client's own timer runs.
			raced := kase == "timeout_on_sleeping_server" && f.Reason == suites.ReasonHostNoise
			if f.Status != results.Pass && !raced {
				t.Errorf("%s#%s: %s %s: %s", id, kase, f.Status, f.Reason, f.Observed)
			}
			if id == "rpc/wire/grpc-unimplemented" {
				served[grpcUnknownPath(kase)]++
			}
			countServed(t, evidence, served)
		}
	}
	if ran != 15+2 {
		t.Errorf("%d cases ran", ran)
	}
	for path, want := range served {
		if got := seenBy.await(path, want); got < want {
			t.Errorf("%s: the backend saw %d calls, the client %d", path, got, want)
		}
	}
	if len(served) == 0 || len(seenBy.clients) == 0 {
		t.Error("the backend saw nothing")
	}
}

// countServed counts the recorded calls that ended with a status which only a server gives.
func countServed(t *testing.T, evidence []results.Evidence, served map[string]int) {
	t.Helper()
	calls, err := grpc.Calls(evidence)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range calls {
		switch codes.Code(c.Code) {
		case codes.Canceled, codes.DeadlineExceeded, codes.Unavailable:
		default:
			served[c.Method]++
		}
	}
}
