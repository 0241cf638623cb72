package l4proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/assay-bench/assay/chaos"
	"github.com/assay-bench/assay/results"
)

// proxied is the proxies in force.
type proxied struct {
	plan    chaos.Plan
	mu      sync.Mutex        // of Revert
	fronts  []*front          // not yet closed
	faulty  map[string]string // endpoint -> address of its proxy
	control map[string]string // endpoint -> address of a proxy that never has a toxic
}

// apply starts two proxies for each endpoint: the one with the delay, which may be zero, and a control
// that never has one, to tell the witness what a proxy costs on this host at this time.
func apply(ctx context.Context, plan chaos.Plan, by time.Duration) (*proxied, error) {
	h := &proxied{plan: plan, faulty: map[string]string{}, control: map[string]string{}}
	for _, name := range endpointNames(plan.Point) {
		for into, delay := range map[*map[string]string]time.Duration{&h.faulty: by, &h.control: 0} {
			f, err := listen(name, plan.Point.Endpoints[name], delay)
			if err != nil {
				return nil, errors.Join(fmt.Errorf("endpoint %s: %w", name, err), h.Revert(ctx))
			}
			h.fronts = append(h.fronts, f)
			(*into)[name] = f.addr()
		}
	}
	return h, nil
}

// Route returns the address of the proxy in front of an endpoint.
func (h *proxied) Route(endpoint string) (string, bool) {
	addr, ok := h.faulty[endpoint]
	return addr, ok
}

// Revert closes the listeners and the proxied connections. Twice is as good as once.
func (h *proxied) Revert(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	var left []*front
	for _, f := range h.fronts {
		if err := f.close(ctx); err != nil {
			errs = append(errs, err)
			left = append(left, f)
		}
	}
	h.fronts = left
	return errors.Join(errs...)
}

const knockLimit = 200 * time.Millisecond // for a closed port of loopback to refuse

// Residue names proxies that do not refuse.
func (h *proxied) Residue(ctx context.Context) []string {
	var out []string
	for _, name := range endpointNames(h.plan.Point) {
		for _, addr := range []string{h.faulty[name], h.control[name]} {
			c, err := (&net.Dialer{Timeout: knockLimit}).DialContext(ctx, "tcp", addr)
			if err == nil {
				c.Close()
				out = append(out, fmt.Sprintf("proxy %s of endpoint %s still accepts", addr, name))
			}
		}
	}
	return out
}

const samples = 7 // probes on each path; see measured.judge

// Witness compares the probe through each proxy with the probe through its control, in turns with the one
// straight at the target, and has timers of the host beside it.
// Observed is the difference of the medians in seconds, of the endpoint where it is farthest from
// what was asked.
func (h *proxied) Witness(ctx context.Context) (results.Evidence, error) {
	if h.plan.Point.Probe == nil {
		return results.Evidence{}, errors.New("the point has no probe")
	}
	worst, seen := measured{}, false
	good := true
	var details []string
	for _, name := range endpointNames(h.plan.Point) {
		m, err := h.measure(ctx, name)
		if err != nil {
			return results.Evidence{}, err
		}
		complaint := m.judge(asked(h.plan))
		good = good && complaint == ""
		details = append(details, fmt.Sprintf("%s: %s%s", name, m, complaint))
		if !seen || m.off(asked(h.plan)) > worst.off(asked(h.plan)) {
			worst, seen = m, true
		}
	}
	return h.plan.Evidence(worst.added().Seconds(), good, strings.Join(details, "; "))
}

func asked(p chaos.Plan) time.Duration {
	return time.Duration(p.Magnitude * float64(time.Second))
}

// measure probes one endpoint on all paths in turns, so that a change of load meets all.
func (h *proxied) measure(ctx context.Context, name string) (measured, error) {
	var m measured
	for range samples {
		late := make(chan time.Duration, 1)
		for _, path := range []struct {
			addr string
			into *[]time.Duration
		}{{h.plan.Point.Endpoints[name], &m.direct}, {h.control[name], &m.control}, {h.faulty[name], &m.proxied}} {
			if path.into == &m.proxied {
				go func() { late <- lateness(asked(h.plan)) }()
			}
			took, err := h.plan.Point.Probe(ctx, path.addr)
			if err != nil {
				return m, fmt.Errorf("probe of %s at %s: %w", name, path.addr, err)
			}
			*path.into = append(*path.into, took)
		}
		m.late = append(m.late, <-late)
	}
	for _, all := range [][]time.Duration{m.direct, m.control, m.proxied, m.late} {
		slices.Sort(all)
	}
	return m, nil
}

// lateness is by how much two timers in a row, as the two directions of the delay have them, are late on
// this host now.
func lateness(delay time.Duration) time.Duration {
	began := time.Now()
	for _, ms := range toxics(delay) {
		time.Sleep(time.Duration(ms) * time.Millisecond)
	}
	return time.Since(began) - delay
}

// measured are the sorted times of the probes of one endpoint, and by how much timers were late meanwhile.
type measured struct{ direct, control, proxied, late []time.Duration }

func (m measured) added() time.Duration {
	return median(m.proxied) - median(m.control)
}

func median(sorted []time.Duration) time.Duration { return sorted[len(sorted)/2] }

// off is how far the observed delay is from the asked one.
func (m measured) off(asked time.Duration) time.Duration { return (m.added() - asked).Abs() }

const slack = 2 * time.Millisecond // of the proxy itself: 0.2 to 0.5 ms, and of timers

// judge says why the measurement does not prove the asked delay, or nothing.
//
// Each exchange through the proxy has to take at least the delay, and each through the control less
// than half of it. Where there is no delay the two are alike, and however loaded the host, seven and
// seven exchanges come out like that by chance in at most one of 2^14 looks. A host on which the
// control is slower than that, or timers later, can not be used to judge so small a delay.
//
// The observed delay may be off by 2 ms and 2 %, or by the noise of the host if that is more: the
// spread of the control, or how late timers were, on which the control does not depend.
func (m measured) judge(asked time.Duration) string {
	if m.proxied[0] < asked {
		return fmt.Sprintf(", but an exchange took only %v", m.proxied[0])
	}
	slowest := m.control[len(m.control)-1]
	if slowest >= asked/2 {
		return fmt.Sprintf(", but without the delay one took %v", slowest)
	}
	latest := m.late[len(m.late)-1]
	if latest >= asked/2 {
		return fmt.Sprintf(", but timers were late by %v", latest)
	}
	tolerance := max(slack+asked/50, slowest-m.control[0], latest)
	if off := m.off(asked); off > tolerance {
		return fmt.Sprintf(", off by %v, more than %v", off, tolerance)
	}
	return ""
}

func (m measured) String() string {
	return fmt.Sprintf("%v through the proxy, %v through its control, %v direct, timers late by %v",
		median(m.proxied), median(m.control), median(m.direct), median(m.late))
}
