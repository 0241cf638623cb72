package reports

import (
	"fmt"
	"strings"

	"github.com/assay-bench/assay/results"
)

// outcome is the verdict on the whole run.
type outcome struct {
	Exit     results.Exit
	Word     string
	Class    string // for style: pass, fail, inconclusive, broken
	Sentence string
}

// uncertifiable is what a report says loudly of a stack with planted defects.
const uncertifiable = "planted defects: this stack can not be certified"

// decide words the outcome. Each word has its own branch; success is never what is left over.
func decide(m *report, exit results.Exit) outcome {
	if m.Run.Kind == "prove" && m.Run.Proof != nil {
		return decideProof(*m.Run.Proof)
	}
	t := m.Tally
	o := outcome{Exit: exit}
	switch {
	case exit == results.ExitFail:
		o.Word, o.Class = "fail", "fail"
		o.Sentence = fmt.Sprintf("%d of %s failed.", t.Red(), checks(t.Executed, "executed"))
	case exit == results.ExitHarness && m.Killed && t.Unproven > 0:
		o.Word, o.Class = "unfinished", "broken"
		o.Sentence = fmt.Sprintf("The run ended before it was judged: %s unproven.", are(t.Unproven, "planned check"))
	case exit == results.ExitHarness && t.Executed == 0 && t.Broken == 0:
		o.Word, o.Class = "nothing proven", "broken"
		o.Sentence = "Nothing was executed, so this run says nothing about the target."
	case exit == results.ExitHarness && t.Broken+t.Unproven > 0:
		o.Word, o.Class = "incomplete", "broken"
		o.Sentence = fmt.Sprintf("%s did not come to an end (%d broken, %d unproven), so the run as a whole proves nothing yet.",
			checks(t.Broken+t.Unproven, ""), t.Broken, t.Unproven)
	case exit == results.ExitInconclusive:
		o.Word, o.Class = "inconclusive", "inconclusive"
		o.Sentence = fmt.Sprintf("%d of %s could not be decided; none that counts failed.", t.Inconclusive-t.HouseOpens, checks(t.Executed, "executed"))
	case exit == results.ExitPass && t.Pass > 0:
		o.Word, o.Class = "pass", "pass"
		o.Sentence = fmt.Sprintf("%d of %s passed, and none that counts failed.", t.Pass, checks(t.Executed, "executed"))
	default:
		o.Word, o.Class = "nothing passed", "broken"
		o.Sentence = "No check that drives the target passed, so this run is no success."
	}
	if aside := asides(t); aside != "" {
		o.Sentence += " " + aside
	}
	if len(m.Run.Target.Defects) > 0 && o.Class == "pass" {
		o.Word, o.Class = "pass, not certifiable", "inconclusive"
	}
	return o
}

// asides names the failures that stand outside the count.
func asides(t tally) string {
	var parts []string
	if t.Known > 0 {
		parts = append(parts, fmt.Sprintf("%d known failing", t.Known))
	}
	if t.House > 0 {
		parts = append(parts, fmt.Sprintf("%d of a house rule", t.House))
	}
	if len(parts) == 0 {
		return ""
	}
	return "Failures outside the count: " + strings.Join(parts, ", ") + "."
}

func checks(n int, kind string) string {
	return plural(n, strings.TrimSpace(kind+" check"))
}

func plural(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

func are(n int, noun string) string {
	if n == 1 {
		return plural(n, noun) + " is"
	}
	return plural(n, noun) + " are"
}

// decideProof is the outcome of assay prove: the suite under test, not a target.
func decideProof(p results.Proof) outcome {
	var vacuous, loose int
	for _, h := range p.Hollow {
		if h.Executed == 0 || h.Counts[results.Pass.String()] > 0 || h.Counts[results.Broken.String()] > 0 {
			vacuous++
		}
	}
	for _, f := range p.Faults {
		if !f.Held {
			loose++
		}
	}
	missed := survived(p)
	switch {
	case len(p.Defects) == 0:
		return outcome{results.ExitHarness, "nothing proven", "broken", "No planted defect was tried, so this says nothing about the suite."}
	case missed+vacuous+loose > 0:
		return outcome{results.ExitFail, "fail", "fail", fmt.Sprintf(
			"The suite missed %d of %d kills, %d of %d hollow targets scored, and %d of %d null faults were not noticed.",
			missed, len(p.Defects), vacuous, len(p.Hollow), loose, len(p.Faults))}
	}
	if len(p.Open) > 0 {
		return outcome{results.ExitInconclusive, "inconclusive", "inconclusive", fmt.Sprintf(
			"Each of %d planted defects turned its checks red, but %s of the clean reference could not be decided on this host.",
			planted(p), plural(len(p.Open), "case"))}
	}
	return outcome{results.ExitPass, "pass", "pass", fmt.Sprintf(
		"Each of %d planted defects turned its checks red, and no hollow target scored.", planted(p))}
}

// planted counts the defects of the kill matrix; a defect may have to kill several cases.
func planted(p results.Proof) int {
	names := map[string]bool{}
	for _, k := range p.Defects {
		names[k.Defect] = true
	}
	return len(names)
}

// survived counts what no check caught, by the matrix and by the list: the larger one holds.
func survived(p results.Proof) int {
	missed := 0
	for _, k := range p.Defects {
		if !k.Killed {
			missed++
		}
	}
	return max(missed, len(p.Survivors))
}

// verdictLine is the last line of a run.
func (m *report) verdictLine() string {
	line := fmt.Sprintf("%s: %s", strings.ToUpper(m.Outcome.Word), m.Outcome.Sentence)
	if len(m.Run.Target.Defects) > 0 {
		line += " (" + uncertifiable + ")"
	}
	return fmt.Sprintf("%s [exit %d]", line, m.Outcome.Exit)
}
