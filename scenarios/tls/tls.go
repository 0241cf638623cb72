// Package tls drives TLS endpoints and TLS clients with the raw prober and records every byte, and owns
// the certificates that its own ends present. It has no opinion on what came back.
package tls

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/rpc"
	wire "github.com/assay-bench/assay/scenarios/wire/tls"
)

// The kinds of evidence of this package, beside those of the frame.
const (
	Handshaken results.Kind = "handshake"  // Handshake: what the prober saw as a client
	Overheard  results.Kind = "heard"      // Heard: what the prober saw as a server
	DialedOut  results.Kind = "dialed-out" // DialOut: the client under test was told to dial
	LabCalled  results.Kind = "lab"        // LabCall: another call of the lab's HTTP API
)

const (
	dialTime    = 3 * time.Second
	defaultWait = 4 * time.Second
)

// Handshake is one connection of the prober in the client's role.
type Handshake struct {
	Name     string       `json:"name"`
	Endpoint string       `json:"endpoint"`
	Wall     time.Time    `json:"wall"` // when it began, to judge certificates by
	Outcome  wire.Outcome `json:"outcome"`
}

// Probe dials an endpoint of the target, runs c on the connection, and records its bytes and outcome.
// Server name, seed, wait and time are filled in where c leaves them zero. The error is the harness's
// own; a target that refuses is an outcome.
func Probe(ctx context.Context, env *scenarios.Env, endpoint, name string, c wire.Client) (*wire.Outcome, error) {
	c = filled(env, c)
	h := Handshake{Name: name, Endpoint: endpoint, Wall: time.Now().UTC().Truncate(time.Millisecond)}
	conn, refusal, err := dialed(ctx, env, endpoint, name)
	if err != nil {
		return nil, err
	}
	if conn == nil {
		h.Outcome = wire.Outcome{Ending: wire.Refused, Stage: "hello", Detail: refusal}
		return &h.Outcome, env.Record(Handshaken, h)
	}
	h.Outcome = c.Run(ctx, conn)
	_ = conn.Close() // the target may have closed it already
	if err := conn.record(results.FromScenario); err != nil {
		return nil, err
	}
	clipOutcome(&h.Outcome)
	return &h.Outcome, env.Record(Handshaken, h)
}

// filled completes a client with what the environment knows.
func filled(env *scenarios.Env, c wire.Client) wire.Client {
	if c.Offer.ServerName == "" && env.Claims.TLS != nil {
		c.Offer.ServerName = env.Claims.TLS.ServerName
	}
	if c.Seed == [32]byte{} {
		c.Seed = seed(env)
	}
	if c.Wait == 0 {
		c.Wait = defaultWait
	}
	if c.Now.IsZero() {
		c.Now = time.Now()
	}
	return c
}

// drawing guards the random source of an Env, which is not safe for the concurrent probes of a case.
var drawing sync.Mutex

func seed(env *scenarios.Env) (s [32]byte) {
	drawing.Lock()
	defer drawing.Unlock()
	for i := range s {
		s[i] = byte(env.Rand.Uint32())
	}
	return s
}

// dialed connects and records how that went. A connection of nil was refused.
func dialed(ctx context.Context, env *scenarios.Env, endpoint, name string) (*recorded, string, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	began := env.Clock.Now()
	conn, err := env.Dial(ctx, "tcp", env.Endpoints[endpoint])
	step := rpc.Step{Conn: name, How: "ok", Waited: env.Elapsed(began)}
	if err != nil {
		if errors.Is(err, scenarios.ErrNotAllowed) {
			return nil, "", err
		}
		step.How, step.Detail = refusal(err), err.Error()
		return nil, step.How, env.Record(results.Dialed, step)
	}
	if err := env.Record(results.Dialed, step); err != nil {
		return nil, "", errors.Join(err, conn.Close())
	}
	return newRecorded(env, name, conn), "", nil
}

func refusal(err error) string {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	}
	return "error"
}

// Seen is a recorded handshake.
type Seen struct {
	Endpoint string
	Wall     time.Time
	Outcome  wire.Outcome
	Cites    []uint64 // the handshake first, then the steps of its connection
}

// Handshakes collects the handshakes of a case by name.
func Handshakes(evidence []results.Evidence) (map[string]Seen, error) {
	steps, err := cites(evidence)
	if err != nil {
		return nil, err
	}
	out := map[string]Seen{}
	for _, e := range evidence {
		if e.Kind != Handshaken {
			continue
		}
		var h Handshake
		if err := e.Decode(&h); err != nil {
			return nil, err
		}
		if _, twice := out[h.Name]; twice || h.Name == "" {
			return nil, fmt.Errorf("evidence %d: the handshake's name %q is empty or used twice", e.Seq, h.Name)
		}
		out[h.Name] = Seen{h.Endpoint, h.Wall, h.Outcome, append([]uint64{e.Seq}, steps[h.Name]...)}
	}
	return out, nil
}

// cites lists the steps of each connection.
func cites(evidence []results.Evidence) (map[string][]uint64, error) {
	out := map[string][]uint64{}
	for _, e := range evidence {
		switch e.Kind {
		case results.Dialed, results.Sent, results.Received, results.Closed, results.Silent:
			var s struct { // only the name: the bytes may be many
				Conn string `json:"conn"`
			}
			if err := e.Decode(&s); err != nil {
				return nil, err
			}
			out[s.Conn] = append(out[s.Conn], e.Seq)
		}
	}
	return out, nil
}

// SeenHeard is a recorded connection of a trap.
type SeenHeard struct {
	N     int // in the order of acceptance, from 0
	Wall  time.Time
	Heard wire.Heard
	Cites []uint64
}

// Heards collects what the traps of a case heard, by their names and in the order of acceptance.
func Heards(evidence []results.Evidence) (map[string][]SeenHeard, error) {
	steps, err := cites(evidence)
	if err != nil {
		return nil, err
	}
	out := map[string][]SeenHeard{}
	for _, e := range evidence {
		if e.Kind != Overheard {
			continue
		}
		var h Heard
		if err := e.Decode(&h); err != nil {
			return nil, err
		}
		if h.Name == "" || h.N < 0 {
			return nil, fmt.Errorf("evidence %d: connection %d of the trap %q can not be", e.Seq, h.N, h.Name)
		}
		s := SeenHeard{h.N, h.Wall, h.Heard, append([]uint64{e.Seq}, steps[connName(h.Name, h.N)]...)}
		out[h.Name] = append(out[h.Name], s)
	}
	for _, all := range out {
		slices.SortStableFunc(all, func(a, b SeenHeard) int { return cmp.Compare(a.N, b.N) })
	}
	return out, nil
}

// App returns what the target's claims allow to send after a handshake and how many bytes of answer to
// wait for: 16 bytes that come back, a request of HTTP/1.1 with at least one byte of answer, or nothing.
func App(env *scenarios.Env) (send []byte, want int) {
	t := env.Claims.TLS
	if t == nil {
		return nil, 0
	}
	switch t.App {
	case "echo":
		s := seed(env)
		return s[:16], 16
	case "http":
		host := t.ServerName
		if host == "" {
			host = "localhost"
		}
		return fmt.Appendf(nil, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host), 1
	}
	return nil, 0
}
