// Package k6 is what a run of k6 through assay-k6 leaves in a bundle, and how that is judged: the script's
// own thresholds are the only requirements on the target, and a run whose generator dropped iterations or
// was itself late is Inconclusive before any threshold is looked at. It links nothing of k6, so that the
// program assay can judge and verify such a bundle.
//
// A k6 run has no suite. Its plan has one row on the generator and one for each threshold; the digest in
// run.json is that of this package's sources.
package k6

import (
	"time"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios/load"
)

// Kind is the kind of such a run in run.json.
const Kind = "k6"

// The rows of the plan.
const (
	GeneratorCheck = "k6/generator" // the load was put on the target as the script says
	ThresholdCheck = "k6/threshold" // one case a threshold: its metric, a blank, its expression
)

// The kinds of evidence beyond those of every run. All are recorded for GeneratorCheck.
const (
	MetricSeen results.Kind = "metric"    // a Metric
	Generated  results.Kind = "generated" // a Generator
)

// Types of metric, by k6's own names.
const (
	Counter = "counter"
	Gauge   = "gauge"
	Rate    = "rate"
	Trend   = "trend"
)

// Names of the metrics that the judge itself looks at.
const (
	DroppedIterations = "dropped_iterations"
	Iterations        = "iterations"
)

// TrendScale is how many units of a trend's histogram make one unit of the metric: a trend of times counts
// milliseconds, its histogram nanoseconds.
const TrendScale = 1_000_000

// Metric is all samples of one metric, or of one submetric (name{tag:value}).
type Metric struct {
	Name       string      `json:"name"`
	Type       string      `json:"type"`
	Time       bool        `json:"time,omitempty"` // a trend of milliseconds
	Count      int64       `json:"count"`          // samples
	Sum        float64     `json:"sum"`
	Min        float64     `json:"min"`
	Max        float64     `json:"max"`
	Last       float64     `json:"last"`
	Trues      int64       `json:"trues,omitempty"`     // of a rate: samples that are not 0
	Histogram  string      `json:"histogram,omitempty"` // of a trend, as histogram.Encode writes it
	Overflow   int64       `json:"overflow,omitempty"`  // samples beyond the histogram's range
	Thresholds []Threshold `json:"thresholds,omitempty"`
}

// Threshold is a threshold of the script, with what k6 itself made of it from its raw samples.
type Threshold struct {
	Expression string `json:"expression"`
	Failed     bool   `json:"failed"`
	Guard      bool   `json:"guard,omitempty"` // set by assay-k6, not by the script
}

// Generator is the result of one scenario of the executor assay-open-loop.
type Generator struct {
	Scenario string       `json:"scenario"`
	Result   *load.Result `json:"result,omitempty"`
	NoLoad   string       `json:"noLoad,omitempty"` // why no load could be put on the target: then no result
}

// End is the data of results.Ended: how k6 itself ended.
type End struct {
	Duration   time.Duration `json:"duration"`             // of the outputs' life, a little more than the test's
	ExitCode   int           `json:"exitCode"`             // that k6 is about to return
	Error      string        `json:"error,omitempty"`      // why it is not 0
	Exceptions int64         `json:"exceptions,omitempty"` // iterations that threw
	First      string        `json:"first,omitempty"`      // what the first one threw
}

// Exit codes of k6 (errext/exitcodes of v1.8.1) that decide how a run is judged.
const (
	exitThresholds = 99
	exitAbort      = 105 // by a signal
	exitException  = 107
	exitScript     = 108 // test.abort()
	exitPanic      = 109
)
