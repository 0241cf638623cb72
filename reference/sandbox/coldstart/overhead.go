package coldstart

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/tetratelabs/wazero/api"

	"github.com/assay-bench/assay/reference/defect"
)

// Overhead is what it costs to be able to stop a guest, as a ratio over the original, which nothing stops:
// fuel, and wazero's close-on-done, the naive way. The guest's warm call is made again and again on one
// instance, so its answer must not depend on earlier calls; where it does, all is void.
type Overhead struct {
	Guest      string  `json:"guest"`
	Built      string  `json:"built,omitempty"`
	Engine     Engine  `json:"engine"`
	N          int     `json:"n"`          // rounds in which all three answered right
	Void       int     `json:"void"`       // rounds in which one did not
	Calls      int     `json:"calls"`      // calls in a sample
	PlainNanos int64   `json:"plainNanos"` // median of a call
	FuelNanos  int64   `json:"fuelNanos"`
	NaiveNanos int64   `json:"naiveNanos"`
	Fuel       float64 `json:"fuelRatio"` // medians of the ratios within a round
	Naive      float64 `json:"naiveRatio"`
	Note       string  `json:"note,omitempty"`
}

// The forms that Overheads compares.
const (
	plain = iota // the original
	fuel         // rewritten
	naive        // the original, on a runtime that watches the context
	forms
)

// sampleTime is how long a sample should take at least, so that the clock and the scheduler do not matter.
const sampleTime = 200 * time.Microsecond

// maxCalls bounds the calls of a sample.
const maxCalls = 1 << 12

// Overheads measures every guest on every engine, Options.Samples rounds each. In a round the three forms run
// one after the other, in an order shuffled by the seed. Errors are those of Measure.
func Overheads(ctx context.Context, o Options) ([]Overhead, error) {
	guests, err := o.fill()
	if err != nil {
		return nil, err
	}
	rnd := o.random()
	var rows []Overhead
	for _, g := range guests {
		for _, e := range o.Engines {
			row, err := o.overhead(ctx, g, e, rnd)
			if err != nil {
				return nil, fmt.Errorf("guest %s: %s: overhead: %w", g.Name, e, err)
			}
			if o.Defects.On(defect.SandboxOverheadHidden) {
				row.NaiveNanos, row.Naive = 0, 0
			}
			rows = append(rows, row)
		}
	}
	return rows, nil
}

// form is a warm instance of one form of a guest.
type form struct {
	stage *stage
	warm  Call
	call  api.Function
	stack []uint64
}

func (o *Options) overhead(ctx context.Context, g *prepared, e Engine, rnd *rand.Rand) (row Overhead, err error) {
	ctx, cancel := context.WithCancel(ctx) // a context that can end, so that the naive form has one to watch
	defer cancel()
	var set [forms]*form
	defer func() {
		for _, f := range set {
			if f != nil {
				err = errors.Join(err, f.stage.close(context.Background()))
			}
		}
	}()
	for i := range set {
		if set[i], err = o.form(ctx, g, e, i); err != nil {
			return Overhead{}, err
		}
	}
	t := tally{}
	t.calls, t.why = set[plain].calibrate(ctx)
	order := []int{plain, fuel, naive}
	for range g.samples(o.Samples) {
		if err := ctx.Err(); err != nil {
			return Overhead{}, err
		}
		rnd.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		t.round(ctx, &set, order)
	}
	row = t.row()
	row.Guest, row.Built, row.Engine = g.Name, g.Built, e
	return row, nil
}

func (o *Options) form(ctx context.Context, g *prepared, e Engine, which int) (*form, error) {
	watched := which == naive && !o.Defects.On(defect.SandboxNaiveUnwatched)
	s, err := o.stageFor(ctx, g, e, "", watched)
	if err != nil {
		return nil, err
	}
	wasm := g.Wasm
	if which == fuel {
		wasm = g.rewritten
	}
	f, err := s.form(ctx, g, wasm)
	if err != nil {
		return nil, errors.Join(err, s.close(ctx))
	}
	return f, nil
}

func (s *stage) form(ctx context.Context, g *prepared, wasm []byte) (*form, error) {
	compiled, err := s.runtime.CompileModule(ctx, wasm)
	if err != nil {
		return nil, err
	}
	mod, err := s.instantiate(ctx, compiled)
	if err != nil {
		return nil, err
	}
	w := g.warm()
	f := mod.ExportedFunction(w.Function)
	if f == nil {
		return nil, fmt.Errorf("no function %q", w.Function)
	}
	d := f.Definition()
	words := max(len(d.ParamTypes()), len(d.ResultTypes()), len(w.Args), len(w.Want))
	return &form{stage: s, warm: w, call: f, stack: make([]uint64, words)}, nil
}

// calibrate returns how many calls a sample takes, and what was wrong with the answer, if anything was.
func (f *form) calibrate(ctx context.Context) (calls int, why string) {
	for n := 1; ; n *= 2 {
		took, why := f.time(ctx, n)
		if why != "" || took >= sampleTime || n >= maxCalls {
			return n, why
		}
	}
}

// time makes n calls and compares every answer. It says what was wrong with the first bad one, in one line.
func (f *form) time(ctx context.Context, n int) (time.Duration, string) {
	began := time.Now()
	for range n {
		copy(f.stack, f.warm.Args)
		err := f.call.CallWithStack(ctx, f.stack)
		if err != nil {
			return 0, firstLine(err.Error())
		}
		for i, w := range f.warm.Want {
			if f.stack[i] != w {
				return 0, fmt.Sprintf("answer %v, want %v", f.stack[:len(f.warm.Want)], f.warm.Want)
			}
		}
	}
	return time.Since(began), ""
}

// tally collects rounds.
type tally struct {
	calls  int
	void   int
	why    string           // of the first void round
	took   [forms][]float64 // nanoseconds a call
	ratios [forms][]float64 // over plain, in the same round
}

func (t *tally) round(ctx context.Context, set *[forms]*form, order []int) {
	var nanos [forms]float64
	for _, i := range order {
		took, why := set[i].time(ctx, t.calls)
		if why != "" {
			t.void++
			if t.why == "" {
				t.why = why
			}
			return
		}
		nanos[i] = float64(max(took, 1)) / float64(t.calls)
	}
	for i, v := range nanos {
		t.took[i] = append(t.took[i], v)
		t.ratios[i] = append(t.ratios[i], v/nanos[plain])
	}
}

func (t *tally) row() Overhead {
	return Overhead{
		N: len(t.took[plain]), Void: t.void, Calls: t.calls,
		PlainNanos: int64(median(t.took[plain])), FuelNanos: int64(median(t.took[fuel])), NaiveNanos: int64(median(t.took[naive])),
		Fuel: median(t.ratios[fuel]), Naive: median(t.ratios[naive]), Note: t.why,
	}
}
