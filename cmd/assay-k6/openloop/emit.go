package openloop

import (
	"time"

	"go.k6.io/k6/metrics"

	"github.com/assay-bench/assay/results/histogram"
	"github.com/assay-bench/assay/scenarios/load"
)

// defaultBatch is how many samples are handed to k6 at once.
const defaultBatch = 1_000

// feeder hands k6 the samples that it would have had from VUs, an interval at a time while the run goes on:
// each interval's histograms turned back into as many values, each within 0.05 % of what was measured.
// iteration_duration is the response, from the intended start; what was never sent is a dropped iteration,
// which fails the run.
type feeder struct {
	e    *Executor
	feed feed
	sent int // intervals
}

func (e *Executor) feeder(out chan<- metrics.SampleContainer) *feeder {
	f := &feeder{e: e, feed: feed{out: out, tags: e.tags(), batch: e.config.Scenario.Batch}}
	if f.feed.batch <= 0 {
		f.feed.batch = defaultBatch
	}
	return f
}

// progress is called while the engine runs, on a goroutine that may wait for k6.
func (f *feeder) progress(p load.Progress) { f.intervals(p.Intervals) }

func (f *feeder) intervals(list []load.Interval) {
	builtin, own := f.e.state.Test.BuiltinMetrics, f.e.metrics
	for _, v := range list {
		f.sent++
		f.feed.at = time.Now()
		if v.Count > 0 {
			f.feed.add(builtin.Iterations, float64(v.Count))
		}
		f.feed.each(own.Failed, v.Errors+v.Timeouts, 1)
		f.feed.each(own.Failed, v.Count-v.Errors-v.Timeouts, 0)
		f.feed.spread(v.Histograms[load.ResponseAll], builtin.IterationDuration, own.Response)
		f.feed.spread(v.Histograms[load.Service], own.Service)
		f.feed.spread(v.Histograms[load.Lateness], own.Lateness)
		f.e.state.AddFullIterations(uint64(v.Count))
	}
	f.feed.flush()
}

// rest hands over what ended after the last call of progress.
func (f *feeder) rest(r *load.Result) {
	f.intervals(r.Intervals[min(f.sent, len(r.Intervals)):])
	if r.Counts.Unsent > 0 {
		f.feed.add(f.e.state.Test.BuiltinMetrics.DroppedIterations, float64(r.Counts.Unsent))
		f.feed.flush()
		f.e.state.AddInterruptedIterations(uint64(r.Counts.Unsent))
	}
}

func (e *Executor) tags() *metrics.TagSet {
	tags := e.state.Test.RunTags.WithTagsFromMap(e.config.Tags)
	if e.state.Test.Options.SystemTags.Has(metrics.TagScenario) {
		tags = tags.With("scenario", e.config.Name)
	}
	return tags
}

// feed collects samples of one moment into batches.
type feed struct {
	out     chan<- metrics.SampleContainer
	tags    *metrics.TagSet
	at      time.Time
	batch   int
	samples metrics.Samples
}

func (f *feed) add(m *metrics.Metric, v float64) {
	f.samples = append(f.samples, metrics.Sample{TimeSeries: metrics.TimeSeries{Metric: m, Tags: f.tags}, Time: f.at, Value: v})
	if len(f.samples) >= f.batch {
		f.flush()
	}
}

func (f *feed) flush() {
	if len(f.samples) > 0 {
		f.out <- f.samples
		f.samples = nil
	}
}

func (f *feed) each(m *metrics.Metric, n int64, v float64) {
	for range n {
		f.add(m, v)
	}
}

// spread adds every value of a histogram to each of the metrics. What the engine itself wrote is readable;
// an interval in which nothing ended has none.
func (f *feed) spread(text []byte, to ...*metrics.Metric) {
	if text == nil {
		return
	}
	h, err := histogram.Decode(text)
	if err != nil {
		panic(err) // the engine encoded it a moment ago
	}
	for ns, n := range h.Buckets() {
		for _, m := range to {
			f.each(m, n, metrics.D(time.Duration(ns)))
		}
	}
}
