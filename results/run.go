package results

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// APIVersion is the version of the bundle's files. Readers ignore unknown fields and refuse another
// version.
const APIVersion = "assay/v1"

// Run is run.json: everything about a run that is known without judging it. Reports need nothing
// else but the verdicts.
type Run struct {
	APIVersion   string        `json:"apiVersion"`
	Kind         string        `json:"kind"` // run, prove or k6
	ID           string        `json:"id"`
	Tool         Tool          `json:"tool"`
	Suite        Suite         `json:"suite"`
	Target       Target        `json:"target"`
	Host         Host          `json:"host"`
	Seed         uint64        `json:"seed"`
	Profile      string        `json:"profile"`
	Patterns     []string      `json:"patterns,omitempty"`
	Basis        string        `json:"basis"` // which rows decide: standard or all
	Probing      bool          `json:"probing"`
	Started      time.Time     `json:"started"` // UTC
	Plan         []Planned     `json:"plan"`
	Requirements []Requirement `json:"requirements"`
	LeftOut      []LeftOut     `json:"leftOut,omitempty"`
	NotRun       []NotRun      `json:"notRun,omitempty"`
	AllowHosts   []string      `json:"allowHosts,omitempty"`
	Proof        *Proof        `json:"proof,omitempty"`
	Calibration  *Calibration  `json:"calibration,omitempty"` // of the load generator; nil: not calibrated
}

// Calibration is how true the load generator's latencies were found to be on this class of hosts. Errors
// are shares: 0.02 is 2 %; nil was not measured.
type Calibration struct {
	Host      string    `json:"host"`
	Version   string    `json:"version"`
	Taken     time.Time `json:"taken"`
	Unstarved *float64  `json:"unstarvedError,omitempty"` // largest at the median repetition
	Starved   *float64  `json:"starvedError,omitempty"`   // against the truth for that many workers
	Cells     int       `json:"cells"`
	Decided   int       `json:"decided"`
	Broken    []string  `json:"broken,omitempty"` // bounds that did not hold
}

// Text says it in one line, for a nil calibration too.
func (c *Calibration) Text() string {
	if c == nil {
		return "The load generator is not calibrated on this class of hosts: its error is unknown (assay calibrate load measures it)."
	}
	figure := func(e *float64) string {
		if e == nil {
			return "not measured"
		}
		return fmt.Sprintf("%.2f %%", 100**e)
	}
	text := fmt.Sprintf("Measured error of the load generator against known truth on this class of hosts: %s unstarved, %s starved (%d of %d cells decided, %s, %s).",
		figure(c.Unstarved), figure(c.Starved), c.Decided, c.Cells, c.Version, c.Taken.UTC().Format(time.DateOnly))
	if n := len(c.Broken); n > 0 {
		text += fmt.Sprintf(" %d of its bounds did not hold.", n)
	}
	return text
}

// Tool says which program wrote the bundle.
type Tool struct {
	Name     string `json:"name"`
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Go       string `json:"go"`
	OS       string `json:"os"`
	Arch     string `json:"arch"`
}

// Suite identifies the checks and requirements that the run was planned from.
type Suite struct {
	Version string `json:"version"`
	Digest  string `json:"digest"` // SHA-256 over catalogues and check declarations
}

// Target is the system under test, with what it claimed.
type Target struct {
	Name      string            `json:"name"`
	Version   string            `json:"version,omitempty"`
	Kind      string            `json:"kind"` // reference, command, remote
	Role      string            `json:"role"`
	File      string            `json:"file,omitempty"`
	Digest    string            `json:"digest,omitempty"`
	Endpoints map[string]string `json:"endpoints,omitempty"`
	Features  []string          `json:"features,omitempty"`
	Defects   []string          `json:"defects,omitempty"` // planted: such a stack can not be certified
}

// Host is the machine that ran the harness.
type Host struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Kernel string `json:"kernel"`
	Memory int64  `json:"memoryBytes"`
	Cgroup string `json:"cgroup,omitempty"`
}

// Planned is one case that the run set out to judge.
type Planned struct {
	Check     string   `json:"check"`
	Case      string   `json:"case,omitempty"`
	Under     string   `json:"under,omitempty"`
	Area      string   `json:"area"`
	Title     string   `json:"title"`
	Covers    []string `json:"covers"`
	Needs     []string `json:"needs,omitempty"`
	Standard  bool     `json:"standard"` // covers a row of basis standard
	Decides   bool     `json:"decides"`  // covers a MUST of a standard, or is about the target being what it claims
	Reproduce string   `json:"reproduce"`
	Expected  string   `json:"expected,omitempty"` // reason on the known-failing list
}

// Key returns the case.
func (p Planned) Key() Key { return Key{p.Check, p.Case, p.Under} }

// Requirement is a row of a catalogue, copied so that a bundle explains itself years later.
type Requirement struct {
	ID        string `json:"id"`
	Level     string `json:"level"`
	Basis     string `json:"basis"`
	Subject   string `json:"subject"`
	Document  string `json:"document"`
	Section   string `json:"section,omitempty"`
	Statement string `json:"statement"`
	Severity  string `json:"severity,omitempty"`
	Digest    string `json:"digest"`
}

// HouseRequirement returns a MUST of the house that stands in no catalogue: what the thresholds of a load or a
// script demand.
func HouseRequirement(id, document, statement, subject string) Requirement {
	sum := sha256.Sum256([]byte(id + "\n" + document + "\n" + statement))
	return Requirement{
		ID: id, Level: "MUST", Basis: "house", Subject: subject, Document: document, Statement: statement, Digest: hex.EncodeToString(sum[:]),
	}
}

// LeftOut is a check that the profile or the patterns did not pick.
type LeftOut struct {
	Check string `json:"check"`
	Why   string `json:"why"`
}

// NotRun is a case that this host can not run. It has no verdict.
type NotRun struct {
	Check string `json:"check"`
	Case  string `json:"case,omitempty"`
	Under string `json:"under,omitempty"`
	Probe string `json:"probe"` // the text of the probe that said so
}

// Key returns the case.
func (n NotRun) Key() Key { return Key{n.Check, n.Case, n.Under} }

// Unrunnable are the cases that one probe spoke against.
type Unrunnable struct {
	Probe string
	Cases []Key
}

// Summary names the first few cases and counts the others.
func (u Unrunnable) Summary() string {
	const most = 3
	var names []string
	for _, k := range u.Cases[:min(most, len(u.Cases))] {
		names = append(names, k.String())
	}
	if more := len(u.Cases) - most; more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(names, ", ")
}

// Unrunnable groups what this host can not run by the probe that said so, in the order of the plan.
func (r Run) Unrunnable() []Unrunnable {
	var out []Unrunnable
	at := map[string]int{}
	for _, n := range r.NotRun {
		i, known := at[n.Probe]
		if !known {
			i = len(out)
			at[n.Probe] = i
			out = append(out, Unrunnable{Probe: n.Probe})
		}
		out[i].Cases = append(out[i].Cases, n.Key())
	}
	return out
}

// Proof is the outcome of assay prove: which planted defects the suite's checks caught.
type Proof struct {
	SuiteDigest  string       `json:"suiteDigest"`
	Started      time.Time    `json:"started"`
	Defects      []ProvedKill `json:"kills"`
	Survivors    []string     `json:"survivors"`
	Unshown      []string     `json:"unshown,omitempty"` // cases and reasons that no planted defect was seen to reach
	Open         []string     `json:"open,omitempty"`    // what this host was too noisy to show
	Hollow       []Hollow     `json:"hollow"`
	Faults       []NullFault  `json:"nullFaults"`
	Requirements int          `json:"requirements"`
	Covered      int          `json:"covered"`
	Proven       int          `json:"proven"`
}

// ProvedKill is one cell of the kill matrix.
type ProvedKill struct {
	Defect   string `json:"defect"`
	Check    string `json:"check"`
	Case     string `json:"case,omitempty"`
	Under    string `json:"under,omitempty"`
	Reason   string `json:"reason"`
	Observed string `json:"observed"` // status and reason that the defect produced
	Killed   bool   `json:"killed"`
	Missed   int    `json:"missed,omitempty"` // trials of the defect that did not kill it
	Trials   int    `json:"trials,omitempty"` // of them in all, when one missed it
}

// Hollow is the score of a target that implements nothing.
type Hollow struct {
	Target   string         `json:"target"`
	Executed int            `json:"executed"`
	Counts   map[string]int `json:"counts"`
}

// NullFault is a check run under a fault that does nothing; it must end Inconclusive.
type NullFault struct {
	Check    string `json:"check"`
	Fault    string `json:"fault"`
	Observed string `json:"observed"`
	Held     bool   `json:"held"`
}

// Verdicts is verdicts.json.
type Verdicts struct {
	APIVersion  string    `json:"apiVersion"`
	SuiteDigest string    `json:"suiteDigest"`
	Exit        Exit      `json:"exit"`
	Executed    int       `json:"executed"` // verdicts that rest on driven evidence
	Verdicts    []Verdict `json:"verdicts"`
}

// Count returns how many verdicts have the status.
func (v Verdicts) Count(s Status) int {
	n := 0
	for _, x := range v.Verdicts {
		if x.Status == s {
			n++
		}
	}
	return n
}

// version reads just the apiVersion of a file of the bundle.
func version(raw []byte) (string, error) {
	var head struct {
		APIVersion string `json:"apiVersion"`
	}
	err := json.Unmarshal(raw, &head)
	return head.APIVersion, err
}
