package runner

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/assay-bench/assay/chaos"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/target"
)

// underFault drives the check while the fault is on. While it is armed the dialer allows only loopback.
func (r *run) underFault(ctx context.Context, j job, env *scenarios.Env) error {
	fault, err := r.Fault(j.spec.Name)
	if err != nil {
		return err
	}
	driver, err := Driver(ctx, fault)
	if err != nil {
		return err
	}
	if r.Null {
		driver = chaos.Null(driver)
	}
	if r.Journal == nil {
		return errors.New("no journal: a fault that can not be undone is not applied")
	}
	defer r.Dialer.Arm()()
	direct := env.Endpoints
	return chaos.Inject(ctx, chaos.Injection{
		Spec: *j.spec, Fault: fault, Driver: driver, Journal: r.Journal, Clock: r.Clock,
		Rand: rand.New(rand.NewPCG(r.Run.Seed, hash(env.Key.String()+" fault"))),
		Point: chaos.Point{
			Processes: env.Processes, RunID: r.Run.ID,
			Endpoints: map[string]string{j.check.Endpoint: direct[j.check.Endpoint]},
			Probe: func(ctx context.Context, addr string) (time.Duration, error) {
				return j.check.Probe(ctx, env, addr)
			},
		},
		Record: func(kind results.Kind, data any) error { return env.Put(results.FromFault, kind, data) },
	}, func(ctx context.Context, h chaos.Handle) error {
		env.Endpoints = reroute(direct, h)
		return j.check.Drive(ctx, env)
	})
}

// reroute replaces the addresses that a fault sits in front of.
func reroute(direct target.Endpoints, h chaos.Handle) target.Endpoints {
	router, ok := h.(chaos.Router)
	if !ok {
		return direct
	}
	out := target.Endpoints{}
	for name, addr := range direct {
		out[name] = addr
		if via, ok := router.Route(name); ok {
			out[name] = via
		}
	}
	return out
}

// Driver picks the first driver of a fault that works on this host. The error carries the texts of all
// probes: it is what a report prints under notRun.
func Driver(ctx context.Context, f chaos.Fault) (chaos.Driver, error) {
	var errs []error
	for _, d := range f.Drivers() {
		capability := d.Probe(ctx)
		if capability.Available {
			return d, nil
		}
		errs = append(errs, fmt.Errorf("%s: %s", d.Name(), capability.Detail))
	}
	return nil, fmt.Errorf("no driver of %s works on this host: %w", f.Name(), errors.Join(errs...))
}
