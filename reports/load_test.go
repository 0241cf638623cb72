package reports

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/assay-bench/assay/results"
)

// loadOf is the evidence of one load at a rate, with p99 in milliseconds.
func loadOf(rate, p99 float64, text string) map[string]any {
	quantiles := map[string]any{"count": 4000, "mean_ns": 2.1e6, "p50_ns": 1e6, "p75_ns": 2e6, "p90_ns": 3e6, "p95_ns": 5e6, "p99_ns": int64(p99 * 1e6), "p999_ns": 2e7, "max_ns": 3e7}
	intervals := []any{}
	for i := range 4 {
		intervals = append(intervals, map[string]any{"start_ns": i * 1e9, "width_ns": 1e9, "count": 1000, "errors": i, "timeouts": 0, "p50_ns": 1e6, "p99_ns": int64(p99 * 1e6)})
	}
	return map[string]any{"url": text, "sends": text, "result": map[string]any{
		"model": "open", "mode": text, "valid": true, "reasons": []string{}, "elapsed_ns": 4e9, "achieved_rate": rate - 1.5,
		"schedule":  map[string]any{"kind": "poisson", "rate": rate, "duration_ns": 4e9, "seed": 7, "count": 4000},
		"counts":    map[string]any{"scheduled": 4000, "ok": 3994, "error": 6, "timeout": 0, "unsent": 0},
		"quantiles": map[string]any{"response_all": quantiles, "service": quantiles, "lateness": quantiles, "pacer_lateness": quantiles},
		"errors":    map[string]any{text: 6}, "intervals": intervals, "notes": []string{text},
		"lateness_judged": "lateness", "lateness_bound_ns": 2e6, "lateness_asked_ns": 2e6,
		"host": map[string]any{"known": true, "waited": 0.125, "steal": 0.001},
	}}
}

// addLoad puts a piece of evidence of a load into a bundle.
func addLoad(b *results.Bundle, kind results.Kind, data any) {
	raw, err := json.Marshal(data)
	if err != nil {
		panic(err)
	}
	b.Evidence = append(b.Evidence, results.Evidence{Seq: uint64(len(b.Evidence) + 1), Source: results.FromScenario, Check: "load/generator", Kind: kind, Data: raw})
}

func emptyLoad(exit results.Exit) *results.Bundle {
	b := &results.Bundle{Dir: "/nowhere", Run: run(), Digest: digest, Verdicts: &results.Verdicts{APIVersion: results.APIVersion, Exit: exit}}
	b.Run.Kind, b.Run.Profile, b.Run.Basis = kindLoad, kindLoad, "all"
	b.Run.Target = results.Target{Name: "grpc://127.0.0.1:50051/echo.Echo/Say", Kind: "remote", Role: "endpoint"}
	for _, g := range []given{
		{check: "load/generator", title: "the measurement is valid", verdict: results.Verdict{Status: results.Pass, Cites: []uint64{1}}},
		{check: "load/answered", title: "the target grants requests", verdict: results.Verdict{Status: results.Pass, Cites: []uint64{1}}},
		{check: "load/threshold", kase: "response p(99)<200", title: "the threshold holds", verdict: results.Verdict{Status: results.Pass, Cites: []uint64{1}, Why: results.Why{Expected: "response p(99)<200", Observed: "response is 12 ms"}}},
	} {
		g.area, g.level, g.basis, g.document, g.statement = kindLoad, "MUST", "house", "assay load rules", "It holds."
		g.add(b)
	}
	return b
}

func loadBundle() *results.Bundle {
	b := emptyLoad(results.ExitPass)
	addLoad(b, loaded, loadOf(1000, 12, "gRPC calls"))
	b.Histograms = map[string][]byte{"load--response.hdr": sample(4000, 0.004), "load--lateness.hdr": sample(4000, 0.00006)}
	return b
}

func sweepBundle() *results.Bundle {
	b := emptyLoad(results.ExitPass)
	for i, p99 := range []float64{4, 4.1, 4.4, 40} {
		addLoad(b, loaded, loadOf(float64(int(100)<<i), p99, "gRPC calls"))
	}
	addLoad(b, curved, loadCurve{Knee: 400, Stopped: "the highest rate was reached"})
	return b
}

// mergedBundle is an INVALID merge with a crossed threshold that nobody judged.
func mergedBundle() *results.Bundle {
	b := emptyLoad(results.ExitInconclusive)
	l := loadOf(1000, 12, "gRPC calls")
	r := l["result"].(map[string]any)
	r["valid"], r["reasons"] = false, []string{"lateness", "clock"}
	for i := range 2 {
		r["nodes"] = append(asList(r["nodes"]), map[string]any{
			"segment": map[string]any{"node": i + 1, "of": 2}, "counts": map[string]any{"scheduled": 2000, "ok": 1997, "error": 3},
			"valid": i == 0, "reasons": []string{"lateness"}[:i], "lateness_p99_ns": 5e6,
		})
	}
	l["merged"] = []string{"1.json", "2.json"}
	addLoad(b, loaded, l)
	for i := range b.Verdicts.Verdicts {
		if v := &b.Verdicts.Verdicts[i]; v.Check != "load/answered" {
			v.Status, v.Reason = results.Inconclusive, "lateness"
		}
	}
	return b
}

func asList(v any) []any { list, _ := v.([]any); return list }

func hostileLoad(attack string) *results.Bundle {
	b := emptyLoad(results.ExitPass)
	addLoad(b, loaded, loadOf(1000, 12, attack))
	addLoad(b, loaded, []int{1}) // damaged
	b.Run.Target.Name = attack
	for i := range b.Verdicts.Verdicts {
		b.Verdicts.Verdicts[i].Why = results.Why{Expected: attack, Observed: attack, Reproduce: attack}
	}
	return b
}

// What a target said in errors and notes harms neither page nor terminal; Markdown is tried with that of the other bundles.
func TestHostileLoad(t *testing.T) {
	for i, a := range attacks() {
		b := hostileLoad(a)
		inspect(t, fmt.Sprintf("attack %d", i), render(t, webpage{}, b))
		said := render(t, text{}, b)
		if i := strings.IndexFunc(said, func(r rune) bool { return r != '\n' && hidden(r) }); i >= 0 {
			t.Errorf("attack %q steers a terminal: %q", a, said[i:])
		}
		if want := render(t, text{}, loadBundle()); strings.Count(said, "\n") > strings.Count(want, "\n")+2 {
			t.Errorf("attack %q forges a line:\n%s", a, said)
		}
	}
}

// A load that left nothing, and one that is not a result, are shown as what they are.
func TestEmptyLoad(t *testing.T) {
	b := emptyLoad(results.ExitHarness)
	b.Verdicts = nil
	for _, f := range All() {
		if got := render(t, f, b); got == "" {
			t.Errorf("%s says nothing", f.Name())
		}
	}
	addLoad(b, curved, loadCurve{})
	if got := render(t, webpage{}, b); !strings.Contains(got, "No knee is to be seen") {
		t.Error("a sweep without steps is not shown")
	}
}

func TestTextTable(t *testing.T) {
	var lines []string
	textTable(func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) },
		[]string{"a", "bb"}, [][]string{{"ccc", "d"}, {"µ", "eee"}})
	if want := []string{"a     bb", "ccc    d", "µ    eee"}; !slices.Equal(lines, want) {
		t.Errorf("%q, want %q", lines, want)
	}
}
