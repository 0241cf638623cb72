package results

import (
	"testing"

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
