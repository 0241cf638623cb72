package router

import (
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/assay-bench/assay/reference/router/backend"
)

// Modalities of a backend.
const (
	Text     = "text"
	Image    = "image"
	ImageURL = "image-url"
)

// SetBackend registers an upstream.
func (r *Router) SetBackend(name string, spec backend.Spec) (backend.State, error) {
	if err := checkSpec(&spec); err != nil {
		return backend.State{}, err
	}
	if _, there := r.backends.Get(name); !there && r.backends.Len() >= maxBackends {
		return backend.State{}, refuse(Conflict, "backends", "there are %d backends: remove one", maxBackends)
	}
	r.backends.Put(name, spec)
	return r.backend(name)
}

func checkSpec(spec *backend.Spec) error {
	u, err := url.Parse(spec.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return bad("url is %.128q, want http or https, a host and a path", spec.URL)
	}
	spec.URL = strings.TrimSuffix(spec.URL, "/")
	if len(spec.Model) == 0 || len(spec.Model) > 256 {
		return bad("model has %d bytes, want 1 to 256", len(spec.Model))
	}
	if !(spec.Cost >= 0) || spec.Priority < 0 || spec.Priority > 100 {
		return bad("cost %v or priority %d: want 0 or more, and 0 to 100", spec.Cost, spec.Priority)
	}
	if len(spec.Modalities) == 0 {
		spec.Modalities = []string{Text}
	}
	for _, m := range spec.Modalities {
		if !slices.Contains([]string{Text, Image, ImageURL}, m) {
			return bad("modality is %.32q, want text, image or image-url", m)
		}
	}
	if spec.TimeoutMillis == 0 {
		spec.TimeoutMillis = 30000
	}
	if spec.TimeoutMillis < 1 || spec.TimeoutMillis > 600000 {
		return bad("timeoutMillis is %d, want 1 to 600,000", spec.TimeoutMillis)
	}
	return nil
}

func (r *Router) backend(name string) (backend.State, error) {
	for _, s := range r.backends.States() {
		if s.Backend == name {
			return s, nil
		}
	}
	return backend.State{}, unknown("backend", name)
}

// RemoveBackend forgets an upstream. Policies keep its name.
func (r *Router) RemoveBackend(name string) error {
	if !r.backends.Remove(name) {
		return unknown("backend", name)
	}
	return nil
}

// Backends returns every upstream with what was observed of it.
func (r *Router) Backends() []backend.State { return r.backends.States() }

// Observe counts a request of a backend that did not go through the router.
func (r *Router) Observe(name string, latency time.Duration, failed bool) (backend.State, error) {
	b, ok := r.backends.Get(name)
	if !ok {
		return backend.State{}, unknown("backend", name)
	}
	r.backends.Observe(b, latency, failed)
	return r.backend(name)
}

// Serving returns the backends of a decision's policy, in the order in which they should be tried, and the
// shadow that gets a copy, or nil.
func (r *Router) Serving(d Decision, q DecideRequest) (order []*backend.Backend, shadow *backend.Backend) {
	l := r.live.Load()
	order = r.candidates(l, l.stable, d.Policy, &q)
	if i, ok := l.stable.table.Find(d.Policy); ok {
		shadow, _ = r.backends.Get(l.stable.table.Policies()[i].Route.Shadow)
	}
	return order, shadow
}

// ByModel returns the backend that serves a model of this name; the first one by name, or nil.
func (r *Router) ByModel(model string) *backend.Backend {
	for _, b := range r.backends.All() {
		if b.Spec.Model == model {
			return b
		}
	}
	return nil
}

// Set is the router's backends, as the client of backends counts them.
func (r *Router) Set() *backend.Set { return &r.backends }
