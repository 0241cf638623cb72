package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/target"
)

// The kinds of evidence on a proxy.
const (
	Arrived   results.Kind = "proxy-arrived"  // Arrival: a request reached the harness's own upstream
	Loaded    results.Kind = "proxy-loaded"   // Loading: a filter was loaded, or refused
	Proxied   results.Kind = "proxy-exchange" // Exchange: a request through the proxy
	FilterLog results.Kind = "proxy-log"      // FilterLines: what the filter logged
)

const (
	proxyWait  = 8 * time.Second // beyond what the target says of its answers
	maxHeaders = 64 << 10
	maxBody    = 64 << 10
	maxArrived = 64 // requests that an upstream records
)

// Upstream is a server of the harness behind the proxy. It answers each request alike and is the witness of
// what arrives.
type Upstream struct {
	env    *scenarios.Env
	listen net.Listener
	server *http.Server
	done   chan error

	mu      sync.Mutex
	arrived []Arrival
	total   int
}

// Arrival is a request as the upstream saw it.
type Arrival struct {
	N       int                 `json:"n"`
	Method  string              `json:"method"`
	Path    string              `json:"path"`
	Headers map[string][]string `json:"headers"` // names in lower case
}

// StartUpstream listens on loopback. Its answers carry x-assay-upstream: hello, x-assay-rewrite: original and
// x-assay-hidden: secret.
func StartUpstream(env *scenarios.Env) (*Upstream, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("upstream: %w", err)
	}
	u := &Upstream{env: env, listen: l, done: make(chan error, 1)}
	u.server = &http.Server{Handler: http.HandlerFunc(u.serve), ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: maxHeaders}
	go func() { u.done <- u.server.Serve(l) }()
	return u, nil
}

// Addr is where it listens.
func (u *Upstream) Addr() string { return u.listen.Addr().String() }

// Count is how many requests have arrived.
func (u *Upstream) Count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.total
}

func (u *Upstream) serve(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, maxBody)) // a client that goes away is no error here
	u.mu.Lock()
	u.total++
	if len(u.arrived) < maxArrived {
		u.arrived = append(u.arrived, Arrival{u.total, r.Method, r.URL.Path, lower(r.Header)})
	}
	u.mu.Unlock()
	for name, value := range map[string]string{"x-assay-upstream": "hello", "x-assay-rewrite": "original", "x-assay-hidden": "secret"} {
		w.Header().Set(name, value)
	}
	_, _ = io.WriteString(w, "upstream\n")
}

// Close ends it and records what arrived.
func (u *Upstream) Close() error {
	err := u.server.Close()
	if serr := <-u.done; !errors.Is(serr, http.ErrServerClosed) {
		err = errors.Join(err, serr)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, a := range u.arrived {
		err = errors.Join(err, u.env.Put(results.FromUpstream, Arrived, a))
	}
	return err
}

// Filter is a Proxy-Wasm filter with its configurations.
type Filter struct {
	Wasm            []byte
	Configuration   string
	VMConfiguration string
}

// Loading is the evidence of a filter that was loaded.
type Loading struct {
	Name     string `json:"name"`
	Filter   Digest `json:"filter"`
	OK       bool   `json:"ok"`
	Step     string `json:"step,omitempty"`   // of a refusal over the HTTP API
	Reason   string `json:"reason,omitempty"` // likewise, or the end of what the hook printed
	Broken   string `json:"broken,omitempty"` // the target did not answer as its API says, or the hook could not be run
	Hook     bool   `json:"hook,omitempty"`
	Upstream string `json:"upstream"`
}

// Load loads a filter into the proxy, in front of an upstream: by the load hook where the target names one,
// else by the HTTP API, under a tenant of the case's own.
func Load(ctx context.Context, env *scenarios.Env, name string, f Filter, upstream string) (Loading, error) {
	l := Loading{Name: name, Filter: DigestOf(f.Wasm), Upstream: upstream}
	var err error
	if s := env.Claims.Sandbox; s != nil && s.Load != "" {
		l.Hook = true
		err = l.byHook(ctx, env, f)
	} else {
		err = l.byAPI(ctx, env, f)
	}
	if err != nil {
		return l, fmt.Errorf("load a filter: %w", err)
	}
	return l, env.Record(Loaded, l)
}

func (l *Loading) byAPI(ctx context.Context, env *scenarios.Env, f Filter) error {
	api := NewAPI(env)
	defer api.Close()
	signer, err := NewSigner()
	if err != nil {
		return err
	}
	const tenant = "assay-proxy" // filters are loaded one at a time, and each load brings its keys
	set, err := api.SetTenant(ctx, l.Name+"-tenant", tenant, Enterprise, signer.Keys())
	if err != nil {
		return err
	}
	if !set.Good() {
		l.Broken = clip(fmt.Sprintf("no tenant: status %d %s", set.Status, set.Broken))
		return nil
	}
	version := uint64(time.Now().UnixNano()) // above all that was loaded before
	signatures, err := signer.Sign(SignedBytes(tenant, "proxy", version, f.Wasm))
	if err != nil {
		return err
	}
	put, err := api.PutFilter(ctx, l.Name, FilterUpload{
		Tenant: tenant, Wasm: f.Wasm, Version: version, Signatures: signatures,
		Configuration: f.Configuration, VMConfiguration: f.VMConfiguration, Upstream: l.Upstream,
	})
	if err != nil {
		return err
	}
	p, refused := put.Problem()
	switch {
	case put.Good():
		l.OK = true
	case refused:
		l.Step, l.Reason = clip(p.Step), clip(p.Reason+" "+p.Detail)
	default:
		l.Broken = clip(fmt.Sprintf("status %d %s", put.Status, put.Broken))
	}
	return nil
}

// FilterUpload is the body of PUT /proxy/filter.
type FilterUpload struct {
	Tenant          string     `json:"tenant"`
	Wasm            []byte     `json:"wasm"`
	Version         uint64     `json:"version"`
	Signatures      Signatures `json:"signatures,omitzero"`
	Configuration   string     `json:"configuration,omitempty"`
	VMConfiguration string     `json:"vmConfiguration,omitempty"`
	Upstream        string     `json:"upstream"`
}

// PutFilter loads a filter.
func (a *API) PutFilter(ctx context.Context, name string, u FilterUpload) (Call, error) {
	told := struct {
		FilterUpload
		Wasm Digest `json:"wasm"`
	}{u, DigestOf(u.Wasm)}
	return a.call(ctx, ask{name: name, method: http.MethodPut, path: "/proxy/filter", wait: uploadWait, body: u, told: told})
}

func (l *Loading) byHook(ctx context.Context, env *scenarios.Env, f Filter) (err error) {
	dir, err := os.MkdirTemp("", "assay-filter-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	file, configuration, vm := filepath.Join(dir, "filter.wasm"), filepath.Join(dir, "configuration"), filepath.Join(dir, "vm-configuration")
	for _, w := range []struct {
		path string
		data []byte
	}{{file, f.Wasm}, {configuration, []byte(f.Configuration)}, {vm, []byte(f.VMConfiguration)}} {
		if err := os.WriteFile(w.path, w.data, 0o600); err != nil {
			return err
		}
	}
	hook, _ := env.Claims.Sandbox.Loading(file, l.Upstream, configuration, vm)
	within, cancel := context.WithTimeout(ctx, proxyWait+env.Claims.Limits.Answer())
	defer cancel()
	ran, err := hook.Run(within)
	if err == nil && ran.Exit == 0 && env.Claims.Sandbox.Reload != "" {
		ran, err = target.RunHook(within, env.Claims.Sandbox.Folder, env.Claims.Sandbox.Reload, nil)
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, target.ErrNotReady):
		l.Broken = clip(err.Error())
		return nil
	case err != nil:
		return err
	}
	l.OK, l.Reason = ran.Exit == 0 && !ran.Late, clip(ran.Output)
	return nil
}

// Exchange is the evidence of one request through the proxy.
type Exchange struct {
	Name    string              `json:"name"`
	Request map[string]string   `json:"request,omitempty"`
	Status  int                 `json:"status,omitempty"`
	Headers map[string][]string `json:"headers,omitempty"` // of the answer, names in lower case
	Body    string              `json:"body,omitempty"`
	Broken  string              `json:"broken,omitempty"` // no answer of HTTP came: text
	Took    time.Duration       `json:"took"`
}

// Header is the first value of a header, or nothing.
func (x Exchange) Header(name string) string {
	if v := x.Headers[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// Through makes a request GET / through the proxy. That the proxy does not answer is evidence.
func Through(ctx context.Context, env *scenarios.Env, name string, headers map[string]string) (Exchange, error) {
	x := Exchange{Name: name, Request: headers}
	began := env.Clock.Now()
	err := x.send(ctx, env)
	x.Took = env.Elapsed(began)
	if err != nil {
		return x, err
	}
	return x, env.Record(Proxied, x)
}

func (x *Exchange) send(ctx context.Context, env *scenarios.Env) error {
	within, cancel := context.WithTimeout(ctx, proxyWait+env.Claims.Limits.Answer())
	defer cancel()
	request, err := http.NewRequestWithContext(within, http.MethodGet, "http://"+env.Endpoints[ProxyEndpoint]+"/assay", nil)
	if err != nil {
		x.Broken = clip(err.Error()) // the address is the target's own
		return nil
	}
	for name, value := range x.Request {
		request.Header.Set(name, value)
	}
	transport := &http.Transport{DialContext: env.Dial, DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxHeaders}
	response, err := transport.RoundTrip(request)
	if err != nil {
		if errors.Is(err, scenarios.ErrNotAllowed) {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		x.Broken = clip(err.Error())
		return nil
	}
	defer func() { _ = response.Body.Close() }() // all of it that matters is read
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err != nil {
		x.Broken = clip(err.Error())
	}
	x.Status, x.Headers, x.Body = response.StatusCode, lower(response.Header), strings.ToValidUTF8(string(body), "\uFFFD")
	return nil
}

func lower(h http.Header) map[string][]string {
	out := map[string][]string{}
	for name, values := range h {
		out[strings.ToLower(name)] = values
	}
	return out
}

// FilterLines is the evidence of what a filter logged.
type FilterLines struct {
	Lines  []string `json:"lines"`
	Broken string   `json:"broken,omitempty"`
}

// ReadLog records what the filter has logged, where the target has an API to ask.
func ReadLog(ctx context.Context, env *scenarios.Env, name string) (FilterLines, error) {
	api := NewAPI(env)
	defer api.Close()
	var out struct {
		Log []string `json:"log"`
	}
	c, err := api.call(ctx, ask{name: name, method: http.MethodGet, path: "/proxy", wait: setWait, into: &out})
	if err != nil {
		return FilterLines{}, err
	}
	lines := FilterLines{Lines: out.Log}
	if !c.Good() {
		lines.Broken = clip(fmt.Sprintf("status %d %s", c.Status, c.Broken))
	}
	return lines, env.Record(FilterLog, lines)
}

// SeenProxy is what the evidence of a case says of the proxy.
type SeenProxy struct {
	Loads     map[string]Loading
	Exchanges map[string]Exchange
	Arrivals  []Arrival
	Log       []string
	Cites     []uint64
}

// Report reads the header x-assay-report of an exchange: items name=value, in the filter's order.
func (x Exchange) Report() map[string]string {
	out := map[string]string{}
	for _, item := range strings.Split(x.Header("x-assay-report"), ";") {
		if name, value, ok := strings.Cut(item, "="); ok {
			out[name] = value
		}
	}
	return out
}

// Proxying collects the proxy's evidence of a case.
func Proxying(evidence []results.Evidence) (SeenProxy, error) {
	s := SeenProxy{Loads: map[string]Loading{}, Exchanges: map[string]Exchange{}}
	for _, e := range evidence {
		var err error
		switch e.Kind {
		case Loaded:
			var l Loading
			err = e.Decode(&l)
			s.Loads[l.Name] = l
		case Proxied:
			var x Exchange
			err = e.Decode(&x)
			s.Exchanges[x.Name] = x
		case Arrived:
			var a Arrival
			err = e.Decode(&a)
			s.Arrivals = append(s.Arrivals, a)
		case FilterLog:
			var l FilterLines
			err = e.Decode(&l)
			s.Log = append(s.Log, l.Lines...)
		default:
			continue
		}
		if err != nil {
			return s, err
		}
		s.Cites = append(s.Cites, e.Seq)
	}
	sort.Slice(s.Arrivals, func(i, j int) bool { return s.Arrivals[i].N < s.Arrivals[j].N })
	return s, nil
}
