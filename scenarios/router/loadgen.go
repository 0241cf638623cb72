package router

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/assay-bench/assay/results/histogram"
	"github.com/assay-bench/assay/results/stats"
	"github.com/assay-bench/assay/scenarios/load"
)

// The scenarios, as MLPerf's LoadGen names them.
const (
	SingleStream = "SingleStream"
	MultiStream  = "MultiStream"
	Server       = "Server"
	Offline      = "Offline"
)

// What LoadGen fixes: samples of a query of MultiStream, the confidence of early stopping, and the samples of Offline
// where the data set has that many.
const (
	MultiSamples       = 8
	StopConfidence     = 0.99
	LeastOffline       = 24_576
	singlePercentile   = 0.9
	tailPercentile     = 0.99
	offlineBatch       = 512 // samples of a call: the API's batches are bounded
	serverCallers      = 32
	maxModelsOfAPlayed = 8
)

// Played is the evidence of one of LoadGen's scenarios over the decide operation.
type Played struct {
	Scenario string        `json:"scenario"` // SingleStream, MultiStream, Server or Offline
	Queries  int           `json:"queries"`
	N        int           `json:"n"` // samples: decisions
	Failed   int           `json:"failed"`
	Broken   string        `json:"broken,omitempty"` // the first failure
	Duration time.Duration `json:"duration"`
	P50      time.Duration `json:"p50"` // of a query, all its samples; Server: from the intended send time
	P90      time.Duration `json:"p90"`
	P99      time.Duration `json:"p99"`
	Service  time.Duration `json:"service,omitempty"` // p99 of Server from the actual send time: what the generator can not be blamed for
	Rate     float64       `json:"rate"`              // samples per second
	Target   float64       `json:"target"`            // queries per second that Server intends
	Bound    time.Duration `json:"bound,omitempty"`   // of Server's p99
	Late     time.Duration `json:"late,omitempty"`    // p99 lateness of the generator itself
	Valid    bool          `json:"valid"`
	Reasons  []load.Reason `json:"reasons,omitempty"` // why a run of Server is not valid
	Models   []string      `json:"models"`            // digests that the answers name
	Early    []Early       `json:"early,omitempty"`   // SingleStream, MultiStream: estimates with early stopping
	Over     int           `json:"over,omitempty"`    // Server: queries above the bound, or failed
	Needed   int           `json:"needed,omitempty"`  // Server: queries that would be needed more, all under the bound; 0: it is met
}

// Early is an estimate of a percentile with early stopping.
type Early struct {
	Percentile float64       `json:"percentile"`
	Least      int           `json:"least"`    // queries that it needs
	Discard    int           `json:"discard"`  // slowest queries that it leaves out
	Estimate   time.Duration `json:"estimate"` // 0: too few queries
}

// Streams says how long a scenario is played in which one query follows the other: until both are reached.
type Streams struct {
	Queries  int
	Duration time.Duration
}

// Stream plays queries of samples one after another. Errors are the harness's own.
func (a *API) Stream(ctx context.Context, name string, least Streams, samples int, texts []string) (Played, error) {
	x := Played{Scenario: name, Valid: true}
	var each []time.Duration
	began := a.env.Clock.Now()
	for x.Queries < least.Queries || a.env.Elapsed(began) < least.Duration {
		qs := make([]DecideRequest, samples)
		for k := range qs {
			qs[k].Text = &texts[(x.Queries*samples+k)%len(texts)]
		}
		start := a.env.Clock.Now()
		if err := a.query(ctx, &x, qs); err != nil {
			return x, err
		}
		each = append(each, a.env.Elapsed(start))
	}
	x.Duration = a.env.Elapsed(began)
	return x, x.finish(each)
}

// Offline plays samples as fast as they are answered.
func (a *API) Offline(ctx context.Context, samples int, texts []string) (Played, error) {
	batch := min(offlineBatch, samples)
	return a.Stream(ctx, Offline, Streams{Queries: (samples + batch - 1) / batch}, batch, texts)
}

// query makes one call with samples and counts them.
func (a *API) query(ctx context.Context, x *Played, qs []DecideRequest) error {
	var out Decisions
	c, err := a.Own(ctx, "", http.MethodPost, "/decide-batch", DecideBatch{Requests: qs}, &out)
	if err != nil {
		return err
	}
	x.Queries, x.N = x.Queries+1, x.N+len(qs)
	if !c.Good() || len(out.Decisions) != len(qs) {
		x.Failed += len(qs)
		x.Broken = c.said()
	}
	for _, d := range out.Decisions {
		if !slices.Contains(x.Models, d.Model.Digest) && len(x.Models) < maxModelsOfAPlayed {
			x.Models = append(x.Models, d.Model.Digest)
		}
	}
	return nil
}

// said is what an answer was, in a few words.
func (c Call) said() string {
	if c.Broken != "" {
		return c.Broken
	}
	return fmt.Sprintf("status %d", c.Status)
}

func (x *Played) finish(each []time.Duration) error {
	slices.Sort(each)
	at := func(q float64) time.Duration {
		if len(each) == 0 {
			return 0
		}
		return each[min(int(q*float64(len(each))), len(each)-1)]
	}
	x.P50, x.P90, x.P99 = at(0.5), at(singlePercentile), at(tailPercentile)
	if x.Duration > 0 {
		x.Rate = float64(x.N-x.Failed) / x.Duration.Seconds()
	}
	percentiles := map[string][]float64{SingleStream: {singlePercentile, tailPercentile}, MultiStream: {tailPercentile}}[x.Scenario]
	for _, p := range percentiles {
		s, err := stats.EarlyStop(len(each), p, StopConfidence)
		if err != nil {
			return err
		}
		e := Early{Percentile: p, Least: s.Least, Discard: s.Discard}
		if s.Rank > 0 {
			e.Estimate = each[s.Rank-1]
		}
		x.Early = append(x.Early, e)
	}
	return nil
}

// decider makes one query of Server: a decision on a text.
type decider struct {
	api   *API
	texts []string
}

var errRefused = errors.New("the target did not decide")

// Call decides the text of a number.
func (d decider) Call(ctx context.Context, id uint64) error {
	c, err := d.api.Own(ctx, "", http.MethodPost, "/decide", DecideRequest{Text: &d.texts[id%uint64(len(d.texts))]}, nil)
	if err == nil && !c.Good() {
		err = errRefused
	}
	return err
}

// Serve is a run of the scenario Server.
type Serve struct {
	Rate     float64 // queries a second, Poisson
	Duration time.Duration
	Bound    time.Duration // of p99
	Seed     uint64
}

// lostAfter is when a query of Server is lost. It is far above every bound: a slow answer is a long latency.
const lostAfter = 5 * time.Second

// Serve plays Poisson arrivals in an open loop: latency counts from the intended send time.
func (a *API) Serve(ctx context.Context, s Serve, texts []string) (Played, error) {
	callers := make([]load.Caller, serverCallers)
	for i := range callers {
		callers[i] = decider{a, texts}
	}
	schedule := load.Schedule{Kind: load.Poisson, Rate: s.Rate, Duration: s.Duration, Seed: s.Seed}
	r, err := load.Run(ctx, schedule, &load.Pool{Callers: callers}, load.Options{Timeout: lostAfter, LatenessBound: s.Bound / 5})
	if err != nil {
		return Played{Scenario: Server, Broken: err.Error(), Target: s.Rate, Bound: s.Bound}, nil
	}
	return served(r, s.Bound)
}

// served is what Server says of a played schedule.
func served(r *load.Result, bound time.Duration) (Played, error) {
	q := r.Quantiles[load.ResponseAll]
	n := int(r.Counts.Scheduled)
	x := Played{
		Scenario: Server, Queries: n, N: n, Failed: int(r.Counts.Scheduled - r.Counts.OK), Duration: time.Duration(r.Schedule.Duration),
		P50: time.Duration(q.P50), P90: time.Duration(q.P90), P99: time.Duration(q.P99), Bound: bound,
		Service: time.Duration(r.Quantiles[load.Service].P99), Rate: r.AchievedRate, Target: r.Schedule.Rate, Late: time.Duration(r.Quantiles[load.Lateness].P99), Valid: r.Valid, Reasons: r.Reasons,
	}
	for kind := range r.Errors {
		x.Broken = kind
	}
	h, err := histogram.Decode(r.Histograms[load.ResponseAll])
	if err != nil {
		return x, err
	}
	x.Over = n - int(h.Count()) // what got no answer at all
	for ns, count := range h.Buckets() {
		if time.Duration(ns) > bound {
			x.Over += int(count)
		}
	}
	under, err := stats.MinPassing(x.Over, tailPercentile, StopConfidence)
	x.Needed = max(0, under+x.Over-n)
	return x, err
}

// Shortfall tells why a run of Server does not show, at the confidence of early stopping, that its p99 is under the bound
// and that the generator kept its schedule; it is empty where both hold.
func (x Played) Shortfall() string {
	switch {
	case x.Broken != "":
		return x.Broken
	case x.N == 0:
		return "nothing was sent"
	case x.Failed > 0:
		return fmt.Sprintf("%d failed", x.Failed)
	case !x.Valid:
		return fmt.Sprintf("not valid: %v", x.Reasons)
	case x.Needed > 0:
		return fmt.Sprintf("%d queries more would be needed", x.Needed)
	}
	return ""
}

// Met tells whether a run of Server holds its bound.
func (x Played) Met() bool { return x.Shortfall() == "" }
