package eval

import (
	"bytes"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/models/dataset"
	"github.com/assay-bench/assay/models/encode"
	"github.com/assay-bench/assay/models/static"
)

// decisions: five in scope, one of them wrong, and two out of scope.
var decisions = []Decision{
	{Text: "a", Truth: 0, Answer: 0, Score: 0.9, Confidence: 0.95},
	{Text: "b", Truth: 1, Answer: 1, Score: 0.8, Confidence: 0.9},
	{Text: "c", Truth: 1, Answer: 0, Score: 0.5, Confidence: 0.55},
	{Text: "d", Truth: 2, Answer: 2, Score: 0.7, Confidence: 0.8},
	{Text: "e", Truth: 2, Answer: 2, Score: 0.3, Confidence: 0.45},
	{Text: "f", Truth: dataset.Out, Answer: 2, Score: 0.6},
	{Text: "g", Truth: dataset.Out, Answer: 1, Score: 0.1},
}

func TestMeasures(t *testing.T) {
	if a := Accuracy(decisions); a.K != 4 || a.N != 5 {
		t.Errorf("accuracy %+v", a)
	}
	th := NewThreshold("validation", decisions, 0.2)
	if want := (Threshold{Split: "validation", Quantile: 0.2, Value: 0.5}); th != want {
		t.Errorf("threshold %+v", th)
	}
	a := Abstain(decisions, th)
	if a.Recall.K != 1 || a.Recall.N != 2 || a.FalseRejection.K != 1 || a.FalseRejection.N != 5 || a.Kept.K != 3 || a.Kept.N != 4 {
		t.Errorf("abstention %+v", a)
	}
	if got, want := confusions(decisions), []confusion{{Truth: 1, Answer: 0, Count: 1, Example: "c"}}; !cmp.Equal(got, want) {
		t.Errorf("confusions %v", got)
	}
	bins, ece := calibrate(decisions, 2)
	// one text under 0.5 (0.45, right), four above (mean 0.8, three of them right)
	if bins[0].N != 1 || bins[1].N != 4 || math.Abs(ece-(0.55/5+0.05*4/5)) > 1e-12 {
		t.Errorf("bins %+v, ece %v", bins, ece)
	}
}

// TestRiskCoverage proves router/abstain/risk-coverage: coverage grows to 1, and the area is the mean risk.
func TestRiskCoverage(t *testing.T) {
	curve, area := RiskCoverage(decisions, 7)
	want := []float64{0, 0, 0, 1. / 4, 2. / 5, 2. / 6, 3. / 7}
	var mean float64
	for i, p := range curve {
		mean += want[i] / 7
		if math.Abs(p.Coverage-float64(i+1)/7) > 1e-12 || math.Abs(p.Risk-want[i]) > 1e-12 {
			t.Errorf("point %d: %+v, want risk %v", i, p, want[i])
		}
	}
	if len(curve) != 7 || math.Abs(area-mean) > 1e-12 {
		t.Errorf("%d points, area %v, want %v", len(curve), area, mean)
	}
	many := slices.Repeat(decisions, 50)
	if curve, _ := RiskCoverage(many, 20); len(curve) != 20 || curve[19].Coverage != 1 {
		t.Errorf("%d points, the last %+v", len(curve), curve[len(curve)-1])
	}
	if curve, area := RiskCoverage(nil, 20); len(curve) != 0 || area != 0 {
		t.Errorf("nothing: %v %v", curve, area)
	}
}

// TestRate compares with intervals that are published (Brown, Cai, DasGupta 2001, and R's prop.test without
// correction).
func TestRate(t *testing.T) {
	for _, c := range []struct {
		k, n      int
		low, high float64
	}{{0, 10, 0, 0.2775}, {5, 10, 0.2366, 0.7634}, {10, 10, 0.7225, 1}, {4167, 4500, 0.9180, 0.9333}} {
		r := NewRate(c.k, c.n)
		if math.Abs(r.Low-c.low) > 2e-4 || math.Abs(r.High-c.high) > 2e-4 {
			t.Errorf("%d of %d: [%.4f, %.4f], want [%.4f, %.4f]", c.k, c.n, r.Low, r.High, c.low, c.high)
		}
	}
	if r := NewRate(0, 0); r.Share() != 0 || r.Low != 0 || r.High != 1 {
		t.Errorf("no trials: %+v", r)
	}
}

func text(s string, class int) dataset.Example { return dataset.Example{Text: s, Class: class} }

func tiny(t *testing.T) *dataset.Dataset {
	t.Helper()
	d, err := dataset.New(dataset.Dataset{
		Name: "tiny", Digest: "d", Classes: []string{"mail", "rain"},
		Train:      []dataset.Example{text("send an email", 0), text("write a letter", 0), text("will it rain", 1), text("is it sunny", 1)},
		Validation: []dataset.Example{text("mail this", 0), text("snow tomorrow", 1), text("who was napoleon", dataset.Out)},
	}, []dataset.Example{text("reply to the message", 0), text("weather forecast", 1), text("what is a prime", dataset.Out)})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestThresholdKnowsNoTestText proves router/abstain/threshold-source: other test texts leave it as it is.
func TestThresholdKnowsNoTestText(t *testing.T) {
	m := load(t)
	var thresholds []Threshold
	for _, first := range []string{"reply to the message", "qqq www"} {
		d := tiny(t)
		changed, err := dataset.New(*d, []dataset.Example{text(first, 0), text("x", dataset.Out)})
		if err != nil {
			t.Fatal(err)
		}
		r, err := Measure(t.Context(), changed, plan(m))
		if err != nil {
			t.Fatal(err)
		}
		thresholds = append(thresholds, r.Seeds[0].Threshold)
	}
	if thresholds[0] != thresholds[1] || thresholds[0].Split != "validation" {
		t.Errorf("thresholds %+v", thresholds)
	}
}

func load(t testing.TB) *static.Model {
	t.Helper()
	m, err := static.Load()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// plan measures prototypes of an encoder from all training texts.
func plan(e encode.Encoder) Plan {
	return Plan{
		Model: "m", Configuration: e.Identity(), Seeds: []uint64{1}, Log: &bytes.Buffer{}, Now: time.Now, CPU: func() time.Duration { return 0 }, Few: e,
		Learn: func(train []dataset.Example, classes int, _ uint64) (*Prototypes, error) {
			return NewPrototypes(e, classes, train)
		},
	}
}

func TestBaselines(t *testing.T) {
	in := []dataset.Example{text("a", 0), text("b", 1), text("c", 1), text("d", 2)}
	if r := Accuracy(oracle(in)); r.Share() != 1 {
		t.Errorf("oracle %+v", r)
	}
	if r := Accuracy(constant(in, in)); r.K != 2 {
		t.Errorf("zero %+v", r)
	}
	many := slices.Repeat(in, 300)
	if r := Accuracy(randomly(many, 3, 1)); r.Low > 1./3 || r.High < 1./3 {
		t.Errorf("random %+v", r)
	}
}

func TestPrototypes(t *testing.T) {
	d := tiny(t)
	m := load(t)
	p, err := NewPrototypes(m, 2, d.Train)
	if err != nil {
		t.Fatal(err)
	}
	ds, err := p.Decide([]dataset.Example{text("reply to the message", 0), text("weather forecast", 1), text("???", dataset.Out)}, 10)
	if err != nil {
		t.Fatal(err)
	}
	if !(ds[0].Answer == 0 && ds[1].Answer == 1) || ds[0].Confidence <= 0.5 || ds[2].Score > -1 {
		t.Errorf("%+v", ds)
	}
	near, err := nearest(m, d.Train, []dataset.Example{text("will it rain today", 1), text("", dataset.Out)}, 2, 3)
	if err != nil || near[0].Answer != 1 || near[0].Score < 0.5 || near[1].Score > -1 {
		t.Errorf("%+v, %v", near, err)
	}
}

var underRace bool

// TestStaticOnCLINC150 holds the bar of the embedded model: three draws of ten examples a class, prototypes only. It
// also shows router/decide/route-added.
func TestStaticOnCLINC150(t *testing.T) {
	if testing.Short() || underRace {
		t.Skip("takes seconds, and many of them under the race detector; it is one goroutine")
	}
	d, err := dataset.LoadCLINC150("../../../shared/data/clinc150")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("CLINC150 is not here, accuracy on it is not tested: %v", err)
	}
	m := load(t)
	p := plan(m)
	p.Seeds, p.Shots, p.AddedShots = []uint64{1, 2, 3}, []int{1, 5, 10}, 5
	p.Learn = func(train []dataset.Example, classes int, seed uint64) (*Prototypes, error) {
		shots, err := dataset.Shots(train, classes, 10, seed)
		if err != nil {
			return nil, err
		}
		return NewPrototypes(m, classes, shots)
	}
	r, err := Measure(t.Context(), d, p)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("mean %.2f %%, %d seeds, spread %.2f; added routes %+v", 100*r.Mean, len(r.Seeds), 100*r.Spread, *r.Added)
	if r.Mean < 0.75 || r.Shuffled.Share() >= 0.05 {
		t.Errorf("mean %.4f, with shuffled labels %+v", r.Mean, r.Shuffled)
	}
	if a := r.Added; a.New.N == 0 || a.LargestDrop > 0.005 {
		t.Errorf("added routes %+v", a)
	}
	var b bytes.Buffer
	if err := WriteMarkdown(&b, []*Report{r}, "a note"); err != nil || !strings.Contains(b.String(), "* a note") || !strings.Contains(b.String(), r.DataDigest) {
		t.Errorf("%v: %s", err, b.String())
	}
}
