package gate_test

import (
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/assay-bench/assay/scenarios/duet"
	"github.com/assay-bench/assay/suites/gate"
)

var noon = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)

func trials(n int, kind gate.TrialKind, effect float64, o gate.Outcome) []gate.Trial {
	out := make([]gate.Trial, n)
	for i := range out {
		out[i] = gate.Trial{
			Kind: kind, Effect: effect, At: noon, Took: time.Duration(i+1) * time.Second, HostClass: "h", Instrument: duet.Instrument, End: gate.Complete,
			Outcomes: map[string]gate.Outcome{"echo/p50": o},
		}
	}
	return out
}

// A claim of at most 1 % takes 299 clean pairs, and one of at least 95 % takes 59.
//
// Rows: gate/calibrate/claims, gate/estimate/calibration-shown.
func TestCalibrationClaimsWhatItsTrialsAllow(t *testing.T) {
	if _, ok, err := gate.Calibrate(nil, "h", noon); ok || err != nil {
		t.Errorf("nothing is a calibration: %v", err)
	}
	for n, below := range map[int]bool{50: false, 298: false, 299: true} {
		c, ok, err := gate.Calibrate(trials(n, gate.SameBuild, 0, gate.Passed), "h", noon)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		r, ok := c.FalseAlarms()
		if !ok || r.Trials != n || (r.Upper < 0.01) != below {
			t.Errorf("%d clean pairs: at most %v", n, r.Upper)
		}
	}
	all := append(trials(50, gate.SameBuild, 0, gate.Passed), trials(60, gate.Slower, 0.05, gate.Regression)...)
	all = append(all, trials(10, gate.Tail, 0.2, gate.Regression)...)
	c, _, err := gate.Calibrate(all, "h", noon)
	if err != nil {
		t.Fatal(err)
	}
	want := "0 false alarms in 50 pairs of unchanged code (below 5.8 % with 95 % confidence); +5 % found in 60 of 60 (above 95.1 %); +20 % of p99 found in 10 of 10 (above 74.1 %); newest 2026-12-01"
	if c.Text() != want {
		t.Errorf("%q, want %q", c.Text(), want)
	}
}

// An inconclusive run is neither an alarm nor a pass, and stands beside them.
func TestOpenRunsAreCountedApart(t *testing.T) {
	all := trials(10, gate.SameBuild, 0, gate.Passed)
	for i := range 4 {
		all[i].End, all[i].Outcomes = gate.Environment, map[string]gate.Outcome{"echo/p50": gate.Open}
	}
	c, _, err := gate.Calibrate(all, "h", noon)
	if err != nil {
		t.Fatal(err)
	}
	if r, _ := c.FalseAlarms(); r.Trials != 6 || r.Open != 4 || r.Events != 0 {
		t.Errorf("%+v", r)
	}
}

// Rows: gate/calibrate/expiry.
func TestCalibrationExpires(t *testing.T) {
	all := trials(300, gate.SameBuild, 0, gate.Passed)
	if _, ok, _ := gate.Calibrate(all, "h", noon.Add(29*24*time.Hour)); !ok {
		t.Error("29 days later it is gone")
	}
	if _, ok, _ := gate.Calibrate(all, "h", noon.Add(31*24*time.Hour)); ok {
		t.Error("31 days later it still holds")
	}
	if _, ok, _ := gate.Calibrate(all, "another kernel", noon); ok {
		t.Error("it holds on another class of host")
	}
}

// What another way of measuring showed says nothing of this one.
func TestCalibrationIsOfOneInstrument(t *testing.T) {
	old := trials(20, gate.SameBuild, 0, gate.Regression)
	for i := range old {
		old[i].Instrument = ""
	}
	c, _, err := gate.Calibrate(append(old, trials(3, gate.SameBuild, 0, gate.Passed)...), "h", noon)
	if r, ok := c.FalseAlarms(); err != nil || !ok || r.Trials != 3 || r.Events != 0 {
		t.Errorf("%+v, %v, %v", r, ok, err)
	}
}

// Five link orders set the floor of the fail margin, metric by metric and at least 1 %; fewer leave it at 2 %, and a
// policy below it is refused.
//
// Rows: gate/calibrate/layout-floor.
func TestLayoutsSetTheFloor(t *testing.T) {
	m := gate.Metric{Scenario: "echo", Name: "p50", Fail: 0.02, Pass: 0.05, Gating: true, Looks: short}
	orders := func(n int, shift float64) []gate.Trial {
		all := trials(n, gate.Layout, 0, gate.Passed)
		for i := range all {
			all[i].Variant, all[i].Metrics = strconv.Itoa(i), []gate.Metric{m}
			d := make([]float64, 12)
			for j := range d {
				d[j] = 0.001 * float64(j-5)
				if i == 2 {
					d[j] += shift
				}
			}
			all[i].Ratios = map[string][]float64{m.ID(): d}
		}
		return all
	}
	for _, c := range []struct {
		orders int
		shift  float64
		floor  float64
	}{{5, 0, 0.01}, {5, 0.019, 0.0192}, {5, -0.03, 0.0296}, {4, 0, 0.02}, {4, 0.05, 0.0515}, {5, 0.0005, 0.01}} {
		got, _, err := gate.Calibrate(orders(c.orders, c.shift), "h", noon)
		if err != nil || math.Abs(got.Floor("p50")-c.floor) > 6e-4 || got.Floor("p90") != 0.02 {
			t.Errorf("%d orders, one %v off: floors %v and %v, %v", c.orders, c.shift, got.Floor("p50"), got.Floor("p90"), err)
		}
		if err := got.CheckMargins([]gate.Metric{m}); (err != nil) != (c.floor > 0.021) {
			t.Errorf("%d orders, one %v off: margin of 2 %%: %v", c.orders, c.shift, err)
		}
	}
	half := m
	half.Fail = 0.005
	if err := (gate.Calibration{}).CheckMargins([]gate.Metric{half}); err == nil || !strings.Contains(err.Error(), "failAbove 0.5 % is below the floor of 2 %") {
		t.Errorf("half a percent without a calibration: %v", err)
	}
	half.Name = "wire"
	if err := (gate.Calibration{}).CheckMargins([]gate.Metric{half}); err != nil {
		t.Errorf("no link order moves bytes: %v", err)
	}
}

// Margins that a policy does not name are raised to the floor, with the same gap; those that it names stay, and so does
// what no link order moves. A bundle that claims nonsense is refused.
func TestFloorsRaiseUsualMargins(t *testing.T) {
	p, err := gate.ParsePolicy([]byte(strings.Replace(policyText, "p50: {}, p90: {gating: false}", "p50: {failAbove: 2.5%}, p90: {}, wire: {gating: true}", 1)))
	if err != nil {
		t.Fatal(err)
	}
	shifts := []gate.Shift{}
	for i := range 5 {
		for _, name := range []string{"p50", "p90", "cpu", "wire"} {
			shifts = append(shifts, gate.Shift{Variant: strconv.Itoa(i), Metric: name, Change: 0.0342, Lower: 0.03, Upper: 0.04})
		}
	}
	o := gate.Options{Floors: gate.Calibration{Shifts: shifts}.Floors()}
	if _, err := gate.NewCourse(p, o); err != nil {
		t.Fatal(err)
	}
	got := map[string][2]float64{}
	for _, m := range p.MetricsFor(o) {
		got[m.Name] = [2]float64{m.Fail, m.Pass}
	}
	want := map[string][2]float64{"p50": {0.025, 0.05}, "p90": {0.035, 0.105}, "wire": {0.01, 0.02}}
	for name, w := range want {
		if g := got[name]; math.Abs(g[0]-w[0]) > 1e-12 || math.Abs(g[1]-w[1]) > 1e-12 {
			t.Errorf("%s: margins %v, want %v", name, g, w)
		}
	}
	if said := p.Raised(o); len(said) != 1 || !strings.Contains(said[0], "p90 fails above 3.5 % in place of 3 %") {
		t.Errorf("said %q", said)
	}
	if (gate.Calibration{}).Floors() != nil {
		t.Error("floors without a calibration")
	}
	if _, err := gate.NewCourse(p, gate.Options{Floors: map[string]float64{"p50": 3}}); err == nil {
		t.Error("a floor of 300 % is taken")
	}
}

// A calibration that was killed goes on; its torn last line is left out.
func TestTrialsAreAppended(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trials.jsonl")
	for _, x := range trials(3, gate.SameBuild, 0, gate.Passed) {
		if err := gate.AppendTrial(path, x); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"kind":"a/a"`); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := gate.ReadTrials(path)
	if err != nil || len(got) != 3 || got[1].Took != 2*time.Second {
		t.Errorf("%d trials, %v", len(got), err)
	}
	if err := os.WriteFile(path, []byte("{}\n{]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := gate.ReadTrials(path); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("garbage: %v", err)
	}
}

// FuzzReadTrials holds that a calibration's file of any content is read or refused, and that what was read is written and
// read again alike.
func FuzzReadTrials(f *testing.F) {
	f.Add([]byte(`{"kind":"a/a","seed":1,"ratios":{"s/p50":[0.1,-0.2]},"metrics":[{"scenario":"s","name":"p50"}]}` + "\n"))
	f.Add([]byte("{}\n{]\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		dir := t.TempDir()
		path := filepath.Join(dir, "in")
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		read, err := gate.ReadTrials(path)
		if err != nil {
			return
		}
		again := filepath.Join(dir, "out")
		for _, trial := range read {
			if err := gate.AppendTrial(again, trial); err != nil {
				t.Fatal(err)
			}
		}
		got, err := gate.ReadTrials(again)
		if err != nil || !cmp.Equal(read, got, cmpopts.EquateEmpty()) {
			t.Errorf("%v, then %v, %v", read, got, err)
		}
	})
}
