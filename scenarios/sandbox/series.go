package sandbox

import (
	"strings"
	"time"

	"github.com/assay-bench/assay/scenarios"
)

// Series is the evidence of many calls in a row, or at once.
type Series struct {
	Name string        `json:"name"` // within the case
	Each []Trial       `json:"each"`
	Took time.Duration `json:"took"` // in all
}

// Trial is one of them.
type Trial struct {
	What     string        `json:"what,omitempty"` // function and arguments, or what was done
	At       time.Duration `json:"at"`             // when it began, since the series did
	Took     time.Duration `json:"took"`
	Status   int           `json:"status"`             // 0: no answer of the API
	Broken   string        `json:"broken,omitempty"`   // why
	Version  uint64        `json:"version,omitempty"`  // that the target says it served
	Results  []string      `json:"results,omitempty"`  // that the function returned
	Output   Digest        `json:"output,omitzero"`    // of the buffer ABI
	Foreign  int           `json:"foreign,omitempty"`  // bytes of the output that are not this caller's
	Class    string        `json:"class,omitempty"`    // of a trap
	Instance string        `json:"instance,omitempty"` // that served it
	Fuel     int64         `json:"fuel,omitempty"`
}

// TrialOf says what came of a call that is not recorded by itself.
func TrialOf(what string, at time.Duration, c Call) Trial {
	t := Trial{What: what, At: at, Took: c.Took, Status: c.Status, Broken: c.Broken}
	if !c.Answered() {
		t.Status = 0
	}
	var in Invoked
	if c.Read(&in) {
		t.Version, t.Instance, t.Fuel = in.Version, clip(in.Instance), in.Fuel
		for _, r := range in.Results[:min(len(in.Results), 16)] {
			t.Results = append(t.Results, clip(r))
		}
		if len(in.Output) > 0 {
			t.Output = DigestOf(in.Output)
		}
	}
	if p, ok := c.Problem(); ok {
		t.Class, t.Instance = clip(p.Class), clip(p.Instance)
	}
	return t
}

// Result is the one result of a call, or all of them.
func (t Trial) Result() string { return strings.Join(t.Results, " ") }

// RecordSeries records calls that were made.
func RecordSeries(env *scenarios.Env, s Series) error { return env.Record(Tried, s) }
