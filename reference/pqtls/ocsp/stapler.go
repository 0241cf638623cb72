package ocsp

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Times of a Stapler.
const (
	fetchTimeout = 5 * time.Second
	retryAfter   = 5 * time.Second // after a failed fetch, at the earliest
	idleCheck    = time.Hour       // between looks at an empty list
)

// maxTracked bounds the leaves of a Stapler.
const maxTracked = 256

// StaplerOptions configure a Stapler. Zero fields get the defaults named beside them.
type StaplerOptions struct {
	Source     Source
	Now        func() time.Time      // time.Now
	Logger     *slog.Logger          // discards
	Registerer prometheus.Registerer // a registry of its own
}

// Stapler holds the responses that a server staples. A response is replaced after half of its life;
// while that fails the old one serves until its nextUpdate and not a moment longer. Nothing is
// installed that a client would refuse, with one exception: a response that says revoked, since hiding
// it behind an older one would be a lie. All methods may be called concurrently.
type Stapler struct {
	opts    StaplerOptions
	fetches *prometheus.CounterVec
	wake    chan struct{} // 1: Run recomputes when to act

	mu      sync.RWMutex
	tracked map[[32]byte]*staple
}

// staple is one leaf with its response.
type staple struct {
	leaf, issuer *x509.Certificate
	der          []byte
	thisUpdate   time.Time
	nextUpdate   time.Time
	due          time.Time // of the next fetch
}

// NewStapler returns a stapler without leaves. Add them with Track and keep them fresh with Run.
func NewStapler(o StaplerOptions) (*Stapler, error) {
	if o.Source == nil {
		return nil, errors.New("ocsp: a stapler needs a source")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	s := &Stapler{opts: o, wake: make(chan struct{}, 1), tracked: make(map[[32]byte]*staple),
		fetches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "assay_tls_staple_fetches_total", Help: "Fetched OCSP responses by outcome."}, []string{"outcome"})}
	if err := o.Registerer.Register(s.fetches); err != nil {
		return nil, fmt.Errorf("ocsp: register metrics: %w", err)
	}
	return s, nil
}

// Track fetches a response for leaf and keeps it fresh from now on. When the fetch fails the leaf is
// tracked all the same, and the error tells that there is no response yet.
func (s *Stapler) Track(ctx context.Context, leaf, issuer *x509.Certificate) error {
	key := sha256.Sum256(leaf.Raw)
	s.mu.Lock()
	if _, known := s.tracked[key]; !known && len(s.tracked) >= maxTracked {
		s.mu.Unlock()
		return fmt.Errorf("ocsp: a stapler keeps at most %d leaves", maxTracked)
	}
	if _, known := s.tracked[key]; !known {
		s.tracked[key] = &staple{leaf: leaf, issuer: issuer}
	}
	s.mu.Unlock()
	err := s.fetch(ctx, key)
	select {
	case s.wake <- struct{}{}:
	default: // a look is due already
	}
	return err
}

// Forget stops tracking a leaf, after a rotation.
func (s *Stapler) Forget(leaf *x509.Certificate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tracked, sha256.Sum256(leaf.Raw))
}

// Staple returns the response for leaf that is valid now, or nil. It never waits for a responder.
func (s *Stapler) Staple(leaf *x509.Certificate) []byte {
	s.mu.RLock()
	defer s.mu.RUnlock()
	t, ok := s.tracked[sha256.Sum256(leaf.Raw)]
	if now := s.opts.Now(); !ok || now.Before(t.thisUpdate) || !now.Before(t.nextUpdate) {
		return nil
	}
	return t.der
}

// Refresh fetches every response now.
func (s *Stapler) Refresh(ctx context.Context) error {
	var errs []error
	for _, key := range s.keys(func(*staple) bool { return true }) {
		errs = append(errs, s.fetch(ctx, key))
	}
	return errors.Join(errs...)
}

// Run replaces responses as they become due, until ctx ends. It returns the error of ctx.
func (s *Stapler) Run(ctx context.Context) error {
	for {
		timer := time.NewTimer(s.wait())
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-s.wake:
			timer.Stop()
		case <-timer.C:
			now := s.opts.Now()
			for _, key := range s.keys(func(t *staple) bool { return !now.Before(t.due) }) {
				_ = s.fetch(ctx, key) // logged and counted; tried again when due
			}
		}
	}
}

// wait returns the time until the next fetch is due.
func (s *Stapler) wait() time.Duration {
	s.mu.RLock()
	defer s.mu.RUnlock()
	wait, now := idleCheck, s.opts.Now()
	for _, t := range s.tracked {
		wait = min(wait, max(t.due.Sub(now), 0))
	}
	return wait
}

func (s *Stapler) keys(want func(*staple) bool) [][32]byte {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var keys [][32]byte
	for k, t := range s.tracked {
		if want(t) {
			keys = append(keys, k)
		}
	}
	return keys
}

// fetch obtains and installs a response for one leaf.
func (s *Stapler) fetch(ctx context.Context, key [32]byte) error {
	s.mu.RLock()
	t, ok := s.tracked[key]
	s.mu.RUnlock()
	if !ok {
		return nil // forgotten meanwhile
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	der, single, err := s.obtain(ctx, t.leaf, t.issuer)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		t.due = s.opts.Now().Add(retryAfter)
		s.fetches.WithLabelValues("failed").Inc()
		s.opts.Logger.Warn("no fresh OCSP response", "serial", serialText(t.leaf), "until", t.nextUpdate, "err", err)
		return err
	}
	s.fetches.WithLabelValues(single.Status.String()).Inc()
	if !single.ThisUpdate.Before(t.thisUpdate) { // else overtaken by another fetch
		t.der, t.thisUpdate, t.nextUpdate = der, single.ThisUpdate, single.NextUpdate
	}
	t.due = refreshAt(t.thisUpdate, t.nextUpdate)
	if soonest := s.opts.Now().Add(retryAfter); t.due.Before(soonest) {
		t.due = soonest // the source keeps old responses
	}
	return nil
}

// obtain fetches a response and verifies it as a client would.
func (s *Stapler) obtain(ctx context.Context, leaf, issuer *x509.Certificate) ([]byte, Single, error) {
	der, _, err := s.opts.Source.Response(ctx, leaf, issuer)
	if err != nil {
		return nil, Single{}, err
	}
	r, err := Verify(der, leaf, issuer, s.opts.Now(), Options{})
	if err != nil && CodeOf(err) != CodeRevoked {
		return nil, Single{}, err
	}
	if err != nil {
		s.opts.Logger.Warn("the responder says revoked", "serial", serialText(leaf))
	}
	for _, one := range r.Singles {
		if one.ID.Serial.Cmp(leaf.SerialNumber) == 0 && one.ID.From(issuer) {
			return der, one, nil
		}
	}
	return nil, Single{}, errors.New("ocsp: response about another certificate")
}

// refreshAt is half way between the two, which leaves as long again for attempts that fail.
func refreshAt(thisUpdate, nextUpdate time.Time) time.Time {
	return thisUpdate.Add(nextUpdate.Sub(thisUpdate) / 2)
}

func serialText(c *x509.Certificate) string { return c.SerialNumber.Text(16) }
