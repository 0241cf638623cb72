package rpc_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/rpc"
	"github.com/assay-bench/assay/scenarios/target"
)

// long is how long a test waits for what must come; short for what must not.
const (
	long  = 10 * time.Second
	short = 30 * time.Millisecond
)

// book is what a conversation recorded.
type book struct {
	t   *testing.T
	all []results.Evidence
}

func (b *book) put(from results.Source, kind results.Kind, data any) error {
	raw, err := results.Marshal(data)
	b.all = append(b.all, results.Evidence{Seq: uint64(len(b.all) + 1), Source: from, Check: "x", Kind: kind, Data: raw})
	return err
}

// steps are the recorded steps without times and error texts.
func (b *book) steps() (kinds []results.Kind, steps []rpc.Step) {
	b.t.Helper()
	for _, e := range b.all {
		var s rpc.Step
		if err := e.Decode(&s); err != nil {
			b.t.Fatal(err)
		}
		if s.Waited < 0 {
			b.t.Errorf("evidence %d waited for %s", e.Seq, s.Waited)
		}
		s.Waited, s.Detail = 0, ""
		kinds, steps = append(kinds, e.Kind), append(steps, s)
	}
	return kinds, steps
}

func (b *book) want(kinds []results.Kind, steps []rpc.Step) {
	b.t.Helper()
	gotKinds, gotSteps := b.steps()
	if diff := cmp.Diff(kinds, gotKinds); diff != "" {
		b.t.Errorf("kinds (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(steps, gotSteps); diff != "" {
		b.t.Errorf("steps (-want +got):\n%s", diff)
	}
}

// serve plays a target: peer runs on the first connection.
func serve(t *testing.T, peer func(*net.TCPConn)) (*scenarios.Env, *book) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		peer(c.(*net.TCPConn))
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return environment(t, l.Addr().String())
}

func environment(t *testing.T, addr string) (*scenarios.Env, *book) {
	b := &book{t: t}
	return &scenarios.Env{
		Key: results.Key{Check: "x"}, Endpoints: target.Endpoints{"rpc": addr},
		Dial: scenarios.NewDialer(nil, 0).DialContext, Clock: results.ClockSince(time.Now()), Put: b.put,
	}, b
}

func dial(t *testing.T, env *scenarios.Env) *rpc.Conn {
	t.Helper()
	c, err := rpc.Dial(t.Context(), env, "rpc", "c1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func ok(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// atLeast waits for n bytes.
func atLeast(n int) func([]byte) bool { return func(b []byte) bool { return len(b) >= n } }

func bytesOf(s string) results.Bytes { return results.BytesOf([]byte(s)) }

func TestReplyInPieces(t *testing.T) {
	env, b := serve(t, func(c *net.TCPConn) {
		buf := make([]byte, 4)
		for range 2 {
			io.ReadFull(c, buf)
			for _, piece := range []string{"an", "sw", "er"} {
				c.Write([]byte(piece))
			}
		}
		c.Read(buf)
	})
	c := dial(t, env)
	ok(t, c.Send("first", []byte("ask!")), c.Await(t.Context(), long, atLeast(6)))
	ok(t, c.Send("second", []byte("more")), c.Await(t.Context(), long, atLeast(6)))
	b.want(
		[]results.Kind{results.Dialed, results.Sent, results.Received, results.Sent, results.Received},
		[]rpc.Step{
			{Conn: "c1", How: "ok"},
			{Conn: "c1", Label: "first", Bytes: bytesOf("ask!")}, {Conn: "c1", Label: "first", Bytes: bytesOf("answer")},
			{Conn: "c1", Label: "second", Bytes: bytesOf("more")}, {Conn: "c1", Label: "second", Bytes: bytesOf("answer")},
		})
	if b.all[0].Source != results.FromScenario {
		t.Errorf("source %s", b.all[0].Source)
	}
}

func TestClose(t *testing.T) {
	env, b := serve(t, func(c *net.TCPConn) { io.ReadFull(c, make([]byte, 1)) })
	c := dial(t, env)
	ok(t, c.Send("x", []byte("a")), c.Await(t.Context(), long, atLeast(1)))
	// what follows finds the connection ended and adds nothing
	ok(t, c.Send("y", []byte("b")), c.Await(t.Context(), long, atLeast(1)))
	b.want([]results.Kind{results.Dialed, results.Sent, results.Closed}, []rpc.Step{
		{Conn: "c1", How: "ok"}, {Conn: "c1", Label: "x", Bytes: bytesOf("a")}, {Conn: "c1", Label: "x", How: "eof"},
	})
}

func TestPartOfAnAnswerThenClose(t *testing.T) {
	env, b := serve(t, func(c *net.TCPConn) { io.ReadFull(c, make([]byte, 1)); c.Write([]byte("ha")) })
	c := dial(t, env)
	ok(t, c.Send("x", []byte("a")), c.Await(t.Context(), long, atLeast(4)))
	b.want([]results.Kind{results.Dialed, results.Sent, results.Received, results.Closed}, []rpc.Step{
		{Conn: "c1", How: "ok"}, {Conn: "c1", Label: "x", Bytes: bytesOf("a")},
		{Conn: "c1", Label: "x", Bytes: bytesOf("ha")}, {Conn: "c1", Label: "x", How: "eof"},
	})
}

func TestReset(t *testing.T) {
	env, b := serve(t, func(c *net.TCPConn) {
		io.ReadFull(c, make([]byte, 1))
		c.SetLinger(0) // a close sends RST
	})
	c := dial(t, env)
	ok(t, c.Send("x", []byte("a")), c.Await(t.Context(), long, nil))
	b.want([]results.Kind{results.Dialed, results.Sent, results.Closed}, []rpc.Step{
		{Conn: "c1", How: "ok"}, {Conn: "c1", Label: "x", Bytes: bytesOf("a")}, {Conn: "c1", Label: "x", How: "reset"},
	})
}

func TestSilence(t *testing.T) {
	release := make(chan struct{})
	env, b := serve(t, func(*net.TCPConn) { <-release })
	defer close(release)
	c := dial(t, env)
	c.Begin("nothing")
	ok(t, c.Await(t.Context(), short, nil))
	ok(t, c.Send("x", []byte("a")), c.Await(t.Context(), short, atLeast(1)))
	b.want([]results.Kind{results.Dialed, results.Silent, results.Sent, results.Silent}, []rpc.Step{
		{Conn: "c1", How: "ok"}, {Conn: "c1", Label: "nothing"},
		{Conn: "c1", Label: "x", Bytes: bytesOf("a")}, {Conn: "c1", Label: "x"},
	})
}

func TestAwaitEndsWithItsContext(t *testing.T) {
	release := make(chan struct{})
	env, b := serve(t, func(*net.TCPConn) { <-release })
	defer close(release)
	c := dial(t, env)
	ctx, cancel := context.WithTimeout(t.Context(), short)
	defer cancel()
	ok(t, c.Await(ctx, time.Hour, nil))
	if kinds, _ := b.steps(); kinds[len(kinds)-1] != results.Silent {
		t.Errorf("recorded %q", kinds)
	}
}

func TestPartOfAnAnswerThenSilence(t *testing.T) {
	release := make(chan struct{})
	env, b := serve(t, func(c *net.TCPConn) { c.Write([]byte("ha")); <-release })
	defer close(release)
	c := dial(t, env)
	c.Begin("x")
	ok(t, c.Await(t.Context(), 4*short, atLeast(4)))
	b.want([]results.Kind{results.Dialed, results.Received}, []rpc.Step{
		{Conn: "c1", How: "ok"}, {Conn: "c1", Label: "x", Bytes: bytesOf("ha")},
	})
}

func TestEndlessStreamIsBounded(t *testing.T) {
	env, b := serve(t, func(c *net.TCPConn) {
		piece := bytes.Repeat([]byte{0xab}, 64<<10)
		for {
			if _, err := c.Write(piece); err != nil {
				return
			}
		}
	})
	c := dial(t, env)
	c.Begin("x")
	ok(t, c.Await(t.Context(), long, func([]byte) bool { return false }))
	_, steps := b.steps()
	if got := steps[len(steps)-1]; !got.More || got.Bytes.Len != rpc.MaxRead || got.Bytes.SHA256 == "" {
		t.Errorf("%d bytes, more: %t", got.Bytes.Len, got.More)
	}
	if size := len(b.all[len(b.all)-1].Data); size > 64<<10 {
		t.Errorf("%d bytes of evidence", size)
	}
	xs, err := rpc.Exchanges(b.all)
	if err != nil || xs["x"].Whole {
		t.Errorf("a part of the answer is called whole, %v", err)
	}
}

func TestRefusedDial(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	env, b := environment(t, addr)
	c := dial(t, env)
	ok(t, c.Send("x", []byte("a")), c.Await(t.Context(), long, nil))
	c.Close()
	b.want([]results.Kind{results.Dialed}, []rpc.Step{{Conn: "c1", How: "refused"}})
	xs, err := rpc.Exchanges(b.all)
	ok(t, err)
	if x := xs["dial c1"]; x == nil || x.Refused != "refused" || !cmp.Equal(x.Cites, []uint64{1}) {
		t.Errorf("exchange %+v", x)
	}
}

func TestDialFailures(t *testing.T) {
	for how, failure := range map[string]error{"timeout": context.DeadlineExceeded, "error": errors.New("no route")} {
		env, b := environment(t, "127.0.0.1:1")
		env.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, failure }
		dial(t, env)
		b.want([]results.Kind{results.Dialed}, []rpc.Step{{Conn: "c1", How: how}})
	}
	env, b := environment(t, "192.0.2.1:1")
	if _, err := rpc.Dial(t.Context(), env, "rpc", "c1"); !errors.Is(err, scenarios.ErrNotAllowed) || len(b.all) != 0 {
		t.Errorf("an address that is not allowed: %v and %d pieces of evidence: that is the harness's fault", err, len(b.all))
	}
}

// stuck is a connection whose writes end in an error after n bytes.
type stuck struct {
	net.Conn
	n   int
	err error
}

func (s stuck) Write([]byte) (int, error)        { return s.n, s.err }
func (s stuck) SetWriteDeadline(time.Time) error { return nil }
func (s stuck) Close() error                     { return nil }

func TestWriteThatEndsEarly(t *testing.T) {
	tests := map[string]struct {
		err  error
		kind results.Kind
		how  string
	}{
		"the peer takes nothing more": {os.ErrDeadlineExceeded, results.Silent, ""},
		"the peer has closed":         {net.ErrClosed, results.Closed, "error"},
		"broken pipe":                 {&net.OpError{Err: os.NewSyscallError("write", syscall.EPIPE)}, results.Closed, "reset"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			env, b := environment(t, "127.0.0.1:1")
			env.Dial = func(context.Context, string, string) (net.Conn, error) { return stuck{n: 2, err: tt.err}, nil }
			c := dial(t, env)
			ok(t, c.Send("x", []byte("abcd")), c.Await(t.Context(), long, nil))
			b.want([]results.Kind{results.Dialed, results.Sent, tt.kind}, []rpc.Step{
				{Conn: "c1", How: "ok"}, {Conn: "c1", Label: "x", Bytes: bytesOf("ab")}, {Conn: "c1", Label: "x", How: tt.how},
			})
		})
	}
}

func TestEvidenceThatCanNotBeWritten(t *testing.T) {
	full := errors.New("disk is full")
	for failAt := 1; failAt <= 3; failAt++ {
		env, b := serve(t, func(c *net.TCPConn) { io.Copy(c, c) })
		env.Put = func(from results.Source, kind results.Kind, data any) error {
			if len(b.all)+1 == failAt {
				return full
			}
			return b.put(from, kind, data)
		}
		c, err := rpc.Dial(t.Context(), env, "rpc", "c1")
		if failAt > 1 {
			err = errors.Join(err, c.Send("x", []byte("a")), c.Await(t.Context(), long, atLeast(1)))
		}
		if !errors.Is(err, full) {
			t.Errorf("record %d failed, the scenario returned %v", failAt, err)
		}
		c.Close()
	}
}

// record builds evidence by hand.
func record(steps ...any) []results.Evidence {
	b := &book{}
	for i := 0; i < len(steps); i += 2 {
		_ = b.put(results.FromScenario, steps[i].(results.Kind), steps[i+1])
	}
	return b.all
}

func TestExchanges(t *testing.T) {
	large := results.BytesOf(make([]byte, results.MaxWhole+1))
	evidence := record(
		results.Dialed, rpc.Step{Conn: "a", How: "ok"},
		results.Sent, rpc.Step{Conn: "a", Label: "one", Bytes: bytesOf("he")},
		results.Sent, rpc.Step{Conn: "a", Label: "one", Bytes: bytesOf("llo")},
		results.Received, rpc.Step{Conn: "a", Label: "one", Bytes: bytesOf("wo"), Waited: 5},
		results.Measured, 7,
		results.Dialed, rpc.Step{Conn: "b", How: "timeout"},
		results.Received, rpc.Step{Conn: "a", Label: "one", Bytes: bytesOf("rld"), Waited: 9},
		results.Closed, rpc.Step{Conn: "a", Label: "one", How: "eof", Waited: 11},
		results.Silent, rpc.Step{Conn: "a", Label: "two"},
		results.Received, rpc.Step{Conn: "a", Label: "three", Bytes: large},
		results.Received, rpc.Step{Conn: "a", Label: "four", Bytes: bytesOf("x"), More: true},
	)
	got, err := rpc.Exchanges(evidence)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]*rpc.Exchange{
		"one": {
			Sent: []byte("hello"), Received: []byte("world"), Whole: true, Closed: "eof", Answer: 5, Ending: 11,
			Cites: []uint64{2, 3, 4, 7, 8}, Present: true,
		},
		"dial b": {Refused: "timeout", Cites: []uint64{6}},
		"two":    {Whole: true, Silent: true, Cites: []uint64{9}, Present: true},
		"three":  {Received: make([]byte, 4<<10), Cites: []uint64{10}, Present: true},
		"four":   {Received: []byte("x"), Cites: []uint64{11}, Present: true},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("exchanges (-want +got):\n%s", diff)
	}
}

func TestExchangesOfWhatWasDriven(t *testing.T) {
	env, b := serve(t, func(c *net.TCPConn) { io.Copy(c, c) })
	c := dial(t, env)
	ok(t, c.Send("x", []byte("hello")), c.Await(t.Context(), long, atLeast(5)))
	xs, err := rpc.Exchanges(b.all)
	ok(t, err)
	x := xs["x"]
	if x == nil || string(x.Sent) != "hello" || string(x.Received) != "hello" || !x.Whole || x.Closed != "" || len(x.Cites) != 2 {
		t.Errorf("exchange %+v", x)
	}
}

func TestExchangesRefuse(t *testing.T) {
	for name, evidence := range map[string][]results.Evidence{
		"no step":       record(results.Sent, 7),
		"no connection": record(results.Received, rpc.Step{Label: "x"}),
	} {
		if xs, err := rpc.Exchanges(evidence); err == nil {
			t.Errorf("%s: read as %v", name, xs)
		}
	}
	if xs, err := rpc.Exchanges(nil); err != nil || len(xs) != 0 {
		t.Errorf("of nothing: %v, %v", xs, err)
	}
}

func FuzzExchanges(f *testing.F) {
	f.Add("received", []byte(`{"conn":"a","label":"x","bytes":{"len":1,"hex":"00"}}`))
	f.Add("closed", []byte(`{"conn":"a","how":"eof"}`))
	f.Add("received", []byte(`{"conn":"a","bytes":{"len":-1,"hex":"zz","head":"0"}}`))
	f.Fuzz(func(t *testing.T, kind string, data []byte) {
		e := results.Evidence{Seq: 1, Kind: results.Kind(kind), Data: data}
		xs, err := rpc.Exchanges([]results.Evidence{e, e})
		if err != nil && xs != nil {
			t.Errorf("beside the error %v: %v", err, xs)
		}
		for label, x := range xs {
			if x == nil || len(x.Cites) == 0 {
				t.Errorf("%q: %+v", label, x)
			}
		}
	})
}
