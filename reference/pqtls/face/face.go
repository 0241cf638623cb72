// Package face runs the TLS reference on loopback ports: four TLS listeners, an OCSP responder for
// their leaves, and the lab, an HTTP API that makes the client of the reference dial. It keeps no
// files; every start has authorities of its own.
package face

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/netutil"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/pqtls"
	"github.com/assay-bench/assay/reference/pqtls/client"
	"github.com/assay-bench/assay/reference/pqtls/ocsp"
	"github.com/assay-bench/assay/reference/pqtls/pki"
)

// ServerName is a name of every leaf of the reference.
const ServerName = "server.test"

// maxHTTP bounds the connections of each HTTP port.
const maxHTTP = 256

// Config configures a Face. Zero fields get the defaults named beside them.
type Config struct {
	Defects    defect.Set
	Registerer prometheus.Registerer // a registry of its own
	Logger     *slog.Logger          // discards
}

// Addresses are the host:port addresses of the listeners.
type Addresses struct {
	TLS       string // every group, every chain
	Classical string // classical groups, ECDSA chain
	MLDSA     string // ML-DSA chain alone
	Mutual    string // TLS 1.3, demands a client certificate
	Lab       string // HTTP API
	Responder string // OCSP over HTTP
}

// Face is the running reference.
type Face struct {
	cfg       Config
	house     *house
	stapler   *ocsp.Stapler
	client    *client.Client
	addresses Addresses
	servers   []*pqtls.Server
	https     []*http.Server

	loops  sync.WaitGroup
	cancel context.CancelFunc // of the stapler
	failed chan error
	once   sync.Once
}

// Start returns once every port accepts connections. Ctx bounds the start alone; end with Shutdown or
// Close.
func Start(ctx context.Context, cfg Config) (*Face, error) {
	if cfg.Registerer == nil {
		cfg.Registerer = prometheus.NewRegistry()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	house, err := newHouse()
	if err != nil {
		return nil, fmt.Errorf("tls face: certificates: %w", err)
	}
	f := &Face{cfg: cfg, house: house, failed: make(chan error, 8)}
	if err := f.start(ctx); err != nil {
		f.Close()
		return nil, fmt.Errorf("tls face: %w", err)
	}
	return f, nil
}

func (f *Face) start(ctx context.Context) error {
	var err error
	f.client, err = client.New(client.Config{
		Defects: f.cfg.Defects, Logger: f.cfg.Logger, Registerer: f.cfg.Registerer,
		Identity: f.house.identity.Certificate, Control: loopbackOnly,
	})
	if err != nil {
		return err
	}
	if err := f.startStapler(ctx); err != nil {
		return err
	}
	for _, port := range f.ports() {
		if err := f.listenTLS(ctx, port); err != nil {
			return fmt.Errorf("port %s: %w", port.cfg.Name, err)
		}
	}
	if f.addresses.Responder, err = f.listenHTTP(ctx, f.house.responder()); err != nil {
		return fmt.Errorf("ocsp responder: %w", err)
	}
	if f.addresses.Lab, err = f.listenHTTP(ctx, f.lab()); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	return nil
}

func (f *Face) startStapler(ctx context.Context) error {
	stapler, err := ocsp.NewStapler(ocsp.StaplerOptions{
		Source: f.house.source(), Logger: f.cfg.Logger, Registerer: f.cfg.Registerer,
	})
	if err != nil {
		return err
	}
	f.stapler = stapler
	for _, source := range []*pki.Source{f.house.mldsaLeaf, f.house.ecdsaLeaf} {
		leaf, issuer, err := f.house.issued(source)
		if err != nil {
			return err
		}
		if err := stapler.Track(ctx, leaf, issuer); err != nil {
			return fmt.Errorf("first staple: %w", err)
		}
	}
	var run context.Context
	run, f.cancel = context.WithCancel(context.WithoutCancel(ctx))
	f.loops.Go(func() { _ = stapler.Run(run) }) // ends with its context alone
	return nil
}

// port is one TLS listener.
type port struct {
	cfg     pqtls.Config
	address *string
}

func (f *Face) ports() []port {
	h := f.house
	all := []pqtls.CertificateSource{h.mldsaLeaf, h.ecdsaLeaf, h.rsaLeaf}
	return []port{
		{pqtls.Config{Name: "tls", Certificates: all}, &f.addresses.TLS},
		{pqtls.Config{Name: "tls-classical", Certificates: all[1:2], Groups: pqtls.ClassicalGroups()}, &f.addresses.Classical},
		{pqtls.Config{Name: "tls-mldsa", Certificates: all[:1]}, &f.addresses.MLDSA},
		{pqtls.Config{Name: "tls-mutual", Certificates: all, MinVersion: tls.VersionTLS13,
			RequireClientCert: true, ClientCAs: h.clientRoots}, &f.addresses.Mutual},
	}
}

func (f *Face) listenTLS(ctx context.Context, p port) error {
	l, err := listen(ctx)
	if err != nil {
		return err
	}
	p.cfg.ALPN, p.cfg.Stapler = []string{"echo", "h2", "http/1.1"}, f.stapler
	p.cfg.Defects, p.cfg.Logger, p.cfg.Registerer = f.cfg.Defects, f.cfg.Logger, f.cfg.Registerer
	server, err := pqtls.New(l, p.cfg)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	*p.address = l.Addr().String()
	f.servers = append(f.servers, server)
	f.loops.Go(func() { f.watch(server.Serve()) })
	return nil
}

func (f *Face) listenHTTP(ctx context.Context, handler http.Handler) (string, error) {
	l, err := listen(ctx)
	if err != nil {
		return "", err
	}
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      40 * time.Second, // longer than the longest dial
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(f.cfg.Logger.Handler(), slog.LevelDebug),
	}
	f.https = append(f.https, server)
	f.loops.Go(func() {
		if err := server.Serve(netutil.LimitListener(l, maxHTTP)); !errors.Is(err, http.ErrServerClosed) {
			f.watch(err)
		}
	})
	return l.Addr().String(), nil
}

func listen(ctx context.Context) (net.Listener, error) {
	var config net.ListenConfig
	return config.Listen(ctx, "tcp", "127.0.0.1:0")
}

func (f *Face) watch(err error) {
	if err == nil {
		return
	}
	select {
	case f.failed <- err:
	default: // one is enough to know
	}
}

// Failed delivers the error of a listener that ended without being asked to.
func (f *Face) Failed() <-chan error { return f.failed }

// Addresses returns where the face listens.
func (f *Face) Addresses() Addresses { return f.addresses }

// Roots returns the roots of the ML-DSA and ECDSA chains as PEM.
func (f *Face) Roots() string { return f.house.roots }

// Shutdown lets exchanges under way finish until ctx ends, then closes everything. Its error tells that
// some were cut off.
func (f *Face) Shutdown(ctx context.Context) error {
	errs := make([]error, len(f.https)+len(f.servers))
	var all sync.WaitGroup
	for i, server := range f.https {
		all.Go(func() { errs[i] = server.Shutdown(ctx) })
	}
	for i, server := range f.servers {
		all.Go(func() { errs[len(f.https)+i] = server.Shutdown(ctx) })
	}
	all.Wait()
	f.Close()
	return errors.Join(errs...)
}

// Close ends everything at once and returns when no goroutine of the face is left.
func (f *Face) Close() {
	f.once.Do(func() {
		for _, server := range f.https {
			_ = server.Close() // the listener is closed either way
		}
		if f.client != nil {
			f.client.Close()
		}
		for _, server := range f.servers {
			_ = server.Close()
		}
		if f.cancel != nil {
			f.cancel()
		}
	})
	f.loops.Wait()
}
