// Package stack composes the reference servers into one process: the RPC port, the TLS ports with
// their lab, the TPM, sandbox and router ports, and the admin HTTP port. It reads no flags and writes no output;
// a command does that around it.
package stack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/pqtls/face"
	"github.com/assay-bench/assay/reference/ready"
	routerservice "github.com/assay-bench/assay/reference/router"
	routerface "github.com/assay-bench/assay/reference/router/face"
	"github.com/assay-bench/assay/reference/rpc/server"
	"github.com/assay-bench/assay/reference/rpc/wire"
	sandboxface "github.com/assay-bench/assay/reference/sandbox/face"
	"github.com/assay-bench/assay/reference/tpm"
	tpmface "github.com/assay-bench/assay/reference/tpm/face"
)

// Config configures a Stack. Zero fields get the defaults named beside them.
type Config struct {
	Version        string        // as in the claims; "unknown"
	Defects        defect.Set    // none
	RPCAddr        string        // 127.0.0.1:0, a port that the kernel chooses
	AdminAddr      string        // 127.0.0.1:0; must be loopback
	ReadDeadline   time.Duration // 5 s
	IdleTimeout    time.Duration // 10 min
	MaxFrame       int           // bytes; 16 MiB
	MaxConnections int           // 4096
	RouterModel    string        // file of the router's default model; the embedded one
	DrainTimeout   time.Duration // for calls in flight at Shutdown; 5 s
	Logger         *slog.Logger  // of the TLS, TPM, sandbox and router ports; discards
}

// Name is what the stack claims to be.
const Name = "assay reference stack"

// features are the claims of a stack; a claim that is not kept is a failed verdict.
func features() []string {
	return []string{"rpc.buffered", "rpc.framed", "rpc.ttheader", "rpc.ttheader-framed", "rpc.behave",
		"grpc.interop", "grpc.behave", "grpc.health", "admin.http",
		"tls.server", "tls.tls12", "tls.x25519mlkem768", "tls.secp256r1mlkem768", "tls.secp384r1mlkem1024",
		"tls.mlkem1024", "tls.mldsa", "tls.tickets", "tls.staple", "tls.dual-certificate", "tls.mutual",
		"tls.classical", "tls.mldsa-only", "tls.client", "tls.client-hybrid", "tls.client-mldsa", "tls.lab",
		"sandbox.api", "sandbox.interpreter", "sandbox.nn", "sandbox.proxy",
		"router.openai", "router.api", "router.grpc", "router.multimodal"}
}

// Stack is a running process's worth of servers.
type Stack struct {
	cfg     Config
	rpc     *server.Server
	admin   *admin
	tls     *face.Face
	tpm     *tpmface.Face
	tpms    []tpm.Finding // the kinds of TPM that were tried, the last one works if any does
	sandbox *sandboxface.Face
	router  *routerface.Face
	runWasm string // command line that runs a module; empty if there is none
	cancel  context.CancelFunc
	loops   sync.WaitGroup
	failed  chan error // the first server that ended on its own
	once    sync.Once
	result  error
}

// Start returns once every port accepts connections. When ctx ends, the stack closes at once; for a
// graceful end call Shutdown.
func Start(ctx context.Context, cfg Config) (*Stack, error) {
	cfg = withDefaults(cfg)
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	rpcListener, err := listen(ctx, cfg.RPCAddr)
	if err != nil {
		return nil, fmt.Errorf("rpc port: %w", err)
	}
	rpc, err := server.New(rpcListener, server.Config{
		Defects: cfg.Defects, ReadDeadline: cfg.ReadDeadline, IdleTimeout: cfg.IdleTimeout,
		MaxFrame: cfg.MaxFrame, MaxConnections: cfg.MaxConnections, Registerer: registry,
	})
	if err != nil {
		return nil, errors.Join(err, rpcListener.Close())
	}
	adminListener, err := listenLoopback(ctx, cfg.AdminAddr)
	if err != nil {
		rpc.Close()
		return nil, fmt.Errorf("admin port: %w", err)
	}
	tls, err := face.Start(ctx, face.Config{Defects: cfg.Defects, Registerer: registry, Logger: cfg.Logger})
	if err != nil {
		rpc.Close()
		return nil, errors.Join(err, adminListener.Close())
	}
	sealed, err := tpmface.Start(ctx, tpmface.Config{Defects: cfg.Defects, Registerer: registry, Logger: cfg.Logger})
	if err != nil {
		rpc.Close()
		tls.Close()
		return nil, errors.Join(err, adminListener.Close())
	}
	box, err := sandboxface.Start(ctx, sandboxface.Config{Defects: cfg.Defects, Registerer: registry, Logger: cfg.Logger})
	if err != nil {
		rpc.Close()
		tls.Close()
		sealed.Close()
		return nil, errors.Join(err, adminListener.Close())
	}
	router, err := routerface.Start(ctx, routerface.Config{
		Defects: cfg.Defects, Registerer: registry, Logger: cfg.Logger, Router: routerservice.Config{Model: cfg.RouterModel},
	})
	if err != nil {
		rpc.Close()
		tls.Close()
		sealed.Close()
		box.Close()
		return nil, errors.Join(err, adminListener.Close())
	}
	s := &Stack{
		cfg: effective(cfg, rpc.Config()), rpc: rpc, tls: tls, tpm: sealed, sandbox: box, router: router,
		failed: make(chan error, 5),
	}
	s.tpms = tpm.First(ctx)
	if program, err := os.Executable(); err == nil { // else sandbox.run is not claimed
		s.runWasm = runWasm(program, cfg.Defects)
	}
	s.admin = newAdmin(adminListener, registry, s.dump(), cfg.Defects)
	s.run(ctx)
	return s, nil
}

func withDefaults(cfg Config) Config {
	if cfg.Version == "" {
		cfg.Version = "unknown"
	}
	if cfg.RPCAddr == "" {
		cfg.RPCAddr = "127.0.0.1:0"
	}
	if cfg.AdminAddr == "" {
		cfg.AdminAddr = "127.0.0.1:0"
	}
	if cfg.DrainTimeout == 0 {
		cfg.DrainTimeout = 5 * time.Second
	}
	return cfg
}

// effective takes over the defaults that the server filled in, so that they are written down once.
func effective(cfg Config, rpc server.Config) Config {
	cfg.ReadDeadline, cfg.IdleTimeout = rpc.ReadDeadline, rpc.IdleTimeout
	cfg.MaxFrame, cfg.MaxConnections = rpc.MaxFrame, rpc.MaxConnections
	return cfg
}

func listen(ctx context.Context, addr string) (net.Listener, error) {
	var config net.ListenConfig
	return config.Listen(ctx, "tcp", addr)
}

// listenLoopback refuses addresses that other hosts can reach: the admin port has no authentication.
func listenLoopback(ctx context.Context, addr string) (net.Listener, error) {
	l, err := listen(ctx, addr)
	if err != nil {
		return nil, err
	}
	if tcp, ok := l.Addr().(*net.TCPAddr); !ok || !tcp.IP.IsLoopback() {
		return nil, errors.Join(fmt.Errorf("%s is not a loopback address", addr), l.Close())
	}
	return l, nil
}

func (s *Stack) run(ctx context.Context) {
	ctx, s.cancel = context.WithCancel(ctx)
	s.loops.Go(func() { s.watch(s.rpc.Serve()) })
	s.loops.Go(func() { s.watch(s.admin.serve()) })
	for _, failed := range []<-chan error{s.tls.Failed(), s.sandbox.Failed(), s.router.Failed()} {
		s.loops.Go(func() {
			select {
			case err := <-failed:
				s.watch(err)
			case <-ctx.Done():
			}
		})
	}
	context.AfterFunc(ctx, s.tls.Close)
	context.AfterFunc(ctx, s.sandbox.Close)
	context.AfterFunc(ctx, s.router.Close)
	context.AfterFunc(ctx, s.tpm.Close)
	context.AfterFunc(ctx, s.rpc.Close)
	context.AfterFunc(ctx, s.admin.close)
}

func (s *Stack) watch(err error) {
	if err != nil {
		s.failed <- err
	}
}

// Failed delivers the error of a server that ended without being asked to.
func (s *Stack) Failed() <-chan error { return s.failed }

// Ready returns the line that announces the stack.
func (s *Stack) Ready() ready.Line {
	rpc, tls, box, router := s.rpc.Addr().String(), s.tls.Addresses(), s.sandbox.Addresses(), s.router.Addresses()
	line := ready.Line{
		Endpoints: ready.Endpoints{
			RPC: rpc, GRPC: rpc, Admin: s.admin.listener.Addr().String(),
			TLS: tls.TLS, TLSClassical: tls.Classical, TLSMLDSA: tls.MLDSA, TLSMutual: tls.Mutual, TLSLab: tls.Lab,
			TPM: s.tpm.Addr(), Sandbox: box.API, SandboxProxy: box.Proxy,
			Router: router.HTTP, RouterGRPC: router.GRPC, OpenAI: router.HTTP,
		},
		Claims: ready.Claims{
			Name: Name, Version: s.cfg.Version, Features: append(features(), s.tpmFeatures()...),
			Limits: &ready.Limits{
				ReadDeadlineMillis: s.cfg.ReadDeadline.Milliseconds(),
				MaxFrameBytes:      s.cfg.MaxFrame,
				MaxDepth:           wire.DefaultMaxDepth,
			},
			Defects: s.cfg.Defects.Names(),
			TLS:     &ready.TLS{ServerName: face.ServerName, Roots: s.tls.Roots(), App: "echo"},
		},
	}
	if _, loaded := s.router.Engine(); loaded {
		line.Claims.Features = append(line.Claims.Features, "router.onnx")
	}
	if s.runWasm != "" {
		line.Claims.Features = append(line.Claims.Features, "sandbox.run")
		line.Claims.Sandbox = &ready.Sandbox{RunWasm: s.runWasm}
	}
	return line
}

// tpmFeatures claims the TPM part where this process has a TPM to use: a stub is never claimed.
func (s *Stack) tpmFeatures() []string {
	for _, f := range s.tpms {
		if f.Err == nil {
			return []string{"tpm.cache", "tpm.quote"}
		}
	}
	return nil
}

// TPMs says which kinds of TPM were tried for the claims, and why they do not work.
func (s *Stack) TPMs() []tpm.Finding { return s.tpms }

// Shutdown drains: readiness goes off, no connection is accepted, calls in flight have the drain
// timeout or until ctx ends, then everything is closed. Its error tells that calls were cut off.
// A second call returns the first one's result.
func (s *Stack) Shutdown(ctx context.Context) error {
	s.once.Do(func() {
		if !s.cfg.Defects.On(defect.HealthAlwaysServing) {
			s.admin.notReady()
		}
		drain, cancel := context.WithTimeout(ctx, s.cfg.DrainTimeout)
		defer cancel()
		var tlsErr error
		var facesEnd sync.WaitGroup
		facesEnd.Go(func() { tlsErr = s.tls.Shutdown(drain) })
		var tpmErr error
		facesEnd.Go(func() { tpmErr = s.tpm.Shutdown(drain) })
		var sandboxErr error
		facesEnd.Go(func() { sandboxErr = s.sandbox.Shutdown(drain) })
		var routerErr error
		facesEnd.Go(func() { routerErr = s.router.Shutdown(drain) })
		rpcErr := s.rpc.Shutdown(drain)
		facesEnd.Wait()
		if err := errors.Join(rpcErr, tlsErr, tpmErr, sandboxErr, routerErr); err != nil {
			s.result = fmt.Errorf("drain: calls were cut off: %w", err)
		}
		s.cancel()
		s.rpc.Close()
		s.admin.close()
		s.loops.Wait()
	})
	return s.result
}

// dump is the effective configuration as /config shows it: durations in milliseconds, sizes in bytes.
type dump struct {
	Version              string        `json:"version"`
	RPCAddr              string        `json:"rpcAddr"`
	AdminAddr            string        `json:"adminAddr"`
	ReadDeadlineMillis   int64         `json:"readDeadlineMillis"`
	IdleTimeoutMillis    int64         `json:"idleTimeoutMillis"`
	DrainTimeoutMillis   int64         `json:"drainTimeoutMillis"`
	MaxFrameBytes        int           `json:"maxFrameBytes"`
	MaxDepth             int           `json:"maxDepth"`
	MaxConnections       int           `json:"maxConnections"`
	UnknownInfoIDRefused bool          `json:"unknownInfoIdRefused"`
	Defects              []defect.Name `json:"defects"`
}

func (s *Stack) dump() dump {
	return dump{
		Version: s.cfg.Version, RPCAddr: s.cfg.RPCAddr, AdminAddr: s.cfg.AdminAddr,
		ReadDeadlineMillis:   s.cfg.ReadDeadline.Milliseconds(),
		IdleTimeoutMillis:    s.cfg.IdleTimeout.Milliseconds(),
		DrainTimeoutMillis:   s.cfg.DrainTimeout.Milliseconds(),
		MaxFrameBytes:        s.cfg.MaxFrame,
		MaxDepth:             wire.DefaultMaxDepth,
		MaxConnections:       s.cfg.MaxConnections,
		UnknownInfoIDRefused: !s.cfg.Defects.On(defect.InfoIDSkipped),
		Defects:              s.cfg.Defects.Names(),
	}
}
