package reports

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/results/histogram"
)

// gateOf is a sealed gate with twelve epochs whose candidate is slower by a factor, against a named baseline.
func gateOf(t *testing.T, factor float64, baseline, kernel string) *results.Bundle {
	t.Helper()
	b := gated(t)
	b.Digest, b.Run.Host.Kernel = fmt.Sprintf("%064d", int(factor*1000)), kernel
	b.Evidence = b.Evidence[:1]
	b.Evidence[0].Data = []byte(fmt.Sprintf(`{"baseline":{"given":"v1","digest":%q},"candidate":{"given":"x","digest":"c"}}`, baseline))
	for n := range 12 {
		var texts [2]string
		for arm := range texts {
			h := histogram.New()
			for i := range 1000 {
				ns := 100_000 * (1 + float64(i)/500) * (1 + 0.002*float64(n%5))
				if arm == 1 {
					ns *= factor * (1 + 0.001*float64(n%3))
				}
				h.Record(int64(ns))
			}
			text, err := h.Encode()
			if err != nil {
				t.Fatal(err)
			}
			texts[arm] = string(text)
		}
		b.Evidence = append(b.Evidence, results.Evidence{Seq: uint64(n + 2), Check: "gate/echo", Kind: results.Measured, Data: []byte(fmt.Sprintf(
			`{"phase":"duet","epoch":%d,"scenario":"echo","ratios":{"p50":%v},"arms":[{"histogram":%q},{"histogram":%q}]}`, n+1, factor-1+0.001*float64(n%3), texts[0], texts[1]))})
	}
	return b
}

func compare(t *testing.T, a, b *results.Bundle) *Comparison {
	t.Helper()
	c, err := Compare(a, b, [2]string{"<b>first</b>", "second"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func shown(t *testing.T, write func(*bytes.Buffer) error) string {
	t.Helper()
	var first, second bytes.Buffer
	for _, out := range []*bytes.Buffer{&first, &second} {
		if err := write(out); err != nil {
			t.Fatal(err)
		}
	}
	if first.String() != second.String() {
		t.Error("two renders differ")
	}
	return first.String()
}

// A ratio of ratios is told through one baseline on one class of host, and never a verdict.
func TestCompareGates(t *testing.T) {
	c := compare(t, gateOf(t, 1.02, "ref", "k1"), gateOf(t, 1.10, "ref", "k1"))
	if len(c.Estimates) != 1 || c.Estimates[0].Change == nil {
		t.Fatalf("%+v", c.Estimates)
	}
	if d := c.Estimates[0].Change; d.Point < 0.07 || d.Point > 0.10 || d.Lower == nil || *d.Lower > d.Point || d.Upper == nil || *d.Upper < d.Point {
		t.Errorf("%+v", d)
	}
	if len(c.NoVerdict) != 1 {
		t.Errorf("reasons: %q", c.NoVerdict)
	}
	if len(c.Shifts) != 1 || len(c.Shifts[0].Points) != 2 || len(c.Shifts[0].Points[0]) < 5 {
		t.Errorf("%+v", c.Shifts)
	}
	for _, format := range ComparisonFormats {
		got := shown(t, func(out *bytes.Buffer) error { return c.Write(out, format) })
		if !strings.Contains(strings.ToLower(got), "no verdict") && !strings.Contains(got, `"noVerdict"`) {
			t.Errorf("%s does not say that there is no verdict", format)
		}
		if format == "html" && (strings.Contains(got, "<b>first") || strings.Count(got, "<svg") != 1 || strings.Contains(got, "<script")) {
			t.Error("the page is not what it should be")
		}
	}
	if err := c.Write(&bytes.Buffer{}, "pdf"); err == nil {
		t.Error("a format that is not there")
	}
}

func TestCompareSaysWhatSpeaksAgainst(t *testing.T) {
	c := compare(t, gateOf(t, 1.02, "ref", "k1"), gateOf(t, 1.10, "other", "k2"))
	said := strings.Join(c.NoVerdict, "\n")
	if c.Estimates[0].Change != nil || !strings.Contains(said, "different classes of host") || !strings.Contains(said, "different baselines") {
		t.Errorf("%+v\n%s", c.Estimates, said)
	}
	suite := gated(t)
	suite.Run.Kind = "run"
	if _, err := Compare(gated(t), suite, [2]string{"a", "b"}); err == nil {
		t.Error("two kinds were compared")
	}
}

// A suite's bundles are compared case by case, with the clause.
func TestCompareSuites(t *testing.T) {
	a, b := mixed(), mixed()
	changed := 0
	for i, v := range b.Verdicts.Verdicts {
		if v.Status == results.Pass && changed == 0 {
			b.Verdicts.Verdicts[i].Status, b.Verdicts.Verdicts[i].Reason = results.Fail, "planted"
			changed++
		}
	}
	if changed == 0 {
		t.Fatal("no pass to change")
	}
	c := compare(t, a, b)
	if len(c.Changed) != 1 || c.Changed[0].Was != "pass" || !strings.Contains(c.Changed[0].Is, "planted") || c.Same == 0 {
		t.Errorf("%+v, %d alike", c.Changed, c.Same)
	}
	if same := compare(t, a, a); len(same.Changed) != 0 {
		t.Errorf("%+v", same.Changed)
	}
	if page := shown(t, func(out *bytes.Buffer) error { return c.Write(out, "html") }); !strings.Contains(page, "planted") {
		t.Error("the page does not name what changed")
	}
}

func TestCompareLoads(t *testing.T) {
	c := compare(t, loadBundle(), loadBundle())
	if len(c.Estimates) == 0 {
		t.Fatal("no estimate")
	}
	for _, e := range c.Estimates {
		if e.Change == nil || e.Change.Point != 0 {
			t.Errorf("a load against itself: %+v", e)
		}
	}
}

// A step of 6 % that was planted in a history of gates against one baseline is marked where it is; a history without one has none.
func TestTrendMarksThePlantedChange(t *testing.T) {
	history := func(step float64) *Trend {
		var all []*results.Bundle
		for i := range 14 {
			factor := 1 + 0.002*float64(i*7%5)
			if i >= 8 {
				factor += step
			}
			b := gateOf(t, factor, "ref", "k1")
			b.Run.Started = time.Date(2026, 1, 1+(13-i), 0, 0, 0, 0, time.UTC) // the order of the arguments is not that of time
			if i >= 8 {
				b.Run.Started = time.Date(2025, 12, i, 0, 0, 0, 0, time.UTC)
			}
			all = append(all, b)
		}
		tr, err := NewTrend(all)
		if err != nil {
			t.Fatal(err)
		}
		return tr
	}
	moved := history(-0.06)
	if len(moved.Series) != 1 || len(moved.Series[0].Changes) != 1 || moved.Series[0].Changes[0].Index != 6 {
		t.Fatalf("%+v", moved.Series)
	}
	for _, format := range ComparisonFormats {
		if got := shown(t, func(out *bytes.Buffer) error { return moved.Write(out, format) }); !strings.Contains(got, "E-divisive") {
			t.Errorf("%s does not name its method", format)
		}
	}
	if still := history(0); still.Found() != 0 {
		t.Errorf("%+v", still.Series[0].Changes)
	}
	if _, err := NewTrend(nil); err == nil {
		t.Error("a trend of nothing")
	}
}

// The page of a gate shows shift function and heat map with a table each, and its error rates before anything else.
func TestGatePageShowsDistributions(t *testing.T) {
	page := rendered(t, "html", gateOf(t, 1.05, "ref", "k1"))
	for _, want := range []string{`id="shift-1"`, `id="heat-1"`, "color-mix(in srgb,var(--curve-b)", "p99", "Shift function"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not have %q", want)
		}
	}
	b := gateOf(t, 1.05, "ref", "k1")
	b.Evidence[0].Data = []byte(`{"baseline":{"given":"v1"},"errorRates":"3 in 300"}`)
	b.Evidence[3].Data = []byte(`{"phase":"duet","epoch":3,"scenario":"echo","arms":[{"histogram":"no"},{"histogram":"no"}]}`)
	b.Evidence = append(b.Evidence, results.Evidence{Seq: 99, Check: "gate/echo", Kind: "profiled", Data: []byte(
		`{"scenario":"echo","of":"cpu","files":["a","b"],"calls":[10,10],"total":[1,2],"functions":[{"name":"<i>slow</i>","self":[0.1,0.2],"share":[1,1],"with":[0.1,0.2]}]}`)})
	page = rendered(t, "html", b)
	rates, metrics := strings.Index(page, "3 in 300"), strings.Index(page, `id="metrics"`)
	if rates < 0 || rates > metrics || !strings.Contains(page, "could not be read") || !strings.Contains(page, "&lt;i&gt;slow") {
		t.Error("error rates, damage or functions are not where they should be")
	}
	if comment := rendered(t, "markdown", b); !strings.Contains(comment, "Processor time of echo") {
		t.Errorf("the comment names no function:\n%s", comment)
	}
}
