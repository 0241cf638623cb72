package load

import (
	"math"
	"slices"
)

// Reason says why a run is INVALID. An INVALID run is neither pass nor fail.
type Reason string

// The closed set of reasons, in the order in which they are given.
const (
	ReasonAccounting  Reason = "accounting"  // sums or histogram counts do not agree
	ReasonUnsent      Reason = "unsent"      // arrivals were not sent
	ReasonLateness    Reason = "lateness"    // requests started later than the bound
	ReasonOverflow    Reason = "overflow"    // values were outside the histograms
	ReasonServer      Reason = "server"      // the server under truth test missed its own schedule
	ReasonClock       Reason = "clock"       // the nodes may have started further apart than the lateness bound
	ReasonHost        Reason = "host"        // the generator waited too long for a processor
	ReasonInterrupted Reason = "interrupted" // the run was ended before its end
)

// Reasons lists the closed set, in order.
func Reasons() []Reason {
	return []Reason{
		ReasonAccounting, ReasonUnsent, ReasonLateness, ReasonOverflow,
		ReasonServer, ReasonClock, ReasonHost, ReasonInterrupted,
	}
}

// gate is what judging needs beyond the result.
type gate struct {
	opt         Options
	handed      int64
	interrupted bool
}

// judge sets Valid, Reasons and the lateness bound.
func (r *Result) judge(g gate) {
	if r.Model != ModelClosed {
		r.LatenessJudged = Lateness
		if g.opt.BoundedPool {
			r.LatenessJudged = PacerLateness
		}
	}
	r.boundLateness()
	r.addReasons(map[Reason]bool{
		ReasonAccounting:  !r.addsUp() || r.Quantiles[PacerLateness].Count != g.handed,
		ReasonUnsent:      r.Counts.Unsent > 0,
		ReasonLateness:    r.late(),
		ReasonOverflow:    r.Overflow > 0,
		ReasonHost:        r.Host.starved(g.opt.HostLimit),
		ReasonInterrupted: g.interrupted,
	})
}

// boundLateness sets the bound: as asked, or 1 % of the p99 response.
func (r *Result) boundLateness() {
	r.LatenessBound = r.LatenessAsked
	if r.LatenessBound == 0 && r.LatenessJudged != "" {
		r.LatenessBound = int64(math.Ceil(float64(r.Quantiles[ResponseAll].P99) / 100))
	}
}

func (r *Result) late() bool {
	return r.LatenessJudged != "" && r.Quantiles[r.LatenessJudged].P99 > r.LatenessBound
}

// Invalidate adds reasons that only the user of a result can see, such as
// ReasonServer.
func (r *Result) Invalidate(reasons ...Reason) {
	broken := map[Reason]bool{}
	for _, reason := range reasons {
		broken[reason] = true
	}
	r.addReasons(broken)
}

// addReasons adds those that hold, in the order of the closed set, and sets
// Valid.
func (r *Result) addReasons(broken map[Reason]bool) {
	had := r.Reasons
	r.Reasons = []Reason{}
	for _, reason := range Reasons() {
		if broken[reason] || slices.Contains(had, reason) {
			r.Reasons = append(r.Reasons, reason)
		}
	}
	r.Valid = len(r.Reasons) == 0
}

// addsUp checks the sum of the counts and every histogram against them.
func (r *Result) addsUp() bool {
	c, q := r.Counts, r.Quantiles
	ended, intended := int64(0), c.sent()
	for _, v := range r.Intervals {
		ended += v.Count
	}
	if r.Model == ModelClosed {
		intended = 0
	}
	return c.Scheduled == c.sent()+c.Unsent &&
		q[ResponseOK].Count == c.OK &&
		q[ResponseAll].Count == c.sent() &&
		q[Service].Count == c.sent() &&
		q[Lateness].Count == intended &&
		q[UnsentWait].Count == c.Unsent &&
		ended == c.sent()
}
