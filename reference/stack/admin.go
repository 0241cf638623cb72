package stack

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/assay-bench/assay/reference/defect"
)

// admin is the operator's HTTP port: /healthz, /readyz, /metrics, /config.
type admin struct {
	listener net.Listener
	server   *http.Server
	ready    atomic.Bool
}

func newAdmin(l net.Listener, metrics prometheus.Gatherer, config dump, defects defect.Set) *admin {
	a := &admin{listener: l}
	a.ready.Store(!defects.On(defect.AdminReadyzFails))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if defects.On(defect.AdminHealthzFails) {
			say(w, http.StatusInternalServerError, "broken\n")
			return
		}
		say(w, http.StatusOK, "ok\n")
	})
	mux.HandleFunc("GET /readyz", a.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /config", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(config) // a client that went away is no error of ours
	})
	if defects.On(defect.AdminAbsent) {
		mux = http.NewServeMux()
	}
	a.server = &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout:      10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
	return a
}

func (a *admin) readyz(w http.ResponseWriter, _ *http.Request) {
	if a.ready.Load() {
		say(w, http.StatusOK, "ready\n")
		return
	}
	say(w, http.StatusServiceUnavailable, "draining\n")
}

func say(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text) // a client that went away is no error of ours
}

func (a *admin) notReady() { a.ready.Store(false) }

// serve runs until close; its error is nil then.
func (a *admin) serve() error {
	if err := a.server.Serve(a.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (a *admin) close() {
	_ = a.server.Close()
	_ = a.listener.Close() // also when serve never ran
}
