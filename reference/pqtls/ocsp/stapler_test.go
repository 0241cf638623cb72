package ocsp

import (
	"context"
	"crypto/x509"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/assay-bench/assay/reference/pqtls/pki"
)

// switched is a source that can be turned off.
type switched struct {
	Source
	off   atomic.Bool
	calls atomic.Int64
}

func (s *switched) Response(ctx context.Context, leaf, issuer *x509.Certificate) ([]byte, time.Time, error) {
	s.calls.Add(1)
	if s.off.Load() {
		return nil, time.Time{}, errors.New("the responder is away")
	}
	return s.Source.Response(ctx, leaf, issuer)
}

// bubble is a stapler on the clock of a synctest bubble.
type bubble struct {
	bench
	source  *switched
	stapler *Stapler
	metrics *prometheus.Registry
}

// counted returns the fetches of an outcome.
func (b bubble) counted(t *testing.T, outcome string) float64 {
	t.Helper()
	families, err := b.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if m.GetLabel()[0].GetValue() == outcome {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

func newBubble(t *testing.T) bubble {
	t.Helper()
	a, err := pki.New(pki.Options{Kind: pki.ECDSA})
	if err != nil {
		t.Fatal(err)
	}
	b := bench{authority: a}
	if b.issuer, b.key, err = a.Issuer(); err != nil {
		t.Fatal(err)
	}
	b.leaf = b.issue(t)
	source := &switched{Source: b.responder(t, ResponderOptions{Now: time.Now})}
	metrics := prometheus.NewRegistry()
	s, err := NewStapler(StaplerOptions{Source: source, Registerer: metrics})
	if err != nil {
		t.Fatal(err)
	}
	return bubble{b, source, s, metrics}
}

func (b bubble) producedAt(t *testing.T) time.Time {
	t.Helper()
	der := b.stapler.Staple(b.leaf)
	if der == nil {
		t.Fatal("no staple")
	}
	r, err := Verify(der, b.leaf, b.issuer, time.Now(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	return r.ProducedAt
}

func TestStaplerRefreshesAtHalfLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go func() { _ = b.stapler.Run(ctx) }()
		if err := b.stapler.Track(ctx, b.leaf, b.issuer); err != nil {
			t.Fatal(err)
		}
		first := b.producedAt(t)
		time.Sleep(29 * time.Minute)
		synctest.Wait()
		if !b.producedAt(t).Equal(first) {
			t.Error("replaced before half of its life")
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if !b.producedAt(t).After(first) {
			t.Error("not replaced after half of its life")
		}
		for range 24 { // a day without a window
			time.Sleep(time.Hour)
			synctest.Wait()
			b.producedAt(t)
		}
		if n := b.source.calls.Load(); n > 60 {
			t.Errorf("%d fetches in a day", n)
		}
	})
}

func TestStaplerOutlivesAnAbsentResponder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go func() { _ = b.stapler.Run(ctx) }()
		if err := b.stapler.Track(ctx, b.leaf, b.issuer); err != nil {
			t.Fatal(err)
		}
		b.source.off.Store(true)
		time.Sleep(59 * time.Minute)
		synctest.Wait()
		b.producedAt(t) // the old one serves
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if b.stapler.Staple(b.leaf) != nil {
			t.Error("a stale response is stapled")
		}
		if err := b.stapler.Refresh(ctx); err == nil {
			t.Error("a failed refresh is no error")
		}
		if b.counted(t, "failed") == 0 {
			t.Error("failures are not counted")
		}
		b.source.off.Store(false)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		b.producedAt(t)
	})
}

func TestStaplerForcedRefreshAndRevocation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t)
		if err := b.stapler.Track(t.Context(), b.leaf, b.issuer); err != nil {
			t.Fatal(err)
		}
		first := b.producedAt(t)
		time.Sleep(time.Second)
		if err := b.stapler.Refresh(t.Context()); err != nil || !b.producedAt(t).After(first) {
			t.Errorf("a forced refresh keeps the response: %v", err)
		}
		if err := b.authority.Revoke(b.leaf.SerialNumber, 1, time.Now()); err != nil {
			t.Fatal(err)
		}
		if err := b.stapler.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := Verify(b.stapler.Staple(b.leaf), b.leaf, b.issuer, time.Now(), Options{}); CodeOf(err) != CodeRevoked {
			t.Errorf("a revocation is not stapled: %v", err)
		}
		b.stapler.Forget(b.leaf)
		if b.stapler.Staple(b.leaf) != nil {
			t.Error("a forgotten leaf has a staple")
		}
	})
}

func TestStaplerRefusesForeignResponses(t *testing.T) {
	b, other := newBench(t, pki.ECDSA), newBench(t, pki.ECDSA)
	der := other.response(t)
	s, err := NewStapler(StaplerOptions{Now: b.clock, Source: SourceFunc(
		func(context.Context, *x509.Certificate, *x509.Certificate) ([]byte, time.Time, error) {
			return der, b.now, nil
		})})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Track(t.Context(), b.leaf, b.issuer); CodeOf(err) != CodeIssuer || s.Staple(b.leaf) != nil {
		t.Errorf("a response about another certificate: %v", err)
	}
	if _, err := NewStapler(StaplerOptions{}); err == nil {
		t.Error("a stapler without a source")
	}
}
