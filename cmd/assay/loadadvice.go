package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/assay-bench/assay/scenarios/host"
	"github.com/assay-bench/assay/scenarios/load"
)

// adviseLoad says what to do about a result that is INVALID.
func (a *app) adviseLoad(r *load.Result) {
	reasons := r.Reasons
	if slices.Contains(reasons, load.ReasonInterrupted) {
		reasons = []load.Reason{load.ReasonInterrupted} // the others may well follow from it
	}
	for _, reason := range reasons {
		fmt.Fprintf(a.err, "INVALID, %s: %s\n", reason, remedy(reason, r))
	}
}

// remedy says what happened, and what to do about it.
func remedy(reason load.Reason, r *load.Result) string {
	switch reason {
	case load.ReasonAccounting:
		return "the accounts do not add up; this is a defect of assay: report it with the bundle"
	case load.ReasonUnsent:
		return fmt.Sprintf("%d of %d arrivals were never sent: the target holds every connection; say more --connections, a longer --drain or a lower rate", r.Counts.Unsent, r.Counts.Scheduled)
	case load.ReasonLateness:
		return late(r)
	case load.ReasonOverflow:
		return fmt.Sprintf("%d values were too long for the histograms: say a shorter --timeout", r.Overflow)
	case load.ReasonClock:
		return fmt.Sprintf("the generators may have begun %s apart: let their clocks be synchronised, or judge larger latencies (--latency-bound)", r.Clock.Bound.Round(time.Microsecond))
	case load.ReasonHost:
		return fmt.Sprintf("the generator waited for a processor for %.0f %% of its time, and the hypervisor took %.0f %% (limit %.0f %%): give it processors of its own, or allow it with --host-limit",
			100*r.Host.Waited, 100*r.Host.Steal, 100*r.Host.Limit)
	case load.ReasonInterrupted:
		return "the run was ended before its end"
	}
	return string(reason)
}

// late is the remedy of a generator that was late.
func late(r *load.Result) string {
	const digits = 100 * time.Nanosecond
	text := fmt.Sprintf("p99 of its own lateness is %v, the bound %v: judge larger latencies (--latency-bound or a threshold), or say a lower rate or several generators (--segment)",
		time.Duration(r.Quantiles[r.LatenessJudged].P99).Round(digits), time.Duration(r.LatenessBound).Round(digits))
	if !host.RealTime() {
		text += "; processors that sleep or are shared come late, and where the target is on another machine or in the same class, chrt -r 1 assay load keeps them awake"
	}
	return text
}
