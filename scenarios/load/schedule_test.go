package load

import (
	"bytes"
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
	return slices.Collect(offsets)
}

// load/schedule/seeded
func TestDigestGolden(t *testing.T) {
	cases := []struct {
		s     Schedule
		count int
		want  string
	}{
		{Schedule{Kind: Const, Rate: 333, Duration: 10 * time.Second, Seed: 0}, 3330, "7cfa03f6a17c0941503b5d2874c24f68226463833dbd3bcb73fa79d503007858"},
		{Schedule{Kind: Const, Rate: 0.75, Duration: time.Minute, Seed: 0}, 45, "2156a592046db7d908fb5e5491f3039fe9bc4baa756515100c6467fde06185fb"},
		{Schedule{Kind: Poisson, Rate: 1000, Duration: 10 * time.Second, Seed: 1}, 0, "20f092f3b24540e905398510d1081e2372d9df3249a43347697a120e0fcd3c43"},
		{Schedule{Kind: Poisson, Rate: 1000, Duration: 10 * time.Second, Seed: 2}, 0, "1ab6fbf0d460bd194079b2bea8bbd65ea9b45123fc8f2302c8f92b7ed05d3a09"},
	}
	if len(cases) == 0 {
		t.Fatal("no schedules: this test proves nothing")
	}
	for _, c := range cases {
		offsets := mustOffsets(t, c.s)
		if got := Digest(slices.Values(offsets)); got != c.want {
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

// load/schedule/stages
func TestStagesFollowTheIntegral(t *testing.T) {
	up := Schedule{Kind: Ramp, Rate: 0, Stages: []Stage{{500, 4 * time.Second}}}
	steps := Schedule{Kind: Stages, Rate: 100, Stages: []Stage{
		{100, 2 * time.Second}, {1000, 3 * time.Second}, {0, 0}, {0, time.Second}, {250, 0}, {50, 2500 * time.Millisecond},
	}}
	seen := 0
	for name, s := range map[string]Schedule{"ramp": up, "stages": steps} {
		t.Run(name, func(t *testing.T) {
			lines := s.lines()
			integral := func(at float64) (sum float64) {
				for _, l := range lines {
					x := min(max(at-float64(l.begin)/1e9, 0), l.length)
					if l.length > 0 {
						sum += l.from*x + (l.to-l.from)*x*x/(2*l.length)
					}
				}
				return sum
			}
			perSecond := make([]int, int(s.Length()/time.Second)+1)
			offsets := mustOffsets(t, s)
			for k, at := range offsets {
				seen++
				perSecond[at/second]++
				if at > 0 && math.Abs(integral(float64(at)/1e9)-float64(k)) > 1e-3 {
					t.Fatalf("arrival %d at %d ns, where the integral is %g", k, at, integral(float64(at)/1e9))
				}
			}
			for i, got := range perSecond {
				if want := integral(float64(i+1)) - integral(float64(i)); math.Abs(float64(got)-want) > 1 {
					t.Errorf("second %d has %d arrivals, the integral is %g", i, got, want)
				}
			}
			if !slices.IsSorted(offsets) || offsets[len(offsets)-1] >= int64(s.Length()) {
				t.Error("offsets fall or leave the schedule")
			}
		})
	}
	if seen == 0 {
		t.Fatal("no arrivals: this test proves nothing")
	}
}

// Poisson arrivals of a ramp are those of rate 1, stretched by the integral.
func TestRandomRamp(t *testing.T) {
	s := Schedule{Kind: Ramp, Rate: 1000, Stages: []Stage{{3000, 10 * time.Second}}, Random: true, Seed: 4}
	offsets := mustOffsets(t, s)
	if n, want := float64(len(offsets)), 20_000.0; math.Abs(n-want) > 4*math.Sqrt(want) {
		t.Errorf("%g arrivals, want about %g", n, want)
	}
	half := 0
	for _, at := range offsets {
		if at < 5*second {
			half++
		}
	}
	if want := 7_500.0; math.Abs(float64(half)-want) > 4*math.Sqrt(want) {
		t.Errorf("%d arrivals in the first half, want about %g", half, want)
	}
	again := s
	again.Seed++
	if slices.Equal(offsets, mustOffsets(t, again)) {
		t.Error("another seed, the same arrivals")
	}
}

func TestBurst(t *testing.T) {
	got := mustOffsets(t, Schedule{Kind: Burst, Rate: 6, Burst: 3, Duration: 1200 * time.Millisecond})
	want := []int64{0, 0, 0, second / 2, second / 2, second / 2, second, second, second}
	if !slices.Equal(got, want) {
		t.Errorf("offsets %v, want %v", got, want)
	}
}

// load/schedule/trace
func TestReadTrace(t *testing.T) {
	got, err := ReadTrace(strings.NewReader("# recorded\n0\n5\n\n5\n1ms\n1.5s\n1500000000"))
	if want := []int64{0, 5, 5, 1e6, 1.5e9, 1.5e9}; err != nil || !slices.Equal(got, want) {
		t.Fatalf("offsets %v, error %v, want %v", got, err, want)
	}
	p, err := Schedule{Kind: Trace, Trace: got}.Survey()
	if err != nil || p.Digest != Digest(slices.Values(got)) || p.Count != 6 || p.Last != 1.5e9 || p.Duration != 1.5e9+1 {
		t.Errorf("survey %+v, error %v", p, err)
	}
	bad := map[string]string{
		"":                       "a trace of 0 arrivals",
		"# nothing\n":            "a trace of 0 arrivals",
		"5\n4":                   "line 2: offset 4 ns falls below 5 ns",
		"-1":                     "offset -1 ns of arrival 0",
		"1\nsoon":                `line 2: "soon" is neither`,
		"1 2":                    `line 1: "1 2" is neither`,
		"800h":                   "is outside",
		strings.Repeat("1", 70):  "70 bytes are no offset",
		strings.Repeat("x", 1e5): "after line 0",
	}
	for text, want := range bad {
		if _, err := ReadTrace(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: error %v, want %q", text, err, want)
		}
	}
}

func FuzzReadTrace(f *testing.F) {
	f.Add([]byte("0\n5\n1ms\n"))
	f.Add([]byte("# x\n\n9223372036854775807"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		offsets, err := ReadTrace(bytes.NewReader(raw))
		if err != nil {
			return
		}
		p, err := Schedule{Kind: Trace, Trace: offsets}.Survey()
		if err != nil || p.Count != int64(len(offsets)) || !slices.IsSorted(offsets) {
			t.Errorf("%v was read, but %v", offsets, err)
		}
	})
}

func TestScheduleRefusesNonsense(t *testing.T) {
	long := make([]Stage, maxStages+1)
	cases := map[string]Schedule{
		"unknown kind":               {Kind: "saw", Rate: 1, Duration: time.Second},
		"rate 0 ":                    {Kind: Const, Duration: time.Second},
		"rate -1":                    {Kind: Const, Rate: -1, Duration: time.Second},
		"rate NaN":                   {Kind: Poisson, Rate: math.NaN(), Duration: time.Second},
		"rate +Inf":                  {Kind: Poisson, Rate: math.Inf(1), Duration: time.Second},
		"duration 0s":                {Kind: Const, Rate: 1},
		"duration -1s":               {Kind: Const, Rate: 1, Duration: -time.Second},
		"the limit is 1":             {Kind: Const, Rate: 1e9, Duration: 2 * time.Second},
		"no arrival":                 {Kind: Poisson, Rate: 1e-6, Duration: time.Second},
		"bursts of 0":                {Kind: Burst, Rate: 1, Duration: time.Second},
		"has one stage":              {Kind: Ramp, Rate: 1},
		"0 stages":                   {Kind: Stages, Rate: 1},
		"10001 stages":               {Kind: Stages, Rate: 1, Stages: long},
		"at the start":               {Kind: Stages, Rate: -1, Stages: []Stage{{1, time.Second}}},
		"of stage 1":                 {Kind: Stages, Rate: 1, Stages: []Stage{{math.NaN(), time.Second}}},
		"stage 1 of -1s":             {Kind: Stages, Rate: 1, Stages: []Stage{{1, -time.Second}}},
		"stage 2 of 72":              {Kind: Stages, Rate: 1, Stages: []Stage{{1, time.Second}, {1, maxDuration}}},
		"the stages make 1000000001": {Kind: Ramp, Rate: 1e9, Stages: []Stage{{1e9, time.Second + 1}}},
		"no arrival in 1s":           {Kind: Ramp, Stages: []Stage{{0, time.Second}}},
	}
	if len(cases) == 0 {
		t.Fatal("no cases: this test proves nothing")
	}
	for want, s := range cases {
		if _, err := s.Survey(); !errors.Is(err, ErrSchedule) || !strings.Contains(err.Error(), want) {
			t.Errorf("%+.100v: error %v, want one with %q", s, err, want)
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
