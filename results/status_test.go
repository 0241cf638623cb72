package results_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/results"
)

func TestStatusZeroValueIsUnproven(t *testing.T) {
	var v results.Verdict
	if v.Status != results.Unproven {
		t.Errorf("the zero value is %s: what was never decided can be mistaken for something", v.Status)
	}
	if err := json.Unmarshal([]byte(`{"check":"a"}`), &v); err != nil || v.Status != results.Unproven {
		t.Errorf("a verdict without status reads as %s, %v", v.Status, err)
	}
}

func TestStatusNames(t *testing.T) {
	want := map[results.Status]string{
		results.Unproven: "unproven", results.Pass: "pass", results.Fail: "fail",
		results.NotClaimed: "not-claimed", results.Inconclusive: "inconclusive", results.Broken: "broken",
	}
	got := map[results.Status]string{}
	for _, s := range results.Statuses() {
		text, err := s.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		got[s] = string(text)
		var back results.Status
		if err := back.UnmarshalText(text); err != nil || back != s {
			t.Errorf("%s reads back as %s, %v", s, back, err)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
}

func TestStatusUnknownIsRefused(t *testing.T) {
	for _, text := range []string{"", "PASS", "passed", "status(9)", "pass "} {
		var s results.Status
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was read as %s", text, s)
		}
	}
	if text, err := results.Status(6).MarshalText(); err == nil {
		t.Errorf("status 6 was written as %q", text)
	}
	if got := results.Status(6).String(); got != "status(6)" {
		t.Errorf("status 6 prints as %q", got)
	}
}
