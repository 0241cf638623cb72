package router

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/assay-bench/assay/models/encode"
	"github.com/assay-bench/assay/models/static"
)

// failing is a model whose features fail once it is told so.
type failing struct {
	encode.Bagged
	now atomic.Bool
}

func (f *failing) NewFeatures() encode.Features { return failingFeatures{f.Bagged.NewFeatures(), f} }

type failingFeatures struct {
	encode.Features
	of *failing
}

func (f failingFeatures) Bag(text string) ([]int64, []float32, error) {
	if f.of.now.Load() {
		return nil, nil, errors.New("out of order")
	}
	return f.Features.Bag(text)
}

// TestFailingCanaryEnds: a canary whose engine fails costs no decision and ends.
func TestFailingCanaryEnds(t *testing.T) {
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	if _, err := s.Set("test", Settings{Engine: PureGo}); err != nil {
		t.Fatal(err)
	}
	r, err := s.Router("test")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.SetPolicies(map[string]Policy{"p": {Examples: []string{"refund my payment"}}}); err != nil {
		t.Fatal(err)
	}
	table, err := static.Load()
	if err != nil {
		t.Fatal(err)
	}
	model := &failing{Bagged: table}
	if _, err := s.adopt(ModelInfo{Name: "m", Digest: "another"}, model); err != nil {
		t.Fatal(err)
	}
	everything := 1.0
	if _, err := r.SetRollout(Rollout{Model: "m", Mode: modeCanary, Share: &everything}); err != nil {
		t.Fatal(err)
	}
	text := "refund it"
	for _, want := range []string{Canary, Stable, Stable} {
		d, err := r.Decide(t.Context(), DecideRequest{Text: &text})
		if err != nil || d.Model.Variant != want {
			t.Fatalf("%+v %v, want %s", d.Model, err, want)
		}
		model.now.Store(true)
	}
	if got := r.Rollout(); got.State != rolledBack || got.Reason != "engine" {
		t.Errorf("%+v", got)
	}
}

// TestRowsAreBounded: the rows of all routers together are bounded, a router's own old ones aside.
func TestRowsAreBounded(t *testing.T) {
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close(t.Context()) }()
	for _, name := range []string{"a", "b"} {
		if _, err := s.Set(name, Settings{}); err != nil {
			t.Fatal(err)
		}
		r, err := s.Router(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.SetPolicies(map[string]Policy{"p": {Examples: []string{"one", "two"}, Rows: rowsExamples}}); err != nil {
			t.Fatal(err)
		}
	}
	r, err := s.Router("a")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.room(r, maxAllRows-2); err != nil {
		t.Error(err)
	}
	if e, ok := errors.AsType[*Error](s.room(r, maxAllRows-1)); !ok || e.Reason != "rows" {
		t.Errorf("%v", e)
	}
}
