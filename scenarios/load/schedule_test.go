package load

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"gonum.org/v1/gonum/stat"
)

func mustOffsets(t testing.TB, s Schedule) []int64 {
	t.Helper()
	offsets, err := s.Offsets()
	if err != nil {
		t.Fatal(err)
	}
	return offsets
}

func TestDigestGolden(t *testing.T) {
	cases := []struct {
		s     Schedule
		count int
		want  string
	}{
		{Schedule{Const, 333, 10 * time.Second, 0}, 3330, "7cfa03f6a17c0941503b5d2874c24f68226463833dbd3bcb73fa79d503007858"},
		{Schedule{Const, 0.75, time.Minute, 0}, 45, "2156a592046db7d908fb5e5491f3039fe9bc4baa756515100c6467fde06185fb"},
		{Schedule{Poisson, 1000, 10 * time.Second, 1}, 0, "20f092f3b24540e905398510d1081e2372d9df3249a43347697a120e0fcd3c43"},
		{Schedule{Poisson, 1000, 10 * time.Second, 2}, 0, "1ab6fbf0d460bd194079b2bea8bbd65ea9b45123fc8f2302c8f92b7ed05d3a09"},
	}
	if len(cases) == 0 {
		t.Fatal("no schedules: this test proves nothing")
	}
	for _, c := range cases {
		offsets := mustOffsets(t, c.s)
		if got := Digest(offsets); got != c.want {
			t.Errorf("%+v: digest %s, want %s", c.s, got, c.want)
		}
		if c.count != 0 && len(offsets) != c.count {
			t.Errorf("%+v: %d arrivals, want %d", c.s, len(offsets), c.count)
		}
		if !slices.IsSorted(offsets) || offsets[len(offsets)-1] >= int64(c.s.Duration) {
			t.Errorf("%+v: offsets fall or leave the duration", c.s)
		}
	}
}

// load/schedule/no-drift
func TestConstDoesNotDrift(t *testing.T) {
	offsets := mustOffsets(t, Schedule{Kind: Const, Rate: 333, Duration: 1001 * time.Second})
	if got := offsets[333_000]; got < 1000*second-1 || got > 1000*second+1 {
		t.Errorf("arrival 333000 at %d ns, want 1000 s ± 1 ns", got)
	}
	for k, got := range offsets {
		if want := int64(k) * second / 333; got != want {
			t.Fatalf("arrival %d at %d, want %d", k, got, want)
		}
	}
}

// load/schedule/poisson
func TestPoissonGapsAreExponential(t *testing.T) {
	const n, rate = 100_000, 100.0
	offsets := mustOffsets(t, Schedule{Kind: Poisson, Rate: rate, Duration: time.Duration(1.05 * n / rate * 1e9), Seed: 42})
	if len(offsets) < n {
		t.Fatalf("%d arrivals, want at least %d", len(offsets), n)
	}
	gaps, perSecond := make([]float64, n), make([]float64, n/int(rate))
	before := int64(0)
	for i, at := range offsets[:n] {
		gaps[i] = float64(at-before) / 1e9
		before = at
		if s := int(at / second); s < len(perSecond) {
			perSecond[s]++
		}
	}
	slices.Sort(gaps)
	d := 0.0
	for i, g := range gaps {
		f := -math.Expm1(-g * rate)
		d = max(d, math.Abs(f-float64(i)/n), math.Abs(float64(i+1)/n-f))
	}
	if limit := 1.949 / math.Sqrt(n); d > limit { // Kolmogorov's 0.999 quantile
		t.Errorf("KS distance %g, limit %g", d, limit)
	}
	perSecond = perSecond[:int(before/second)]
	mean, variance := stat.MeanVariance(perSecond, nil)
	if ratio := variance / mean; ratio < 0.9 || ratio > 1.1 {
		t.Errorf("dispersion of %d one-second counts is %g, want 0.9 to 1.1", len(perSecond), ratio)
	}
}

func TestExponentialIsTheLogarithm(t *testing.T) {
	r, worst := rand.New(rand.NewPCG(1, 2)), 0.0
	check := func(bits uint64) {
		want := -math.Log((float64(bits>>12) + 0.5) * 0x1p-52)
		worst = max(worst, math.Abs(exponential(bits)-want)/max(want, 0x1p-30))
	}
	check(0)
	check(math.MaxUint64)
	for range 100_000 {
		check(r.Uint64())
	}
	if worst > 1e-14 {
		t.Errorf("relative error %g", worst)
	}
}

func TestScheduleRefusesNonsense(t *testing.T) {
	cases := map[string]Schedule{
		"unknown kind": {"ramp", 1, time.Second, 0},
		"rate 0 ":      {Const, 0, time.Second, 0},
		"rate -1":      {Const, -1, time.Second, 0},
		"rate NaN":     {Poisson, math.NaN(), time.Second, 0},
		"rate +Inf":    {Poisson, math.Inf(1), time.Second, 0},
		"duration 0s":  {Const, 1, 0, 0},
		"duration -1s": {Const, 1, -time.Second, 0},
		"10000001 arrivals, the limit is 10000000": {Const, 10_000_001, time.Second, 0},
		"draws no arrival":                         {Poisson, 1e-6, time.Second, 0},
	}
	if len(cases) == 0 {
		t.Fatal("no cases: this test proves nothing")
	}
	for want, s := range cases {
		if _, err := s.Offsets(); !errors.Is(err, ErrSchedule) || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v, want one with %q", s, err, want)
		}
	}
}

func BenchmarkPoissonOffsets(b *testing.B) {
	s := Schedule{Kind: Poisson, Rate: 100_000, Duration: time.Second, Seed: 1}
	n := 0
	for b.Loop() {
		n += len(mustOffsets(b, s))
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/arrival")
}
