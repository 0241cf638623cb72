package face

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/pqtls/ocsp"
	"github.com/assay-bench/assay/reference/pqtls/pki"
	"github.com/assay-bench/assay/reference/tpm"
)

const (
	leafID           = "leaf" // the entry that the TLS listener staples
	responderTimeout = 2 * time.Second
	defaultDeadline  = 500 * time.Millisecond
	maxDeadline      = time.Minute
)

// session is one TPM with a cache and, if asked for, a TLS listener.
type session struct {
	device    *tpm.Device
	cache     *tpm.Cache
	source    *tpm.Source
	upstream  tpm.Upstream // nil without a responder
	transport *http.Transport
	identity  *identity
	tls       *stapled         // nil without one
	enrolled  *ecdsa.PublicKey // quotes are verified under it
	defects   defect.Set

	mu       sync.Mutex
	verified bool // a quote was verified before
	counts   tpm.Counts
}

// identity is the leaf that OCSP responses are about.
type identity struct {
	authority *pki.Authority
	source    *pki.Source
	leaf      *x509.Certificate
	issuer    *x509.Certificate
}

type openRequest struct {
	Socket    string `json:"socket"`
	Dir       string `json:"dir"`
	Mode      string `json:"mode"`
	Responder string `json:"responder"`
	Deadline  int64  `json:"tpmDeadlineMillis"`
	Serve     bool   `json:"serve"`
}

type openAnswer struct {
	Session   string `json:"session"`
	Backend   string `json:"backend,omitempty"`
	TLS       string `json:"tls,omitempty"`
	Roots     string `json:"roots"`
	ID        string `json:"id"`
	Leaf      string `json:"leaf"`
	Issuer    string `json:"issuer"`
	IssuerKey string `json:"issuerKey"`
}

func (f *Face) open(ctx context.Context, q openRequest) (openAnswer, error) {
	limit, err := q.check()
	if err != nil {
		return openAnswer{}, err
	}
	name, err := f.reserve()
	if err != nil {
		return openAnswer{}, err
	}
	s, err := f.newSession(ctx, q, limit)
	if err != nil {
		f.unreserve(name)
		return openAnswer{}, err
	}
	if !f.install(name, s) {
		return openAnswer{}, errors.Join(refuse(http.StatusServiceUnavailable, "closing", "the API is closing"), s.close())
	}
	a, err := s.describe()
	a.Session = name
	return a, err
}

// check returns the deadline of the TPM's operations.
func (q openRequest) check() (time.Duration, error) {
	if q.Deadline < 0 || q.Deadline > maxDeadline.Milliseconds() {
		return 0, refuse(http.StatusBadRequest, "bad_request", "tpmDeadlineMillis %d is not within 0 and %d", q.Deadline, maxDeadline.Milliseconds())
	}
	if q.Responder != "" {
		if u, err := url.Parse(q.Responder); err != nil || u.Scheme != "http" || u.Host == "" {
			return 0, refuse(http.StatusBadRequest, "bad_request", "responder %q is no http URL", q.Responder)
		}
	}
	if q.Mode != "" && q.Mode != string(tpm.EntryMode) && q.Mode != string(tpm.KEKMode) {
		return 0, refuse(http.StatusBadRequest, "bad_request", "unknown mode %q", q.Mode)
	}
	if q.Deadline == 0 {
		return defaultDeadline, nil
	}
	return time.Duration(q.Deadline) * time.Millisecond, nil
}

func (f *Face) newSession(ctx context.Context, q openRequest, limit time.Duration) (_ *session, err error) {
	s := &session{defects: f.cfg.Defects}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.identity, err = newIdentity(); err != nil {
		return nil, refuse(http.StatusInternalServerError, "internal", "%v", err)
	}
	backend, err := tpm.OpenSocket(q.Socket, tpm.LabelSocket)
	if err != nil {
		return nil, err
	}
	s.device, err = tpm.Open(ctx, backend, tpm.Config{
		Defects: f.cfg.Defects, Deadline: limit, SetupDeadline: max(2*time.Second, 10*limit),
	})
	if err != nil {
		return nil, err
	}
	if s.cache, err = tpm.OpenCache(s.device, tpm.CacheConfig{Dir: q.Dir, Mode: tpm.Mode(q.Mode)}); err != nil {
		return nil, err
	}
	if q.Responder != "" {
		s.transport = &http.Transport{}
		s.upstream = verified{ocsp.HTTP{URL: q.Responder, Client: &http.Client{Transport: s.transport, Timeout: responderTimeout}}}
	}
	s.source = tpm.NewSource(s.cache, leafID, s.upstream, f.cfg.Logger)
	if err := s.enrol(ctx); err != nil {
		return nil, err
	}
	if q.Serve {
		s.tls, err = newStapled(ctx, s, f.metrics)
	}
	return s, err
}

// enrol learns the key under which quotes of this session are verified.
func (s *session) enrol(ctx context.Context) error {
	if s.defects.On(defect.TPMQuoteAbsent) {
		return nil
	}
	encoded, err := s.device.AttestationKey(ctx)
	if err != nil {
		return err
	}
	s.enrolled, err = tpm.PublicKey(encoded)
	return err
}

// newIdentity makes an ECDSA authority and a leaf of it, which take a millisecond.
func newIdentity() (*identity, error) {
	authority, err := pki.New(pki.Options{Kind: pki.ECDSA})
	if err != nil {
		return nil, fmt.Errorf("session's authority: %w", err)
	}
	source := authority.Source(pki.Request{
		Use: pki.Server, Names: []string{"server.test", "localhost"},
		IPs: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	})
	certificate, err := source.Certificate()
	if err != nil {
		return nil, fmt.Errorf("session's leaf: %w", err)
	}
	leaf, err := x509.ParseCertificate(certificate.Certificate[0])
	if err != nil {
		return nil, fmt.Errorf("session's leaf: %w", err)
	}
	issuer, _, err := authority.Issuer()
	if err != nil {
		return nil, fmt.Errorf("session's issuer: %w", err)
	}
	return &identity{authority, source, leaf, issuer}, nil
}

func (s *session) backend() string {
	if s.defects.On(defect.TPMBackendUnlabelled) {
		return ""
	}
	return s.device.Backend()
}

func (s *session) describe() (openAnswer, error) {
	_, key, err := s.identity.authority.Issuer()
	if err != nil {
		return openAnswer{}, err
	}
	keyText, err := pki.EncodeKeyPEM(key)
	if err != nil {
		return openAnswer{}, err
	}
	roots, err := pki.Roots(s.identity.authority)
	if err != nil {
		return openAnswer{}, err
	}
	a := openAnswer{
		Backend: s.backend(), Roots: roots, ID: leafID, IssuerKey: keyText,
		Leaf: pki.EncodePEM(s.identity.leaf), Issuer: pki.EncodePEM(s.identity.issuer),
	}
	if s.tls != nil {
		a.TLS = s.tls.listener.Addr().String()
	}
	return a, nil
}

// close ends what of the session is there: it may be half open.
func (s *session) close() error {
	if s.tls != nil {
		s.tls.close()
	}
	if s.transport != nil {
		s.transport.CloseIdleConnections()
	}
	if s.device == nil {
		return nil
	}
	err := s.device.Close() // operations under way end here
	if s.cache != nil {
		s.cache.Close()
	}
	if s.tls != nil {
		s.tls.loops.Wait()
	}
	return err
}

// verified passes on only responses that hold for the certificate asked about. One that says revoked
// is among them: hiding it behind none would be a lie.
type verified struct{ responder ocsp.Source }

func (v verified) Response(ctx context.Context, leaf, issuer *x509.Certificate) ([]byte, time.Time, error) {
	der, nextUpdate, err := v.responder.Response(ctx, leaf, issuer)
	if err != nil {
		return nil, time.Time{}, err
	}
	if _, err := ocsp.Verify(der, leaf, issuer, time.Now(), ocsp.Options{}); err != nil && ocsp.CodeOf(err) != ocsp.CodeRevoked {
		return nil, time.Time{}, err
	}
	return der, nextUpdate, nil
}
