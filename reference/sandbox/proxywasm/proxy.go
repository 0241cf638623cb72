package proxywasm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	dialLimit     = 2 * time.Second
	upstreamLimit = 10 * time.Second // from the request to the end of the response
	readLimit     = 10 * time.Second // of a client's body
	idleLimit     = 5 * time.Second  // of a connection to the upstream
)

// Config configures a Proxy.
type Config struct {
	Defects    defect.Set
	Registerer prometheus.Registerer // nil counts nothing
}

// Proxy is the data plane: it takes each request through the loaded filter to the upstream and back. Its
// methods may be called concurrently.
type Proxy struct {
	config    Config
	transport *http.Transport
	requests  *prometheus.CounterVec

	mu       sync.Mutex
	filter   *Filter // nil: none is loaded
	upstream string
	retired  []*Filter // replaced and perhaps not closed yet
	closed   bool
}

// NewProxy returns a Proxy without a filter, which answers 503.
func NewProxy(c Config) *Proxy {
	dialer := &net.Dialer{Timeout: dialLimit, Control: loopbackOnly}
	p := &Proxy{config: c,
		transport: &http.Transport{DialContext: dialer.DialContext, DisableCompression: true,
			MaxIdleConnsPerHost: 32, IdleConnTimeout: idleLimit, MaxResponseHeaderBytes: maxFieldBytes},
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "assay_sandbox_proxy_requests_total", Help: "Requests of the filter proxy by outcome."}, []string{"outcome"}),
	}
	if c.Registerer != nil {
		c.Registerer.MustRegister(p.requests)
	}
	return p
}

// loopbackOnly keeps the proxy from being a way out of this machine, whatever a name resolves to.
func loopbackOnly(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil || !to.Addr().Unmap().IsLoopback() {
		return fmt.Errorf("upstream %s is not on loopback", address)
	}
	return nil
}

// CheckUpstream reports an error unless upstream is a loopback address with a port, such as
// "127.0.0.1:8080" or "localhost:8080".
func CheckUpstream(upstream string) error {
	host, port, err := net.SplitHostPort(upstream)
	if err != nil {
		return fmt.Errorf("upstream %q: %w", upstream, err)
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	to, err := netip.ParseAddrPort(net.JoinHostPort(host, port))
	switch {
	case err != nil:
		return fmt.Errorf("upstream %q: %w", upstream, err)
	case !to.Addr().Unmap().IsLoopback() || to.Port() == 0:
		return fmt.Errorf("upstream %q is not a port on loopback", upstream)
	}
	return nil
}

// Swap puts a filter and its upstream in service for all requests that come from now on and closes the
// one before it when its last request has ended. A nil filter takes the proxy out of service. The proxy
// owns the filter afterwards, unless it returns an error: that of CheckUpstream, or that the proxy or the
// filter is closed; then nothing changes.
func (p *Proxy) Swap(f *Filter, upstream string) error {
	if f != nil {
		if err := CheckUpstream(upstream); err != nil {
			return err
		}
		if !f.acquire() {
			return fmt.Errorf("swap: %w", errClosed)
		}
		defer f.release()
	}
	p.mu.Lock()
	if p.closed && f != nil {
		p.mu.Unlock()
		return fmt.Errorf("swap: %w", http.ErrServerClosed)
	}
	old := p.filter
	p.filter, p.upstream = f, upstream
	p.forgetClosed()
	if old != nil && old != f {
		p.retired = append(p.retired, old)
	}
	p.mu.Unlock()
	if old != nil && old != f {
		old.retire()
	}
	return nil
}

// forgetClosed drops the filters that have ended. The lock is held.
func (p *Proxy) forgetClosed() {
	open := p.retired[:0]
	for _, f := range p.retired {
		select {
		case <-f.closed:
		default:
			open = append(open, f)
		}
	}
	clear(p.retired[len(open):])
	p.retired = open
}

// Loaded reports whether a filter is in service.
func (p *Proxy) Loaded() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.filter != nil
}

// Log returns the newest lines that the filter in service logged, oldest first, at most 200; none without
// a filter. It includes those of the filter's start.
func (p *Proxy) Log() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.filter == nil {
		return []string{}
	}
	return p.filter.Log()
}

// Close takes the proxy out of service and waits until all of its filters have ended. At the end of ctx it
// frees those that have not.
func (p *Proxy) Close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	err := p.Swap(nil, "")
	p.mu.Lock()
	retired := p.retired
	p.retired = nil
	p.mu.Unlock()
	for _, f := range retired {
		err = errors.Join(err, f.Close(ctx))
	}
	p.transport.CloseIdleConnections()
	return err
}

// inService returns the filter, which the caller releases, and its upstream.
func (p *Proxy) inService() (f *Filter, upstream string, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.filter == nil || !p.filter.acquire() {
		return nil, "", false
	}
	return p.filter, p.upstream, true
}

// ServeHTTP takes one request through the filter. Errors are answered with a problem document (RFC 9457).
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p.config.Defects.On(defect.SandboxProxyAbsent) {
		problem(http.StatusBadGateway, "no data plane").write(w, r)
		return
	}
	f, upstream, ok := p.inService()
	if !ok {
		p.requests.WithLabelValues("unloaded").Inc()
		problem(http.StatusServiceUnavailable, "no filter is loaded").write(w, r)
		return
	}
	defer f.release()
	x := &exchange{proxy: p, filter: f, upstream: upstream, request: r, writer: w}
	a := x.run()
	p.requests.WithLabelValues(a.outcome).Inc()
	a.write(w, r)
	if x.stream != nil {
		f.end(x.stream)
	}
	if a.reset {
		panic(http.ErrAbortHandler) // net/http's way to close a connection without an answer
	}
}
