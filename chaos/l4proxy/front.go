package l4proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/Shopify/toxiproxy/v2/stream"
	"github.com/rs/zerolog"
)

const (
	drainLimit = 250 * time.Millisecond // for what is in flight at the end
	dialLimit  = 5 * time.Second        // for the target to take a proxied connection

	acceptAgain = 5 * time.Millisecond // after a failing accept, as net/http does
)

// front listens in front of one address. The listener and the connections are its own, the links
// between them are toxiproxy's.
//
// Tried: toxiproxy's own Start and Stop. Lost: a link of v2.5.0 whose destination fails leaves the
// goroutines that still hold data for it for ever, the dial to the target has no limit, and a
// half-closed connection is closed in full.
type front struct {
	upstream string
	listener net.Listener
	links    *toxiproxy.ToxicCollection
	server   *toxiproxy.ApiServer
	stop     context.CancelFunc // ends dials
	running  sync.WaitGroup     // accept loop, dials and links

	mu     sync.Mutex
	closed bool
	open   map[*pair]bool
}

// toxics shares a delay between the directions: half, in whole milliseconds, on the way to the target,
// the rest on the way back.
func toxics(by time.Duration) map[string]int64 {
	up := by.Milliseconds() / 2
	return map[string]int64{"upstream": up, "downstream": by.Milliseconds() - up}
}

// listen starts a front; a delay of zero adds no toxic. Toxiproxy gets a logger that writes nowhere.
func listen(name, upstream string, by time.Duration) (*front, error) {
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	links := toxiproxy.NewProxy(server, name, "", upstream).Toxics
	for direction, ms := range toxics(by) {
		if ms == 0 {
			continue
		}
		toxic := fmt.Sprintf(`{"name":%q,"type":"latency","stream":%q,"toxicity":1,"attributes":{"latency":%d}}`,
			direction, direction, ms)
		if _, err := links.AddToxicJson(strings.NewReader(toxic)); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	f := &front{upstream: upstream, listener: l, links: links, server: server, stop: stop, open: map[*pair]bool{}}
	f.running.Go(func() { f.accept(ctx) })
	return f, nil
}

func (f *front) addr() string { return f.listener.Addr().String() }

func (f *front) accept(ctx context.Context) {
	for n := 0; ; n++ {
		client, err := f.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors, for one
			pause := time.NewTimer(acceptAgain)
			select {
			case <-ctx.Done():
			case <-pause.C:
			}
			continue
		}
		f.running.Go(func() { f.join(ctx, strconv.Itoa(n), client) })
	}
}

// join connects a client to the target.
func (f *front) join(ctx context.Context, name string, client net.Conn) {
	dialer := net.Dialer{Timeout: dialLimit}
	target, err := dialer.DialContext(ctx, "tcp", f.upstream)
	if err != nil {
		client.Close()
		return
	}
	p := &pair{f: f, client: client, target: target, left: 2}
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		p.close()
		return
	}
	f.open[p] = true
	f.running.Add(2)
	f.mu.Unlock()
	f.links.StartLink(f.server, name+"-up", plain{client}, &sink{pair: p, conn: target}, stream.Upstream)
	f.links.StartLink(f.server, name+"-down", plain{target}, &sink{pair: p, conn: client}, stream.Downstream)
}

// close refuses new connections, lets what is in flight through undelayed, closes the connections
// and waits until all goroutines are done. A client that does not read can hold up the second, hence
// the limit; it ends with the third.
func (f *front) close(ctx context.Context) error {
	f.stop()
	if err := f.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		for _, direction := range []string{"upstream", "downstream"} {
			_ = f.links.RemoveToxic(ctx, direction) // fails when there is none
		}
	}()
	limit, cancel := context.WithTimeout(ctx, drainLimit)
	defer cancel()
	_ = until(limit, drained)
	f.mu.Lock()
	for p := range f.open {
		p.close()
	}
	f.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.running.Wait()
		<-drained
	}()
	if err := until(ctx, ended); err != nil {
		return fmt.Errorf("proxy %s: connections do not end: %w", f.addr(), err)
	}
	return nil
}

func until(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pair is a proxied connection: two ends and a link for each direction.
type pair struct {
	f              *front
	client, target net.Conn
	left           int // links that are not done; guarded by f.mu
}

func (p *pair) close() {
	p.client.Close()
	p.target.Close()
}

// done is called by each link at its end.
func (p *pair) done() {
	p.f.mu.Lock()
	p.left--
	last := p.left == 0
	if last {
		delete(p.f.open, p)
	}
	p.f.mu.Unlock()
	if last {
		p.close()
	}
	p.f.running.Done()
}

// plain is a connection as nothing but a reader, so that io.Copy takes no short cut.
type plain struct{ io.Reader }

// sink is the end of a link. It never fails, so that the link's goroutines can get rid of all they
// hold: when its connection does, both ends are closed, which ends the link from its other side.
type sink struct {
	pair   *pair
	conn   net.Conn
	broken bool
}

func (s *sink) Write(b []byte) (int, error) {
	if !s.broken {
		if _, err := s.conn.Write(b); err != nil {
			s.broken = true
			s.pair.close()
		}
	}
	return len(b), nil
}

// Close passes on the end of a stream, while the other direction may go on.
func (s *sink) Close() error {
	if half, ok := s.conn.(interface{ CloseWrite() error }); ok && !s.broken {
		_ = half.CloseWrite()
	}
	s.pair.done()
	return nil
}
