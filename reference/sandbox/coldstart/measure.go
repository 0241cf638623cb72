package coldstart

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/assay-bench/assay/reference/defect"
)

// Start is where a sample begins.
type Start string

// The start points.
const (
	FromBytes    Start = "bytes"    // the module's bytes in memory, nothing compiled
	FromDisk     Start = "disk"     // the bytes, and their compiled form in a cache folder, in the page cache
	FromCompiled Start = "compiled" // compiled in this process
	FromPool     Start = "pooled"   // an instance that has served a call and was not reset since
)

// End is where a sample ends.
type End string

// The end points.
const (
	Instantiated End = "instantiated" // an instance that can be called
	FirstResult  End = "first-result" // the function was looked up, called, and its answer was compared
)

// Starts and Ends return the points in the order of the tables.
func Starts() []Start { return []Start{FromBytes, FromDisk, FromCompiled, FromPool} }
func Ends() []End     { return []End{Instantiated, FirstResult} }

// minP99 is how many samples a 99th percentile needs to be more than the maximum.
const minP99 = 100

// minSamples is what every pair of points gets, however little time there is.
const minSamples = 3

// defaultSamples is used where Options says nothing.
const defaultSamples = minP99

// Options says what to measure. The zero value measures Small on both engines, 100 samples each.
type Options struct {
	Samples int                                         // of each guest, engine, start and end; 0: 100
	Budget  time.Duration                               // a pair of points that took longer gets no more samples beyond three; 0: no bound
	Guests  []Guest                                     // none: Small
	Engines []Engine                                    // none: both
	Threads []int                                       // of Bursts; none: 1 and the number of CPUs
	Seed    uint64                                      // of the order of samples
	Dir     string                                      // folder for the disk cache; "": one of its own, removed afterwards
	Hosts   func(context.Context, wazero.Runtime) error // adds host modules that guests import besides WASI; may be nil
	Defects defect.Set
}

// Row is the distribution of one guest, engine, start point and end point.
type Row struct {
	Guest       string  `json:"guest"`
	Built       string  `json:"built,omitempty"`
	Engine      Engine  `json:"engine"`
	Start       Start   `json:"start"`
	End         End     `json:"end"`
	N           int     `json:"n"`    // samples with the right answer
	Void        int     `json:"void"` // samples that had a wrong answer or none, and are in no figure
	P50Nanos    int64   `json:"p50Nanos"`
	P99Nanos    int64   `json:"p99Nanos,omitzero"` // only with 100 samples or more
	PerSecond   float64 `json:"perSecond"`         // instances a second, at this number of threads
	ModuleBytes int     `json:"moduleBytes"`       // of the guest as sent
	Threads     int     `json:"threads"`
	Checked     bool    `json:"checked"` // the answer of every one of the n was compared
	Note        string  `json:"note,omitempty"`
}

// Measure takes samples of every guest, engine, start and end point: one of each in a round, in an order
// shuffled by the seed, the collector being run between rounds. A sample's answer is compared in every case,
// after the clock stopped where the end point is Instantiated; a wrong one voids the sample. Rows come in the
// order of guests, engines, starts and ends. Errors name the guest: a module that can not be rewritten, compiled
// or instantiated; or they are the context's.
func Measure(ctx context.Context, o Options) (rows []Row, err error) {
	run, err := begin(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, run.end()) }()
	if err := run.rounds(ctx); err != nil {
		return nil, err
	}
	for _, c := range run.cells {
		rows = append(rows, c.row())
	}
	if o.Defects.On(defect.SandboxColdstartSwapped) {
		for i := range rows {
			rows[i].P50Nanos, rows[i].P99Nanos = rows[i].P99Nanos, rows[i].P50Nanos
		}
	}
	if o.Defects.On(defect.SandboxColdstartHidden) {
		for i := range rows {
			rows[i].Start, rows[i].End = "", ""
		}
	}
	return rows, nil
}

// fill completes Options with their defaults and returns the prepared guests.
func (o *Options) fill() ([]*prepared, error) {
	if o.Samples <= 0 {
		o.Samples = defaultSamples
	}
	if len(o.Guests) == 0 {
		o.Guests = []Guest{Small()}
	}
	if len(o.Engines) == 0 {
		o.Engines = []Engine{Compiler, Interpreter}
	}
	if len(o.Threads) == 0 {
		o.Threads = slices.Compact([]int{1, runtime.GOMAXPROCS(0)})
	}
	var guests []*prepared
	for _, g := range o.Guests {
		p, err := prepare(g)
		if err != nil {
			return nil, err
		}
		guests = append(guests, p)
	}
	return guests, nil
}

func (o *Options) random() *rand.Rand { return rand.New(rand.NewPCG(o.Seed, 0)) }

// run is one measurement.
type run struct {
	o     Options
	dir   string
	own   bool // dir is removed at the end
	warm  []*warm
	cells []*cell
}

// warm is what a guest has in memory on one engine: its compiled form and its pooled instance.
type warm struct {
	guest    *prepared
	engine   Engine
	stage    *stage
	compiled wazero.CompiledModule
	pool     *pooled
}

// cell is a pair of points of a guest on an engine.
type cell struct {
	*warm
	start   Start
	end     End
	want    int // samples
	checked bool
	samples []time.Duration
	void    int
	why     string // of the first void sample
	spent   time.Duration
	fresh   int // pooled instances that had to be replaced because they grew or trapped
}

func begin(ctx context.Context, o Options) (*run, error) {
	guests, err := o.fill()
	if err != nil {
		return nil, err
	}
	r := &run{o: o, dir: o.Dir}
	if r.dir == "" {
		if r.dir, err = os.MkdirTemp("", "assay-coldstart-"); err != nil {
			return nil, err
		}
		r.own = true
	}
	for _, g := range guests {
		for _, e := range r.o.Engines {
			if err := r.add(ctx, g, e); err != nil {
				return nil, errors.Join(err, r.end())
			}
		}
	}
	return r, nil
}

// add prepares a guest on an engine, and fills the disk cache.
func (r *run) add(ctx context.Context, g *prepared, e Engine) error {
	w, err := r.o.heat(ctx, g, e, "")
	if err != nil {
		return err
	}
	r.warm = append(r.warm, w)
	w.pool = &pooled{stage: w.stage, compiled: w.compiled, guest: g}
	if err := w.pool.replace(ctx); err != nil {
		return err
	}
	disk, err := r.o.heat(ctx, g, e, r.dir)
	if err != nil {
		return err
	}
	if err := disk.stage.close(ctx); err != nil {
		return err
	}
	for _, s := range Starts() {
		if s == FromPool && !g.poolable {
			continue // a v128 global can not be set from outside
		}
		for _, end := range Ends() {
			r.cells = append(r.cells, &cell{
				warm: w, start: s, end: end, want: g.samples(r.o.Samples),
				checked: !r.o.Defects.On(defect.SandboxColdstartUnchecked),
			})
		}
	}
	return nil
}

// heat returns a stage on which the guest's rewritten form is compiled.
func (o *Options) heat(ctx context.Context, g *prepared, e Engine, dir string) (*warm, error) {
	s, err := o.stageFor(ctx, g, e, dir, false)
	if err != nil {
		return nil, err
	}
	c, err := s.runtime.CompileModule(ctx, g.rewritten)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("guest %s: %s: %w", g.Name, e, err), s.close(ctx))
	}
	return &warm{guest: g, engine: e, stage: s, compiled: c}, nil
}

// end frees everything, whether or not the context has ended.
func (r *run) end() error {
	var errs []error
	for _, w := range r.warm {
		errs = append(errs, w.stage.close(context.Background()))
	}
	if r.own {
		errs = append(errs, os.RemoveAll(r.dir))
	}
	return errors.Join(errs...)
}

func (r *run) rounds(ctx context.Context) error {
	order, rnd := slices.Clone(r.cells), r.o.random()
	for {
		order = slices.DeleteFunc(order, func(c *cell) bool { return c.done(r.o.Budget) })
		if len(order) == 0 {
			return nil
		}
		runtime.GC()
		rnd.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, c := range order {
			if err := ctx.Err(); err != nil {
				return err
			}
			began := time.Now()
			if err := r.sample(ctx, c); err != nil {
				return fmt.Errorf("guest %s: %s: %s to %s: %w", c.guest.Name, c.engine, c.start, c.end, err)
			}
			c.spent += time.Since(began)
		}
	}
}

func (c *cell) done(budget time.Duration) bool {
	taken := len(c.samples) + c.void
	return taken >= c.want || budget > 0 && taken >= minSamples && c.spent > budget
}

// sample takes one sample from the cell's start point.
func (r *run) sample(ctx context.Context, c *cell) error {
	switch c.start {
	case FromBytes:
		return r.compiling(ctx, c, "")
	case FromDisk:
		dir := r.dir
		if r.o.Defects.On(defect.SandboxColdstartCacheUnread) {
			dir = ""
		}
		return r.compiling(ctx, c, dir)
	case FromCompiled:
		return c.instantiating(ctx)
	}
	return c.resetting(ctx)
}

// compiling is a sample on a runtime of its own, so that nothing of the guest is in memory.
func (r *run) compiling(ctx context.Context, c *cell, dir string) error {
	s, err := r.o.stageFor(ctx, c.guest, c.engine, dir, false)
	if err != nil {
		return err
	}
	began := time.Now()
	compiled, err := s.runtime.CompileModule(ctx, c.guest.rewritten)
	if err == nil {
		var mod api.Module
		if mod, err = s.instantiate(ctx, compiled); err == nil {
			c.finish(ctx, mod, began)
		}
	}
	return errors.Join(err, s.close(ctx))
}

func (c *cell) instantiating(ctx context.Context) error {
	began := time.Now()
	mod, err := c.stage.instantiate(ctx, c.compiled)
	if err != nil {
		return err
	}
	c.finish(ctx, mod, began)
	return mod.Close(ctx)
}

// resetting is a sample on the pooled instance, which is made dirty by a call first.
func (c *cell) resetting(ctx context.Context) error {
	p := c.pool
	if p.grown() {
		c.fresh++
		if err := p.replace(ctx); err != nil {
			return err
		}
	}
	if _, err := c.guest.call(ctx, p.mod); err != nil || p.grown() {
		c.fresh++
		if err := p.replace(ctx); err != nil {
			return err
		}
	}
	began := time.Now()
	p.reset()
	if !c.finish(ctx, p.mod, began) {
		return p.replace(ctx) // whatever went wrong, the next sample begins from a sound instance
	}
	return nil
}

// finish stops the clock at the cell's end point and compares the answer. A sample without the right answer
// is void: finish reports false.
func (c *cell) finish(ctx context.Context, mod api.Module, began time.Time) bool {
	took := time.Since(began)
	got, err := c.guest.call(ctx, mod)
	if c.end == FirstResult {
		took = time.Since(began)
	}
	if why := c.guest.wrong(got, err); c.checked && why != "" {
		c.void++
		if c.why == "" {
			c.why = why
		}
		return false
	}
	c.samples = append(c.samples, took)
	return true
}

// call looks the guest's function up and calls it once.
func (g *prepared) call(ctx context.Context, mod api.Module) ([]uint64, error) {
	f := mod.ExportedFunction(g.Function)
	if f == nil {
		return nil, fmt.Errorf("no function %q", g.Function)
	}
	return f.Call(ctx, g.Args...)
}

// wrong says what is wrong with an answer, in one line; "" is nothing.
func (g *prepared) wrong(got []uint64, err error) string {
	switch {
	case err != nil:
		return firstLine(err.Error())
	case !slices.Equal(got, g.Want):
		return fmt.Sprintf("answer %v, want %v", got, g.Want)
	}
	return ""
}

func (c *cell) row() Row {
	r := newRow(c.warm, c.start, c.end, c.samples, c.void)
	r.Checked = c.checked && r.N > 0
	switch {
	case c.why != "":
		r.Note = "void: " + c.why
	case c.fresh > 0:
		r.Note = fmt.Sprintf("%d pooled instances grew or trapped and were replaced outside the clock", c.fresh)
	case c.start == FromDisk && c.engine == Interpreter:
		r.Note = "the interpreter stores nothing on disk: the same work as from bytes"
	}
	return r
}
