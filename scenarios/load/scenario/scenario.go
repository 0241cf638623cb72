// Package scenario reads the JSON file of scenarios and thresholds that assay load and assay-k6 both
// accept. It is k6's own options file: "scenarios" by name and "thresholds" by metric. An open-loop
// scenario has the executor assay-open-loop, or one of k6's arrival-rate executors, which mean the same
// schedule; constant-vus is the closed model.
//
// The package reads and refuses; it sends nothing.
package scenario

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/assay-bench/assay/scenarios/load/threshold"
)

// ErrFile is wrapped by every refusal of a file.
var ErrFile = errors.New("scenario file refused")

// MaxFile bounds a file in bytes.
const MaxFile = 1 << 20

// The executors that are understood.
const (
	OpenLoop    = "assay-open-loop"
	Constant    = "constant-arrival-rate"
	Ramping     = "ramping-arrival-rate"
	ConstantVUs = "constant-vus"
)

// File is a scenario file.
type File struct {
	Scenarios  map[string]Scenario `json:"scenarios"`
	Thresholds threshold.Set       `json:"thresholds,omitempty"`
}

// Scenario is what one executor is to do. Fields that k6 alone uses are read, so that one file serves
// both, and mean nothing here.
type Scenario struct {
	Executor  string   `json:"executor"`
	Rate      float64  `json:"rate,omitempty"` // arrivals per TimeUnit
	StartRate float64  `json:"startRate,omitempty"`
	TimeUnit  Duration `json:"timeUnit,omitzero"` // 1 s when absent
	Duration  Duration `json:"duration,omitzero"`
	Stages    []Stage  `json:"stages,omitempty"`
	VUs       int      `json:"vus,omitempty"` // of constant-vus

	// Of assay-open-loop.
	Target      string            `json:"target,omitempty"`   // URL
	Arrivals    string            `json:"arrivals,omitempty"` // const (the default) or poisson
	Seed        uint64            `json:"seed,omitempty"`
	Method      string            `json:"method,omitempty"`
	Headers     map[string]string `json:"headers,omitempty"`
	Body        string            `json:"body,omitempty"`
	JSON        bool              `json:"json,omitempty"` // the body is JSON, encoded as the protocol demands
	Size        int               `json:"size,omitempty"` // bytes of a payload that is not given
	Data        string            `json:"data,omitempty"` // file of rows
	Connections int               `json:"connections,omitempty"`
	Workers     int               `json:"workers,omitempty"` // bound on requests in flight
	Timeout     Duration          `json:"timeout,omitzero"`
	Batch       int               `json:"batch,omitempty"` // of the k6 executor: samples handed over at once

	// Of k6 alone.
	StartTime       Duration          `json:"startTime,omitzero"`
	GracefulStop    Duration          `json:"gracefulStop,omitzero"`
	PreAllocatedVUs int               `json:"preAllocatedVUs,omitempty"`
	MaxVUs          int               `json:"maxVUs,omitempty"`
	Exec            string            `json:"exec,omitempty"`
	Env             map[string]string `json:"env,omitempty"`
	Tags            map[string]string `json:"tags,omitempty"`
}

// Stage moves the rate linearly to Target, in arrivals per TimeUnit.
type Stage struct {
	Target   float64  `json:"target"`
	Duration Duration `json:"duration"`
}

// Duration is a span as k6 writes it: "1m30s", or a number of milliseconds.
type Duration time.Duration

// UnmarshalJSON takes a string or a number.
func (d *Duration) UnmarshalJSON(raw []byte) error {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		span, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%w: duration %.40q: want 10s, 1m30s or a number of milliseconds", ErrFile, text)
		}
		*d = Duration(span)
		return nil
	}
	ms, err := strconv.ParseFloat(string(raw), 64)
	const most = float64(1<<63) / float64(time.Millisecond)
	if err != nil || ms < 0 || ms >= most {
		return fmt.Errorf("%w: duration %.40s: want 10s, 1m30s or a number of milliseconds", ErrFile, raw)
	}
	*d = Duration(ms * float64(time.Millisecond))
	return nil
}

// MarshalJSON writes the string form.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }

// Read reads a whole file and checks it. Unknown fields are refused: a misspelt one would be a load that
// nobody asked for.
func Read(r io.Reader) (File, error) {
	raw, err := io.ReadAll(io.LimitReader(r, MaxFile+1))
	switch {
	case err != nil:
		return File{}, err
	case len(raw) > MaxFile:
		return File{}, fmt.Errorf("%w: more than %d bytes", ErrFile, MaxFile)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	var f File
	if err := dec.Decode(&f); err != nil {
		if errors.Is(err, ErrFile) || errors.Is(err, threshold.ErrSyntax) {
			return File{}, err
		}
		return File{}, fmt.Errorf("%w: %w", ErrFile, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return File{}, fmt.Errorf("%w: text after the object", ErrFile)
	}
	return f, f.check()
}

func (f File) check() error {
	if err := f.Thresholds.Check(); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(f.Scenarios)) {
		if err := f.Scenarios[name].check(); err != nil {
			return fmt.Errorf("%w: scenario %q: %w", ErrFile, name, err)
		}
	}
	return nil
}

func (s Scenario) check() error {
	switch {
	case !slices.Contains([]string{OpenLoop, Constant, Ramping, ConstantVUs}, s.Executor):
		return fmt.Errorf("executor %q: want %s, %s, %s or %s", s.Executor, OpenLoop, Constant, Ramping, ConstantVUs)
	case s.Arrivals != "" && s.Arrivals != "const" && s.Arrivals != "poisson":
		return fmt.Errorf("arrivals %q: want const or poisson", s.Arrivals)
	case s.Rate < 0 || s.StartRate < 0 || s.TimeUnit < 0 || s.Duration < 0 || s.Timeout < 0:
		return errors.New("a rate or a duration is negative")
	case s.Executor == ConstantVUs && (s.VUs < 1 || s.Duration == 0):
		return errors.New("constant-vus wants vus and duration")
	case s.Executor != ConstantVUs && len(s.Stages) == 0 && (s.Rate == 0 || s.Duration == 0):
		return errors.New("want rate and duration, or stages")
	case len(s.Stages) > 0 && (s.Rate != 0 || s.Duration != 0):
		return errors.New("stages stand in place of rate and duration: startRate is the first rate")
	}
	for i, g := range s.Stages {
		if g.Target < 0 || g.Duration <= 0 {
			return fmt.Errorf("stage %d: want a target of at least 0 and a duration", i+1)
		}
	}
	return nil
}

// Only returns the one scenario of the file and its name: assay load plays one at a time.
func (f File) Only() (string, Scenario, error) {
	names := slices.Sorted(maps.Keys(f.Scenarios))
	if len(names) != 1 {
		return "", Scenario{}, fmt.Errorf("%w: %d scenarios %q, want one", ErrFile, len(names), names)
	}
	return names[0], f.Scenarios[names[0]], nil
}
