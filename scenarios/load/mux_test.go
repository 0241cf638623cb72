package load

import (
	"fmt"
	"testing"
	"time"
)

// lone returns the link of lane 0 of conns, with no goroutine of its own, on a server
// that never reads a second request.
func lone(t *testing.T, arrivals, conns, pad int) *link {
	t.Helper()
	quit := make(chan struct{})
	s := serve(t, func(int, uint64, reply) bool { <-quit; return false })
	t.Cleanup(func() { close(quit) })
	opt, err := Options{}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	e := newEngine(Schedule{Kind: Burst, Burst: arrivals, Rate: 1, Duration: time.Second}, Segment{}.stripe(), int64(arrivals), opt)
	for i := range e.table.pages {
		e.table.put(int64(i), new(page))
	}
	conn, err := dialTCP(t.Context(), s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	m := s.mux(conns)
	m.Codec = frames{pad: pad}
	return newLink(newLane(&streams{e: e}, m, 0), conn)
}

// A request has a start exactly when one of its bytes is in the socket.
func TestStartMeansBytesInTheSocket(t *testing.T) {
	if !canTryWrite {
		t.Log("no nonblocking write on this system: the write loop has its own tests")
		return
	}
	const arrivals = 300_000
	for _, pad := range []int{0, 100, 64 << 10} {
		t.Run(fmt.Sprint(pad), func(t *testing.T) {
			c, j := lone(t, arrivals, 1, pad), int64(0)
			r := c.e.recorder()
			for ; j < arrivals; j++ {
				c.c.handed.Store(j + 1)
				if !c.flush(r, false) {
					break
				}
			}
			if j == arrivals || c.j != j {
				t.Fatalf("%d of %d requests written: the socket never filled up", j, arrivals)
			}
			if started := c.e.table.start(j) != slotUnsent; started != c.begun {
				t.Errorf("request %d has a start: %v, has bytes in the socket: %v", j, started, c.begun)
			}
			if j > 0 && c.e.table.start(j-1) <= 0 {
				t.Errorf("request %d is in the socket and has no start", j-1)
			}
		})
	}
}

// A reply on another connection than its request's answers nothing.
func TestReplyOnTheWrongConnection(t *testing.T) {
	c := lone(t, 4, 2, 0)
	for id := range int64(4) {
		c.e.table.stamp(id, c.e.opt.now())
	}
	var buf []byte
	for id := range uint64(6) { // two of them never existed
		buf = frames{}.Request(buf, id) // an echo of the request is a good reply
	}
	r := c.e.recorder()
	used, err := c.match(r, append(buf, 1, 2, 3), c.e.opt.now())
	if err != nil || used != len(buf) {
		t.Fatalf("match took %d of %d bytes, error %v", used, len(buf), err)
	}
	if ok, stray := r.active.Load().ok.Drain(), r.stray.Load(); ok != 2 || stray != 4 {
		t.Errorf("%d ok and %d stray, want 2 and 4", ok, stray)
	}
	if c.e.table.start(1) <= 0 || c.e.table.start(2) != slotFinished {
		t.Errorf("request 1 of the other connection must stay in flight, 2 must not")
	}
}
