package ocsp

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

const defaultHash = crypto.SHA1

// Source obtains responses. nextUpdate is the one in the response. A Source verifies nothing; an error
// means that there is no response now.
type Source interface {
	Response(ctx context.Context, leaf, issuer *x509.Certificate) (der []byte, nextUpdate time.Time, err error)
}

// SourceFunc makes a function a Source.
type SourceFunc func(ctx context.Context, leaf, issuer *x509.Certificate) ([]byte, time.Time, error)

// Response calls f.
func (f SourceFunc) Response(ctx context.Context, leaf, issuer *x509.Certificate) ([]byte, time.Time, error) {
	return f(ctx, leaf, issuer)
}

// Response asks the responder itself, without a network.
func (r *Responder) Response(_ context.Context, leaf, issuer *x509.Certificate) ([]byte, time.Time, error) {
	request, err := Ask(leaf, issuer)
	if err != nil {
		return nil, time.Time{}, err
	}
	return withNextUpdate(r.Respond(request))
}

// HTTP asks a responder at a URL by POST. The time of an exchange is bounded by the context.
type HTTP struct {
	URL    string
	Client *http.Client // http.DefaultClient
}

// Response posts a request and reads at most 64 KiB of answer.
func (h HTTP) Response(ctx context.Context, leaf, issuer *x509.Certificate) ([]byte, time.Time, error) {
	request, err := Ask(leaf, issuer)
	if err != nil {
		return nil, time.Time{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL, bytes.NewReader(request))
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("ocsp: request to %q: %w", h.URL, err)
	}
	req.Header.Set("Content-Type", "application/ocsp-request")
	client := h.Client
	if client == nil {
		client = http.DefaultClient
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("ocsp: ask the responder: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	der, err := io.ReadAll(io.LimitReader(res.Body, maxResponse+1))
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("ocsp: read from %q: %w", h.URL, err)
	}
	if res.StatusCode != http.StatusOK {
		return nil, time.Time{}, fmt.Errorf("ocsp: %q answers %s", h.URL, res.Status)
	}
	return withNextUpdate(der)
}

func withNextUpdate(der []byte) ([]byte, time.Time, error) {
	r, err := ParseResponse(der)
	if err != nil {
		return nil, time.Time{}, err
	}
	return der, r.Singles[0].NextUpdate, nil
}

func asSigner(key crypto.PrivateKey) (crypto.Signer, error) {
	s, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("ocsp: the responder's key can not sign")
	}
	return s, nil
}
