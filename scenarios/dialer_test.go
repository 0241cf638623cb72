package scenarios

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestDialerReachesLoopback(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d := NewDialer(nil, 0)
	defer d.Arm()() // loopback stays reachable under faults
	conn, err := d.DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

// Nobody answers at the forbidden addresses, so that a refusal of ours is told from one of the
// network by the sentinel alone.
func TestDialerRefusals(t *testing.T) {
	d := NewDialer([]string{"Staging.Example", "192.0.2.7"}, 0)
	forbidden := []string{
		"192.0.2.1:80", "10.0.0.1:80", "0.0.0.0:80", "169.254.169.254:80", "example.org:80",
		"[2001:db8::1]:80", "[::]:80", "[::ffff:10.0.0.1]:80", "127.1:80", "0x7f000001:80", "2130706433:80",
		"127.0.0.1.example.org:80", "localhost.example.org:80", "evil.staging.example:80", "[::1%eth0]:80", ":80",
	}
	for _, addr := range forbidden {
		if err := d.Check(addr); !errors.Is(err, ErrNotAllowed) {
			t.Errorf("check %s: %v", addr, err)
		}
		if conn, err := d.DialContext(t.Context(), "tcp", addr); !errors.Is(err, ErrNotAllowed) {
			t.Errorf("dial %s: %v, %v", addr, conn, err)
		}
	}
	allowed := []string{"127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "localhost:1", "STAGING.example:1", "192.0.2.7:1"}
	for _, addr := range allowed {
		if err := d.Check(addr); err != nil {
			t.Errorf("check %s: %v", addr, err)
		}
	}
	for _, addr := range []string{"", "127.0.0.1", "a:b:c", "[::1"} {
		if err := d.Check(addr); err == nil || errors.Is(err, ErrNotAllowed) {
			t.Errorf("check %q: %v, want it malformed", addr, err)
		}
		if _, err := d.DialContext(t.Context(), "tcp", addr); err == nil || errors.Is(err, ErrNotAllowed) {
			t.Errorf("dial %q: %v, want it malformed", addr, err)
		}
	}
	if want := []string{"192.0.2.7", "staging.example"}; !slices.Equal(d.Hosts(), want) {
		t.Errorf("hosts = %v, want %v", d.Hosts(), want)
	}
}

func TestArmedDialerKeepsToLoopback(t *testing.T) {
	d := NewDialer([]string{"staging.example"}, 0)
	first, second := d.Arm(), d.Arm()
	admitted := func() bool { return d.admit(t.Context(), "staging.example") == nil }
	if _, err := d.DialContext(t.Context(), "tcp", "staging.example:80"); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("dial under a fault: %v", err)
	}
	first()
	first() // disarming twice must not count for the second fault
	if admitted() {
		t.Error("admitted while the second fault is armed")
	}
	second()
	if !admitted() {
		t.Error("refused after the last fault")
	}
}

// The n-th connection waits (n-1) intervals, on a clock that only the test moves.
func TestDialerRate(t *testing.T) {
	for _, c := range []struct {
		rate float64
		want time.Duration // of ten further connections
	}{{0, 200 * time.Millisecond}, {-1, 200 * time.Millisecond}, {10, time.Second}, {0.5, 20 * time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			d := NewDialer([]string{"h"}, c.rate)
			began := time.Now()
			for range 11 {
				if err := d.admit(t.Context(), "h"); err != nil {
					t.Fatal(err)
				}
			}
			if took := time.Since(began); took != c.want {
				t.Errorf("rate %g: ten further connections took %v, want %v", c.rate, took, c.want)
			}
			time.Sleep(time.Minute) // idle time saves up no burst
			began = time.Now()
			for range 3 {
				if err := d.admit(t.Context(), "h"); err != nil {
					t.Fatal(err)
				}
			}
			if took := time.Since(began); took != c.want/5 {
				t.Errorf("rate %g: two further connections after idling took %v, want %v", c.rate, took, c.want/5)
			}
		})
	}
}

func TestDialerRateIsSharedByAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDialer([]string{"a", "b"}, 10)
		began := time.Now()
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				if err := d.admit(t.Context(), []string{"a", "b"}[i%2]); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if took := time.Since(began); took != 1900*time.Millisecond {
			t.Errorf("20 connections took %v, want 1.9s", took)
		}
	})
}

func TestDialerWaitEndsWithTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDialer([]string{"h"}, 0.001)
		if err := d.admit(t.Context(), "h"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if err := d.admit(ctx, "h"); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("admitted after %v: %v", time.Since(began), err)
		}
	})
}
