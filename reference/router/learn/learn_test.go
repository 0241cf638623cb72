package learn_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/reference/router/learn"
)

func unit(r *rand.Rand) []float32 {
	v, sum := make([]float32, 128), 0.0
	for i := range v {
		v[i] = float32(r.NormFloat64())
		sum += float64(v[i]) * float64(v[i])
	}
	for i := range v {
		v[i] = float32(float64(v[i]) / math.Sqrt(sum))
	}
	return v
}

// TestStepIsBounded: whatever u is, a step turns p by no more than eta × clip allows (router/feedback/bounded).
func TestStepIsBounded(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	step := learn.Step{Eta: 0.05, Clip: 0.1}
	bound := math.Asin(step.Eta*step.Clip) * 180 / math.Pi
	farthest := 0.0
	for range 1000 {
		p, u := unit(r), unit(r)
		for _, sign := range []float64{1, -1} {
			moved, ok := step.Apply(p, u, sign)
			if !ok {
				t.Fatal("no direction")
			}
			angle := learn.Degrees(p, moved)
			farthest = max(farthest, angle)
			if angle > bound+1e-4 {
				t.Fatalf("moved by %v degrees, at most %v", angle, bound)
			}
			if towards := learn.Degrees(moved, u) < learn.Degrees(p, u); towards != (sign > 0) {
				t.Fatalf("sign %v: towards is %v", sign, towards)
			}
		}
	}
	free, _ := learn.Step{Eta: 0.05, Clip: 2}.Apply(unit(r), unit(r), 1)
	if farthest == 0 || free == nil {
		t.Error("nothing moved: this test proves nothing")
	}
}

func TestDegrees(t *testing.T) {
	axis := func(i int) []float32 { v := make([]float32, 128); v[i] = 1; return v }
	if got := learn.Degrees(axis(0), axis(1)); math.Abs(got-90) > 1e-9 {
		t.Errorf("orthogonal: %v", got)
	}
	if got := learn.Degrees(axis(0), axis(0)); got != 0 {
		t.Errorf("equal: %v", got)
	}
}

func TestSources(t *testing.T) {
	now := time.Unix(0, 0)
	limits := learn.Limits{PerMinute: 3, Share: 1}
	var s learn.Sources
	var got []learn.Refusal
	for range 5 {
		got = append(got, s.Take("a", now, limits))
	}
	got = append(got, s.Take("", now, limits), s.Take("b", now, limits), s.Take("a", now.Add(20*time.Second), limits))
	want := []learn.Refusal{"", "", "", learn.OverRate, learn.OverRate, learn.Anonymous, "", ""}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestShare(t *testing.T) {
	now, limits := time.Unix(0, 0), learn.Limits{PerMinute: 1e6, Share: 0.5}
	var s learn.Sources
	applied, refused := 0, 0
	for i := range 400 {
		for _, source := range []string{"loud", "loud", "loud", fmt.Sprint("quiet", i%20)} {
			if s.Take(source, now, limits) == "" {
				s.Applied(source)
				if source == "loud" {
					applied++
				}
			} else if source == "loud" {
				refused++
			} else {
				t.Fatal("a quiet source is refused")
			}
		}
	}
	if applied == 0 || refused == 0 || applied > 500 {
		t.Errorf("loud: %d applied, %d refused", applied, refused)
	}
}

// TestManySources: names cost nothing, so a flood of them is refused and not remembered without end.
func TestManySources(t *testing.T) {
	now, limits := time.Unix(0, 0), learn.Limits{PerMinute: 10, Share: 1}
	var s learn.Sources
	refused := 0
	for i := range 10000 {
		if s.Take(fmt.Sprint(i), now, limits) != "" {
			refused++
		}
	}
	if refused != 10000-4096 {
		t.Errorf("%d refused", refused)
	}
	if why := s.Take("late", now.Add(time.Minute), limits); why != "" {
		t.Errorf("when the others are idle again: %q", why)
	}
}
