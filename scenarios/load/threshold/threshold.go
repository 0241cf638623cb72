// Package threshold reads pass and fail criteria in k6's syntax ("p(95)<200", "rate<0.01") and holds
// them against merged HDR histograms and counters. Times are milliseconds, as in k6. It has its own
// small parser, so that a file of thresholds means the same here and in k6; it judges a finished result
// and never a part of one.
package threshold

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrSyntax is wrapped by every refusal of an expression.
var ErrSyntax = errors.New("threshold refused")

const maxExpression = 128 // bytes

// Expression is one parsed threshold: an aggregation, an operator and a bound.
type Expression struct {
	Aggregation string  // count, rate, value, avg, min, max, med or p
	Percentile  float64 // of p: 0 to 100
	Operator    string  // <, <=, >, >=, ==, === or !=
	Bound       float64 // milliseconds for a trend
	text        string
}

// String returns the expression as it was written.
func (e Expression) String() string { return e.text }

// operators, the longer of two that begin alike first.
var operators = []string{"===", "==", "!=", "<=", ">=", "<", ">"}

// Parse reads one expression: aggregation, operator, number; blanks around each are skipped.
func Parse(text string) (Expression, error) {
	refuse := func(format string, args ...any) (Expression, error) {
		return Expression{}, fmt.Errorf("%w: %.128q: %s; write it like p(95)<200, avg<100, rate<0.01 or count>1000",
			ErrSyntax, text, fmt.Sprintf(format, args...))
	}
	if len(text) > maxExpression {
		return refuse("longer than %d bytes", maxExpression)
	}
	at := strings.IndexAny(text, "<>=!")
	if at < 0 {
		return refuse("no operator")
	}
	e := Expression{text: text}
	for _, op := range operators {
		if strings.HasPrefix(text[at:], op) {
			e.Operator = op
			break
		}
	}
	if e.Operator == "" {
		return refuse("no operator")
	}
	var err error
	if e.Aggregation, e.Percentile, err = aggregation(strings.TrimSpace(text[:at])); err != nil {
		return refuse("%v", err)
	}
	if e.Bound, err = number(strings.TrimSpace(text[at+len(e.Operator):])); err != nil {
		return refuse("%v", err)
	}
	return e, nil
}

// aggregation reads what stands before the operator.
func aggregation(text string) (name string, percentile float64, err error) {
	switch text {
	case "count", "rate", "value", "avg", "min", "max", "med":
		return text, 0, nil
	}
	inner, ok := strings.CutPrefix(text, "p(")
	if inner, ok = cutSuffix(inner, ")", ok); !ok {
		return "", 0, fmt.Errorf("no aggregation %.40q", text)
	}
	percentile, err = number(strings.TrimSpace(inner))
	if err != nil || percentile < 0 || percentile > 100 {
		return "", 0, fmt.Errorf("percentile %.40q is not within 0 to 100", inner)
	}
	return "p", percentile, nil
}

func cutSuffix(text, suffix string, ok bool) (string, bool) {
	rest, found := strings.CutSuffix(text, suffix)
	return rest, ok && found
}

// number reads a finite decimal number, without the hexadecimal, underscores and names that Go takes.
func number(text string) (float64, error) {
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(v, 0) || math.IsNaN(v) || strings.Trim(text, "0123456789.eE+-") != "" {
		return 0, fmt.Errorf("%.40q is not a number", text)
	}
	return v, nil
}

// Holds tells whether an observed value satisfies the expression; no number never does.
func (e Expression) Holds(observed float64) bool {
	switch e.Operator {
	case "<":
		return observed < e.Bound
	case "<=":
		return observed <= e.Bound
	case ">":
		return observed > e.Bound
	case ">=":
		return observed >= e.Bound
	case "==", "===":
		return observed == e.Bound
	case "!=":
		return observed < e.Bound || observed > e.Bound
	}
	return false
}

// Rule is a threshold as a file states it: the bare expression, or an object with k6's options.
type Rule struct {
	Expression
	// AbortOnFail and DelayAbortEval are read for k6. A run of assay is judged once, at its end: a
	// part of a run has no verdict.
	AbortOnFail    bool
	DelayAbortEval string
}

type ruleJSON struct {
	Threshold      string `json:"threshold"`
	AbortOnFail    bool   `json:"abortOnFail,omitempty"`
	DelayAbortEval string `json:"delayAbortEval,omitempty"`
}

// UnmarshalJSON takes a string or an object.
func (r *Rule) UnmarshalJSON(raw []byte) error {
	var o ruleJSON
	if err := json.Unmarshal(raw, &o.Threshold); err != nil {
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&o); err != nil {
			return fmt.Errorf("%w: want a string or an object with threshold, abortOnFail, delayAbortEval: %w", ErrSyntax, err)
		}
	}
	if _, err := time.ParseDuration(o.DelayAbortEval); o.DelayAbortEval != "" && err != nil {
		return fmt.Errorf("%w: delayAbortEval: %w", ErrSyntax, err)
	}
	e, err := Parse(o.Threshold)
	*r = Rule{Expression: e, AbortOnFail: o.AbortOnFail, DelayAbortEval: o.DelayAbortEval}
	return err
}

// MarshalJSON writes what UnmarshalJSON reads.
func (r Rule) MarshalJSON() ([]byte, error) {
	return marshal(ruleJSON{r.text, r.AbortOnFail, r.DelayAbortEval})
}

// marshal leaves < and > readable.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// Set holds the thresholds of a run by metric name.
type Set map[string][]Rule

// Verdict is one threshold with what was observed.
type Verdict struct {
	Metric    string  `json:"metric"`
	Threshold string  `json:"threshold"`
	Observed  float64 `json:"observed"` // milliseconds, a ratio or a count
	Unit      string  `json:"unit,omitempty"`
	Empty     bool    `json:"empty,omitempty"` // nothing was observed, so that it does not hold
	Held      bool    `json:"held"`
}

// Check refuses a set that names an unknown metric or asks a metric for what it can not say, before
// anything is sent.
func (s Set) Check() error {
	for _, name := range slices.Sorted(maps.Keys(s)) {
		if len(s[name]) == 0 {
			return fmt.Errorf("%w: metric %q has no expression", ErrSyntax, name)
		}
		for _, r := range s[name] {
			if _, err := (Observations{}).value(name, r.Expression); err != nil {
				return err
			}
		}
	}
	return nil
}

// Judge holds every threshold against a finished result, by metric name and in the order in which they
// stand.
func (s Set) Judge(o Observations) ([]Verdict, error) {
	list := []Verdict{}
	for _, name := range slices.Sorted(maps.Keys(s)) {
		for _, r := range s[name] {
			v, err := o.value(name, r.Expression)
			if err != nil {
				return nil, err
			}
			d := Verdict{Metric: name, Threshold: r.text, Observed: v, Held: r.Holds(v), Unit: unit(name, r.Aggregation)}
			if math.IsNaN(v) {
				d.Observed, d.Empty = 0, true
			}
			list = append(list, d)
		}
	}
	return list, nil
}
