package drift

import (
	"encoding/json"
	"errors"
	"flag"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/fixtures/routes"
)

var update = flag.Bool("update", false, "write the shipped snapshot")

func observations(texts []string) []Observation {
	out := make([]Observation, len(texts))
	for i, text := range texts {
		out[i].Text = text
	}
	return out
}

// splits are the training texts of the corpus and the others that belong to routes.
func splits(tb testing.TB) (train, held []string, c routes.Corpus) {
	tb.Helper()
	c, err := routes.Load()
	if err != nil {
		tb.Fatal(err)
	}
	for _, r := range c.Routes {
		train = append(train, r.Train...)
		held = append(append(held, r.Validation...), r.Test...)
	}
	return train, held, c
}

// see fills a window with texts drawn from a list.
func see(seed uint64, n int, texts []string) *Window {
	w, r := NewWindow(2*n), rand.New(rand.NewPCG(seed, 1))
	for range n {
		w.See(Observation{Text: texts[r.IntN(len(texts))]})
	}
	return w
}

// TestShippedSnapshot holds that the snapshot is that of the training split, that held-out requests of the same
// routes do not alert, and that requests of another kind do.
func TestShippedSnapshot(t *testing.T) {
	train, held, c := splits(t)
	want := Take("fixtures/routes "+routes.Digest()+", training split", observations(train)...)
	if *update {
		b, err := json.MarshalIndent(want, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile("snapshot.json", append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
		t.Skip("written")
	}
	s, err := Shipped()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Fatalf("the shipped snapshot is of other texts: run this test with -update\n%s", diff)
	}
	few := c.Routes[:3] // traffic that is about three services alone
	var narrow []string
	for _, r := range few {
		narrow = append(narrow, r.Test...)
	}
	for name, k := range map[string]struct {
		texts []string
		alert bool
	}{
		"held out":     {held, false},
		"other words":  {[]string{"wo ist der nächste Bahnhof", "combien coûte un billet", "où se trouve la gare", "wie spät ist es"}, true},
		"three routes": {narrow, true},
	} {
		r := see(7, 600, k.texts).Compare(&s)
		t.Logf("%s: %+v", name, r.Of[:2])
		if r.Alert != k.alert {
			t.Errorf("%s: alert is %v", name, r.Alert)
		}
	}
}

// TestFalseAlarms holds that windows of the training texts themselves do not alert, at the least number of
// observations that is compared.
func TestFalseAlarms(t *testing.T) {
	train, _, _ := splits(t)
	s, err := Shipped()
	if err != nil {
		t.Fatal(err)
	}
	largest := 0.0
	for seed := range uint64(300) {
		for _, d := range see(seed, Minimum, train).Compare(&s).Of {
			largest = max(largest, d.Nats)
			if d.Drifted {
				t.Errorf("seed %d: %s drifted, %v nats", seed, d.Name, d.Nats)
			}
		}
	}
	t.Logf("largest divergence of 300 windows %.3f nats", largest)
}

// TestFeatures holds that each feature alone raises the alert, and that what is unknown is not compared.
func TestFeatures(t *testing.T) {
	usual := Observation{Text: "pay the invoice", Latency: 20 * time.Millisecond, Code: 200, Device: 1}
	var training []Observation
	for range 2 * Minimum {
		training = append(training, usual)
	}
	s := Take("test", training...)
	cases := map[string]Observation{}
	for name, edit := range map[string]func(*Observation){
		"": func(*Observation) {}, "lengths": func(o *Observation) { o.Text = strings.Repeat(o.Text+" ", 100) },
		"latencies": func(o *Observation) { o.Latency = 10 * time.Second }, "codes": func(o *Observation) { o.Code = 503 },
		"devices": func(o *Observation) { o.Device = 4 }, "tokens": func(o *Observation) { o.Text = "get the weather" },
	} {
		o := usual
		edit(&o)
		cases[name] = o
	}
	for name, o := range cases {
		w := NewWindow(1000)
		for range 2 * Minimum {
			w.See(o)
		}
		var drifted []string
		r := w.Compare(&s)
		for _, d := range r.Of {
			if d.Drifted {
				drifted = append(drifted, d.Name)
			}
		}
		if got := strings.Join(drifted, " "); got != name || r.Alert != (name != "") {
			t.Errorf("%q: drifted %q, alert %v", name, got, r.Alert)
		}
	}
	w := NewWindow(1000)
	for range 2 * Minimum {
		w.See(Observation{Text: usual.Text})
	}
	for _, d := range w.Compare(&s).Of {
		if d.Compared != (d.Name == "tokens" || d.Name == "lengths") {
			t.Errorf("%s: compared is %v", d.Name, d.Compared)
		}
	}
}

// TestWindowForgets holds that old observations leave and that memory does not grow.
func TestWindowForgets(t *testing.T) {
	w := NewWindow(100)
	for range 1000 {
		w.See(Observation{Text: "old"})
	}
	for i := range 100 {
		w.See(Observation{Text: "new"})
		if n := w.now.Observations + w.past.Observations; n > 100 || n < 50 {
			t.Fatalf("after %d: %d observations", i, n)
		}
	}
	sum, seen := w.now.plus(&w.past), 0
	for _, n := range sum.Tokens {
		if n > 0 {
			seen++
		}
	}
	if seen != 1 {
		t.Errorf("%d different words are left", seen)
	}
	o := Observation{Text: "Some Text, ünd another", Latency: time.Second, Code: 200, Device: 2}
	if n := testing.AllocsPerRun(100, func() { w.See(o) }); n != 0 {
		t.Errorf("%v allocations an observation", n)
	}
}

// TestDivergence holds the formula against a hand-computed value.
func TestDivergence(t *testing.T) {
	p, q := []uint64{300, 100}, []uint64{100, 100}
	a, b := 300.5/401, 100.5/201
	want := a*math.Log(a/b) + (1-a)*math.Log((1-a)/(1-b))
	if got, compared := divergence(p, q); !compared || math.Abs(got-want) > 1e-12 {
		t.Errorf("%v, %v, want %v", got, compared, want)
	}
	if _, compared := divergence(p, []uint64{99, 100}); compared {
		t.Error("199 counts are compared")
	}
}

func TestWords(t *testing.T) {
	var got []uint32
	words("Pay, pay! PAY über-", func(h uint32) { got = append(got, h) })
	if len(got) != 4 || got[0] != got[1] || got[1] != got[2] || got[2] == got[3] {
		t.Errorf("hashes %v", got)
	}
}

func FuzzSnapshot(f *testing.F) {
	f.Add(shipped, "text")
	f.Add([]byte(`{"counts":{"observations":1,"tokens":[1,20000000]}}`), "\xff\xfe")
	f.Add([]byte(`{"counts":{"observations":1,"tokens":[18446744073709551615]}}`), "a b")
	f.Fuzz(func(t *testing.T, b []byte, text string) {
		s, err := ParseSnapshot(b)
		if err != nil {
			if !errors.Is(err, ErrSnapshot) {
				t.Fatal(err)
			}
			return
		}
		w := NewWindow(2 * Minimum)
		for range Minimum {
			w.See(Observation{Text: text})
		}
		for _, d := range w.Compare(&s).Of {
			if math.IsNaN(d.Nats) || d.Nats < -1e-9 {
				t.Fatalf("%s is %v", d.Name, d.Nats)
			}
		}
	})
}
