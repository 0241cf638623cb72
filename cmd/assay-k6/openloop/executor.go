package openloop

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"go.k6.io/k6/errext"
	"go.k6.io/k6/errext/exitcodes"
	"go.k6.io/k6/lib"
	"go.k6.io/k6/lib/executor"
	"go.k6.io/k6/metrics"

	"github.com/assay-bench/assay/cmd/assay-k6/bundle"
	"github.com/assay-bench/assay/cmd/assay-k6/module"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/k6"
	"github.com/assay-bench/assay/scenarios/load"
	"github.com/assay-bench/assay/scenarios/load/proto"
)

// Executor plays one scenario.
type Executor struct {
	*executor.BaseExecutor
	config  *Config
	state   *lib.ExecutionState
	logger  *logrus.Entry
	segment load.Segment
	metrics *module.Metrics
}

var _ lib.Executor = (*Executor)(nil)

// Run plays this instance's share of the schedule and hands the samples to k6, once a second and at the end,
// from a goroutine that the pacer does not wait for. A target that can not be
// reached is in the bundle as such, and ends k6 with an error.
func (e *Executor) Run(ctx context.Context, out chan<- metrics.SampleContainer) error {
	feeder := e.feeder(out)
	result, err := e.play(ctx, feeder.progress)
	if errors.Is(err, proto.ErrUnreachable) {
		out <- bundle.GeneratorResult{Generator: k6.Generator{Scenario: e.config.Name, NoLoad: err.Error()}}
	}
	if err != nil {
		// ScriptAborted: k6 has no code of its own for a scenario that can not be played
		return errext.WithExitCodeIfNone(fmt.Errorf("scenario %s: %w", e.config.Name, err), exitcodes.ScriptAborted)
	}
	feeder.rest(result)
	out <- bundle.GeneratorResult{Generator: k6.Generator{Scenario: e.config.Name, Result: result}}
	e.say(result)
	return nil
}

func (e *Executor) play(ctx context.Context, progress func(load.Progress)) (*load.Result, error) {
	s, err := e.config.Scenario.Schedule()
	if err != nil {
		return nil, err
	}
	conf, err := e.config.Scenario.Config(os.ReadFile)
	if err != nil {
		return nil, err
	}
	// the user named this host in the scenario
	conf.Dial = scenarios.NewDialer([]string{conf.URL.Hostname()}, float64(load.MaxArrivals)).DialContext
	session, err := proto.Open(ctx, conf)
	if err != nil {
		return nil, err
	}
	defer session.Close()
	e.logger.WithField("note", session.Note).Debug("open loop starts")
	startAt, err := commonStart()
	if err != nil {
		return nil, err
	}
	if n := runtime.NumCPU() + 1; runtime.GOMAXPROCS(0) < n && os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(n) // so that the pacer's thread finds a processor when it wakes
	}
	return load.Run(ctx, s, session.Via, load.Options{
		Timeout: e.config.Scenario.RequestTimeout(), Drain: e.config.GetGracefulStop(),
		Segment: e.segment, StartAt: startAt, BoundedPool: session.Bounded,
		LatenessBound: latenessBound(e.state.Test.Options.Thresholds), Progress: progress,
	})
}

// startAtVariable names the absolute start that all instances of one run share. k6 has none: its instances
// start when each of them is told to.
const startAtVariable = "ASSAY_START_AT"

func commonStart() (time.Time, error) {
	text := os.Getenv(startAtVariable)
	if text == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return at, fmt.Errorf("%s %.40q: want an absolute time such as 2026-01-02T15:04:05Z", startAtVariable, text)
	}
	return at, nil
}

// say prints one line on the result.
func (e *Executor) say(r *load.Result) {
	q, late, c := r.Quantiles[load.ResponseAll], r.Quantiles[load.Lateness], r.Counts
	text := fmt.Sprintf("%d of %d arrivals ok, %d errors, %d timeouts, %d unsent; response p50 %s, p99 %s, lateness p99 %s",
		c.OK, c.Scheduled, c.Error, c.Timeout, c.Unsent, time.Duration(q.P50), time.Duration(q.P99), time.Duration(late.P99))
	if r.Valid {
		e.logger.Info(text)
		return
	}
	var why []string
	for _, reason := range r.Reasons {
		why = append(why, string(reason))
	}
	e.logger.Warnf("%s; INVALID (%s): the generator did not do what the schedule says, its thresholds mean nothing", text, strings.Join(why, ", "))
}
