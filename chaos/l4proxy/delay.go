// Package l4proxy disturbs TCP streams by a proxy on loopback in front of the target's addresses. It
// knows nothing of what the streams carry, fronts loopback addresses only and leaves the target's
// processes alone.
package l4proxy

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/assay-bench/assay/chaos"
)

// Delay is the fault net/delay: the magnitude, in seconds, is what is added to a round trip, half of it
// on the way to the target and half on the way back. Bytes are delayed, not connections, and throughput
// is not limited. Magnitudes are whole milliseconds from 1 ms to 60 s; 1 ms is on the way back alone.
//
// The one driver, "l4proxy", is a proxy in this process with the latency toxic of toxiproxy. The scenario
// has to dial the addresses of the handle's Route; connections made to the target itself are not delayed,
// and those through the proxy are closed by Revert. The witness is the point's probe through the
// proxy against the same probe through a proxy without the toxic, so that a host that is merely slow is
// not taken for a delay. Observed is within 2 ms and 2 % of the magnitude or within the noise of the
// host: of that other proxy, and of timers.
func Delay() chaos.Fault { return delay{} }

type delay struct{}

func (delay) Name() string { return "net/delay" }

func (delay) Drivers() []chaos.Driver { return []chaos.Driver{driver{}} }

// driver fronts each endpoint with one proxy.
type driver struct{}

const (
	shortest = time.Millisecond // the toxic counts in milliseconds
	longest  = time.Minute
)

func (driver) Name() string { return "l4proxy" }

// Plan needs no undo steps: proxies end with the process that they are in.
func (driver) Plan(p chaos.Point, seconds float64, _ *rand.Rand) (chaos.Plan, error) {
	by, err := milliseconds(seconds)
	if err != nil {
		return chaos.Plan{}, err
	}
	if len(p.Endpoints) == 0 {
		return chaos.Plan{}, errors.New("delay: the point has no endpoints")
	}
	for name, addr := range p.Endpoints {
		if err := onLoopback(addr); err != nil {
			return chaos.Plan{}, fmt.Errorf("delay: endpoint %s: %w", name, err)
		}
	}
	each := time.Duration(samples+1)*by + 3*time.Second
	return chaos.Plan{
		Magnitude: seconds, Unit: "s", Point: p,
		WitnessLimit: time.Duration(len(p.Endpoints)) * each,
	}, nil
}

// milliseconds refuses what the toxic would have to round.
func milliseconds(seconds float64) (time.Duration, error) {
	ms := math.Round(seconds * 1e3)
	if !(ms >= float64(shortest.Milliseconds()) && ms <= float64(longest.Milliseconds())) {
		return 0, fmt.Errorf("delay of %g s: not within %v and %v", seconds, shortest, longest)
	}
	if math.Abs(seconds*1e3-ms) > 1e-6 {
		return 0, fmt.Errorf("delay of %g s: not a whole number of milliseconds", seconds)
	}
	return time.Duration(ms) * time.Millisecond, nil
}

// onLoopback refuses addresses that the proxy, which dials on its own, may not dial.
func onLoopback(addr string) error {
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		return fmt.Errorf("%q is not a numeric address and port", addr)
	}
	if !at.Addr().Unmap().IsLoopback() || at.Port() == 0 {
		return fmt.Errorf("%s is not on loopback: %w", addr, chaos.ErrBlastRadius)
	}
	return nil
}

// Apply starts the proxies.
func (driver) Apply(ctx context.Context, plan chaos.Plan) (chaos.Handle, error) {
	by, err := milliseconds(plan.Magnitude)
	if err != nil {
		return nil, err
	}
	return apply(ctx, plan, by)
}

// Idle starts the proxies without the toxic.
func (driver) Idle(ctx context.Context, plan chaos.Plan) (chaos.Handle, error) {
	return apply(ctx, plan, 0)
}

// Probe delays an echo on loopback. It asks whether the delay is there, not how exact it is: that is
// for the witness, at its time.
func (d driver) Probe(ctx context.Context) chaos.Capability {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	began := time.Now()
	err := d.tryOut(ctx)
	c := chaos.Capability{Driver: d.Name(), Available: err == nil, Took: time.Since(began), Detail: "toxiproxy in this process"}
	if err != nil {
		c.Detail = err.Error()
	}
	return c
}

const (
	probeLimit = 2 * time.Second
	probeDelay = 0.02 // seconds
)

func (d driver) tryOut(ctx context.Context) (err error) {
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer echo.Close()
	go serveEcho(echo)
	point := chaos.Point{Endpoints: map[string]string{"echo": echo.Addr().String()}, Probe: exchange}
	plan, err := d.Plan(point, probeDelay, nil)
	if err != nil {
		return err
	}
	h, err := apply(ctx, plan, asked(plan))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Revert(context.WithoutCancel(ctx))) }()
	m, err := h.measure(ctx, "echo")
	if err != nil {
		return err
	}
	if by := asked(plan); m.proxied[0] < by || m.control[0] >= by {
		return fmt.Errorf("delay of %v: %s", by, m)
	}
	return nil
}

// serveEcho answers one byte on each connection until the listener is closed.
func serveEcho(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(probeLimit))
			var b [1]byte
			if _, err := c.Read(b[:]); err == nil {
				_, _ = c.Write(b[:])
			}
		}()
	}
}

// exchange is the probe of the driver's own echo.
func exchange(ctx context.Context, addr string) (time.Duration, error) {
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if end, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(end)
	}
	began := time.Now()
	b := [1]byte{'?'}
	if _, err := c.Write(b[:]); err != nil {
		return 0, err
	}
	if _, err := c.Read(b[:]); err != nil {
		return 0, err
	}
	return time.Since(began), nil
}

func endpointNames(p chaos.Point) []string {
	names := make([]string, 0, len(p.Endpoints))
	for name := range p.Endpoints {
		names = append(names, name)
	}
	slices.SortFunc(names, strings.Compare)
	return names
}
