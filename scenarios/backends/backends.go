// Package backends serves upstreams that the harness owns, for targets that are proxies or routers: the gRPC
// interop service, an HTTP/1.1 echo and the OpenAI chat API, on loopback. Each witnesses what arrives, which no client of the proxy
// can fake. The package may not judge, and what it allocates for a request is bounded.
package backends

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sort"
	"strconv"
	"sync"

	"github.com/assay-bench/assay/results"
)

// The names of the endpoints.
const (
	GRPCInterop = "grpc-interop"
	HTTPEcho    = "http-echo"
)

// Arrived is the kind of evidence that the backends write: one request, told when it is over.
const Arrived results.Kind = "arrived"

// Arrival is the data of Arrived evidence.
type Arrival struct {
	Backend  string   `json:"backend"` // grpc-interop or http-echo
	Method   string   `json:"method"`  // of HTTP; POST over gRPC
	Path     string   `json:"path"`    // without the query
	Headers  []string `json:"headers"` // names only, in lower case, sorted
	Peer     string   `json:"peer"`    // address of the client of this connection: the proxy
	Received int64    `json:"received"`
	Sent     int64    `json:"sent"`               // bytes of bodies, over gRPC of messages without their prefixes
	Messages int      `json:"messages,omitempty"` // received over gRPC
	Status   int      `json:"status"`             // of HTTP or gRPC
}

// Bounds on what an arrival keeps.
const (
	maxNames = 64
	maxText  = 1 << 10 // bytes of a path or a name
)

// Options choose how the backends serve.
type Options struct {
	// Put records what arrives, with source upstream; nil witnesses nothing. It is called by many
	// goroutines at once.
	Put func(from results.Source, kind results.Kind, data any) error
	// OpenAI is how many upstreams with the chat API there are, at most MaxOpenAI: openai-1, openai-2, …
	OpenAI int
	// Only leaves out all other upstreams.
	Only bool
	// Ports fixes the loopback port of a backend by its name, for a proxy that is configured already.
	Ports map[string]int
	// Host is the address that all listen on; empty: 127.0.0.1. Another one is for a network of the
	// user's own, such as that between containers: whoever reaches it is answered.
	Host string
}

// Backends are running upstreams.
type Backends struct {
	put       func(results.Source, results.Kind, any) error
	endpoints map[string]string
	stops     []func() error
	shut      func() error // once

	mu  sync.Mutex
	err error // the first one of Put
}

// Start listens on loopback unless told otherwise, on ports that the kernel chooses unless given, and serves until Stop or the
// end of ctx.
func Start(ctx context.Context, o Options) (*Backends, error) {
	b := &Backends{put: o.Put, endpoints: map[string]string{}}
	b.shut = sync.OnceValue(b.shutAll)
	if b.put == nil {
		b.put = func(results.Source, results.Kind, any) error { return nil }
	}
	if o.OpenAI < 0 || o.OpenAI > MaxOpenAI {
		return nil, fmt.Errorf("backends: %d upstreams with the chat API, want 0 to %d", o.OpenAI, MaxOpenAI)
	}
	starts := map[string]func(net.Listener) func() error{}
	if !o.Only {
		starts[GRPCInterop], starts[HTTPEcho] = b.serveInterop, b.serveEcho
	}
	for i := range o.OpenAI {
		name := OpenAIPrefix + strconv.Itoa(i+1)
		starts[name] = b.serveOpenAI(name)
	}
	for _, name := range slices.Sorted(maps.Keys(starts)) {
		addr := net.JoinHostPort(cmp.Or(o.Host, "127.0.0.1"), strconv.Itoa(o.Ports[name]))
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("backend %s: %w", name, err), b.Stop())
		}
		b.endpoints[name] = l.Addr().String()
		b.stops = append(b.stops, starts[name](l))
	}
	context.AfterFunc(ctx, func() { _ = b.shut() }) // Stop returns its error
	return b, nil
}

// Endpoints maps the name of each backend to its address.
func (b *Backends) Endpoints() map[string]string {
	out := make(map[string]string, len(b.endpoints))
	for k, v := range b.endpoints {
		out[k] = v
	}
	return out
}

// Stop ends all backends and the calls in flight. It returns the first error of the recorder: evidence
// with a hole in it is useless. Stopping twice is no error.
func (b *Backends) Stop() error {
	err := b.shut()
	b.mu.Lock()
	defer b.mu.Unlock()
	return errors.Join(err, b.err)
}

// shutAll stops what was started; a second caller of b.shut waits for the first one.
func (b *Backends) shutAll() error {
	var errs []error
	for _, stop := range b.stops {
		errs = append(errs, stop())
	}
	return errors.Join(errs...)
}

// witness records an arrival.
func (b *Backends) witness(a Arrival) {
	a.Path = a.Path[:min(len(a.Path), maxText)]
	b.record(a.Backend, Arrived, a)
}

// record keeps the first error of the recorder.
func (b *Backends) record(backend string, kind results.Kind, data any) {
	if err := b.put(results.FromUpstream, kind, data); err != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.err == nil {
			b.err = fmt.Errorf("backend %s: %w", backend, err)
		}
	}
}

// names sorts and bounds the keys of a header map.
func names(header map[string][]string, lower func(string) string) []string {
	out := make([]string, 0, len(header))
	for k := range header {
		out = append(out, lower(k[:min(len(k), maxText)]))
	}
	sort.Strings(out)
	return out[:min(len(out), maxNames)]
}
