package tpm

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/assay-bench/assay/reference/defect"
)

// Upstream obtains a response that is known to be good: an ocsp.Source that verifies what it gets.
type Upstream interface {
	Response(ctx context.Context, leaf, issuer *x509.Certificate) (der []byte, nextUpdate time.Time, err error)
}

// Origins of a response.
const (
	FromCache     = "cache"
	FromResponder = "responder"
	FromNone      = "none"
)

// Outcome is where a response came from and why the cache did not serve.
type Outcome struct {
	Origin     string // FromCache, FromResponder, FromNone
	Response   []byte
	NextUpdate time.Time
	CacheErr   error // nil if the cache served
	Err        error // why there is no response; nil if there is one
}

// Source puts a Cache before a responder. It is an ocsp.Source.
type Source struct {
	cache    *Cache
	id       string
	upstream Upstream // nil: the cache is all there is
	log      *slog.Logger
	asked    atomic.Int64
}

// NewSource returns a Source that keeps responses under id. Without an upstream the cache is all there
// is.
func NewSource(cache *Cache, id string, upstream Upstream, log *slog.Logger) *Source {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Source{cache: cache, id: id, upstream: upstream, log: log}
}

// Asked counts how often the responder was asked.
func (s *Source) Asked() int64 { return s.asked.Load() }

// Response implements ocsp.Source.
func (s *Source) Response(ctx context.Context, leaf, issuer *x509.Certificate) ([]byte, time.Time, error) {
	o := s.Fetch(ctx, s.id, leaf, issuer)
	return o.Response, o.NextUpdate, o.Err
}

// Fetch serves an entry, or asks the responder for the certificate and stores the answer again under
// the id.
func (s *Source) Fetch(ctx context.Context, id string, leaf, issuer *x509.Certificate) Outcome {
	found, err := s.cache.Get(ctx, id)
	if err == nil {
		return Outcome{Origin: FromCache, Response: found.DER, NextUpdate: found.NextUpdate}
	}
	s.log.Warn("the sealed cache did not serve", "id", id, "code", string(CodeOf(err)), "error", err)
	if s.upstream == nil || s.cache.defects.On(defect.TPMResponderSkipped) {
		return Outcome{Origin: FromNone, CacheErr: err, Err: err}
	}
	s.asked.Add(1)
	der, nextUpdate, askErr := s.upstream.Response(ctx, leaf, issuer)
	if askErr != nil {
		s.log.Warn("the responder did not serve", "id", id, "error", askErr)
		return Outcome{Origin: FromNone, CacheErr: err, Err: errors.Join(err, askErr)}
	}
	s.store(ctx, id, der, nextUpdate, err)
	return Outcome{Origin: FromResponder, Response: der, NextUpdate: nextUpdate, CacheErr: err}
}

// store puts a response into the cache, for MaxLifetime at most. A TPM that was out of reach, or locks
// out, a moment ago is left alone.
func (s *Source) store(ctx context.Context, id string, der []byte, nextUpdate time.Time, cause error) {
	if code := CodeOf(cause); code == CodeDeadline || code == CodeUnavailable || code == responseCode(tpm2.TPMRCLockout) {
		return
	}
	if latest := s.cache.cfg.Now().Add(MaxLifetime); nextUpdate.After(latest) {
		nextUpdate = latest
	}
	if err := s.cache.Put(ctx, id, der, nextUpdate); err != nil {
		s.log.Warn("the sealed cache did not store", "id", id, "code", string(CodeOf(err)), "error", err)
	}
}
