package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios/duet"
	"github.com/assay-bench/assay/suites/gate"
)

// printGatePlan says what would run before anything does. Without a probe the time is not known.
func (a *app) printGatePlan(p gate.Policy, c *gate.Course, o gate.Options, probe *gate.Probe) error {
	metrics := c.Metrics()
	var gating int
	for _, m := range metrics {
		if m.Gating {
			gating++
		}
	}
	fmt.Fprintf(a.err, "gate: %s, %s; pre-flight of %d epochs, each with a fresh process of both sides\n",
		plural(len(p.Scenarios), "scenario"), plural(len(metrics), "metric"), c.Before())
	w := tabwriter.NewWriter(a.err, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "metric\tfails above\tpasses below\tlooks at epochs\tgates\tfinds at 1 % noise\tat 5 %")
	for _, m := range metrics {
		finds := func(noise float64) string {
			if m.Absolute || !m.Gating {
				return "–" // of a share near 0 the noise is that of its errors
			}
			return fmt.Sprintf("%+.3g %%", 100*m.Detectable(noise, gating))
		}
		fmt.Fprintf(w, "%s\t%.3g %%\t%.3g %%\t%s\t%v\t%s\t%s\n", m.ID(), 100*m.Fail, 100*m.Pass,
			strings.Trim(fmt.Sprint(m.Looks), "[]"), m.Gating, finds(0.01), finds(0.05))
	}
	_ = w.Flush() // standard error: there is nowhere to report to
	given := gate.Probe{}
	if probe != nil {
		given = *probe
	}
	f, err := gate.Foresee(p, o, given)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.err, "at least %d, at most %d process starts; an epoch sends each side %d requests or more, for %v together at least\n",
		2*(f.Before+f.First), 2*(f.Before+f.Last), f.Fewest, duet.Traffic)
	for _, r := range p.Raised(o) {
		fmt.Fprintln(a.err, r)
	}
	if o.Fit != nil {
		for _, g := range o.Fit.GaveUp {
			fmt.Fprintf(a.err, "given up for the budget of %v: %s\n", o.Fit.Budget, g)
		}
	}
	if probe == nil {
		fmt.Fprintln(a.err, "time: a fast service takes about 0.8 s an epoch; --probe runs two of them and tells yours")
		return nil
	}
	fmt.Fprintf(a.err, "time: %v an epoch; %v at least, %v at most\n",
		f.Epoch.Round(10*time.Millisecond), f.Least().Round(time.Second), f.Most().Round(time.Second))
	return nil
}

// gateProgress prints a line when the pre-flight ends and when a metric is decided.
func (a *app) gateProgress() func(gate.Progress) {
	decided := map[string]bool{}
	return func(p gate.Progress) {
		if p.Step.Phase == duet.Preflight {
			if p.Step.Number == p.Before && p.Need.Metric != "" {
				fmt.Fprintf(a.err, "pre-flight: %s; %s will need about %.0f epochs, %v\n",
					p.Took.Round(100*time.Millisecond), p.Need.Metric, p.Need.Units, p.Need.Time().Round(100*time.Millisecond))
			}
			return
		}
		for _, d := range p.Decisions {
			if d.Outcome != gate.Open && !decided[d.Metric.ID()] {
				decided[d.Metric.ID()] = true
				fmt.Fprintf(a.err, "epoch %d, %s: %s %s\n", p.Step.Number, p.Took.Round(100*time.Millisecond), d.Metric.ID(), d.Outcome)
			}
		}
	}
}

// printGate writes a line a metric and the verdict last.
func (a *app) printGate(b *results.Bundle, c *gate.Course, rates string) {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	for _, v := range b.Verdicts.Verdicts {
		fmt.Fprintf(w, "%s\t%s\t%s\n", strings.TrimPrefix(v.Check, "gate/")+"/"+v.Case, v.Status, oneLine(v.Why.Observed))
	}
	_ = w.Flush() // as for every print of this command
	fmt.Fprintf(a.out, "error rates of this gate on this class of host: %s\n", rates)
	fmt.Fprintf(a.err, "report: %s\n", filepath.Join(b.Dir, "report.html"))
	word := map[results.Exit]string{
		results.ExitPass: "PASS", results.ExitFail: "REGRESSION", results.ExitInconclusive: "INCONCLUSIVE", results.ExitHarness: "HARNESS ERROR",
	}[b.Verdicts.Exit]
	fmt.Fprintf(a.out, "%s: %s [exit %d]\n", word, c.End(), b.Verdicts.Exit)
}

func (a *app) gateSchemaCommand() *cobra.Command {
	return &cobra.Command{
		Use: "schema", Args: none,
		Short: "print the JSON Schema of gate.yaml, for editors",
		RunE: func(*cobra.Command, []string) error {
			_, err := a.out.Write(gate.Schema())
			return err
		},
	}
}
