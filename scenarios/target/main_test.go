package target_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/assay-bench/assay/scenarios/target"
)

// childEnv turns the test binary into a child of the given conduct.
const childEnv = "ASSAY_TARGET_CHILD"

// childArg is a second variable for what the child works on: an address or a file.
const childArg = "ASSAY_TARGET_ARG"

// noRaceSleep keeps a child built with -race from sleeping a second when it ends.
const noRaceSleep = "GORACE=atexit_sleep_ms=0"

func TestMain(m *testing.M) {
	conduct := os.Getenv(childEnv)
	if conduct == "" {
		os.Exit(m.Run())
	}
	run, ok := children()[conduct]
	if !ok {
		fmt.Fprintln(os.Stderr, "no such conduct:", conduct)
		os.Exit(97)
	}
	os.Exit(run(os.Getenv(childArg)))
}

// children are the conducts of a child; the result is its exit status.
func children() map[string]func(arg string) int {
	return map[string]func(string) int{
		"serve":     childServe,
		"mute":      func(string) int { return untilTold() },
		"die":       childDie,
		"close":     childClose,
		"garbage":   func(string) int { fmt.Println("Listening on port 80"); return untilTold() },
		"no-port":   func(string) int { fmt.Println(`{"endpoints":{"rpc":"localhost"}}`); return untilTold() },
		"flood":     func(string) int { return flood(nil) },
		"flooded":   childFlooded,
		"chatter":   childChatter,
		"stubborn":  childStubborn,
		"deaf":      childDeaf,
		"polite":    childPolite,
		"nest":      func(string) int { return childNest(false) },
		"escape":    func(string) int { return childNest(true) },
		"orphan":    childOrphan,
		"hang":      func(string) int { select {} },
		"middle":    childMiddle,
		"tcp":       childTCP,
		"http":      childHTTP,
		"health":    childHealth,
		"tell":      childTell,
		"sit-quiet": func(string) int { signal.Ignore(syscall.SIGTERM); select {} },
	}
}

func childServe(string) int {
	say(accept("127.0.0.1:0"), "child")
	return untilTold()
}

func childDie(string) int {
	fmt.Fprintln(os.Stderr, "cannot bind: address in use")
	return 3
}

func childClose(string) int {
	os.Stdout.Close()
	return untilTold()
}

// flood writes 4 MiB without a line end, which no pipe holds, and then does what follows.
func flood(then func() int) int {
	chunk := []byte(strings.Repeat("x", 64<<10))
	for range 64 {
		if _, err := os.Stdout.Write(chunk); err != nil {
			return 4
		}
	}
	if then == nil {
		return untilTold()
	}
	return then()
}

func childFlooded(addr string) int {
	return flood(func() int { accept(addr); return untilTold() })
}

func childChatter(string) int {
	say(accept("127.0.0.1:0"), "chatter")
	for i := range 100_000 {
		if _, err := fmt.Printf("%08d a line of some forty characters in all\n", i); err != nil {
			return 4
		}
	}
	return 0
}

func childStubborn(string) int {
	signal.Ignore(syscall.SIGTERM)
	say(accept("127.0.0.1:0"), "stubborn")
	select {}
}

// childDeaf obeys SIGTERM and never looks at its standard input.
func childDeaf(string) int {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM)
	say(accept("127.0.0.1:0"), "deaf")
	<-asked
	return 0
}

// childPolite ignores SIGTERM and ends when its standard input does.
func childPolite(string) int {
	signal.Ignore(syscall.SIGTERM)
	say(accept("127.0.0.1:0"), "polite")
	io.Copy(io.Discard, os.Stdin)
	return 0
}

// childNest leaves a grandchild behind that ignores SIGTERM and holds our standard output open.
func childNest(ownSession bool) int {
	pid, err := grandchild(ownSession)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 5
	}
	say(accept("127.0.0.1:0"), fmt.Sprint(pid))
	return untilTold()
}

// childOrphan starts a grandchild and crashes once it is ready.
func childOrphan(string) int {
	pid, err := grandchild(false)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 5
	}
	say(accept("127.0.0.1:0"), fmt.Sprint(pid))
	bufio.NewReader(os.Stdin).ReadByte() // nothing is ever written: until the pipe or we are gone
	return 6
}

func grandchild(ownSession bool) (int, error) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=sit-quiet")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: ownSession}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	return cmd.Process.Pid, nil
}

// childMiddle is a harness of its own: it starts a child that only the kernel can end, and tells its
// number.
func childMiddle(string) int {
	c := child("stubborn", "")
	if _, err := c.Start(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 5
	}
	json.NewEncoder(os.Stdout).Encode(c.Processes()[0])
	select {}
}

func childTCP(addr string) int {
	accept(addr)
	return untilTold()
}

// childHTTP is ready at the fourth request, after a redirect and two errors, with a body without end.
func childHTTP(addr string) int {
	asked := 0
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch asked++; asked {
		case 1:
			http.Redirect(w, r, "http://192.0.2.1/", http.StatusFound)
		case 2, 3:
			http.Error(w, "starting", http.StatusServiceUnavailable)
		default:
			for err := error(nil); err == nil; {
				_, err = w.Write(make([]byte, 32<<10))
			}
		}
	})}
	go srv.Serve(listen(addr))
	return untilTold()
}

// childHealth is NOT_SERVING at its first three answers.
func childHealth(addr string) int {
	h := &slowHealth{Server: health.NewServer()}
	s := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(s, h)
	go s.Serve(listen(addr))
	return untilTold()
}

type slowHealth struct {
	*health.Server
	asked int
}

func (s *slowHealth) Check(context.Context, *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	s.asked++
	status := grpc_health_v1.HealthCheckResponse_NOT_SERVING
	if s.asked > 3 {
		status = grpc_health_v1.HealthCheckResponse_SERVING
	}
	return &grpc_health_v1.HealthCheckResponse{Status: status}, nil
}

// childTell reports what it was started with, in its claims' version, and serves at its argument.
func childTell(addr string) int {
	admin := accept(addr)
	folder, _ := os.Getwd()
	told, _ := json.Marshal(map[string]any{"args": os.Args[1:], "env": os.Getenv("TOLD"), "folder": folder})
	line, _ := json.Marshal(map[string]any{
		"endpoints": map[string]string{"rpc": "127.0.0.1:1", "admin": admin},
		"claims": target.Claims{
			Name: "from the line", Version: string(told), Features: []string{"rpc.buffered"},
			Limits: target.Limits{MaxDepth: 7, MaxFrameBytes: 8}, Defects: []string{"planted"},
		},
	})
	fmt.Println(string(line))
	return untilTold()
}

// accept takes connections for as long as the child lives, and returns its address. (A listener that
// nobody holds is closed when the garbage collector comes by.)
func accept(addr string) string {
	l := listen(addr)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	return l.Addr().String()
}

func listen(addr string) net.Listener {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(5)
	}
	return l
}

// say prints the ready line.
func say(addr, name string) {
	line, _ := json.Marshal(map[string]any{
		"endpoints": map[string]string{"rpc": addr},
		"claims":    target.Claims{Name: name, Features: []string{"rpc.framed"}},
	})
	fmt.Println(string(line))
}

// untilTold waits for the end of standard input or SIGTERM, as a target that keeps the contract does.
func untilTold() int {
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM)
	gone := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(gone)
	}()
	select {
	case <-told:
	case <-gone:
	}
	return 0
}

// child makes a command that re-executes this binary.
func child(conduct, arg string) *target.Command {
	return &target.Command{
		Argv: []string{os.Args[0]},
		Env:  []string{childEnv + "=" + conduct, childArg + "=" + arg, noRaceSleep},
	}
}
