package scenarios

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sort"
	"strings"
	"sync"
	"time"
)

// ErrNotAllowed is wrapped when a dial leaves the run's allowlist.
var ErrNotAllowed = errors.New("address is not allowed")

// Dialer is the one way to the network. Loopback is always allowed; further hosts only when the user
// named them, at a bounded rate; while a fault is armed nothing but loopback (chaos/fault/dial-allowlist).
type Dialer struct {
	allowed  map[string]bool
	interval time.Duration

	mu    sync.Mutex
	armed int
	next  time.Time
}

// NewDialer allows loopback and the named hosts. rate bounds new connections per second to the named
// hosts; 0 means 50.
func NewDialer(hosts []string, rate float64) *Dialer {
	if rate <= 0 {
		rate = 50
	}
	d := &Dialer{allowed: map[string]bool{}, interval: time.Duration(float64(time.Second) / rate)}
	for _, h := range hosts {
		d.allowed[strings.ToLower(h)] = true
	}
	return d
}

// Hosts lists the allowed hosts beyond loopback.
func (d *Dialer) Hosts() []string {
	var out []string
	for h := range d.allowed {
		out = append(out, h)
	}
	sort.Strings(out)
	return out
}

// Arm forbids all but loopback until the returned function is called.
func (d *Dialer) Arm() (disarm func()) {
	d.mu.Lock()
	d.armed++
	d.mu.Unlock()
	return sync.OnceFunc(func() {
		d.mu.Lock()
		d.armed--
		d.mu.Unlock()
	})
}

// DialContext refuses addresses outside the allowlist before any packet is sent.
func (d *Dialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("dial %q: %w", addr, err)
	}
	if !loopback(host) {
		if err := d.admit(ctx, host); err != nil {
			return nil, err
		}
	}
	var nd net.Dialer
	return nd.DialContext(ctx, network, addr)
}

// Check refuses an address that may never be dialled.
func (d *Dialer) Check(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("address %q: %w", addr, err)
	}
	if !loopback(host) && !d.allowed[strings.ToLower(host)] {
		return fmt.Errorf("%s: %w: name it in the target file or with --allow-host", host, ErrNotAllowed)
	}
	return nil
}

func (d *Dialer) admit(ctx context.Context, host string) error {
	d.mu.Lock()
	if d.armed > 0 {
		d.mu.Unlock()
		return fmt.Errorf("dial %s: %w while a fault is armed", host, ErrNotAllowed)
	}
	if !d.allowed[strings.ToLower(host)] {
		d.mu.Unlock()
		return fmt.Errorf("dial %s: %w: name it in the target file or with --allow-host", host, ErrNotAllowed)
	}
	now := time.Now()
	wait := max(d.next.Sub(now), 0)
	d.next = now.Add(wait + d.interval)
	d.mu.Unlock()
	if wait == 0 {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.armed > 0 { // a fault was armed while this dial waited for its turn
			return fmt.Errorf("dial %s: %w while a fault is armed", host, ErrNotAllowed)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
