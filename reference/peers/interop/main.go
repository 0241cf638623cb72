// Command interop serves grpc-go's own interop test service on loopback: a second opinion beside the
// reference implementation. It announces itself with one JSON line on stdout.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/interop"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/ready"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// drainTime is how long calls in flight may take at the end.
const drainTime = 5 * time.Second

// run returns 0 after an orderly end, 2 for usage errors and 4 for others.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("interop", flag.ContinueOnError)
	flags.SetOutput(stderr)
	addr := flags.String("addr", "127.0.0.1:0", "loopback `host:port`; port 0 lets the kernel choose")
	watch := flags.Bool("watch-stdin", false, "end when stdin does")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	var ended <-chan struct{} // nil: never
	if *watch {
		ended = ready.Ended(stdin)
	}
	if err := serve(ctx, *addr, ended, stdout); err != nil {
		fmt.Fprintf(stderr, "interop: %v\n", err)
		return 4
	}
	return 0
}

func serve(ctx context.Context, addr string, ended <-chan struct{}, stdout io.Writer) error {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	if tcp, ok := l.Addr().(*net.TCPAddr); !ok || !tcp.IP.IsLoopback() {
		return errors.Join(fmt.Errorf("%s is not a loopback address", addr), l.Close())
	}
	server := grpc.NewServer()
	testpb.RegisterTestServiceServer(server, interop.NewTestServer())
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	defer server.Stop()
	if err := ready.Announce(stdout, line(l.Addr().String())); err != nil {
		return err
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	case <-ended:
	}
	timer := time.AfterFunc(drainTime, server.Stop)
	defer timer.Stop()
	server.GracefulStop()
	return nil
}

func line(addr string) ready.Line {
	return ready.Line{
		Endpoints: ready.Endpoints{GRPC: addr},
		Claims: ready.Claims{
			Name: "grpc-go interop server", Version: grpc.Version,
			Features: []string{"grpc.interop"}, Defects: defect.Set{}.Names(),
		},
	}
}
