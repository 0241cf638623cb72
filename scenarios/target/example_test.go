package target_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"

	"github.com/assay-bench/assay/chaos"
	"github.com/assay-bench/assay/scenarios/target"
	"github.com/assay-bench/assay/scenarios/target/targettest"
)

// InProcess is another kind of target in one file: a server that runs in the harness's own process.
// To add a target adapter, implement target.Target; implement target.Local too if it runs on this
// host, so that a crash is seen; and run targettest.Contract on it.
type InProcess struct {
	Serve func(net.Conn) // owns the connection

	mu     sync.Mutex
	listen net.Listener
	asked  bool
	exited chan struct{}
	state  string
}

// Start listens on a port that the kernel chooses.
func (p *InProcess) Start(ctx context.Context) (target.Endpoints, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listen != nil {
		return nil, errors.New("in-process target: runs already")
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("in-process target: %w", err) // the host's fault, so no NotReady
	}
	p.listen, p.asked, p.state, p.exited = l, false, "", make(chan struct{})
	go p.accept(l, p.exited)
	return target.Endpoints{"rpc": l.Addr().String()}, nil
}

func (p *InProcess) accept(l net.Listener, exited chan struct{}) {
	for {
		conn, err := l.Accept()
		if err != nil {
			p.mu.Lock()
			p.listen, p.state = nil, err.Error()
			p.mu.Unlock()
			close(exited)
			return
		}
		go p.Serve(conn)
	}
}

// Claims says what the server can do.
func (p *InProcess) Claims(context.Context) (target.Claims, error) {
	return target.Claims{Name: "in-process", Features: []string{"rpc.framed"}}, nil
}

// Stop closes the listener and waits until it is closed.
func (p *InProcess) Stop(context.Context) error { return p.end(true) }

// Crash ends it unasked; a process would be killed instead.
func (p *InProcess) Crash() error { return p.end(false) }

func (p *InProcess) end(asked bool) error {
	p.mu.Lock()
	l, exited := p.listen, p.exited
	if l != nil {
		p.asked = asked
	}
	p.mu.Unlock()
	if l == nil {
		return nil // stopping twice, or after a crash, is no error
	}
	err := l.Close()
	<-exited
	return err
}

// Processes lists none: there is nothing that a fault could stop or kill.
func (p *InProcess) Processes() []chaos.Process { return nil }

// Exited is closed when the listener is.
func (p *InProcess) Exited() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.exited
}

// ExitState tells how it ended.
func (p *InProcess) ExitState() target.Exit {
	p.mu.Lock()
	defer p.mu.Unlock()
	return target.Exit{State: p.state, Asked: p.asked}
}

// A target adapter is one file with one type; the contract is its test.
func Example_adapter() {
	ctx := context.Background()
	var sut target.Target = &InProcess{Serve: func(c net.Conn) {
		fmt.Fprint(c, "hello")
		c.Close()
	}}
	addrs, err := sut.Start(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer sut.Stop(ctx)
	claims, _ := sut.Claims(ctx)
	conn, err := net.Dial("tcp", addrs["rpc"])
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()
	var greeting string
	fmt.Fscan(conn, &greeting)
	fmt.Println(claims.Name, claims.Features, greeting)
	// Output: in-process [rpc.framed] hello
}

func TestExampleContract(t *testing.T) {
	t.Parallel()
	targettest.Contract(t, func(*testing.T) target.Target {
		return &InProcess{Serve: func(c net.Conn) { c.Close() }}
	})
}
