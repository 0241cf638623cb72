package tls

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/rpc"
)

// Bounds on what is kept of one connection, both directions together.
const (
	maxRecorded = 3 << 20 // bytes
	maxRuns     = 8 << 10 // changes of direction: each becomes evidence of its own
)

// recorded is a connection that keeps what passes through it.
type recorded struct {
	net.Conn
	env  *scenarios.Env
	name string

	mu   sync.Mutex
	runs []run
	kept int
	sent time.Duration // the last write, or the begin
	end  error         // of the last read that failed, or of a write that the peer ended
	cut  bool          // bytes were dropped at the bound
}

// run is what passed in one direction until the direction changed.
type run struct {
	kind   results.Kind
	bytes  []byte
	waited time.Duration // of the first byte, since the last write
	more   bool
}

func newRecorded(env *scenarios.Env, name string, conn net.Conn) *recorded {
	return &recorded{Conn: conn, env: env, name: name, sent: env.Clock.Now()}
}

// Read keeps what was read.
func (r *recorded) Read(b []byte) (int, error) {
	n, err := r.Conn.Read(b)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keep(results.Received, b[:n])
	r.ended(err)
	return n, err
}

// Write keeps what was written.
func (r *recorded) Write(b []byte) (int, error) {
	n, err := r.Conn.Write(b)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keep(results.Sent, b[:n])
	r.sent = r.env.Clock.Now()
	r.ended(err)
	return n, err
}

// ended remembers how the peer ended the connection; a wait that was over may be followed by more.
func (r *recorded) ended(err error) {
	if err == nil || errors.Is(err, net.ErrClosed) {
		return
	}
	if r.end == nil || timedOut(r.end) {
		r.end = err
	}
}

func (r *recorded) keep(kind results.Kind, b []byte) {
	if len(b) == 0 {
		return
	}
	if timedOut(r.end) {
		r.end = nil // the wait was not the end
	}
	if r.kept+len(b) > maxRecorded {
		b, r.cut = b[:maxRecorded-r.kept], true
	}
	r.kept += len(b)
	last := len(r.runs) - 1
	switch {
	case last >= 0 && r.runs[last].kind == kind:
		r.runs[last].bytes = append(r.runs[last].bytes, b...)
		r.runs[last].more = r.cut
	case len(r.runs) == maxRuns:
		r.cut, r.runs[last].more = true, true
	default:
		r.runs = append(r.runs, run{kind, append([]byte(nil), b...), r.env.Elapsed(r.sent), r.cut})
	}
}

// record writes the evidence: what passed, in order, and how the peer ended it.
func (r *recorded) record(from results.Source) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.runs {
		s := rpc.Step{Conn: r.name, Label: r.name, Bytes: results.BytesOf(p.bytes), More: p.more}
		if p.kind == results.Received {
			s.Waited = p.waited
		}
		if err := r.env.Put(from, p.kind, s); err != nil {
			return err
		}
	}
	if r.end == nil {
		return nil
	}
	s := rpc.Step{Conn: r.name, Label: r.name}
	kind := results.Closed
	switch {
	case timedOut(r.end):
		kind = results.Silent
	case errors.Is(r.end, io.EOF):
		s.How = "eof"
	case errors.Is(r.end, syscall.ECONNRESET), errors.Is(r.end, syscall.EPIPE):
		s.How = "reset"
	default:
		s.How, s.Detail = "error", r.end.Error()
	}
	return r.env.Put(from, kind, s)
}

func timedOut(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}
