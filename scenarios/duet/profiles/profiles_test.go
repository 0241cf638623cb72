package profiles

import (
	"bytes"
	"testing"

	"github.com/google/pprof/profile"
)

// made returns a processor profile: main calls every function, which takes that many milliseconds itself.
func made(t testing.TB, ms map[string]int64) []byte {
	t.Helper()
	p := &profile.Profile{SampleType: []*profile.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}}}
	id := uint64(0)
	location := func(name string) *profile.Location {
		id++
		f := &profile.Function{ID: id, Name: name}
		l := &profile.Location{ID: id, Line: []profile.Line{{Function: f}}}
		p.Function, p.Location = append(p.Function, f), append(p.Location, l)
		return l
	}
	root := location("main")
	for _, name := range []string{"old", "new", "same"} {
		if v := ms[name]; v > 0 {
			p.Sample = append(p.Sample, &profile.Sample{Location: []*profile.Location{location(name), root}, Value: []int64{1, v * 1e6}})
		}
	}
	var out bytes.Buffer
	if err := p.Write(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestCompareNamesWhatChanged(t *testing.T) {
	a, b := made(t, map[string]int64{"old": 100, "same": 500}), made(t, map[string]int64{"old": 100, "same": 510, "new": 300})
	got, total, err := Compare(CPU, [2][]byte{a, b}, [2]float64{10, 10})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 || got[0].Name != "new" || !Near(got[0].Self, [2]float64{0, 0.03}) || !Near(total, [2]float64{0.6, 0.91}) {
		t.Errorf("%+v, %v", got, total)
	}
	if got[1].Name != "same" || got[1].Share[0] < 0.83 || got[1].Share[0] > 0.84 {
		t.Errorf("%+v", got[1])
	}
	// twice the calls halve what a call takes
	if half, _, err := Compare(CPU, [2][]byte{a, b}, [2]float64{20, 20}); err != nil || Same(got, half) || !Near(half[0].Self, [2]float64{0, 0.015}) {
		t.Errorf("%+v, %v", half, err)
	}
}

func TestCompareRefuses(t *testing.T) {
	a := made(t, map[string]int64{"old": 1})
	if _, _, err := Compare(Allocs, [2][]byte{a, a}, [2]float64{1, 1}); err == nil {
		t.Error("a processor profile was taken for one of allocations")
	}
	if _, _, err := Compare(CPU, [2][]byte{a, a}, [2]float64{1, 0}); err == nil {
		t.Error("a profile of no call was taken")
	}
	if _, err := Parse([]byte{0x1f, 0x8b, 0}); err == nil {
		t.Error("a broken archive was taken")
	}
}

func TestSinceTakesOff(t *testing.T) {
	before, err := Parse(made(t, map[string]int64{"old": 100}))
	if err != nil {
		t.Fatal(err)
	}
	after, err := Parse(made(t, map[string]int64{"old": 100, "new": 50}))
	if err != nil {
		t.Fatal(err)
	}
	diff, err := Since(before, after)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*Function{}
	if total, err := add(all, diff, CPU, 0); err != nil || !Near([2]float64{total}, [2]float64{0.05}) {
		t.Errorf("%v, %v", total, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(made(f, map[string]int64{"old": 1}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		if _, err := Parse(raw); err == nil {
			_, _, _ = Compare(CPU, [2][]byte{raw, raw}, [2]float64{1, 1}) // may refuse, may not fall over
		}
	})
}
