package load

import (
	"fmt"
	"math"
	"time"

	"github.com/assay-bench/assay/results/histogram"
)

// Names of the histograms of a result.
const (
	ResponseOK    = "response_ok"    // end − intended of ok requests
	ResponseAll   = "response_all"   // end − intended of ok, errors and timeouts
	Service       = "service"        // end − start of ok, errors and timeouts
	Lateness      = "lateness"       // start − intended of the same
	PacerLateness = "pacer_lateness" // hand-over − intended of everything handed over
	UnsentWait    = "unsent_wait"    // how long unsent arrivals had waited at the end
)

// Result is what a run measured. Times are nanoseconds.
type Result struct {
	Start     time.Time            `json:"start"` // wall clock at offset 0
	Mode      string               `json:"mode"`  // async or workers
	Schedule  Played               `json:"schedule"`
	Counts    Counts               `json:"counts"`
	Quantiles map[string]Quantiles `json:"quantiles"` // by histogram name
	// AchievedRate is ok requests per second, from offset 0 to the last end or
	// to the end of the schedule, whichever is later.
	AchievedRate float64  `json:"achieved_rate"`
	Valid        bool     `json:"valid"`
	Reasons      []Reason `json:"reasons"` // why not, empty when valid
	// LatenessBound is what p99 lateness was held against; LatenessJudged
	// names the histogram it was read from.
	LatenessBound  int64            `json:"lateness_bound_ns"`
	LatenessJudged string           `json:"lateness_judged"`
	Overflow       int64            `json:"overflow"`      // values clamped, in all histograms
	Stray          int64            `json:"stray_replies"` // late, doubled or never asked
	Errors         map[string]int64 `json:"errors"`        // count by kind, bounded
	Intervals      []Interval       `json:"intervals"`     // by end time
	Notes          []string         `json:"notes"`
	// Histograms holds the distributions as histogram.Encode writes them.
	Histograms map[string][]byte `json:"-"`
}

// Played is the schedule of a result.
type Played struct {
	Kind     Kind    `json:"kind"`
	Rate     float64 `json:"rate"`
	Duration int64   `json:"duration_ns"`
	Seed     uint64  `json:"seed"`
	Digest   string  `json:"digest"` // SHA-256 of the little-endian offsets
	Count    int64   `json:"count"`
	First    int64   `json:"first_ns"`
	Last     int64   `json:"last_ns"`
}

// Counts is where every arrival went: scheduled = ok + error + timeout + unsent.
type Counts struct {
	Scheduled int64 `json:"scheduled"`
	OK        int64 `json:"ok"`
	Error     int64 `json:"error"`
	Timeout   int64 `json:"timeout"`
	Unsent    int64 `json:"unsent"`
}

// sent returns how many arrivals were started.
func (c Counts) sent() int64 { return c.OK + c.Error + c.Timeout }

// Quantiles summarises one histogram, in nanoseconds.
type Quantiles struct {
	Count int64   `json:"count"`
	Mean  float64 `json:"mean_ns"`
	P50   int64   `json:"p50_ns"`
	P75   int64   `json:"p75_ns"`
	P90   int64   `json:"p90_ns"`
	P95   int64   `json:"p95_ns"`
	P99   int64   `json:"p99_ns"`
	P999  int64   `json:"p999_ns"`
	Max   int64   `json:"max_ns"`
}

func summarise(h *histogram.Histogram) Quantiles {
	return Quantiles{
		Count: h.Count(), Mean: h.Mean(), Max: h.Max(),
		P50: h.Quantile(0.5), P75: h.Quantile(0.75), P90: h.Quantile(0.9),
		P95: h.Quantile(0.95), P99: h.Quantile(0.99), P999: h.Quantile(0.999),
	}
}

// result closes the accounts and builds the result. Every goroutine that
// records has ended.
func (e *engine) result(s Schedule, mode string, interrupted bool) (*Result, error) {
	unsent := e.closeAccounts()
	sum := recorder{errors: map[string]int64{}}
	for _, r := range e.recorders {
		if err := sum.merge(r); err != nil {
			return nil, fmt.Errorf("load result: %w", err)
		}
	}
	hists, err := e.histograms(&sum, unsent)
	if err != nil {
		return nil, fmt.Errorf("load result: %w", err)
	}
	r := &Result{
		Start:     e.startAt,
		Mode:      mode,
		Schedule:  played(s, e.offsets),
		Counts:    Counts{e.scheduled(), sum.counts[outcomeOK], sum.counts[outcomeError], sum.counts[outcomeTimeout], unsent.Count()},
		Quantiles: make(map[string]Quantiles, len(hists)),
		Reasons:   []Reason{},
		Stray:     sum.stray,
		Errors:    sum.errors,
		Intervals: e.series.intervals(),
		Notes:     pacerNotes(e.opt.Spin),
	}
	if err := r.fill(hists); err != nil {
		return nil, fmt.Errorf("load result: %w", err)
	}
	r.AchievedRate = float64(r.Counts.OK) / (time.Duration(max(int64(s.Duration), sum.lastEnd-e.t0))).Seconds()
	r.judge(gate{opt: e.opt, handed: e.handed.Load(), interrupted: interrupted})
	return r, nil
}

// closeAccounts turns what is still in flight into timeouts and returns how
// long each arrival that was never sent had waited.
func (e *engine) closeAccounts() (unsent *histogram.Histogram) {
	unsent = histogram.New()
	rest := e.recorder()
	for id, offset := range e.offsets {
		switch start := e.table.start(int64(id)); start {
		case slotFinished:
		case slotUnsent:
			unsent.Record(max(e.endAt-e.t0-offset, 0))
		default:
			// finish shortens the time to the timeout if that came first. A
			// start can be later than endAt by the time it took to stop.
			e.finish(rest, int64(id), max(start, e.endAt), outcomeTimeout, "")
		}
	}
	return unsent
}

// histograms names the merged distributions.
func (e *engine) histograms(sum *recorder, unsent *histogram.Histogram) (map[string]*histogram.Histogram, error) {
	all := histogram.New()
	for _, part := range []*histogram.Histogram{sum.okResponse, sum.badResponse} {
		if err := all.Merge(part); err != nil {
			return nil, err
		}
	}
	return map[string]*histogram.Histogram{
		ResponseOK: sum.okResponse, ResponseAll: all, Service: sum.service,
		Lateness: sum.lateness, PacerLateness: e.pacerLateness, UnsentWait: unsent,
	}, nil
}

// fill adds what is read from the histograms.
func (r *Result) fill(hists map[string]*histogram.Histogram) error {
	r.Histograms = make(map[string][]byte, len(hists))
	for name, h := range hists {
		text, err := h.Encode()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		r.Histograms[name] = text
		r.Quantiles[name] = summarise(h)
		if name != ResponseAll { // the sum of ok, counted there, and bad
			r.Overflow += h.Overflow()
		}
	}
	r.Overflow += hists[ResponseAll].Overflow() - hists[ResponseOK].Overflow()
	return nil
}

func played(s Schedule, offsets []int64) Played {
	return Played{
		Kind: s.Kind, Rate: s.Rate, Duration: int64(s.Duration), Seed: s.Seed,
		Digest: Digest(offsets), Count: int64(len(offsets)),
		First: offsets[0], Last: offsets[len(offsets)-1],
	}
}

// Reason says why a run is INVALID. An INVALID run is neither pass nor fail.
type Reason string

// The closed set of reasons, in the order in which they are given.
const (
	ReasonAccounting  Reason = "accounting"  // sums or histogram counts do not agree
	ReasonUnsent      Reason = "unsent"      // arrivals were not sent
	ReasonLateness    Reason = "lateness"    // requests started later than the bound
	ReasonOverflow    Reason = "overflow"    // values were outside the histograms
	ReasonInterrupted Reason = "interrupted" // the run was ended before its end
)

// gate is what judging needs beyond the result.
type gate struct {
	opt         Options
	handed      int64
	interrupted bool
}

// judge sets Valid, Reasons and the lateness bound.
func (r *Result) judge(g gate) {
	r.LatenessJudged = Lateness
	if g.opt.BoundedPool {
		r.LatenessJudged = PacerLateness
	}
	r.LatenessBound = int64(g.opt.LatenessBound)
	if r.LatenessBound == 0 {
		r.LatenessBound = int64(math.Ceil(float64(r.Quantiles[ResponseAll].P99) / 100))
	}
	for _, c := range []struct {
		reason Reason
		broken bool
	}{
		{ReasonAccounting, !r.addsUp(g.handed)},
		{ReasonUnsent, r.Counts.Unsent > 0},
		{ReasonLateness, r.Quantiles[r.LatenessJudged].P99 > r.LatenessBound},
		{ReasonOverflow, r.Overflow > 0},
		{ReasonInterrupted, g.interrupted},
	} {
		if c.broken {
			r.Reasons = append(r.Reasons, c.reason)
		}
	}
	r.Valid = len(r.Reasons) == 0
}

// addsUp checks the sum of the counts and every histogram against them.
func (r *Result) addsUp(handed int64) bool {
	c := r.Counts
	ended := int64(0)
	for _, v := range r.Intervals {
		ended += v.Count
	}
	return c.Scheduled == c.sent()+c.Unsent &&
		r.Quantiles[ResponseOK].Count == c.OK &&
		r.Quantiles[ResponseAll].Count == c.sent() &&
		r.Quantiles[Service].Count == c.sent() &&
		r.Quantiles[Lateness].Count == c.sent() &&
		r.Quantiles[UnsentWait].Count == c.Unsent &&
		r.Quantiles[PacerLateness].Count == handed &&
		ended == c.sent()
}
