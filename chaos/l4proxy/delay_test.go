//go:build linux

package l4proxy_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/assay-bench/assay/chaos"
	"github.com/assay-bench/assay/chaos/internal/victim"
	"github.com/assay-bench/assay/chaos/l4proxy"
	"github.com/assay-bench/assay/results"
)

func TestMain(m *testing.M) {
	victim.Main()
	os.Exit(m.Run())
}

// inject delays v by the driver and returns what was recorded.
func inject(t *testing.T, d chaos.Driver, p chaos.Point, seconds float64, body func(context.Context, chaos.Handle) error) ([]chaos.Injected, error) {
	t.Helper()
	j, err := chaos.CreateJournal(filepath.Join(t.TempDir(), "journal.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var looks []chaos.Injected
	err = chaos.Inject(t.Context(), chaos.Injection{
		Spec: chaos.Spec{Name: "net/delay", Magnitude: seconds}, Fault: l4proxy.Delay(), Driver: d, Point: p,
		Journal: j, Clock: results.ClockSince(time.Now()),
		Record: func(kind results.Kind, data any) error {
			if kind == results.Injected {
				looks = append(looks, data.(chaos.Injected))
			}
			return nil
		},
	}, body)
	return looks, errors.Join(err, j.Close())
}

func driver(t *testing.T) chaos.Driver {
	t.Helper()
	all := l4proxy.Delay().Drivers()
	if len(all) == 0 {
		t.Fatal("no drivers")
	}
	return all[0]
}

func TestProbe(t *testing.T) {
	if c := driver(t).Probe(t.Context()); !c.Available {
		t.Errorf("%+v", c)
	}
}

// The delay is there on the route and not on the endpoint; afterwards neither port nor goroutine is.
func TestDelay(t *testing.T) {
	const asked = 40 * time.Millisecond
	v := victim.Start(t)
	before := runtime.NumGoroutine()
	out := captured(t)
	var route string
	looks, err := inject(t, driver(t), v.Point("run"), asked.Seconds(), func(ctx context.Context, h chaos.Handle) error {
		router := h.(chaos.Router)
		if _, ok := router.Route("none"); ok {
			t.Error("a route to an endpoint that is none")
		}
		var ok bool
		if route, ok = router.Route("echo"); !ok {
			t.Fatal("no route")
		}
		if host, _, err := net.SplitHostPort(route); err != nil || host != "127.0.0.1" {
			t.Errorf("route %s, %v", route, err)
		}
		for range 3 {
			if took, err := victim.Probe(ctx, route); err != nil || took < asked {
				t.Errorf("an exchange took %v, %v", took, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	checkLooks(t, looks)
	if c, err := net.Dial("tcp", route); err == nil {
		c.Close()
		t.Error("the proxy still accepts")
	}
	settled(t, before)
	if said := out(); said != "" {
		t.Errorf("printed %q", said)
	}
}

// checkLooks asks for what holds on a host of any load: no exchange is faster than the delay. Whether
// the rest suffices for a witness depends on the host, and the detail then says so.
func checkLooks(t *testing.T, looks []chaos.Injected) {
	t.Helper()
	if len(looks) != 2 {
		t.Fatalf("%d looks", len(looks))
	}
	for i, l := range looks {
		t.Logf("%+v", l)
		if l.Unit != "s" || l.Asked != 0.04 || l.Driver != "l4proxy" || l.Observed == 0 {
			t.Errorf("look %d: %+v", i, l)
		}
		if tooSlow := strings.Contains(l.Detail, "without the delay") || strings.Contains(l.Detail, "off by") || strings.Contains(l.Detail, "timers were late"); !l.Witnessed && !tooSlow {
			t.Errorf("look %d is not witnessed: %+v", i, l)
		}
	}
}

// settled waits until there are no more goroutines than before.
func settled(t *testing.T, before int) {
	t.Helper()
	for end := time.Now().Add(3 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			stacks := make([]byte, 1<<16)
			t.Fatalf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(), stacks[:runtime.Stack(stacks, true)])
		}
	}
}

// captured catches what is printed to stdout and stderr until the returned function is called.
func captured(t *testing.T) func() string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "printed"))
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr := os.Stdout, os.Stderr
	os.Stdout, os.Stderr = f, f
	return func() string {
		os.Stdout, os.Stderr = stdout, stderr
		text, err := os.ReadFile(f.Name())
		if err := errors.Join(err, f.Close()); err != nil {
			t.Error(err)
		}
		return string(text)
	}
}

// chaos/fault/witness-required: the proxy is there, the delay is not.
func TestNullIsNotWitnessed(t *testing.T) {
	seen := 0
	for _, seconds := range []float64{0.001, 0.02, 0.5} {
		v := victim.Start(t)
		looks, err := inject(t, chaos.Null(driver(t)), v.Point("run"), seconds, func(ctx context.Context, h chaos.Handle) error {
			route, _ := h.(chaos.Router).Route("echo")
			_, err := victim.Probe(ctx, route)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range looks {
			seen++
			if l.Witnessed {
				t.Errorf("%+v", l)
			}
		}
	}
	if seen != 6 {
		t.Fatalf("%d looks", seen)
	}
}

// A point without a probe, or whose probe fails, has no witness.
func TestBlind(t *testing.T) {
	v := victim.Start(t)
	p := v.Point("run")
	seen := 0
	for _, probe := range []func(context.Context, string) (time.Duration, error){
		nil,
		func(context.Context, string) (time.Duration, error) { return 0, errors.New("no") },
	} {
		p.Probe = probe
		looks, err := inject(t, driver(t), p, 0.01, func(context.Context, chaos.Handle) error { return nil })
		if err != nil || len(looks) != 2 || looks[0].Witnessed || looks[1].Witnessed {
			t.Errorf("%+v, %v", looks, err)
		}
		seen++
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
}

// Revert comes while megabytes are in flight and one client does not read: it ends, twice, and no
// goroutine is left.
func TestRevertUnderTraffic(t *testing.T) {
	v := victim.Start(t)
	before := runtime.NumGoroutine()
	d := driver(t)
	plan, err := d.Plan(v.Point("run"), 0.05, nil)
	if err != nil {
		t.Fatal(err)
	}
	h, err := d.Apply(t.Context(), plan)
	if err != nil {
		t.Fatal(err)
	}
	route, _ := h.(chaos.Router).Route("echo")
	c, err := net.Dial("tcp", route)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	done := make(chan struct{})
	go func() { // ends when Revert closes the connection
		defer close(done)
		_, _ = io.Copy(io.Discard, c)
	}()
	deaf, err := net.Dial("tcp", route)
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	var writers sync.WaitGroup
	for _, conn := range []net.Conn{c, deaf} {
		writers.Go(func() { // ends when all is taken or Revert closes the connection
			for {
				if _, err := conn.Write(bytes.Repeat([]byte("x"), 1<<20)); err != nil {
					return
				}
			}
		})
	}
	b := make([]byte, 1)
	if _, err := io.ReadFull(deaf, b); err != nil { // data is flowing; it reads no more than this
		t.Fatal(err)
	}
	for range 2 {
		if err := h.Revert(t.Context()); err != nil {
			t.Error(err)
		}
	}
	<-done
	writers.Wait()
	if left := h.(chaos.Inspector).Residue(t.Context()); len(left) != 0 {
		t.Errorf("residue %q", left)
	}
	settled(t, before)
}

func TestPlanRefuses(t *testing.T) {
	at := func(addr string) chaos.Point { return chaos.Point{Endpoints: map[string]string{"e": addr}} }
	cases := []struct {
		name    string
		p       chaos.Point
		seconds float64
		is      error
	}{
		{"no endpoints", chaos.Point{}, 0.01, nil},
		{"another host", at("192.0.2.1:80"), 0.01, chaos.ErrBlastRadius},
		{"any address", at("0.0.0.0:80"), 0.01, chaos.ErrBlastRadius},
		{"a name", at("localhost:80"), 0.01, nil},
		{"no port", at("127.0.0.1:0"), 0.01, chaos.ErrBlastRadius},
		{"zero", at("127.0.0.1:80"), 0, nil},
		{"part of a millisecond", at("127.0.0.1:80"), 0.0015, nil},
		{"too long", at("127.0.0.1:80"), 61, nil},
	}
	seen := 0
	for _, c := range cases {
		seen++
		_, err := driver(t).Plan(c.p, c.seconds, nil)
		if err == nil || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
	if _, err := driver(t).Plan(at("[::1]:80"), 0.05, nil); err != nil {
		t.Error(err)
	}
}

// A connection whose client has ended its half still gets its answer.
func TestHalfClose(t *testing.T) {
	v := victim.Start(t)
	d := driver(t)
	plan, err := d.Plan(v.Point("run"), 0.01, nil)
	if err != nil {
		t.Fatal(err)
	}
	h, err := d.Apply(t.Context(), plan)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.Revert(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	route, _ := h.(chaos.Router).Route("echo")
	c, err := net.Dial("tcp", route)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("last words")); err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || string(got) != "last words" {
		t.Errorf("%q, %v", got, err)
	}
}
