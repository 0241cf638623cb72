// Package face is the HTTP API of the TPM part: a harness opens sessions on TPMs of its own, drives the
// sealed cache and quotes through them, and reads what happened. It listens on loopback only.
package face

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/tpm"
)

// Limits of the API.
const (
	maxSessions = 16
	maxBody     = 1 << 20 // bytes of a request
)

// Config configures a Face. Zero fields get the defaults named beside them.
type Config struct {
	Addr       string                // 127.0.0.1:0; must be loopback
	Defects    defect.Set            // none
	Registerer prometheus.Registerer // a registry of its own
	Logger     *slog.Logger          // discards
}

// Face serves the API.
type Face struct {
	cfg      Config
	listener net.Listener
	server   *http.Server
	loop     sync.WaitGroup
	ctx      context.Context
	cancel   context.CancelFunc
	metrics  *metrics

	mu       sync.Mutex
	sessions map[string]*session // nil while one is being opened
	last     uint64              // number of the newest session
	closed   bool
}

// metrics count what the API's sessions do.
type metrics struct {
	sessions  prometheus.Gauge
	responses *prometheus.CounterVec
	failures  *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		sessions: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "assay_tpm_sessions_open", Help: "Sessions on a TPM that are open now."}),
		responses: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "assay_tpm_responses_total", Help: "OCSP responses by where they came from."}, []string{"origin"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "assay_tpm_failures_total", Help: "Failed uses of a TPM or of what it sealed, by code."}, []string{"code"}),
	}
	for _, c := range []prometheus.Collector{m.sessions, m.responses, m.failures} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("tpm face: register metrics: %w", err)
		}
	}
	return m, nil
}

// Start returns once the API accepts connections. When ctx ends, the face closes.
func Start(ctx context.Context, cfg Config) (*Face, error) {
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:0"
	}
	if cfg.Registerer == nil {
		cfg.Registerer = prometheus.NewRegistry()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	metrics, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, err
	}
	listener, err := listenLoopback(ctx, cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("tpm face: %w", err)
	}
	f := &Face{cfg: cfg, listener: listener, metrics: metrics, sessions: make(map[string]*session)}
	f.ctx, f.cancel = context.WithCancel(ctx)
	f.server = &http.Server{
		Handler:           f.routes(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
	f.loop.Go(func() {
		if err := f.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			cfg.Logger.Error("the TPM API ended", "error", err)
		}
	})
	context.AfterFunc(f.ctx, f.Close)
	return f, nil
}

// listenLoopback refuses addresses that other hosts can reach: the API has no authentication.
func listenLoopback(ctx context.Context, addr string) (net.Listener, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if tcp, ok := l.Addr().(*net.TCPAddr); !ok || !tcp.IP.IsLoopback() {
		return nil, errors.Join(fmt.Errorf("%s is not a loopback address", addr), l.Close())
	}
	return l, nil
}

// Addr is the host:port of the API.
func (f *Face) Addr() string { return f.listener.Addr().String() }

// Shutdown lets calls under way finish, until ctx ends, and closes every session.
func (f *Face) Shutdown(ctx context.Context) error {
	err := f.server.Shutdown(ctx)
	f.Close()
	return err
}

// Close ends everything at once. It may be called more than once.
func (f *Face) Close() {
	f.cancel()
	_ = f.server.Close() // what it was doing is cut off on purpose
	f.loop.Wait()
	f.mu.Lock()
	f.closed = true
	open := f.sessions
	f.sessions = make(map[string]*session)
	f.mu.Unlock()
	for _, s := range open {
		if s != nil {
			f.end(s)
		}
	}
}

func (f *Face) end(s *session) {
	f.metrics.sessions.Dec()
	if err := s.close(); err != nil {
		f.cfg.Logger.Warn("closing a session", "error", err)
	}
}

// failure is an error in an answer.
type failure struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

// badRequest is an error of the caller, answered with an HTTP status of its own. Everything else is an
// answer about the TPM.
type badRequest struct {
	status int
	failure
}

func (b *badRequest) Error() string { return b.Text }

func refuse(status int, code, format string, args ...any) error {
	return &badRequest{status, failure{code, fmt.Sprintf(format, args...)}}
}

func (f *Face) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /open", serve(f, "", f.open))
	mux.HandleFunc("POST /store", serve(f, defect.TPMCacheAbsent, f.store))
	mux.HandleFunc("POST /get", serve(f, defect.TPMCacheAbsent, f.get))
	mux.HandleFunc("POST /seal", serve(f, defect.TPMCacheAbsent, f.seal))
	mux.HandleFunc("POST /unseal", serve(f, defect.TPMCacheAbsent, f.unseal))
	mux.HandleFunc("POST /quote", serve(f, defect.TPMQuoteAbsent, f.quote))
	mux.HandleFunc("POST /verify", serve(f, defect.TPMQuoteAbsent, f.verify))
	mux.HandleFunc("POST /status", serve(f, "", f.status))
	mux.HandleFunc("POST /close", serve(f, "", f.closeSession))
	return mux
}

// serve makes a call of the API out of a function. With the defect absent planted it is refused.
func serve[Q, A any](f *Face, absent defect.Name, call func(context.Context, Q) (A, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if absent != "" && f.cfg.Defects.On(absent) {
			answerError(w, refuse(http.StatusNotImplemented, string(tpm.CodeUnavailable), "not implemented"))
			return
		}
		var q Q
		if err := decode(w, r, &q); err != nil {
			answerError(w, err)
			return
		}
		a, err := call(r.Context(), q)
		if err != nil {
			f.count(err)
			answerError(w, err)
			return
		}
		answer(w, http.StatusOK, a)
	}
}

func decode(w http.ResponseWriter, r *http.Request, q any) error {
	body := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	if err := body.Decode(q); err != nil {
		return refuse(http.StatusBadRequest, "bad_request", "body: %v", err)
	}
	if _, err := body.Token(); !errors.Is(err, io.EOF) {
		return refuse(http.StatusBadRequest, "bad_request", "body: more than one value")
	}
	return nil
}

func answer(w http.ResponseWriter, status int, a any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(a) // a client that went away is no error of ours
}

func answerError(w http.ResponseWriter, err error) {
	var bad *badRequest
	if errors.As(err, &bad) {
		answer(w, bad.status, map[string]failure{"error": bad.failure})
		return
	}
	answer(w, http.StatusOK, map[string]*failure{"error": failed(err)})
}

// failed describes an error of the TPM part; nil for nil.
func failed(err error) *failure {
	if err == nil {
		return nil
	}
	return &failure{string(tpm.CodeOf(err)), err.Error()}
}

func (f *Face) count(err error) {
	var bad *badRequest
	if err != nil && !errors.As(err, &bad) {
		f.metrics.failures.WithLabelValues(string(tpm.CodeOf(err))).Inc()
	}
}

// reserve takes a session's place and returns its name.
func (f *Face) reserve() (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return "", refuse(http.StatusServiceUnavailable, "closing", "the API is closing")
	}
	if len(f.sessions) >= maxSessions {
		return "", refuse(http.StatusTooManyRequests, "too_many_sessions", "%d sessions are open", len(f.sessions))
	}
	f.last++
	name := strconv.FormatUint(f.last, 10)
	f.sessions[name] = nil
	return name, nil
}

// install puts an opened session into its place. It reports false if the face was closed meanwhile.
func (f *Face) install(name string, s *session) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, reserved := f.sessions[name]; !reserved {
		return false
	}
	f.sessions[name] = s
	f.metrics.sessions.Inc()
	return true
}

// remove takes a session out; nil if there is none.
func (f *Face) remove(name string) *session {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.sessions[name]
	if s != nil {
		delete(f.sessions, name)
	}
	return s
}

func (f *Face) unreserve(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.sessions, name)
}

func (f *Face) session(name string) (*session, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.sessions[name]; s != nil {
		return s, nil
	}
	return nil, refuse(http.StatusNotFound, "unknown_session", "no session %q", name)
}
