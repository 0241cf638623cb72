package results

import (
	"errors"
	"fmt"
	"time"
)

// Verdict is the outcome of judging one case in fair weather or under one fault.
type Verdict struct {
	Check    string     `json:"check"`
	Case     string     `json:"case,omitempty"`
	Under    string     `json:"under,omitempty"`
	Status   Status     `json:"status"`
	Reason   string     `json:"reason,omitempty"`   // from the check's closed set
	Cites    []uint64   `json:"cites,omitempty"`    // numbers of the evidence it rests on
	Expected string     `json:"expected,omitempty"` // reason from a known-failing list: still Fail
	Why      Why        `json:"why"`
	Exchange []Exchange `json:"exchange,omitempty"` // for all but Pass and NotClaimed: the traffic, decoded
	Figures  []Figure   `json:"figures,omitempty"`
	Frame    bool       `json:"frame,omitempty"` // on the run as a whole: nothing was driven for it
}

// Why tells a reader what a verdict rests on.
type Why struct {
	Expected  string `json:"expected,omitempty"`
	Observed  string `json:"observed,omitempty"`
	Reproduce string `json:"reproduce,omitempty"`
}

// Exchange is one piece of cited evidence, decoded for people.
type Exchange struct {
	Seq     uint64        `json:"seq"`
	At      time.Duration `json:"at"`
	From    Source        `json:"from"`
	Kind    Kind          `json:"kind"`
	Hex     string        `json:"hex,omitempty"`
	Len     int           `json:"len,omitempty"`
	Decoded string        `json:"decoded,omitempty"`
}

// Figure is a number that a verdict carries into reports.
type Figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"` // seconds, bytes, ratio, or empty for a count
}

// Key returns what the verdict is about.
func (v Verdict) Key() Key { return Key{v.Check, v.Case, v.Under} }

// ErrUncited is wrapped by Validate for a Pass that cites nothing.
var ErrUncited = errors.New("a pass must cite evidence")

// Validate refuses verdicts that prove nothing: a Pass without evidence, a Fail without a reason,
// and citations of evidence above last, the number of the newest evidence.
func (v Verdict) Validate(last uint64) error {
	switch {
	case v.Check == "":
		return errors.New("verdict without a check")
	case v.Status == Pass && len(v.Cites) == 0:
		return fmt.Errorf("%s: %w", v.Key(), ErrUncited)
	case (v.Status == Fail || v.Status == Inconclusive || v.Status == Broken) && v.Reason == "":
		return fmt.Errorf("%s: %s without a reason", v.Key(), v.Status)
	}
	for _, n := range v.Cites {
		if n == 0 || n > last {
			return fmt.Errorf("%s: cites evidence %d, the last one is %d", v.Key(), n, last)
		}
	}
	return nil
}
