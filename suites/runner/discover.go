package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/target"
	"github.com/assay-bench/assay/suites"
)

// Discovered is the outcome of probing one feature.
type Discovered struct {
	Feature string
	Present bool
	Detail  string // what the probe observed
}

// Discover probes features at addresses with the checks claims/<feature>, as if each of the offered
// claims were made. It tells what answers; whether the target should have it is not asked.
func Discover(ctx context.Context, suite *suites.Suite, addrs target.Endpoints, offered target.Claims, dial scenarios.DialFunc) ([]Discovered, error) {
	n := len(offered.Features)
	out, errs := make([]Discovered, n), make([]error, n)
	var wg sync.WaitGroup
	for i, feature := range offered.Features {
		check, ok := suite.Check("claims/" + feature)
		if !ok {
			out[i] = Discovered{feature, false, "this suite has no probe for it"}
			continue
		}
		wg.Go(func() {
			if out[i], errs[i] = discover(ctx, suite, check, addrs, offered, feature, dial); errs[i] != nil {
				errs[i] = fmt.Errorf("probe %s: %w", feature, errs[i])
			}
		})
	}
	wg.Wait()
	return out, errors.Join(errs...)
}

func discover(ctx context.Context, suite *suites.Suite, check suites.Check, addrs target.Endpoints, claims target.Claims, feature string, dial scenarios.DialFunc) (Discovered, error) {
	clock := results.ClockSince(time.Now())
	rec := results.NewRecorder(io.Discard, clock)
	if _, err := rec.Record(suites.FrameKey, results.FromTarget, results.Claimed, claims); err != nil {
		return Discovered{}, err
	}
	key := results.Key{Check: check.ID}
	put := func(from results.Source, kind results.Kind, data any) error {
		_, err := rec.Record(key, from, kind, data)
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	env := &scenarios.Env{
		Key: key, Token: "discover", Endpoints: addrs, Claims: claims, Dial: dial, Clock: clock, Put: put,
		Rand: rand.New(rand.NewPCG(hash(feature), 0)),
		Save: func(string, []byte) error { return nil },
	}
	if err := check.Drive(ctx, env); err != nil {
		return Discovered{}, err
	}
	if err := put(results.FromHost, results.Ended, nil); err != nil {
		return Discovered{}, err
	}
	run := results.Run{Plan: []results.Planned{{Check: check.ID, Needs: []string{feature}}}}
	v := suite.Judge(run, rec.All())[0]
	return Discovered{feature, v.Status == results.Pass, v.Why.Observed}, nil
}
