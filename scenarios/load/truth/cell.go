package truth

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/assay-bench/assay/results/histogram"
	"github.com/assay-bench/assay/scenarios/load"
)

// Protocol is what requests are made of.
type Protocol string

// The protocols of the truth server.
const (
	TCP  Protocol = "tcp" // frames of 64 bytes
	HTTP Protocol = "http"
	GRPC Protocol = "grpc"
)

// Protocols lists all protocols.
func Protocols() []Protocol { return []Protocol{TCP, HTTP, GRPC} }

// Starved is the number of workers of a starved cell: enough for the mean, too
// few for what a freeze holds back.
const Starved = 20

// Assay is the name of the tool under test in its own cells.
const Assay = "assay"

// Cell is one combination of the matrix.
type Cell struct {
	Tool     string    `json:"tool"` // Assay, or a peer
	Rule     Rule      `json:"rule"`
	Spacing  load.Kind `json:"spacing"` // const or poisson
	Workers  int       `json:"workers"` // 0: ample
	Protocol Protocol  `json:"protocol"`
	Rate     float64   `json:"rate"` // per second
	// Duration covers whole periods of the freeze; long enough for 100,000
	// samples, p99.9 is scored, too.
	Duration time.Duration `json:"duration_ns"`
}

// Name identifies the cell: tool/rule/spacing/workers/protocol.
func (c Cell) Name() string {
	pool := "ample"
	if c.Workers > 0 {
		pool = "starved"
	}
	name := fmt.Sprintf("%s/%s/%s/%s/%s", c.Tool, c.Rule, c.Spacing, pool, c.Protocol)
	if c.samples() >= deepSamples {
		name += "/deep"
	}
	return name
}

func (c Cell) samples() float64 { return c.Rate * c.Duration.Seconds() }

func (c Cell) schedule(seed uint64) load.Schedule {
	return load.Schedule{Kind: c.Spacing, Rate: c.Rate, Duration: c.Duration, Seed: seed}
}

// Rep is one repetition of a cell.
type Rep struct {
	Valid       bool          `json:"valid"`
	Reasons     []load.Reason `json:"reasons"`
	Problem     string        `json:"problem,omitempty"` // why there is no figure at all
	ServerError float64       `json:"server_error"`      // the server's own, 0.02 is 2 %
	Truth       Shape         `json:"truth"`             // for these workers
	Server      Shape         `json:"server_truth"`      // without a limit of workers
	Reported    Shape         `json:"reported"`
	Corners     []bool        `json:"corners"` // levels that lie on a jump of the truth
	Errors      []float64     `json:"errors"`  // of the mean and the levels
	Scheduled   int64         `json:"scheduled"`
	Unaccounted int64         `json:"unaccounted"` // scheduled, and neither answered, failed, timed out nor told to be unsent
	Lost        int64         `json:"lost"`        // scheduled, and not answered
	LatenessP99 int64         `json:"lateness_p99_ns"`
	LatenessP50 int64         `json:"lateness_p50_ns"`
}

// maxServerError voids a repetition in which the server missed its own schedule.
const maxServerError = 0.02

// measure plays the cell once with the load engine.
func (m *Matrix) measure(ctx context.Context, c Cell, seed uint64) (Rep, error) {
	session, via, err := open(ctx, m.Dial, m.server.Endpoints, c.Protocol, c.Workers, c.Rate)
	if err != nil {
		return Rep{}, err
	}
	defer session.Close()
	epoch, err := m.server.begin(ctx, c.Rule, seed)
	if err != nil {
		return Rep{}, err
	}
	s := c.schedule(seed)
	r, err := load.Run(ctx, s, via, load.Options{BoundedPool: c.Workers > 0})
	if err != nil {
		return Rep{}, err
	}
	st, err := m.server.stats(ctx)
	if err != nil {
		return Rep{}, err
	}
	rep, err := score(s, newDelays(c.Rule, epoch, seed), newDelays(c.Rule, epoch, seed), c.Workers, monotonicAt(r.Start))
	if err != nil {
		return Rep{}, err
	}
	source := load.ResponseAll
	if m.FromSend {
		source = load.Service
	}
	h, err := histogram.Decode(r.Histograms[source])
	if err != nil {
		return Rep{}, err
	}
	rep.report(shapeOfHistogram(h))
	if rep.ServerError, err = st.ownError(rep.Truth, c.judged(&rep)); err != nil {
		return Rep{}, err
	}
	if rep.ServerError > maxServerError {
		r.Invalidate(load.ReasonServer)
	}
	n := r.Counts
	rep.Valid, rep.Reasons, rep.Scheduled = r.Valid, r.Reasons, n.Scheduled
	rep.Unaccounted = n.Scheduled - n.OK - n.Error - n.Timeout - n.Unsent
	rep.Lost = n.Scheduled - n.OK
	rep.LatenessP99, rep.LatenessP50 = r.Quantiles[load.Lateness].P99, r.Quantiles[load.Lateness].P50
	return rep, nil
}

// score computes the truth at the intended arrivals of a schedule that began at
// t0 of the server's clock.
func score(s load.Schedule, free, bounded *delays, workers int, t0 int64) (Rep, error) {
	offsets, err := s.Offsets()
	if err != nil {
		return Rep{}, err
	}
	var intended []int64
	for at := range offsets {
		intended = append(intended, t0+at)
	}
	through := responses(bounded, intended, workers)
	return Rep{Truth: shapeOf(through), Server: shapeOf(responses(free, intended, 0)), Corners: corners(through)}, nil
}

// monotonicAt converts a time of this process to the clock that the server reads.
func monotonicAt(t time.Time) int64 { return newClock()() - int64(time.Since(t)) }

// report notes what a tool said and how far off it is.
func (r *Rep) report(got Shape) {
	r.Reported = got
	r.Errors = compare(got, r.Truth)
}

// scored tells whether Errors[i] counts: the mean, and every level that lies on
// no jump and has samples enough.
func (r *Rep) scored(i int) bool {
	if i == 0 {
		return true
	}
	q := Levels()[i-1]
	return !r.Corners[i-1] && (q < deepLevel || r.Truth.Count >= deepSamples)
}

// Bounds of the truth error, as shares.
const (
	boundAmple   = 0.02 // at the median repetition
	boundStarved = 0.05 // against the truth for that many workers
	boundShort   = 0.10 // of levels of about the 1 ms service over TCP, ample
	boundTail    = 0.01 // p95 and above over TCP, ample, in the cleanest repetition
)

const (
	short      = 2 * float64(time.Millisecond) // a level of the service time itself
	shortStack = 5 * float64(time.Millisecond) // HTTP and gRPC: 0.2 to 0.3 ms of stack are not small beside it
)

// class sorts a level of a repetition: what bound holds it.
type class int

const (
	unscored class = iota
	long
	brief // about the service time itself, over TCP
)

func (c Cell) class(r *Rep, i int) class {
	if !r.scored(i) {
		return unscored
	}
	truth := r.Truth.Levels[max(i-1, 0)]
	switch {
	case c.Protocol != TCP && truth < shortStack:
		return unscored // the mean, too, where the median is
	case c.Protocol == TCP && truth < short && i > 0:
		return brief
	}
	return long
}

// judged returns which of Errors the server's own schedule must hold for: the mean, and what the cell scores.
func (c Cell) judged(r *Rep) func(i int) bool {
	return func(i int) bool { return i == 0 || c.class(r, i) != unscored }
}

// Verdict is what the repetitions of a cell show.
type Verdict struct {
	Valid    int       `json:"valid"`    // repetitions that count
	Voided   int       `json:"voided"`   // that do not
	Median   float64   `json:"median"`   // truth error of the median repetition
	Cleanest float64   `json:"cleanest"` // of the best one
	ByLevel  []float64 `json:"by_level"` // signed error of mean and levels in the median repetition of each
	Best     []float64 `json:"best"`     // and in the cleanest of each
	Broken   []string  `json:"broken"`   // bounds that do not hold
	Decided  bool      `json:"decided"`  // enough repetitions count
	Lost     int64     `json:"lost"`     // most lost in one repetition
}

// judge holds the valid repetitions against the bounds.
func (c Cell) judge(reps []Rep, need int) Verdict {
	v := Verdict{Broken: []string{}}
	var valid []Rep
	for _, r := range reps {
		if r.Unaccounted != 0 {
			v.Broken = append(v.Broken, fmt.Sprintf("%d of %d arrivals unaccounted for", r.Unaccounted, r.Scheduled))
		}
		if r.Valid {
			valid = append(valid, r)
			v.Lost = max(v.Lost, r.Lost)
		}
	}
	v.Valid, v.Voided = len(valid), len(reps)-len(valid)
	if v.Decided = v.Valid >= need; v.Valid == 0 {
		return v
	}
	v.Median, v.Cleanest = middle(valid, c.errorOf(long))
	bound := boundAmple
	if c.Workers > 0 {
		bound = boundStarved
	}
	v.hold(v.Median, bound, "truth error of the median repetition")
	if c.Protocol == TCP && c.Workers == 0 {
		median, _ := middle(valid, c.errorOf(brief))
		v.hold(median, boundShort, "error at the service time")
		_, best := middle(valid, c.tail)
		v.hold(best, boundTail, "error from p95 on in the cleanest repetition")
	}
	for i := range valid[0].Errors {
		at := func(r *Rep) float64 { return r.Errors[i] }
		median, best := signed(valid, at)
		v.ByLevel, v.Best = append(v.ByLevel, median), append(v.Best, best)
	}
	return v
}

func (v *Verdict) hold(got, bound float64, what string) {
	if got > bound { // NaN: nothing to hold
		v.Broken = append(v.Broken, fmt.Sprintf("%s %.2f %%, bound %.0f %%", what, 100*got, 100*bound))
	}
}

// errorOf returns the largest error of a class in a repetition.
func (c Cell) errorOf(k class) func(*Rep) float64 {
	return func(r *Rep) float64 {
		return Errors(r.Errors).worst(func(i int) bool { return c.class(r, i) == k })
	}
}

// tail is the largest error from p95 on.
func (c Cell) tail(r *Rep) float64 {
	return Errors(r.Errors).worst(func(i int) bool { return i > 0 && Levels()[i-1] >= 0.95 && c.class(r, i) != unscored })
}

// middle returns the median and the least of a figure.
func middle(reps []Rep, of func(*Rep) float64) (median, least float64) {
	var all []float64
	for i := range reps {
		all = append(all, of(&reps[i]))
	}
	slices.Sort(all)
	return all[len(all)/2], all[0]
}

// signed returns the values whose absolute value is the median and the least.
func signed(reps []Rep, of func(*Rep) float64) (median, least float64) {
	var all []float64
	for i := range reps {
		all = append(all, of(&reps[i]))
	}
	slices.SortFunc(all, func(a, b float64) int { return cmp.Compare(math.Abs(a), math.Abs(b)) })
	return all[len(all)/2], all[0]
}
