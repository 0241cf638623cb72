package results

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestUnrunnableGroupsByProbe(t *testing.T) {
	r := Run{NotRun: []NotRun{
		{"a", "1", "", "no TPM"}, {"b", "", "net/loss", "no tc"}, {"a", "2", "", "no TPM"}, {"c", "", "", "no TPM"}, {"d", "", "", "no TPM"}, {"e", "", "", "no TPM"},
	}}
	var got []string
	for _, u := range r.Unrunnable() {
		got = append(got, u.Probe+": "+u.Summary())
	}
	if diff := cmp.Diff([]string{"no TPM: a#1, a#2, c, and 2 more", "no tc: b under net/loss"}, got); diff != "" {
		t.Errorf("groups (-want +got):\n%s", diff)
	}
}

func TestCalibrationText(t *testing.T) {
	var none *Calibration
	if got := none.Text(); !strings.Contains(got, "not calibrated") {
		t.Errorf("without a calibration: %q", got)
	}
	e := 0.0123
	c := &Calibration{Host: "h", Version: "v1", Taken: time.Unix(0, 0), Unstarved: &e, Cells: 5, Decided: 3, Broken: []string{"x"}}
	want := "Measured error of the load generator against known truth on this class of hosts: 1.23 % unstarved, not measured starved (3 of 5 cells decided, v1, 1970-01-01). 1 of its bounds did not hold."
	if got := c.Text(); got != want {
		t.Errorf("text %q, want %q", got, want)
	}
}
