package reports

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/assay-bench/assay/results"
)

// fault is one injection as its driver recorded it, joined with the verdict under it.
type fault struct {
	Fault, Driver, Unit, Asked, Observed string
	Witnessed                            string // yes, no, or not recorded
	Interval, Detail                     string
	Name                                 string // the case
	Status                               results.Status
	Judged                               bool
}

// faults reads the injections from the evidence. What does not decode is shown as it stands.
func faults(m *report, all []results.Evidence) []fault {
	statuses := map[results.Key]results.Status{}
	for _, r := range m.Rows {
		statuses[r.Key] = r.Status
	}
	var out []fault
	for _, e := range all {
		if e.Kind != results.Injected {
			continue
		}
		f := readFault(e)
		f.Name = clean(e.Key().String(), false)
		f.Status, f.Judged = statuses[e.Key()]
		out = append(out, f)
	}
	return out
}

func readFault(e results.Evidence) fault {
	var d struct {
		Fault, Driver, Unit, Asked, Observed, From, To, Witnessed, Detail json.RawMessage
	}
	if err := e.Decode(&d); err != nil {
		return fault{Fault: clean(e.Under, false), Witnessed: "not recorded", Detail: clean(string(e.Data), false)}
	}
	f := fault{
		Fault: scalar(d.Fault), Driver: scalar(d.Driver), Unit: scalar(d.Unit), Asked: scalar(d.Asked),
		Observed: scalar(d.Observed), Detail: scalar(d.Detail), Interval: interval(d.From, d.To),
	}
	switch scalar(d.Witnessed) {
	case "true":
		f.Witnessed = "yes"
	case "", "null":
		f.Witnessed = "not recorded"
	case "false":
		f.Witnessed = "no"
	default:
		f.Witnessed = scalar(d.Witnessed)
	}
	return f
}

// scalar prints a JSON value: strings without quotes, numbers shortened, the rest as it stands.
func scalar(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return clean(s, false)
	}
	var n float64
	if json.Unmarshal(raw, &n) == nil {
		return round(n)
	}
	return clean(string(raw), false)
}

// interval prints two times since the run began, in nanoseconds as everywhere in the evidence.
func interval(from, to json.RawMessage) string {
	var a, b time.Duration
	if json.Unmarshal(from, &a) != nil || json.Unmarshal(to, &b) != nil {
		return strings.Trim(scalar(from)+" to "+scalar(to), " to")
	}
	return seconds(a.Seconds()) + " to " + seconds(b.Seconds())
}

// Magnitude prints a magnitude with its unit.
func (f fault) Magnitude(value string) string {
	if value == "" {
		return "not recorded"
	}
	return strings.TrimSpace(value + " " + f.Unit)
}
