package load

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// load/gate/closed-label
func TestClosedModel(t *testing.T) {
	var most, now atomic.Int64
	var seen [1000]atomic.Int64
	pool := repeat(func(_ context.Context, id uint64) error {
		defer now.Add(-1)
		seen[id].Add(1)
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		if id%10 == 3 {
			return errors.New("no luck")
		}
		return nil
	}, 3)
	r, err := RunClosed(t.Context(), Closed{Duration: time.Minute, Requests: 1000}, pool, Options{HostLimit: 1})
	if err != nil {
		t.Fatal(err)
	}
	wantCounts(t, r, Counts{Scheduled: 1000, OK: 900, Error: 100})
	if r.Model != ModelClosed || r.Label != ClosedLabel || r.Mode != "3 users" || !r.Valid {
		t.Errorf("model %q, label %q, mode %q, reasons %v", r.Model, r.Label, r.Mode, r.Reasons)
	}
	if d := cmp.Diff(r.Quantiles[Service], r.Quantiles[ResponseAll]); d != "" || r.Quantiles[Lateness].Count != 0 {
		t.Errorf("response is not service, or there is lateness: %s", d)
	}
	if most.Load() > 3 {
		t.Errorf("%d calls at once by 3 users", most.Load())
	}
	for id := range seen {
		if n := seen[id].Load(); n != 1 {
			t.Errorf("id %d in %d calls", id, n)
		}
	}
	raw, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := Decode(raw)
	if err != nil || back.Label != ClosedLabel {
		t.Errorf("through a file: %v", err)
	}
	if _, err := Merge(r); err == nil || !strings.Contains(err.Error(), ClosedLabel) {
		t.Errorf("merged: %v", err)
	}
}

func TestClosedModelEnds(t *testing.T) {
	block := func(ctx context.Context, id uint64) error {
		if id > 2 {
			<-ctx.Done()
		}
		return ctx.Err()
	}
	t.Run("by time, with calls that time out", func(t *testing.T) {
		r, err := RunClosed(t.Context(), Closed{Duration: time.Second}, repeat(block, 2),
			Options{Timeout: 400 * time.Millisecond, Drain: 5 * time.Second, HostLimit: 1})
		if err != nil {
			t.Fatal(err)
		}
		if r.Counts.OK != 3 || r.Counts.Timeout < 2 || r.Counts.sent() != r.Counts.Scheduled || !r.Valid {
			t.Errorf("counts %+v, reasons %v", r.Counts, r.Reasons)
		}
	})
	t.Run("by interrupt", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var blocked atomic.Int64
		r, err := RunClosed(ctx, Closed{Duration: time.Minute}, repeat(func(ctx context.Context, id uint64) error {
			if id > 2 && blocked.Add(1) == 2 { // so is the other user
				cancel()
			}
			return block(ctx, id)
		}, 2), Options{HostLimit: 1})
		if err != nil {
			t.Fatal(err)
		}
		wantCounts(t, r, Counts{Scheduled: 5, OK: 3, Timeout: 2})
		if !slices.Equal(r.Reasons, []Reason{ReasonInterrupted}) {
			t.Errorf("reasons %v", r.Reasons)
		}
	})
	for want, c := range map[string]Closed{"duration 0s": {}, "-1 requests": {Duration: 1, Requests: -1}} {
		if _, err := RunClosed(t.Context(), c, repeat(block, 1), Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", c, err, want)
		}
	}
	if _, err := RunClosed(t.Context(), Closed{Duration: 1}, repeat(block, 1), Options{Segment: Segment{Node: 1, Of: 2}}); err == nil {
		t.Error("a closed model has a segment")
	}
}
