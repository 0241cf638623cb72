package reports

import (
	"fmt"
	"strings"

	"github.com/assay-bench/assay/results"
)

// profiled is the kind of evidence that profiles of both sides leave.
const profiled results.Kind = "profiled"

// gateProfile is how the profiles of both sides differ, as it stands in evidence.
type gateProfile struct {
	Scenario  string     `json:"scenario"`
	Of        string     `json:"of"` // cpu or allocs
	Files     [2]string  `json:"files"`
	Calls     [2]float64 `json:"calls"`
	Total     [2]float64 `json:"total"`
	Functions []struct {
		Name  string     `json:"name"`
		Self  [2]float64 `json:"self"`
		Share [2]float64 `json:"share"`
		With  [2]float64 `json:"with"`
	} `json:"functions"`
}

func (v *gateView) addProfile(e results.Evidence) error {
	var p gateProfile
	if err := e.Decode(&p); err != nil {
		return err
	}
	v.Profiles = append(v.Profiles, scrub(p))
	return nil
}

// Title says what was profiled.
func (p gateProfile) Title() string {
	if p.Of == "cpu" {
		return "Processor time of " + p.Scenario
	}
	return "Bytes allocated by " + p.Scenario
}

// Note says how much the profiles cover, and where they are.
func (p gateProfile) Note() string {
	return fmt.Sprintf("%s over %.0f calls of the baseline, %s over %.0f of the candidate. Files of the bundle: %s.",
		p.amount(p.Total[0]), p.Calls[0], p.amount(p.Total[1]), p.Calls[1], strings.Join(p.Files[:], ", "))
}

func (p gateProfile) amount(v float64) string {
	if p.Of == "cpu" {
		if v == 0 {
			return "0 s"
		}
		return seconds(v)
	}
	return round(v) + " B"
}

// profileLine is one function.
type profileLine struct {
	Name  string
	Cells []profileCell
}

type profileCell struct{ Head, Text string }

// Lines are the functions in the order of the evidence.
func (p gateProfile) Lines() []profileLine {
	var out []profileLine
	for _, f := range p.Functions {
		change := f.Self[1] - f.Self[0]
		sign := "+"
		if change < 0 {
			sign, change = "−", -change
		}
		share := func(v float64) string { return fmt.Sprintf("%.1f %%", 100*v) }
		out = append(out, profileLine{f.Name, []profileCell{
			{"change", sign + p.amount(change)}, {"self, baseline", p.amount(f.Self[0])}, {"self, candidate", p.amount(f.Self[1])},
			{"share, baseline", share(f.Share[0])}, {"share, candidate", share(f.Share[1])},
			{"with calls, baseline", p.amount(f.With[0])}, {"with calls, candidate", p.amount(f.With[1])},
		}})
	}
	return out
}

// mostNamed is how many functions a comment names.
const mostNamed = 5

// profileMarkdown names the functions that changed most.
func (v gateView) profileMarkdown(p *paper) {
	for _, prof := range v.Profiles {
		p.say("\n%s, functions by change of their own part in a call:\n", prose(prof.Title()))
		var rows [][]string
		lines := prof.Lines()
		for _, l := range lines[:min(mostNamed, len(lines))] {
			rows = append(rows, []string{l.Name, l.Cells[0].Text, l.Cells[1].Text, l.Cells[2].Text, l.Cells[3].Text, l.Cells[4].Text})
		}
		markdownTable(p, []string{"function", "change", "baseline", "candidate", "share before", "share after"}, rows)
	}
}
