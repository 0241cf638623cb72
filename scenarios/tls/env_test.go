package tls_test

import (
	"bytes"
	"math/rand/v2"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/target"
)

// world is an Env with a recorder whose evidence can be read back from its bytes.
type world struct {
	env *scenarios.Env
	rec *results.Recorder
	key results.Key
}

func newWorld(t testing.TB, endpoints target.Endpoints, tls *target.TLS) *world {
	t.Helper()
	clock := results.ClockSince(time.Now())
	w := &world{rec: results.NewRecorder(&bytes.Buffer{}, clock), key: results.Key{Check: "tls/test"}}
	w.env = &scenarios.Env{
		Key: w.key, Endpoints: endpoints, Claims: target.Claims{TLS: tls},
		Dial: scenarios.NewDialer(nil, 0).DialContext, Clock: clock, Rand: rand.New(rand.NewPCG(1, 2)),
		Put: func(from results.Source, kind results.Kind, data any) error {
			_, err := w.rec.Record(w.key, from, kind, data)
			return err
		},
	}
	return w
}

func (w *world) evidence() []results.Evidence { return w.rec.Of(w.key) }

// kinds are those of the evidence, in order.
func (w *world) kinds() []results.Kind {
	var out []results.Kind
	for _, e := range w.evidence() {
		out = append(out, e.Kind)
	}
	return out
}

// serve gives each connection to a listener of its own to f, and returns the address.
func serve(t testing.TB, f func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go f(conn)
		}
	}()
	return l.Addr().String()
}

// closedPort is an address that nobody listens on.
func closedPort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func contains[T comparable](s []T, v T) bool { return slices.Contains(s, v) }
