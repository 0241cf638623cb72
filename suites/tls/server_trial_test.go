package tls

import (
	"context"
	"io"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/assay-bench/assay/chaos"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/target"
	"github.com/assay-bench/assay/suites"
)

// trial drives and judges one case as a run does, without its other machinery.
func trial(t *testing.T, c suites.Check, kase string, addrs target.Endpoints, claims target.Claims) suites.Finding {
	t.Helper()
	clock := results.ClockSince(time.Now())
	rec := results.NewRecorder(io.Discard, clock)
	key := results.Key{Check: c.ID, Case: kase}
	env := &scenarios.Env{
		Key: key, Token: "trial", Endpoints: addrs, Claims: claims, Clock: clock,
		Dial: scenarios.NewDialer(nil, 0).DialContext, Rand: rand.New(rand.NewPCG(1, 2)),
		Put: func(from results.Source, kind results.Kind, data any) error {
			_, err := rec.Record(key, from, kind, data)
			return err
		},
	}
	self, err := chaos.FindProcess(os.Getpid())
	if err == nil {
		env.Processes = []chaos.Process{self}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if c.Control != nil {
		if err := c.Control.Drive(ctx, env); err != nil {
			t.Errorf("%s: control: %v", key, err)
		}
		if ok, observed := c.Control.Judge(rec.All()); !ok {
			return suites.Finding{Status: results.Fail, Reason: suites.ReasonControl, Observed: observed}
		}
	}
	controlled := len(rec.All())
	if err := c.Drive(ctx, env); err != nil {
		t.Errorf("%s: drive: %v", key, err)
	}
	evidence := rec.All()[controlled:]
	if c.Explain != nil {
		for _, e := range evidence {
			_ = c.Explain(e)
		}
	}
	return c.Judge(suites.Trace{Key: key, Evidence: evidence, Claims: claims})
}
