package face

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/tpm"
)

const (
	maxConnections    = 64
	handshakeDeadline = 5 * time.Second
	idleDeadline      = 30 * time.Second
	statusRequest     = 5 // extension type, RFC 9846 section 4.3
)

// stapled is a TLS listener that asks the cache for the response at each handshake that wants one, and
// sends back what it receives. Unlike a server with a stapler, which never waits for its source, it
// lets a harness see what the cache and its TPM do to a handshake.
type stapled struct {
	session  *session
	metrics  *metrics
	listener net.Listener
	slots    chan struct{} // one for each connection
	loops    sync.WaitGroup
	ctx      context.Context
	cancel   context.CancelFunc
}

func newStapled(ctx context.Context, s *session, m *metrics) (*stapled, error) {
	l, err := listenLoopback(ctx, "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	t := &stapled{session: s, metrics: m, listener: l, slots: make(chan struct{}, maxConnections)}
	t.ctx, t.cancel = context.WithCancel(context.WithoutCancel(ctx)) // the session outlives the call
	t.loops.Go(t.accept)
	return t, nil
}

func (t *stapled) accept() {
	config := &tls.Config{
		MinVersion:             tls.VersionTLS12,
		GetCertificate:         t.certificate,
		NextProtos:             []string{"echo", "h2", "http/1.1"},
		SessionTicketsDisabled: true, // a resumed handshake carries no response
	}
	for {
		conn, err := t.listener.Accept()
		if err != nil {
			return // closed
		}
		select {
		case t.slots <- struct{}{}:
			t.loops.Go(func() {
				defer func() { <-t.slots }()
				t.echo(tls.Server(conn, config))
			})
		default:
			_ = conn.Close()
		}
	}
}

func (t *stapled) echo(conn *tls.Conn) {
	stop := context.AfterFunc(t.ctx, func() { _ = conn.NetConn().Close() })
	defer stop()
	defer func() { _ = conn.Close() }()
	// The defect that waits for a TPM must not be cut short here.
	if !t.session.defects.On(defect.TPMWaitsForTpm) {
		if conn.SetDeadline(time.Now().Add(handshakeDeadline)) != nil {
			return
		}
	}
	if conn.HandshakeContext(t.ctx) != nil || conn.SetDeadline(time.Now().Add(idleDeadline)) != nil {
		return
	}
	_, _ = io.Copy(conn, conn) // any end will do
}

// certificate returns the leaf with the response of the moment. Without one the handshake goes on.
func (t *stapled) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	leaf, err := t.session.identity.source.Certificate()
	if err != nil {
		return nil, err
	}
	if !slices.Contains(hello.Extensions, statusRequest) {
		return leaf, nil
	}
	o := t.session.fetch(hello.Context(), leafID)
	t.metrics.observe(o)
	with := *leaf
	with.OCSPStaple = o.Response
	return &with, nil
}

// fetch obtains a response from the cache or the responder.
func (s *session) fetch(ctx context.Context, id string) tpm.Outcome {
	if !s.defects.On(defect.TPMCacheAbsent) {
		return s.source.Fetch(ctx, id, s.identity.leaf, s.identity.issuer)
	}
	if s.upstream == nil {
		return tpm.Outcome{Origin: tpm.FromNone, Err: errors.New("no cache and no responder")}
	}
	der, nextUpdate, err := s.upstream.Response(ctx, s.identity.leaf, s.identity.issuer)
	if err != nil {
		return tpm.Outcome{Origin: tpm.FromNone, Err: err}
	}
	return tpm.Outcome{Origin: tpm.FromResponder, Response: der, NextUpdate: nextUpdate}
}

func (m *metrics) observe(o tpm.Outcome) {
	m.responses.WithLabelValues(o.Origin).Inc()
	if o.CacheErr != nil {
		m.failures.WithLabelValues(string(tpm.CodeOf(o.CacheErr))).Inc()
	}
}

// close ends the connections, but waits for none: one that waits for a TPM ends when the device is closed.
func (t *stapled) close() {
	t.cancel()
	_ = t.listener.Close()
}
