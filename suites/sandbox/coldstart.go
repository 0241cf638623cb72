package sandbox

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/assay-bench/assay/results"
	scenario "github.com/assay-bench/assay/scenarios/sandbox"
	"github.com/assay-bench/assay/suites"
)

const (
	reasonPoints     = "points-missing" // not every start and end point is reported
	reasonImpossible = "impossible"     // a row that can not be a measurement
	reasonUnchecked  = "unchecked"      // the first result was not compared
	reasonNoGain     = "no-gain"

	coldSamples = 5
	firstResult = "first-result"
	fromBytes   = "bytes"
	fromDisk    = "disk"
)

// p99Samples is how many samples a p99 needs; of fewer, none need be stated.
const p99Samples = 100

var (
	startPoints = []string{fromBytes, fromDisk, "compiled", "pooled"}
	endPoints   = []string{"instantiated", firstResult}
)

// cold is a check on a measurement of cold starts. Nothing may run beside it.
func cold(c suites.Check, want string, judge func(*story, scenario.ColdStarts) suites.Finding) suites.Check {
	c.Covers = []string{c.ID}
	c.Cost = suites.Cost{Time: 10 * time.Second, Exclusive: true}
	c.Reasons = append(c.Reasons, reasonPoints)
	c.Drive = driving(func(ctx context.Context, b *bench) error {
		if _, err := b.tenant(ctx, "a", scenario.Free); err != nil {
			return ends(err)
		}
		_, err := b.api.ColdStart(ctx, "cold", coldSamples)
		return err
	})
	c.Judge = judging(want, func(_ suites.Trace, s *story) suites.Finding {
		var all scenario.ColdStarts
		if !s.calls["cold"].Read(&all) {
			return s.fail(reasonNoAnswer, s.describe("cold"))
		}
		return judge(s, all)
	})
	return c
}

// group is the rows of one guest in one engine.
type group struct {
	guest, engine string
	rows          []scenario.ColdStart
}

// groups are the rows by guest and engine, in the order of their first rows.
func groups(all scenario.ColdStarts) (out []group) {
	at := map[[2]string]int{}
	for _, r := range all.Rows {
		key := [2]string{r.Guest, r.Engine}
		i, known := at[key]
		if !known {
			i, at[key] = len(out), len(out)
			out = append(out, group{guest: r.Guest, engine: r.Engine})
		}
		out[i].rows = append(out[i].rows, r)
	}
	return out
}

// point finds the row of a start and an end point.
func point(rows []scenario.ColdStart, start, end string) (scenario.ColdStart, bool) {
	i := slices.IndexFunc(rows, func(r scenario.ColdStart) bool { return r.Start == start && r.End == end })
	if i < 0 {
		return scenario.ColdStart{}, false
	}
	return rows[i], true
}

// needed are the start points that a group of rows must have: an interpreter compiles nothing that a disk
// could keep.
func needed(engine string) []string {
	if engine == interpreterCase {
		return []string{fromBytes, "compiled", "pooled"}
	}
	return startPoints
}

var _ = add(cold(suites.Check{
	ID: "sandbox/coldstart/four-points", Title: "cold starts name all four start points and both end points",
	Reasons: []string{reasonImpossible},
	Kills:   kills(kill(reasonPoints, "sandbox.coldstart-hidden"), kill(reasonImpossible, "sandbox.coldstart-swapped")),
}, "for each guest and engine eight numbers, with n, size, threads and the version of the engine", judgeFourPoints))

func judgeFourPoints(s *story, all scenario.ColdStarts) suites.Finding {
	seen := groups(all)
	compiled := 0
	for _, g := range seen {
		if g.guest == "" || g.engine == "" {
			return s.fail(reasonPoints, "a row without guest or engine")
		}
		for _, start := range needed(g.engine) {
			for _, end := range endPoints {
				r, ok := point(g.rows, start, end)
				if !ok {
					return s.fail(reasonPoints, fmt.Sprintf("%s in the %s has no row from %s to %s", g.guest, g.engine, start, end))
				}
				if r.N < 1 || r.P50Nanos <= 0 || r.P99Nanos < r.P50Nanos && (r.N >= p99Samples || r.P99Nanos != 0) || r.ModuleBytes <= 0 || r.Threads < 1 {
					return s.fail(reasonImpossible, fmt.Sprintf("%+v", r))
				}
			}
		}
		if g.engine == compilerCase {
			compiled++
		}
	}
	switch {
	case compiled == 0:
		return s.fail(reasonPoints, fmt.Sprintf("%d rows, none of the compiler", len(all.Rows)))
	case all.Wazero == "":
		return s.fail(reasonPoints, "the version of the engine is not named")
	}
	out := s.pass(fmt.Sprintf("%d rows of %d guests and engines, engine version %.40s", len(all.Rows), len(seen), all.Wazero))
	out.Figures = coldFigures(all)
	return out
}

// coldFigures are the medians to the first result in the compiler, at most 16.
func coldFigures(all scenario.ColdStarts) (out []results.Figure) {
	for _, r := range all.Rows {
		if r.End == firstResult && r.Engine == compilerCase && len(out) < 16 {
			name := fmt.Sprintf("cold start of %.40s from %.20s, p50", strings.ToValidUTF8(r.Guest, ""), strings.ToValidUTF8(r.Start, ""))
			out = append(out, results.Figure{Name: name, Value: time.Duration(r.P50Nanos).Seconds(), Unit: "seconds"})
		}
	}
	return out
}

var _ = add(cold(suites.Check{
	ID: "sandbox/coldstart/first-result", Title: "a first result counts only when it is right",
	Reasons: []string{reasonUnchecked}, Kills: kill(reasonUnchecked, "sandbox.coldstart-unchecked"),
}, "each measurement to the first result says that the answer was compared", func(s *story, all scenario.ColdStarts) suites.Finding {
	checked := 0
	for _, r := range all.Rows {
		if r.End != firstResult {
			continue
		}
		if !r.Checked {
			return s.fail(reasonUnchecked, fmt.Sprintf("%s in the %s from %s", r.Guest, r.Engine, r.Start))
		}
		checked++
	}
	if checked == 0 {
		return s.fail(reasonPoints, "no row ends at the first result")
	}
	return s.pass(fmt.Sprintf("%d rows, all compared", checked))
}))

// gainOf is how many times faster a start from disk must be than one from bytes, for a size of the module.
func gainOf(bytes int) float64 {
	if bytes >= 1<<20 {
		return 20
	}
	return 5
}

var _ = add(cold(suites.Check{
	ID: "sandbox/coldstart/cache-gain", Title: "a start from the cache beats compiling",
	Reasons: []string{reasonNoGain},
	Kills:   kills(kill(reasonPoints, "sandbox.coldstart-hidden"), kill(reasonNoGain, "sandbox.coldstart-cache-unread")),
}, "instantiation from disk is 5 times faster than from bytes, 20 times for a module of 1 MiB and more", func(s *story, all scenario.ColdStarts) suites.Finding {
	var parts []string
	var figures []results.Figure
	slow := false
	for _, g := range groups(all) {
		if g.engine != compilerCase {
			continue
		}
		bytes, ok := point(g.rows, fromBytes, "instantiated")
		disk, okay := point(g.rows, fromDisk, "instantiated")
		if !ok || !okay || disk.P50Nanos <= 0 {
			return s.fail(reasonPoints, g.guest+" has no start from bytes, or none from disk")
		}
		gain := float64(bytes.P50Nanos) / float64(disk.P50Nanos)
		slow = slow || gain < gainOf(bytes.ModuleBytes)
		parts = append(parts, fmt.Sprintf("%s (%d bytes) %.1f", g.guest, bytes.ModuleBytes, gain))
		figures = append(figures, results.Figure{Name: "gain of the cache, " + g.guest, Value: gain, Unit: "ratio"})
	}
	if len(parts) == 0 {
		return s.fail(reasonPoints, "no row of the compiler")
	}
	slices.Sort(parts)
	slices.SortFunc(figures, func(a, b results.Figure) int { return strings.Compare(a.Name, b.Name) })
	out := s.pass("times faster: " + strings.Join(parts, ", "))
	if slow {
		out = s.fail(reasonNoGain, out.Observed)
	}
	out.Figures = figures
	return out
}))

// naivePrice is how many times what fuel costs the naive way costs in the compiler, at least. Measured: 8 to 11
// times on compiled loops, 112 on an empty one.
const naivePrice = 2

const reasonNoPrice = "no-price" // the naive form can not have watched anything

var _ = add(cold(suites.Check{
	ID: "sandbox/coldstart/naive-variant", Title: "the cost of close-on-done stands beside that of fuel",
	Reasons: []string{reasonNoPrice},
	Kills:   kills(kill(reasonPoints, "sandbox.overhead-hidden"), kill(reasonNoPrice, "sandbox.naive-unwatched")),
}, "for each guest and engine of the starts a ratio for fuel and one for close-on-done, which costs more than fuel in the compiler", judgeNaive))

func judgeNaive(s *story, all scenario.ColdStarts) suites.Finding {
	if len(all.Rows) == 0 {
		return s.fail(reasonPoints, "no guest was started")
	}
	var parts []string
	var figures []results.Figure
	price := 0.0
	for _, g := range groups(all) {
		i := slices.IndexFunc(all.Overheads, func(o scenario.Overhead) bool { return o.Guest == g.guest && o.Engine == g.engine })
		if i < 0 {
			return s.fail(reasonPoints, fmt.Sprintf("%s in the %s has no row of overheads", g.guest, g.engine))
		}
		o := all.Overheads[i]
		if o.N < 1 || o.PlainNanos <= 0 || o.FuelNanos <= 0 || o.NaiveNanos <= 0 || o.Fuel <= 0 || o.Naive <= 0 {
			return s.fail(reasonPoints, fmt.Sprintf("a column is missing: %+v", o))
		}
		parts = append(parts, fmt.Sprintf("%s in the %s: fuel %.2f, close-on-done %.2f", g.guest, g.engine, o.Fuel, o.Naive))
		if g.engine == compilerCase {
			price = max(price, o.Naive/o.Fuel)
			figures = append(figures,
				results.Figure{Name: "overhead of fuel, " + g.guest, Value: o.Fuel, Unit: "ratio"},
				results.Figure{Name: "overhead of close-on-done, " + g.guest, Value: o.Naive, Unit: "ratio"})
		}
	}
	slices.Sort(parts)
	slices.SortFunc(figures, func(a, b results.Figure) int { return strings.Compare(a.Name, b.Name) })
	out := s.pass(strings.Join(parts, "; "))
	if price < naivePrice {
		out = s.fail(reasonNoPrice, out.Observed)
	}
	out.Figures = figures
	return out
}
