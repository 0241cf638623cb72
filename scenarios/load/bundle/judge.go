package bundle

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios/load"
	"github.com/assay-bench/assay/scenarios/load/threshold"
)

// The reasons of verdicts. A generator that is INVALID gives the first of its own reasons.
const (
	ReasonNothingAnswered = "nothing-answered" // Fail: not one request was granted
	ReasonCrossed         = "crossed"          // Fail: a threshold does not hold
	ReasonGenerator       = "generator"        // Inconclusive: a threshold of a run that is INVALID
	ReasonNothingSent     = "nothing-sent"     // Inconclusive: the run ended before its first request
	ReasonUnfinished      = "not-finished"     // Unproven: the run left no result
	ReasonUnreadable      = "unreadable"       // Broken: the evidence is not what this package writes
)

// Verdicts judges a run into the content of verdicts.json. It is a pure function of its arguments. Of a
// sweep the highest rate is judged at which everything holds, or the lowest rate when there is none.
func Verdicts(run results.Run, evidence []results.Evidence) results.Verdicts {
	v := results.Verdicts{APIVersion: results.APIVersion, SuiteDigest: Digest()}
	loads, err := Read(evidence)
	for _, p := range run.Plan {
		var x results.Verdict
		switch {
		case err != nil:
			x = results.Verdict{Status: results.Broken, Reason: ReasonUnreadable, Why: results.Why{Observed: err.Error()}}
		case len(loads) == 0:
			x = results.Verdict{Status: results.Unproven, Reason: ReasonUnfinished, Why: results.Why{Observed: "the run left no result"}}
		default:
			x = deciding(loads).judge(p)
		}
		x.Check, x.Case, x.Why.Reproduce = p.Check, p.Case, p.Reproduce
		if x.Status == results.Pass || x.Status == results.Fail || x.Status == results.Inconclusive {
			v.Executed++
		}
		v.Verdicts = append(v.Verdicts, x)
	}
	v.Exit = results.ExitOf(v.Verdicts, func(results.Verdict) bool { return true })
	return v
}

// deciding picks the load that is judged.
func deciding(loads []Recorded) Recorded {
	for i := len(loads) - 1; i >= 0; i-- {
		if held, err := loads[i].Held(); held && err == nil {
			return loads[i]
		}
	}
	return loads[0]
}

func (r Recorded) judge(p results.Planned) results.Verdict {
	switch p.Check {
	case GeneratorCheck:
		return r.generator()
	case AnsweredCheck:
		return r.answered()
	}
	return r.threshold(p.Case)
}

func (r Recorded) verdict(status results.Status, reason, expected, observed string) results.Verdict {
	return results.Verdict{
		Status: status, Reason: reason, Cites: []uint64{r.Seq}, Why: results.Why{Expected: expected, Observed: observed},
	}
}

// generator judges the measurement. A closed model has no intended times that it could miss.
func (r Recorded) generator() results.Verdict {
	const want = "every arrival accounted for and sent in time"
	c := r.Result.Counts
	observed := fmt.Sprintf("%d scheduled = %d ok + %d error + %d timeout + %d unsent", c.Scheduled, c.OK, c.Error, c.Timeout, c.Unsent)
	if q := r.Result.LatenessJudged; q != "" {
		observed += fmt.Sprintf("; %s p99 %s, bound %s", strings.ReplaceAll(q, "_", " "), short(r.Result.Quantiles[q].P99), short(r.Result.LatenessBound))
	}
	v := r.verdict(results.Pass, "", want, observed)
	v.Figures = Figures(r.Result)
	if !r.Result.Valid {
		v.Status, v.Reason = results.Inconclusive, string(r.Result.Reasons[0])
		v.Why.Observed += fmt.Sprintf("; INVALID: %v", r.Result.Reasons)
	}
	return v
}

// answered judges whether the target does anything at all: so much is sure even of an INVALID result,
// unless the run was ended before replies could come.
func (r Recorded) answered() results.Verdict {
	const want = "at least one request is granted"
	c := r.Result.Counts
	observed := fmt.Sprintf("%d of %d requests granted", c.OK, c.OK+c.Error+c.Timeout)
	if kind, n := mostFrequent(r.Result.Errors); n > 0 {
		observed += fmt.Sprintf("; most errors: %d × %s", n, kind)
	}
	switch {
	case c.OK > 0:
		return r.verdict(results.Pass, "", want, observed)
	case slices.Contains(r.Result.Reasons, load.ReasonInterrupted):
		return r.verdict(results.Inconclusive, string(load.ReasonInterrupted), want, observed)
	case c.Error+c.Timeout > 0:
		return r.verdict(results.Fail, ReasonNothingAnswered, want, observed)
	}
	return r.verdict(results.Inconclusive, ReasonNothingSent, want, observed)
}

func mostFrequent(kinds map[string]int64) (kind string, most int64) {
	for k, n := range kinds {
		if n > most || n == most && k < kind {
			kind, most = k, n
		}
	}
	return kind, most
}

func (r Recorded) threshold(name string) results.Verdict {
	o, err := r.observations()
	if err != nil {
		return r.verdict(results.Broken, ReasonUnreadable, name, err.Error())
	}
	all, err := r.Thresholds.Judge(o)
	if err != nil {
		return r.verdict(results.Broken, ReasonUnreadable, name, err.Error())
	}
	for _, t := range all {
		if caseOf(t.Metric, t.Threshold) != name {
			continue
		}
		observed := fmt.Sprintf("%s is %s", t.Metric, observedText(t))
		switch {
		case !r.Result.Valid:
			return r.verdict(results.Inconclusive, ReasonGenerator, name, "not judged: the result is INVALID")
		case !t.Held:
			return r.verdict(results.Fail, ReasonCrossed, name, observed)
		}
		return r.verdict(results.Pass, "", name, observed)
	}
	return r.verdict(results.Broken, ReasonUnreadable, name, "the evidence has no such threshold")
}

func observedText(t threshold.Verdict) string {
	if t.Empty {
		return "without any value"
	}
	return strings.TrimSpace(fmt.Sprintf("%.6g %s", t.Observed, t.Unit))
}

func short(ns int64) string { return time.Duration(ns).Round(time.Microsecond).String() }

// Figures are the numbers of a result that reports print, in seconds and counts.
func Figures(r *load.Result) []results.Figure {
	sec := func(n int64) float64 { return float64(n) / 1e9 }
	q, late := r.Quantiles[load.ResponseOK], r.Quantiles[load.Lateness]
	return []results.Figure{
		{Name: "p50", Value: sec(q.P50), Unit: "seconds"},
		{Name: "p90", Value: sec(q.P90), Unit: "seconds"},
		{Name: "p99", Value: sec(q.P99), Unit: "seconds"},
		{Name: "p99.9", Value: sec(q.P999), Unit: "seconds"},
		{Name: "max", Value: sec(q.Max), Unit: "seconds"},
		{Name: "mean", Value: q.Mean / 1e9, Unit: "seconds"},
		{Name: "lateness p50", Value: sec(late.P50), Unit: "seconds"},
		{Name: "lateness p99", Value: sec(late.P99), Unit: "seconds"},
		{Name: "scheduled", Value: float64(r.Counts.Scheduled)},
		{Name: "ok", Value: float64(r.Counts.OK)},
		{Name: "error", Value: float64(r.Counts.Error)},
		{Name: "timeout", Value: float64(r.Counts.Timeout)},
		{Name: "unsent", Value: float64(r.Counts.Unsent)},
		{Name: "achieved rate", Value: r.AchievedRate, Unit: "per second"},
	}
}
