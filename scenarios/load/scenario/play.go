package scenario

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/assay-bench/assay/scenarios/load"
	"github.com/assay-bench/assay/scenarios/load/proto"
)

// perSecond converts a rate of this scenario to arrivals per second.
func (s Scenario) perSecond(rate float64) float64 {
	if s.TimeUnit == 0 {
		return rate
	}
	return rate / time.Duration(s.TimeUnit).Seconds()
}

// Schedule returns the open-loop schedule of the scenario.
func (s Scenario) Schedule() (load.Schedule, error) {
	if s.Executor == ConstantVUs {
		return load.Schedule{}, fmt.Errorf("%w: %s is the closed model: it has no schedule", ErrFile, s.Executor)
	}
	out := load.Schedule{Kind: load.Const, Rate: s.perSecond(s.Rate), Duration: time.Duration(s.Duration), Seed: s.Seed}
	random := s.Arrivals == string(load.Poisson)
	switch {
	case len(s.Stages) > 0:
		out = load.Schedule{Kind: load.Stages, Rate: s.perSecond(s.StartRate), Seed: s.Seed, Random: random}
		for _, g := range s.Stages {
			out.Stages = append(out.Stages, load.Stage{Rate: s.perSecond(g.Target), Duration: time.Duration(g.Duration)})
		}
	case random:
		out.Kind = load.Poisson
	}
	return out, out.Validate()
}

// RequestTimeout is the time that a request may take.
func (s Scenario) RequestTimeout() time.Duration {
	if s.Timeout == 0 {
		return load.DefaultTimeout
	}
	return time.Duration(s.Timeout)
}

// Config returns what is to be sent and where. read returns the content of a data file.
func (s Scenario) Config(read func(name string) ([]byte, error)) (proto.Config, error) {
	u, err := proto.ParseURL(s.Target)
	if err != nil {
		return proto.Config{}, err
	}
	c := proto.Config{URL: u, Method: s.Method, JSON: s.JSON, Size: s.Size, Conns: s.Connections, InFlight: s.Workers}
	if s.Body != "" {
		c.Body = []byte(s.Body)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Headers)) {
		c.Header = append(c.Header, proto.Field{Name: name, Value: s.Headers[name]})
	}
	if c.InFlight == 0 {
		c.InFlight = s.inFlight()
	}
	if s.Data == "" {
		return c, nil
	}
	raw, err := read(s.Data)
	if err != nil {
		return c, err
	}
	c.Rows, err = proto.ReadRows(s.Data, bytes.NewReader(raw))
	return c, err
}

// inFlight is how many requests the schedule can have in flight: by Little's law, its highest rate times the
// longest that a request may take.
func (s Scenario) inFlight() int {
	peak := max(s.Rate, s.StartRate)
	for _, g := range s.Stages {
		peak = max(peak, g.Target)
	}
	return int(min(math.Ceil(s.perSecond(peak)*s.RequestTimeout().Seconds())+1, math.MaxInt32))
}
