package load

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestProgressIntervals: the intervals that reports carry are the first ones of the result, each once.
func TestProgressIntervals(t *testing.T) {
	var live []Interval
	opt := Options{Progress: func(p Progress) { live = append(live, p.Intervals...) }}
	pool := repeat(func(context.Context, uint64) error { return nil }, 1)
	r, err := Run(t.Context(), Schedule{Kind: Const, Rate: 50, Duration: 2200 * time.Millisecond}, pool, opt)
	if err != nil {
		t.Fatal(err)
	}
	if len(live) == 0 || len(live) > len(r.Intervals) {
		t.Fatalf("%d intervals reported, the result has %d", len(live), len(r.Intervals))
	}
	if d := cmp.Diff(r.Intervals[:len(live)], live); d != "" {
		t.Error(d)
	}
}
