package reports

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/assay-bench/assay/results"
)

// gated is a bundle of assay gate with one metric that regressed, one that passed and a void epoch. What the sides are
// called is hostile.
func gated(t *testing.T) *results.Bundle {
	t.Helper()
	b := &results.Bundle{Run: results.Run{
		APIVersion: results.APIVersion, Kind: "gate", ID: "00", Target: results.Target{Name: "cand", Kind: "command"},
		Plan: []results.Planned{
			{Check: "gate/echo", Case: "p50", Area: "gate", Title: "p50 of echo", Decides: true, Reproduce: "assay gate"},
			{Check: "gate/echo", Case: "mean", Area: "gate", Title: "mean of echo", Reproduce: "assay gate"},
		},
	}}
	put := func(key results.Key, kind results.Kind, data string) {
		b.Evidence = append(b.Evidence, results.Evidence{
			Seq: uint64(len(b.Evidence) + 1), Check: key.Check, Kind: kind, Source: results.FromScenario, Data: []byte(data),
		})
	}
	put(results.Key{Check: "gate"}, results.Started, `{"baseline":{"given":"<script>alert(1)</script>","digest":"aa"},"candidate":{"given":".","revision":"c0ffee","digest":"bb"},
		"builds":{"listed":["toolchain: go1, then go2"]},"options":{"floors":{"p50":0.026}},"errorRates":"0 false alarms in 300 pairs"}`)
	for i := range 4 {
		void := ""
		if i == 2 {
			void = "generator-lag"
		}
		put(results.Key{Check: "gate/echo"}, results.Measured, fmt.Sprintf(`{"phase":"duet","epoch":%d,"scenario":"echo","ratios":{"p50":0.09,"mean":0.00%d},"void":%q,"place":{"processor":1,"awake":%v}}`, i+1, i, void, i > 0))
	}
	figures := []results.Figure{{Name: "change", Value: 0.094, Unit: "ratio"}, {Name: "lower", Value: 0.081, Unit: "ratio"},
		{Name: "fail above", Value: 0.02, Unit: "ratio"}, {Name: "pass below", Value: 0.05, Unit: "ratio"}, {Name: "epochs", Value: 12}}
	b.Verdicts = &results.Verdicts{APIVersion: results.APIVersion, Exit: results.ExitFail, Executed: 2, Verdicts: []results.Verdict{
		{Check: "gate/echo", Case: "p50", Status: results.Fail, Reason: "regression", Cites: []uint64{2}, Figures: figures, Why: results.Why{Observed: "+9.4 %", Reproduce: "assay gate"}},
		{Check: "gate/echo", Case: "mean", Status: results.Pass, Cites: []uint64{2}, Why: results.Why{Observed: "+0.1 %", Reproduce: "assay gate"}},
	}}
	return b
}

func rendered(t *testing.T, name string, b *results.Bundle) string {
	t.Helper()
	f, err := Find(name)
	if err != nil {
		t.Fatal(err)
	}
	var first, second bytes.Buffer
	for _, out := range []*bytes.Buffer{&first, &second} {
		if err := f.Write(out, b); err != nil {
			t.Fatal(err)
		}
	}
	if first.String() != second.String() {
		t.Errorf("two renders of %s differ", name)
	}
	return first.String()
}

func TestGatePage(t *testing.T) {
	page := rendered(t, "html", gated(t))
	for _, want := range []string{"0 false alarms in 300 pairs", "commit c0ffee", "9.40 %", "generator-lag", "pass (advisory)", "toolchain: go1, then go2", "<svg", "both sides on processor 1, kept awake (3 of the epochs)", "2.60 %, which link orders"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if strings.Contains(page, "<script>") {
		t.Error("a name became markup")
	}
}

func TestGateComment(t *testing.T) {
	comment := rendered(t, "markdown", gated(t))
	for _, want := range []string{"| echo/p50 | +9.40 % | +8.10 % |", "regression", "error rates of this gate: 0 false alarms"} {
		if !strings.Contains(comment, want) {
			t.Errorf("the comment does not say %q:\n%s", want, comment)
		}
	}
	if !strings.Contains(comment, "`<script>alert(1)</script>, SHA-256 aa`") {
		t.Errorf("a hostile name stands outside a code span:\n%s", comment)
	}
}

// A gate that was cut off has no figures, and no page falls over that.
func TestGateWithoutVerdicts(t *testing.T) {
	b := gated(t)
	b.Verdicts, b.Evidence = nil, b.Evidence[:1]
	if page := rendered(t, "html", b); !strings.Contains(page, "echo/p50") {
		t.Error("the metric is gone")
	}
	b.Evidence[0].Data = []byte(`{"baseline":`)
	if page := rendered(t, "html", b); !strings.Contains(page, "could not be read") {
		t.Error("damaged evidence goes unsaid")
	}
}
