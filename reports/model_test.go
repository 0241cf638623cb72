package reports

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/assay-bench/assay/results"
	"github.com/google/go-cmp/cmp"
)

func TestFormats(t *testing.T) {
	want := map[string]string{
		"html": "report.html", "markdown": "report.md", "json": "report.json", "junit": "junit.xml",
		"conformance": "conformance.yaml", "text": "", "headline": "",
	}
	got := map[string]string{}
	last := ""
	for _, f := range All() {
		got[f.Name()] = File(f)
		if f.Name() < last {
			t.Errorf("%s stands behind %s", f.Name(), last)
		}
		last = f.Name()
		if same, err := Find(f.Name()); err != nil || same != f {
			t.Errorf("Find(%q) = %v, %v", f.Name(), same, err)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("formats (-want +got):\n%s", diff)
	}
	if _, err := Find("docx"); err == nil || !strings.Contains(err.Error(), "conformance, headline, html") {
		t.Errorf("Find(docx): %v", err)
	}
	defer func() {
		if recover() == nil {
			t.Error("a second format of one name is taken")
		}
	}()
	add(text{})
}

func TestOutcome(t *testing.T) {
	with := func(kind string, statuses ...results.Status) *results.Bundle {
		b := &results.Bundle{Run: run(), Verdicts: &results.Verdicts{}}
		for i, s := range statuses {
			r := rows()[3]
			if kind == "house" {
				r = rows()[7]
			}
			r.check += string(rune('a' + i))
			r.verdict = results.Verdict{Status: s, Reason: "r", Cites: []uint64{1}}
			if kind == "known" {
				r.verdict.Expected = "known"
			}
			r.add(b)
		}
		return b
	}
	proven := func(edit func(*results.Proof)) *results.Bundle {
		b := passing()
		b.Run.Kind, b.Run.Proof = "prove", proof()
		b.Run.Proof.Survivors, b.Run.Proof.Defects = nil, b.Run.Proof.Defects[:2]
		edit(b.Run.Proof)
		return b
	}
	for _, c := range []struct {
		name   string
		bundle *results.Bundle
		exit   results.Exit
		word   string
	}{
		{"pass", with("", results.Pass), results.ExitPass, "pass"},
		{"fail", with("", results.Pass, results.Fail, results.Broken, results.Inconclusive), results.ExitFail, "fail"},
		{"broken", with("", results.Pass, results.Broken, results.Inconclusive), results.ExitHarness, "incomplete"},
		{"only broken", with("", results.Broken), results.ExitHarness, "incomplete"},
		{"unproven", with("", results.Pass, results.Unproven), results.ExitHarness, "incomplete"},
		{"inconclusive", with("", results.Pass, results.Inconclusive), results.ExitInconclusive, "inconclusive"},
		{"not claimed", with("", results.NotClaimed), results.ExitHarness, "nothing proven"},
		{"none", with(""), results.ExitHarness, "nothing proven"},
		{"known", with("known", results.Fail), results.ExitHarness, "nothing passed"},
		{"house", with("house", results.Pass, results.Fail), results.ExitPass, "pass"},
		{"planted", defective(), results.ExitPass, "pass, not certifiable"},
		{"killed", killed(), results.ExitHarness, "unfinished"},
		{"proven", proven(func(*results.Proof) {}), results.ExitPass, "pass"},
		{"survivor", proven(func(p *results.Proof) { p.Survivors = []string{"x"} }), results.ExitFail, "fail"},
		{"open", proven(func(p *results.Proof) { p.Open = []string{"x"} }), results.ExitInconclusive, "inconclusive"},
		{"not killed", proven(func(p *results.Proof) { p.Defects[0].Killed = false }), results.ExitFail, "fail"},
		{"hollow pass", proven(func(p *results.Proof) { p.Hollow[0].Counts["pass"] = 1 }), results.ExitFail, "fail"},
		{"null fault", proven(func(p *results.Proof) { p.Faults[0].Held = false }), results.ExitFail, "fail"},
		{"no defect", proven(func(p *results.Proof) { p.Defects = nil }), results.ExitHarness, "nothing proven"},
	} {
		got := build(c.bundle).Outcome
		if got.Exit != c.exit || got.Word != c.word || got.Sentence == "" || got.Class == "" {
			t.Errorf("%s: %+v, want exit %d and %q", c.name, got, c.exit, c.word)
		}
		if (got.Class == "pass") != (c.word == "pass") {
			t.Errorf("%s: class %q for %q", c.name, got.Class, got.Word)
		}
		summary := strings.TrimSpace(render(t, text{}, c.bundle))
		last := summary[strings.LastIndexByte(summary, '\n')+1:]
		if !strings.HasPrefix(last, strings.ToUpper(c.word)+": ") {
			t.Errorf("%s: the last line is %q", c.name, last)
		}
	}
}

// TestNothingExecutedIsNoSuccess looks at every view of runs that executed nothing.
func TestNothingExecutedIsNoSuccess(t *testing.T) {
	for _, f := range All() {
		for _, s := range []sampleBundle{{"empty", empty}, {"killed", killed}} {
			got := strings.ToLower(render(t, f, s.bundle()))
			for _, bad := range []string{`result: "success"`, "assay: pass", `"outcome": "pass"`, "\npass:", ">pass</p>", `<p class="word">pass`, `errors="0"`} {
				if strings.Contains(got, bad) {
					t.Errorf("%s of %s says %q", f.Name(), s.name, bad)
				}
			}
		}
	}
	if len(All()) < 6 {
		t.Fatalf("%d formats only", len(All()))
	}
}

// TestProblemsCanBePasted looks for the whole of a failure in each view that explains failures.
func TestProblemsCanBePasted(t *testing.T) {
	m := build(mixed())
	seen := 0
	for _, g := range m.problems() {
		for _, r := range g.Rows {
			seen++
			issue := m.issue(r, 1<<10)
			for _, want := range []string{r.Rule().ID, r.Rule().Level, r.Rule().Basis, r.Rule().Document, r.Reason, r.Why.Observed, r.Why.Reproduce, ranges(r.Cites), digest} {
				if want == "" || !strings.Contains(issue, want) {
					t.Errorf("%s: %q is not in its text:\n%s", r.Name, want, issue)
				}
			}
		}
	}
	if seen != 5 {
		t.Errorf("%d problems, want 5", seen)
	}
	first := m.problems()[0].Rows[0]
	if !first.Red() {
		t.Errorf("the first problem is %s, want the failure that counts", first.Name)
	}
}

func TestBundleIsNotChanged(t *testing.T) {
	a := attacks()[5]
	b, same := hostile(a), hostile(a)
	for _, f := range All() {
		render(t, f, b)
	}
	if diff := cmp.Diff(same, b); diff != "" {
		t.Errorf("rendering changed the bundle:\n%s", diff)
	}
}

func TestNotRunHasNoVerdict(t *testing.T) {
	b := mixed()
	b.Run.Plan = append(b.Run.Plan, results.Planned{Check: "rpc/fault/loss", Under: "net/loss", Area: "rpc", Standard: true, Decides: true})
	if got, want := build(b).Tally, build(mixed()).Tally; got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	b.Run.Plan = append(b.Run.Plan, results.Planned{Check: "rpc/wire/forgotten", Area: "rpc", Standard: true, Decides: true})
	if got := build(b).Tally.Unproven; got != 2 {
		t.Errorf("%d unproven, want the forgotten case among 2", got)
	}
}

func TestJSON(t *testing.T) {
	var doc document
	dec := json.NewDecoder(strings.NewReader(render(t, data{}, mixed())))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&doc); err != nil {
		t.Fatal(err)
	}
	if doc.Summary.Total != build(mixed()).Tally.counts() || len(doc.Verdicts) != 10 || len(doc.Estimates) != 1 {
		t.Errorf("summary %+v, %d verdicts, %d estimates", doc.Summary, len(doc.Verdicts), len(doc.Estimates))
	}
	for _, v := range doc.Verdicts {
		if len(v.Exchange) > 0 {
			t.Errorf("%s carries evidence", v.Key())
		}
	}
	attack := "\u009b\u202e\x7f\x1b\U000e0041"
	raw := render(t, data{}, hostile(attack))
	if strings.ContainsAny(raw, attack) {
		t.Error("a hidden character stands in the file")
	}
	if err := json.Unmarshal([]byte(raw), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.Run.Target.Name != attack {
		t.Errorf("name %q, want %q", doc.Run.Target.Name, attack)
	}
}

// TestHostileLines checks that no string forges a line or steers a terminal.
func TestHostileLines(t *testing.T) {
	reference := text{}
	seen := 0
	for i, a := range attacks() {
		for _, f := range All() {
			got := render(t, f, hostile(a))
			seen++
			if !utf8.ValidString(got) {
				t.Errorf("attack %d: %s is not UTF-8", i, f.Name())
			}
			if strings.ContainsAny(got, "\x1b\x00\r\u009b\u202e") {
				t.Errorf("attack %d: %s has a control character", i, f.Name())
			}
			if f.Name() != "json" && len(got) > 3<<20 {
				t.Errorf("attack %d: %s has %d bytes", i, f.Name(), len(got))
			}
		}
		summary := render(t, reference, hostile(a))
		if strings.Contains(summary, "\nPASS: all good") {
			t.Errorf("attack %d forges the verdict line", i)
		}
		if want := strings.Count(render(t, reference, hostile("x")), "\n"); strings.Count(summary, "\n") != want {
			t.Errorf("attack %d: %d lines, want %d", i, strings.Count(summary, "\n"), want)
		}
	}
	if seen == 0 {
		t.Fatal("no attack")
	}
}

// TestLongStringsAreCut gives two strings of several megabytes to every view for people.
func TestLongStringsAreCut(t *testing.T) {
	b := mixed()
	long := strings.Repeat("A`|<", 1<<20)
	b.Run.Target.Name, b.Verdicts.Verdicts[9].Why.Observed = long, long
	for _, f := range All() {
		got := render(t, f, b)
		if f.Name() == "json" {
			continue // for tools: as recorded
		}
		if len(got) > 128<<10 {
			t.Errorf("%s has %d bytes", f.Name(), len(got))
		}
		if !strings.Contains(got, "cut, 4194304 bytes in all") && f.Name() != "headline" {
			t.Errorf("%s does not say that it cut", f.Name())
		}
	}
	if len(All()) < 6 {
		t.Fatalf("%d formats only", len(All()))
	}
}

func TestDump(t *testing.T) {
	got := dump(strings.Repeat("00", 40), 40)
	want := "  0000  " + strings.TrimSpace(strings.Repeat("00000000 ", 8)) + "\n  0020  00000000 00000000\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := dump(strings.Repeat("ab", 70_000), 70_000); !strings.HasSuffix(got, "… cut, 1024 of 70000 bytes shown: see the bundle\n") || len(got) > 4<<10 {
		t.Errorf("not cut: %d bytes, ends %q", len(got), got[len(got)-80:])
	}
	if got := dump("xyzw", 2); !strings.Contains(got, "not hexadecimal") {
		t.Errorf("dump of no hex: %q", got)
	}
}

func TestWords(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{ranges([]uint64{1, 2, 3, 7, 9, 10}), "1-3, 7, 9-10"},
		{ranges(nil), ""},
		{seconds(0.0123456), "12.35 ms"},
		{seconds(0.000000999), "999 ns"},
		{seconds(61), "61 s"},
		{seconds(0), "0 s"},
		{round(123456), "123456"},
		{round(0.041), "0.041"},
		{percentile(0.99999), "p99.999"},
		{percentile(0.5), "p50"},
		{shell("a b'c"), `'a b'\''c'`},
		{shell("rpc/wire/*"), `'rpc/wire/*'`},
		{shell("--seed"), "--seed"},
		{shell(""), "''"},
		{prose("RFC 9113 section 3.4"), "RFC 9113 section 3.4"},
		{prose("see #12"), "`see #12`"},
		{prose("at most < 5 s"), "at most &lt; 5 s"},
		{stamp(1500 * time.Microsecond), "0.001500 s"},
		{clean("a\tb\x00\u2028\u200b", false), `a\tb\x00\u{2028}\u{200b}`},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

func FuzzClean(f *testing.F) {
	for _, a := range attacks()[:9] {
		f.Add(a, true)
		f.Add(a, false)
	}
	f.Fuzz(func(t *testing.T, s string, lines bool) {
		got := clean(s, lines)
		if !utf8.ValidString(got) || len(got) > maxText+100 {
			t.Errorf("%d bytes, valid %v", len(got), utf8.ValidString(got))
		}
		if clean(got, lines) != got && len(got) < maxLine {
			t.Errorf("cleaning twice changes %q", got)
		}
		for _, r := range got {
			if hidden(r) && !(lines && (r == '\n' || r == '\t')) {
				t.Errorf("%q is left in", r)
			}
		}
	})
}

// FuzzFault reads the data of injections, which drivers write and a crafted bundle may hold.
func FuzzFault(f *testing.F) {
	f.Add([]byte(`{"fault":"net/loss","asked":0.01,"observed":0.0098,"from":1,"to":2,"witnessed":true}`))
	f.Add([]byte(`{"fault":{"a":[1]},"asked":null,"from":"soon"}`))
	f.Add([]byte(`[]`))
	f.Add([]byte(`not JSON`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e := results.Evidence{Kind: results.Injected, Data: raw}
		one := readFault(e)
		if one.Witnessed == "" || one.Witnessed == "yes" && !bytes.Contains(bytes.ToLower(raw), []byte("true")) {
			t.Errorf("witnessed %q from %q", one.Witnessed, raw)
		}
	})
}

// FuzzTranscript reads hex and decoded text as a crafted bundle may hold them.
func FuzzTranscript(f *testing.F) {
	f.Add("00ff", 2, "PING")
	f.Add("0", 1<<40, "a\nb")
	f.Add("zz", -1, "")
	f.Fuzz(func(t *testing.T, digits string, n int, decoded string) {
		e := scrub(results.Exchange{Hex: digits, Len: n, Decoded: decoded, Kind: results.Sent})
		if got := transcript([]results.Exchange{e, e}, 1); len(got) > 32<<10 || !utf8.ValidString(got) {
			t.Errorf("%d bytes", len(got))
		}
	})
}
