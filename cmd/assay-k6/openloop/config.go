// Package openloop is the executor type assay-open-loop: assay's own engine inside an ordinary k6 run. The
// schedule is played by a pacer, not by VUs; every latency counts from the intended start and nothing is
// ever dropped. Thresholds, summary, outputs and execution segments are k6's. Its options are those of the
// scenario file that assay load reads too (scenarios/load/scenario).
//
// k6 lets no other package implement lib.Executor: GetProgress returns an internal type. Embedding
// BaseExecutor provides it.
package openloop

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/sirupsen/logrus"

	"go.k6.io/k6/lib"
	"go.k6.io/k6/lib/executor"

	"github.com/assay-bench/assay/cmd/assay-k6/module"
	"github.com/assay-bench/assay/scenarios/load"
	"github.com/assay-bench/assay/scenarios/load/proto"
	"github.com/assay-bench/assay/scenarios/load/scenario"
)

// Type is the executor's name in a script.
const Type = scenario.OpenLoop

// Config is a scenario of this type.
type Config struct {
	executor.BaseConfig
	Scenario scenario.Scenario
}

var _ lib.ExecutorConfig = (*Config)(nil)

// New parses the options of a scenario strictly: k6's own part and the shared part know their fields, and a
// field of neither is an error.
func New(name string, raw []byte) (lib.ExecutorConfig, error) {
	c := &Config{BaseConfig: executor.NewBaseConfig(name, Type)}
	if err := json.Unmarshal(raw, &c.BaseConfig); err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	return c, dec.Decode(&c.Scenario)
}

// Validate checks everything that can be known before the run.
func (c *Config) Validate() []error {
	errs := c.BaseConfig.Validate()
	if c.Scenario.Target == "" {
		return append(errs, errors.New("target: want the URL that the load goes to, such as tcp://127.0.0.1:9000"))
	}
	if _, err := proto.ParseURL(c.Scenario.Target); err != nil {
		errs = append(errs, fmt.Errorf("target: %w", err))
	}
	if c.Exec.Valid {
		errs = append(errs, errors.New("exec: this executor runs no function of the script"))
	}
	s, err := c.Scenario.Schedule()
	if err == nil {
		err = s.Validate()
	}
	if err != nil {
		errs = append(errs, err)
	}
	return errs
}

// length is how long the scenario runs, without the wait for its last replies.
func (c *Config) length() time.Duration {
	s, err := c.Scenario.Schedule()
	if err != nil {
		return 0
	}
	return s.Length()
}

// IsDistributable says that segments may run apart.
func (c *Config) IsDistributable() bool { return true }

// GetExecutionRequirements asks for no VU: the script's functions are not run.
func (c *Config) GetExecutionRequirements(*lib.ExecutionTuple) []lib.ExecutionStep {
	return []lib.ExecutionStep{{TimeOffset: 0}, {TimeOffset: c.length() + c.GetGracefulStop()}}
}

// GetDescription is the line in k6's banner.
func (c *Config) GetDescription(et *lib.ExecutionTuple) string {
	text := fmt.Sprintf("open loop for %s to %s", c.length(), c.Scenario.Target)
	if g, err := segmentOf(et); err == nil && !g.Whole() {
		text += fmt.Sprintf(", segment %s", g)
	}
	return text
}

// HasWork tells whether this instance owns an arrival.
func (c *Config) HasWork(et *lib.ExecutionTuple) bool {
	s, err := c.Scenario.Schedule()
	if err != nil {
		return false
	}
	g, err := segmentOf(et)
	if err != nil {
		return true // NewExecutor says why
	}
	played, err := s.Survey()
	return err == nil && g.Count(played.Count) > 0
}

// NewExecutor prepares a run.
func (c *Config) NewExecutor(es *lib.ExecutionState, logger *logrus.Entry) (lib.Executor, error) {
	g, err := segmentOf(es.ExecutionTuple)
	if err != nil {
		return nil, err
	}
	m, err := module.Register(es.Test.Registry)
	if err != nil {
		return nil, err
	}
	return &Executor{
		BaseExecutor: executor.NewBaseExecutor(c, es, logger), config: c, state: es, logger: logger, segment: g, metrics: m,
	}, nil
}

// segmentOf writes k6's segment as the engine's: node i of as many as the sequence has, with the shares that
// k6's stripes give them. Every arrival then has one owner, as long as all instances are given the same
// sequence; without one k6 makes up one for each, whose shares overlap.
func segmentOf(et *lib.ExecutionTuple) (load.Segment, error) {
	n := len(et.Sequence.ExecutionSegmentSequence)
	if n <= 1 {
		return load.Segment{}, nil
	}
	g := load.Segment{Node: et.SegmentIndex + 1, Of: n}
	equal := true
	for i := range n {
		_, offsets, _ := et.Sequence.GetStripedOffsets(i) // one for each arrival of a cycle
		g.Shares = append(g.Shares, len(offsets))
		equal = equal && g.Shares[0] == len(offsets)
	}
	if equal {
		g.Shares = nil // as assay load --segment 1/4 writes it: the two can be merged
	}
	return g, g.Validate()
}
