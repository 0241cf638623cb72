package reports

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf16"

	"github.com/assay-bench/assay/results"
)

// data is report.json: the run, its verdicts and its numbers for tools, without the evidence.
// Strings stand as recorded, at full length.
type data struct{}

var _ = add(data{})

func (data) Name() string { return "json" }
func (data) File() string { return "report.json" }

type document struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Bundle     string            `json:"bundle"` // SHA-256 of the manifest, or that it is not sealed
	Summary    summary           `json:"summary"`
	Estimates  []distribution    `json:"estimates"`
	Loads      []measuredLoad    `json:"loads,omitempty"` // of assay load: one, or the steps of a sweep
	Curve      *loadCurve        `json:"curve,omitempty"` // of a sweep
	Verdicts   []results.Verdict `json:"verdicts"`
	Run        results.Run       `json:"run"`
}

type summary struct {
	Outcome      string        `json:"outcome"`
	Sentence     string        `json:"sentence"`
	Exit         results.Exit  `json:"exit"`
	Certifiable  bool          `json:"certifiable"` // no planted defects
	Killed       bool          `json:"killed"`
	Torn         bool          `json:"torn"`
	Total        counts        `json:"total"`
	Areas        []areaSummary `json:"areas"`
	Plan         string        `json:"plan"`
	Reproduction string        `json:"reproduce"`
}

type areaSummary struct {
	Area     string `json:"area"`
	Standard counts `json:"standard"`
	House    counts `json:"house"`
}

type counts struct {
	Verdicts     int `json:"verdicts"`
	Executed     int `json:"executed"`
	Pass         int `json:"pass"`
	Fail         int `json:"fail"`
	Inconclusive int `json:"inconclusive"`
	NotClaimed   int `json:"notClaimed"`
	Broken       int `json:"broken"`
	Unproven     int `json:"unproven"`
	KnownFailing int `json:"knownFailing"` // of fail: on the known-failing list
	HouseFailing int `json:"houseFailing"` // of fail: house rules that do not count
}

func (t tally) counts() counts {
	return counts{t.Total, t.Executed, t.Pass, t.Fail, t.Inconclusive, t.NotClaimed, t.Broken, t.Unproven, t.Known, t.House}
}

func (data) Write(w io.Writer, b *results.Bundle) error {
	m := build(b)
	doc := document{
		APIVersion: results.APIVersion, Kind: "report", Bundle: m.Digest, Run: b.Run,
		Estimates: distributions(b), Verdicts: make([]results.Verdict, 0, len(m.verdicts)),
		Summary: summary{
			Outcome: m.Outcome.Word, Sentence: m.Outcome.Sentence, Exit: m.Outcome.Exit,
			Certifiable: len(b.Run.Target.Defects) == 0, Killed: m.Killed, Torn: m.Torn,
			Total: m.Tally.counts(), Areas: []areaSummary{}, Plan: m.Plan(), Reproduction: rerun(m.Run),
		},
	}
	if m.IsLoad() {
		v := viewLoad(m, b.Evidence)
		doc.Loads, doc.Curve = v.Steps, v.Curve
	}
	for _, a := range m.areas() {
		doc.Summary.Areas = append(doc.Summary.Areas, areaSummary{a,
			count(m.rows(func(r row) bool { return r.Area == a && r.Standard })).counts(),
			count(m.rows(func(r row) bool { return r.Area == a && !r.Standard })).counts()})
	}
	for _, v := range m.verdicts {
		v.Exchange = nil // decoded evidence; the numbers that it cites stay
		doc.Verdicts = append(doc.Verdicts, v)
	}
	raw, err := results.MarshalIndent(doc)
	if err != nil {
		return fmt.Errorf("report.json: %w", err)
	}
	_, err = io.WriteString(w, quiet(string(raw)))
	return err
}

// quiet writes the hidden characters that JSON allows in strings as escapes, so that a file printed
// to a terminal can not steer it. All of them stand in strings: JSON has none elsewhere.
func quiet(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r < 0x80 && r != 0x7f || !hidden(r):
			b.WriteRune(r)
		case r > 0xffff:
			hi, lo := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, hi, lo)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}
