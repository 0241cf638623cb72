package suites_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/suites"
)

const goodList = `apiVersion: assay/v1
kind: KnownFailing
entries:
  - check: rpc/wire/many#a
    reason: issue 7
    expires: 2026-05-31
  - check: rpc/wire/many@proc/pause
    reason: issue 8
    expires: 2026-06-30
`

func TestKnownFailing(t *testing.T) {
	s := planSuite(t)
	list, err := suites.ReadKnownFailing("list.yaml", []byte(goodList))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := s.Plan(selection("rpc/wire"))
	if err != nil {
		t.Fatal(err)
	}
	if err := list.Apply(s, &plan, time.Date(2026, 5, 31, 23, 59, 0, 0, time.UTC)); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, p := range plan.Planned {
		if p.Expected != "" {
			got[suites.Pattern(p.Key())] = p.Expected
		}
	}
	want := map[string]string{
		"rpc/wire/many#a": "issue 7", "rpc/wire/many#a@proc/pause=0.4": "issue 8", "rpc/wire/many#b@proc/pause=0.4": "issue 8",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("expected (-want +got):\n%s", diff)
	}
	err = list.Apply(s, &plan, time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC))
	if err == nil || !strings.Contains(err.Error(), "rpc/wire/many#a expired on 2026-05-31") {
		t.Errorf("an expired entry: %v", err)
	}
}

func TestKnownFailingMatchesNothing(t *testing.T) {
	s := planSuite(t)
	list, err := suites.ReadKnownFailing("list.yaml", []byte(strings.Replace(goodList, "many#a", "many#z", 1)))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := s.Plan(selection("rpc/wire"))
	if err != nil {
		t.Fatal(err)
	}
	err = list.Apply(s, &plan, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	if !errors.Is(err, suites.ErrNoMatch) || !strings.Contains(err.Error(), "rpc/wire/many#z") {
		t.Errorf("an entry that matches nothing: %v", err)
	}
}

func TestKnownFailingIsStrict(t *testing.T) {
	edit := func(old, new string) string { return strings.Replace(goodList, old, new, 1) }
	tests := []struct{ name, text, says string }{
		{"no reason", edit("    reason: issue 7\n", ""), "entry 1 (rpc/wire/many#a)"},
		{"empty reason", edit("issue 7", `""`), "entry 1 (rpc/wire/many#a)"},
		{"no expiry", edit("    expires: 2026-06-30\n", ""), "entry 2 (rpc/wire/many@proc/pause)"},
		{"no check", edit("  - check: rpc/wire/many#a\n    reason", "  - reason"), "entry 1 ()"},
		{"unknown field", edit("reason: issue 7", "reason: issue 7\n    flaky: true"), "flaky"},
		{"unknown field at the top", goodList + "later: 1\n", "later"},
		{"no date", edit("2026-05-31", "soon"), "entry 1 (rpc/wire/many#a): expires"},
		{"no such day", edit("2026-05-31", "2026-02-30"), "expires"},
		{"newer", edit("assay/v1", "assay/v2"), `"assay/v2"`},
		{"other kind", edit("KnownFailing", "KnownFlaky"), `"KnownFlaky"`},
		{"no YAML", "{", "list.yaml"},
	}
	for _, tt := range tests {
		_, err := suites.ReadKnownFailing("list.yaml", []byte(tt.text))
		if err == nil || !strings.Contains(err.Error(), tt.says) || !strings.HasPrefix(err.Error(), "list.yaml") {
			t.Errorf("%s: error %v, want one of list.yaml that says %q", tt.name, err, tt.says)
		}
	}
}

func FuzzReadKnownFailing(f *testing.F) {
	f.Add([]byte(goodList))
	f.Add([]byte("apiVersion: assay/v1\nkind: KnownFailing\nentries: [{check: x, reason: y, expires: 2026-01-01}]"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		list, err := suites.ReadKnownFailing("f", raw)
		if err != nil {
			return
		}
		for _, e := range list.Entries {
			if e.Check == "" || e.Reason == "" || e.Expires == "" {
				t.Errorf("entry %+v was read", e)
			}
		}
	})
}
