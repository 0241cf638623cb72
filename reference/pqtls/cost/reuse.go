package cost

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/assay-bench/assay/reference/pqtls"
	"github.com/assay-bench/assay/reference/pqtls/client"
	"github.com/assay-bench/assay/reference/pqtls/pki"
)

// Workload is what the pool is measured under: workers that make requests one after another, a pause between
// them, against one server on loopback.
type Workload struct {
	Workers  int
	Requests int // of each worker
	Pause    time.Duration
}

// MeasureReuse makes the requests of the workload once with X25519 alone and once with X25519MLKEM768 alone,
// each with a pool of its own.
func MeasureReuse(ctx context.Context, w Workload) (*Baseline, error) {
	ca, err := pki.New(pki.Options{Kind: pki.ECDSA})
	if err != nil {
		return nil, err
	}
	root, err := ca.Root()
	if err != nil {
		return nil, err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	source := ca.Source(pki.Request{Use: pki.Server, Names: []string{Name}})
	server, err := pqtls.New(l, pqtls.Config{Name: "cost", Certificates: []pqtls.CertificateSource{source}})
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve() // a client whose server ended fails by itself
	}()
	defer func() {
		_ = server.Close() // what it cuts off is over
		<-done
	}()
	var b Baseline
	for _, x := range []struct {
		into  *Reuse
		group tls.CurveID
	}{{&b.Classical, tls.X25519}, {&b.Hybrid, tls.X25519MLKEM768}} {
		*x.into, err = w.run(ctx, l.Addr().String(), root, x.group)
		if err != nil {
			return nil, fmt.Errorf("reuse with %v: %w", x.group, err)
		}
	}
	return &b, nil
}

func (w Workload) run(ctx context.Context, addr string, root *x509.Certificate, g tls.CurveID) (Reuse, error) {
	c, err := client.New(client.Config{})
	if err != nil {
		return Reuse{}, err
	}
	defer c.Close()
	var all sync.WaitGroup
	errs := make([]error, w.Workers)
	for i := range w.Workers {
		all.Go(func() {
			for range w.Requests {
				_, errs[i] = c.Do(ctx, client.Request{
					Address: addr, ServerName: Name, Roots: []*x509.Certificate{root}, Policy: pqtls.AnyClass,
					Groups: []tls.CurveID{g}, Send: []byte("request"), Pool: true,
				})
				if errs[i] != nil {
					return
				}
				time.Sleep(w.Pause)
			}
		})
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return Reuse{}, err
		}
	}
	n := c.Counters()
	r := Reuse{Exchange: g.String(), Requests: n.Requests.PQ + n.Requests.Classical, Reused: n.Reused.PQ + n.Reused.Classical}
	r.Rate = float64(r.Reused) / float64(max(r.Requests, 1))
	return r, nil
}
