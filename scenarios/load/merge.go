package load

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/assay-bench/assay/results/histogram"
)

// ErrMerge is wrapped by every refusal of Merge.
var ErrMerge = errors.New("results do not merge")

// Node is what a merged result keeps of each node.
type Node struct {
	Segment     Segment   `json:"segment"`
	Start       time.Time `json:"start"`
	Clock       Clock     `json:"clock"`
	Host        Host      `json:"host"`
	Counts      Counts    `json:"counts"`
	Valid       bool      `json:"valid"`
	Reasons     []Reason  `json:"reasons"`
	LatenessP99 int64     `json:"lateness_p99_ns"`
}

// Merge puts the results of all nodes of one schedule together. Counts and
// histograms are summed, in total and by interval, and percentiles are computed
// from the sums: never averaged. Whoever has thresholds judges the merged result.
//
// It refuses results of different geometry, schedule, seed or version, and
// segments that are missing, doubled, or do not add up to the whole schedule. A
// node that is INVALID makes the merged result INVALID, for its reasons; so do
// nodes whose starts may lie further apart than the lateness bound.
func Merge(nodes ...*Result) (*Result, error) {
	if len(nodes) == 0 {
		return nil, fmt.Errorf("%w: none given", ErrMerge)
	}
	for i, n := range nodes {
		if err := mergeable(nodes[0], n); err != nil {
			return nil, fmt.Errorf("%w: result %d: %w", ErrMerge, i+1, err)
		}
	}
	nodes = slices.SortedFunc(slices.Values(nodes), func(a, b *Result) int { return a.Segment.Node - b.Segment.Node })
	if err := complete(nodes); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMerge, err)
	}
	r, err := sum(nodes)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMerge, err)
	}
	r.judgeMerged(nodes)
	return r, nil
}

// mergeable tells why n can not be of the same run as first.
func mergeable(first, n *Result) error {
	differ := func(what string, a, b any) error { return fmt.Errorf("%s is %v, of the first %v", what, b, a) }
	a, b := first.Schedule, n.Schedule
	switch {
	case n.Model != ModelOpen:
		return fmt.Errorf("%s: only shares of one schedule can be merged", n.Label)
	case len(n.Nodes) > 0:
		return errors.New("it is merged already")
	case n.Geometry != first.Geometry:
		return differ("geometry", first.Geometry, n.Geometry)
	case n.Version != first.Version:
		return differ("version", first.Version, n.Version)
	case b.Seed != a.Seed:
		return differ("seed", a.Seed, b.Seed)
	case b.Digest != a.Digest:
		return differ("schedule digest", a.Digest, b.Digest)
	case !reflect.DeepEqual(a, b):
		return differ("schedule", a, b)
	case n.Mode != first.Mode:
		return differ("mode", first.Mode, n.Mode)
	case n.LatenessJudged != first.LatenessJudged || n.LatenessAsked != first.LatenessAsked:
		return differ("lateness bound", time.Duration(first.LatenessAsked), time.Duration(n.LatenessAsked))
	case n.Segment.Of != first.Segment.Of || !slices.Equal(n.Segment.Shares, first.Segment.Shares):
		return differ("segment", first.Segment, n.Segment)
	}
	return nil
}

// complete checks that nodes, in order, own the whole schedule.
func complete(nodes []*Result) error {
	whole := nodes[0].Schedule.Count
	owned, of := int64(0), max(nodes[0].Segment.Of, 1)
	for i, n := range nodes {
		if i > 0 && nodes[i-1].Segment.Node == n.Segment.Node {
			return fmt.Errorf("segment %s appears twice", n.Segment)
		}
		if share := n.Segment.Count(whole); n.Counts.Scheduled != share {
			return fmt.Errorf("segment %s scheduled %d arrivals, its share of %d is %d", n.Segment, n.Counts.Scheduled, whole, share)
		}
		owned += n.Counts.Scheduled
	}
	if len(nodes) != of {
		for i := range of {
			if i == len(nodes) || nodes[i].Segment.Node != i+1 {
				return fmt.Errorf("segment %d/%d is missing", i+1, of)
			}
		}
	}
	if owned != whole {
		return fmt.Errorf("the segments add up to %d of %d arrivals", owned, whole)
	}
	return nil
}

// sum adds everything that is counted.
func sum(nodes []*Result) (*Result, error) {
	first := nodes[0]
	r := &Result{
		Version: first.Version, Start: first.Start, Model: first.Model, Mode: first.Mode,
		Schedule: first.Schedule, Geometry: first.Geometry,
		LatenessJudged: first.LatenessJudged, LatenessAsked: first.LatenessAsked,
		Reasons: []Reason{}, Notes: []string{},
	}
	var kinds errorKinds
	for _, n := range nodes {
		r.Counts = r.Counts.plus(n.Counts)
		r.Elapsed = max(r.Elapsed, n.Elapsed)
		r.Overflow += n.Overflow
		r.Stray += n.Stray
		r.Ends = bothEnds(r.Ends, n.Ends)
		for kind, count := range n.Errors {
			kinds.add(kind, count)
		}
		r.Nodes = append(r.Nodes, Node{
			Segment: n.Segment, Start: n.Start, Clock: n.Clock, Host: n.Host, Counts: n.Counts,
			Valid: n.Valid, Reasons: n.Reasons, LatenessP99: n.Quantiles[n.LatenessJudged].P99,
		})
		r.Host = worse(r.Host, n.Host)
	}
	r.Errors = kinds.all()
	var parts []map[string][]byte
	for _, n := range nodes {
		parts = append(parts, n.Histograms)
	}
	hists, err := mergeAll(parts, Histograms())
	if err != nil {
		return nil, err
	}
	if err := r.fill(hists); err != nil {
		return nil, err
	}
	r.Intervals, err = mergeIntervals(nodes)
	return r, err
}

// mergeAll adds up encoded histograms by name.
func mergeAll(parts []map[string][]byte, names []string) (map[string]*histogram.Histogram, error) {
	total := make(map[string]*histogram.Histogram, len(names))
	for _, name := range names {
		total[name] = histogram.New()
		for _, part := range parts {
			h, err := histogram.Decode(part[name])
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			if err := total[name].Merge(h); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return total, nil
}

// mergeIntervals adds up the intervals that begin at the same time.
func mergeIntervals(nodes []*Result) ([]Interval, error) {
	longest := slices.MaxFunc(nodes, func(a, b *Result) int { return len(a.Intervals) - len(b.Intervals) })
	merged := []Interval{}
	for i := range longest.Intervals {
		total := Interval{Start: longest.Intervals[i].Start, Width: longest.Intervals[i].Width}
		var parts []map[string][]byte
		for _, n := range nodes {
			if i >= len(n.Intervals) {
				continue
			}
			v := n.Intervals[i]
			if v.Start != total.Start || v.Width != total.Width {
				return nil, fmt.Errorf("interval %d of segment %s begins at %d ns and is %d ns wide, of segment %s %d and %d: the drain limits differ",
					i, n.Segment, v.Start, v.Width, longest.Segment, total.Start, total.Width)
			}
			total.Count, total.Errors, total.Timeouts = total.Count+v.Count, total.Errors+v.Errors, total.Timeouts+v.Timeouts
			if v.Count > 0 {
				parts = append(parts, v.Histograms)
			}
		}
		if err := total.fill(parts); err != nil {
			return nil, fmt.Errorf("interval %d: %w", i, err)
		}
		merged = append(merged, total)
	}
	return merged, nil
}

// fill merges the histograms of an interval.
func (v *Interval) fill(parts []map[string][]byte) error {
	if len(parts) == 0 {
		return nil
	}
	hists, err := mergeAll(parts, intervalKinds)
	if err != nil {
		return err
	}
	v.P50, v.P99 = hists[ResponseAll].Quantile(0.5), hists[ResponseAll].Quantile(0.99)
	v.Histograms, err = encodeAll(hists)
	return err
}

// worse returns the larger shares of two hosts.
func worse(a, b Host) Host {
	w := Host{Waited: max(a.Waited, b.Waited), Steal: max(a.Steal, b.Steal), Limit: max(a.Limit, b.Limit), Known: a.Known || b.Known}
	if a.Boot == b.Boot || a.Limit == 0 {
		w.Boot = b.Boot
	}
	return w
}

// judgeMerged gives the merged result its verdict on itself.
func (r *Result) judgeMerged(nodes []*Result) {
	r.boundLateness()
	broken := map[Reason]bool{
		ReasonAccounting: !r.addsUp(),
		ReasonLateness:   r.late(),
	}
	for _, n := range nodes {
		for _, reason := range n.Reasons {
			broken[reason] = true
		}
		if !n.Valid {
			r.Notes = append(r.Notes, fmt.Sprintf("segment %s is INVALID: %v", n.Segment, n.Reasons))
		}
	}
	r.Clock = apart(nodes)
	if len(nodes) > 1 {
		broken[ReasonClock] = broken[ReasonClock] || !r.Clock.Known || r.Clock.Bound > time.Duration(r.LatenessBound)
	}
	r.addReasons(broken)
}

// apart bounds how far apart the starts of any two nodes lie. Nodes on one
// kernel read the same clock.
func apart(nodes []*Result) Clock {
	widest := Clock{Known: true, Source: fmt.Sprintf("starts of %d nodes", len(nodes))}
	for i, a := range nodes {
		for _, b := range nodes[:i] {
			gap := a.Start.Sub(b.Start).Abs()
			if a.Host.Boot == "" || a.Host.Boot != b.Host.Boot {
				gap += a.Clock.Bound + b.Clock.Bound
				widest.Known = widest.Known && a.Clock.Known && b.Clock.Known
			}
			widest.Bound = max(widest.Bound, gap)
		}
	}
	return widest
}
