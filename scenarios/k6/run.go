package k6

import (
	"fmt"
	"strings"
	"time"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios/load"
)

// recorded is the evidence of a run, read.
type recorded struct {
	metrics    []Metric
	seqs       map[string]uint64 // of a metric, by name
	generators []Generator
	genSeqs    []uint64
	end        End
	endSeq     uint64
	damage     *results.Verdict // the first piece that could not be read
}

func read(evidence []results.Evidence) recorded {
	r := recorded{seqs: map[string]uint64{}}
	for _, e := range evidence {
		var err error
		switch e.Kind {
		case MetricSeen:
			var m Metric
			err = e.Decode(&m)
			r.metrics = append(r.metrics, m)
			r.seqs[m.Name] = e.Seq
		case Generated:
			var g Generator
			if err = e.Decode(&g); err == nil && (g.Result == nil) == (g.NoLoad == "") {
				err = fmt.Errorf("evidence %d holds neither a result nor why there is none", e.Seq)
			}
			if err == nil {
				r.generators, r.genSeqs = append(r.generators, g), append(r.genSeqs, e.Seq)
			}
		case results.Ended:
			err = e.Decode(&r.end)
			r.endSeq = e.Seq
		}
		if err != nil && r.damage == nil {
			r.damage = &results.Verdict{
				Status: results.Broken, Reason: ReasonUnreadable, Cites: []uint64{e.Seq}, Why: results.Why{Observed: err.Error()},
			}
		}
	}
	return r
}

func (r recorded) metric(name string) (Metric, bool) {
	for _, m := range r.metrics {
		if m.Name == name {
			return m, true
		}
	}
	return Metric{}, false
}

// generator judges whether the load was put on the target as the script says.
func (r recorded) generator() results.Verdict {
	const want = "every iteration is started in time, runs and ends"
	if r.damage != nil {
		return *r.damage
	}
	v := results.Verdict{Why: results.Why{Expected: want}}
	if r.endSeq == 0 {
		v.Status, v.Reason, v.Why.Observed = results.Unproven, ReasonUnfinished, "the run ended before k6 did"
		return v
	}
	v.Cites = append([]uint64{r.endSeq}, r.genSeqs...)
	for _, name := range []string{DroppedIterations, Iterations} {
		if seq, ok := r.seqs[name]; ok {
			v.Cites = append(v.Cites, seq)
		}
	}
	v.Figures = r.figures()
	v.Status, v.Reason, v.Why.Observed = r.course()
	return v
}

// course tells how the run went: what the harness broke before what it could not do.
func (r recorded) course() (results.Status, string, string) {
	iterations, _ := r.metric(Iterations)
	dropped, _ := r.metric(DroppedIterations)
	for _, g := range r.generators {
		if g.Result == nil {
			return results.Fail, ReasonNoLoad, fmt.Sprintf("scenario %s: %s", g.Scenario, g.NoLoad)
		}
	}
	switch {
	case r.end.Exceptions > 0:
		return results.Broken, ReasonScript, fmt.Sprintf("%d of %.0f iterations threw; the first: %s", r.end.Exceptions, iterations.Sum, r.end.First)
	case r.end.ExitCode == exitException || r.end.ExitCode == exitPanic:
		return results.Broken, ReasonScript, r.end.Error
	case r.end.ExitCode == exitAbort || r.end.ExitCode == exitScript:
		return results.Inconclusive, ReasonInterrupted, r.end.Error
	case r.end.ExitCode != 0 && r.end.ExitCode != exitThresholds:
		return results.Broken, ReasonScript, r.end.Error
	case dropped.Sum > 0:
		return results.Inconclusive, ReasonDropped, fmt.Sprintf(
			"%.0f iterations were not started because no VU was free, %.0f ran: the latency of the dropped ones is in no percentile; give the scenario more VUs",
			dropped.Sum, iterations.Sum)
	case iterations.Sum == 0:
		return results.Broken, ReasonNothing, "not one iteration ran"
	}
	for _, g := range r.generators {
		if !g.Result.Valid {
			return results.Inconclusive, ReasonInvalid, fmt.Sprintf("scenario %s: the generator's result is invalid: %v", g.Scenario, g.Result.Reasons)
		}
	}
	for _, m := range r.metrics {
		if m.Overflow > 0 {
			return results.Inconclusive, ReasonOverflow, fmt.Sprintf("%d samples of %s are beyond the histogram", m.Overflow, m.Name)
		}
	}
	return results.Pass, "", fmt.Sprintf("%.0f iterations in %s, none dropped", iterations.Sum, r.end.Duration.Round(time.Millisecond))
}

// figures are the numbers that a report prints.
func (r recorded) figures() []results.Figure {
	var out []results.Figure
	for _, name := range []string{Iterations, DroppedIterations} {
		m, _ := r.metric(name)
		out = append(out, results.Figure{Name: strings.ReplaceAll(name, "_", " "), Value: m.Sum})
	}
	for _, g := range r.generators {
		if g.Result == nil {
			continue
		}
		q, late := g.Result.Quantiles[load.ResponseOK], g.Result.Quantiles[load.Lateness]
		seconds := func(name string, ns int64) {
			out = append(out, results.Figure{Name: g.Scenario + " " + name, Value: float64(ns) / 1e9, Unit: "seconds"})
		}
		seconds("p50", q.P50)
		seconds("p99", q.P99)
		seconds("lateness p99", late.P99)
	}
	return out
}

// threshold judges one threshold of the script, unless the generator makes that void.
func (r recorded) threshold(name string, generator results.Status) results.Verdict {
	v := results.Verdict{Why: results.Why{Expected: name}}
	m, t, ok := r.find(name)
	switch {
	case r.endSeq == 0:
		v.Status, v.Reason, v.Why.Observed = results.Unproven, ReasonUnfinished, "the run ended before k6 did"
		return v
	case !ok:
		v.Status, v.Reason, v.Why.Observed = results.Broken, ReasonUnreadable, "the evidence has no such threshold"
		return v
	case generator != results.Pass:
		v.Status, v.Reason, v.Cites = results.Inconclusive, ReasonGenerator, []uint64{r.endSeq}
		v.Why.Observed = "not evaluated: the run itself is " + generator.String()
		return v
	}
	v.Cites = []uint64{r.seqs[m.Name]}
	v.Status, v.Reason, v.Why.Observed = m.judge(t, r.end.Duration)
	return v
}

func (r recorded) find(name string) (Metric, Threshold, bool) {
	for _, m := range r.metrics {
		for _, t := range m.Thresholds {
			if caseOf(m.Name, t.Expression) == name {
				return m, t, true
			}
		}
	}
	return Metric{}, Threshold{}, false
}
