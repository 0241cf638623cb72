// Package rpc drives RPC endpoints byte by byte: it dials, writes, and reads until a whole reply, the
// peer's close, or the end of the wait, and records each step. It has no opinion on what came back.
package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
)

// MaxRead bounds what is read of one answer, whatever the peer sends.
const MaxRead = 4 << 20

// Step is the data of Dialed, Sent, Received, Closed and Silent evidence.
type Step struct {
	Conn   string        `json:"conn"`            // name of the connection within the case
	Label  string        `json:"label,omitempty"` // the exchange that it belongs to
	Bytes  results.Bytes `json:"bytes,omitzero"`
	How    string        `json:"how,omitempty"`    // of Closed: eof, reset, error; of Dialed: ok, refused, timeout, error
	Detail string        `json:"detail,omitempty"` // the error's text
	Waited time.Duration `json:"waited,omitempty"` // since the exchange's last write
	More   bool          `json:"more,omitempty"`   // the read stopped at its bound, more was to come
}

// Conn is a recorded connection. A Conn whose dial failed does nothing: that the target refused is
// in the evidence already.
type Conn struct {
	env   *scenarios.Env
	name  string
	conn  net.Conn
	label string
	sent  time.Duration
	ended bool
}

// Dial connects to an endpoint of the target. The error is the harness's own; a refusal is evidence.
func Dial(ctx context.Context, env *scenarios.Env, endpoint, name string) (*Conn, error) {
	c := &Conn{env: env, name: name}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	began := env.Clock.Now()
	conn, err := env.Dial(ctx, "tcp", env.Endpoints[endpoint])
	step := Step{Conn: name, How: "ok", Waited: env.Elapsed(began)}
	if err != nil {
		if errors.Is(err, scenarios.ErrNotAllowed) {
			return nil, err
		}
		step.How, step.Detail = dialFailure(err), err.Error()
		c.ended = true
	}
	c.conn, c.sent = conn, env.Clock.Now()
	return c, env.Record(results.Dialed, step)
}

func dialFailure(err error) string {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	}
	return "error"
}

// Send begins the exchange called label and writes b. That the peer has closed is evidence.
func (c *Conn) Send(label string, b []byte) error {
	c.label = label
	if c.ended {
		return nil
	}
	c.conn.SetWriteDeadline(time.Now().Add(3 * time.Second))
	n, err := c.conn.Write(b)
	c.sent = c.env.Clock.Now()
	if rerr := c.env.Record(results.Sent, Step{Conn: c.name, Label: label, Bytes: results.BytesOf(b[:n])}); rerr != nil {
		return rerr
	}
	if err != nil {
		return c.unsent(err, len(b)-n)
	}
	return nil
}

// unsent records why a write ended early. A peer that takes nothing more has not closed.
func (c *Conn) unsent(err error, left int) error {
	if !timedOut(err) {
		return c.closed(err)
	}
	c.ended = true
	s := c.step()
	s.Detail = fmt.Sprintf("%d bytes were not taken", left)
	return c.env.Record(results.Silent, s)
}

// Begin starts an exchange that writes nothing.
func (c *Conn) Begin(label string) { c.label, c.sent = label, c.env.Clock.Now() }

// Await reads until whole says that all answers are there, the peer closes, or wait is over, and
// records what came. whole gets all bytes of this call; nil reads until close or the end of the wait.
func (c *Conn) Await(ctx context.Context, wait time.Duration, whole func([]byte) bool) error {
	if c.ended {
		return nil
	}
	deadline := time.Now().Add(wait)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	c.conn.SetReadDeadline(deadline)
	var got []byte
	buf := make([]byte, 32<<10)
	for {
		n, err := c.conn.Read(buf)
		got = append(got, buf[:n]...)
		switch {
		case len(got) > 0 && whole != nil && whole(got):
			return c.received(got, false)
		case len(got) >= MaxRead:
			return c.received(got[:MaxRead], true)
		case err == nil:
		case timedOut(err):
			if len(got) > 0 {
				return c.received(got, false)
			}
			return c.env.Record(results.Silent, c.step())
		default:
			if len(got) > 0 {
				if err := c.received(got, false); err != nil {
					return err
				}
			}
			return c.closed(err)
		}
	}
}

// Close ends the connection from our side.
func (c *Conn) Close() {
	c.ended = true
	if c.conn != nil {
		c.conn.Close()
	}
}

func (c *Conn) step() Step {
	return Step{Conn: c.name, Label: c.label, Waited: c.env.Elapsed(c.sent)}
}

func (c *Conn) received(b []byte, more bool) error {
	s := c.step()
	s.Bytes, s.More = results.BytesOf(b), more
	return c.env.Record(results.Received, s)
}

func (c *Conn) closed(err error) error {
	c.ended = true
	s := c.step()
	s.How = "error"
	switch {
	case errors.Is(err, io.EOF):
		s.How = "eof"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		s.How = "reset"
	default:
		s.Detail = err.Error()
	}
	return c.env.Record(results.Closed, s)
}

func timedOut(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// Exchange is what evidence says of one labelled exchange.
type Exchange struct {
	Sent     []byte
	Received []byte
	Whole    bool // all received bytes are in the evidence
	Closed   string
	Silent   bool
	Refused  string        // of the dial, where it failed
	Answer   time.Duration // from the last write to the first recorded answer
	Ending   time.Duration // from the last write to the close
	Cites    []uint64
	Present  bool
}

// Exchanges collects the labelled exchanges of a case, in the order of the evidence.
func Exchanges(evidence []results.Evidence) (map[string]*Exchange, error) {
	out := map[string]*Exchange{}
	refused := map[string]results.Evidence{}
	of := func(s Step) *Exchange {
		x := out[s.Label]
		if x == nil {
			x = &Exchange{Whole: true, Present: true}
			out[s.Label] = x
		}
		return x
	}
	for _, e := range evidence {
		switch e.Kind {
		case results.Dialed, results.Sent, results.Received, results.Closed, results.Silent:
		default:
			continue
		}
		var s Step
		if err := e.Decode(&s); err != nil {
			return nil, err
		}
		if s.Conn == "" {
			return nil, fmt.Errorf("evidence %d: no connection is named", e.Seq)
		}
		if e.Kind == results.Dialed {
			if s.How != "ok" {
				refused[s.Conn] = e
				x := &Exchange{Refused: s.How, Cites: []uint64{e.Seq}}
				out["dial "+s.Conn] = x
			}
			continue
		}
		of(s).add(e, s)
	}
	return out, nil
}

func (x *Exchange) add(e results.Evidence, s Step) {
	x.Cites = append(x.Cites, e.Seq)
	b, whole := s.Bytes.Whole()
	switch e.Kind {
	case results.Sent:
		x.Sent = append(x.Sent, b...)
	case results.Received:
		if len(x.Received) == 0 {
			x.Answer = s.Waited
		}
		x.Received = append(x.Received, b...)
		x.Whole = x.Whole && whole && !s.More
	case results.Closed:
		x.Closed, x.Ending = s.How, s.Waited
	case results.Silent:
		x.Silent = true
	}
}
