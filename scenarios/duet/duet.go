package duet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/assay-bench/assay/chaos"
)

// A Process is a fresh process of an artefact that serves.
type Process struct {
	PID  int
	Tree func() []chaos.Process // what processor time and memory are counted of
	Open func(ctx context.Context, scenario string) (Connection, error)
	Stop func(context.Context) error

	addr string
}

// A Connection sends the requests of one scenario, one at a time.
type Connection interface {
	// Call sends request n (from 0) and waits for its answer. An error is one of the product: it counts, and the
	// connection goes on.
	Call(ctx context.Context, n int) error
	// Wire is how many bytes went either way so far.
	Wire() int64
	Close() error
}

// Artefact starts processes of one build.
type Artefact interface {
	// Start returns once the process serves. An error that wraps target.ErrNotReady is the artefact's own.
	Start(ctx context.Context) (Process, error)
	// Allocs is the process's own count of heap allocations, where it has one.
	Allocs(ctx context.Context, p Process) (float64, bool, error)
}

// announcing is an Artefact that tells when its process was started and is waited for.
type announcing interface {
	StartThen(ctx context.Context, begun func()) (Process, error)
}

// Scenario is what is asked of both arms.
type Scenario struct {
	Name     string
	Metrics  []string
	Requests int // an arm and epoch by request; 0: the fewest, and as many more as Traffic wants
	Fewest   int // an arm, below which an epoch is void; 0: MinRequests
	Limits   []time.Duration
	Mode     Mode          // empty: ByRequest
	Rate     float64       // by slice: requests a second
	Users    int           // by slice: connections; by block: requests in flight
	Span     time.Duration // of one slice or block
	Within   time.Duration // of goodput
}

// Least is the fewest requests an arm with which an epoch counts.
func (s Scenario) Least() int {
	switch {
	case s.Fewest > 0:
		return s.Fewest
	case s.Mode == ByBlock:
		return TailRequests(s.Metrics)
	}
	return MinRequests(s.Metrics)
}

// Config is what every epoch of a run has in common.
type Config struct {
	Scenarios []Scenario
	Artefacts [2]Artefact
	Seed      uint64
	Timeout   time.Duration // of one request; 0: 10 s
	Warmup    time.Duration // of one arm, at most; 0: 5 s
	// Spread leaves both arms on all processors by request, too. Where the scheduler puts a process moves its
	// median by several percent for as long as it lives.
	Spread bool
	// Throttled tells how often the harness's own control group was throttled so far; nil: unknown.
	Throttled func() (int64, bool)
}

// Constants of an epoch (gate.md section 2).
const (
	Traffic      = 320 * time.Millisecond // at least, of both arms together
	LagLimit     = time.Millisecond       // at p99
	defaultLimit = 10 * time.Second
	maxPairs     = 100_000
)

// Why an epoch does not count.
const (
	VoidSamples   = "too-few-samples"
	VoidLag       = "generator-lag"
	VoidThrottled = "throttled"
	VoidCapped    = "capped"
)

// Runner runs epochs.
type Runner struct {
	cfg    Config
	random *rand.Rand
}

// New returns a runner whose choices follow the seed. Errors: no scenario, no metric.
func New(cfg Config) (*Runner, error) {
	if len(cfg.Scenarios) == 0 {
		return nil, errors.New("duet: no scenario")
	}
	for _, s := range cfg.Scenarios {
		if len(s.Metrics) == 0 {
			return nil, fmt.Errorf("duet: scenario %q has no metric", s.Name)
		}
		if err := s.Check(); err != nil {
			return nil, fmt.Errorf("duet: scenario %q: %w", s.Name, err)
		}
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultLimit
	}
	if cfg.Warmup <= 0 {
		cfg.Warmup = warmupLimit
	}
	return &Runner{cfg: cfg, random: rand.New(rand.NewPCG(cfg.Seed, 0xd0e7))}, nil
}

// NotReady says which arm did not become ready.
type NotReady struct {
	Arm Arm
	Err error
}

func (e *NotReady) Error() string {
	return fmt.Sprintf("the %s did not become ready: %v", e.Arm, e.Err)
}

// Unwrap returns the cause.
func (e *NotReady) Unwrap() error { return e.Err }

// Epoch runs one epoch: a fresh process of each arm, started in random order, warmed up, measured with
// interleaved requests and stopped. In a pre-flight both arms are the baseline. The requests of a scenario end at the limit; 0: never. Errors are NotReady for a process that
// does not come up, and else the harness's own.
func (r *Runner) Epoch(ctx context.Context, phase Phase, number int, limit time.Duration) (epochs []Epoch, err error) {
	var both [2]started
	first := Arm(r.random.IntN(2))
	defer func() {
		for _, s := range both {
			if s.process.Stop != nil {
				err = errors.Join(err, s.process.Stop(context.WithoutCancel(ctx)))
			}
		}
	}()
	if err := r.startBoth(ctx, phase, first, &both); err != nil {
		return nil, err
	}
	for _, s := range r.cfg.Scenarios {
		e, err := r.scenario(ctx, s, &both, limit)
		if err != nil {
			return nil, fmt.Errorf("scenario %s: %w", s.Name, err)
		}
		e.Phase, e.Number, e.Scenario, e.First = phase, number, s.Name, first
		epochs = append(epochs, e)
	}
	return epochs, nil
}

// startBoth starts a process of each arm, the first one first, and then waits for both: a service that takes seconds to
// start would else cost them twice.
func (r *Runner) startBoth(ctx context.Context, phase Phase, first Arm, both *[2]started) error {
	var ended [2]chan error
	for _, arm := range []Arm{first, 1 - first} {
		source := r.cfg.Artefacts[arm]
		if phase == Preflight {
			source = r.cfg.Artefacts[Baseline]
		}
		begun, end := make(chan struct{}), make(chan error, 1)
		ended[arm] = end
		go func() {
			at := time.Now()
			p, err := startThen(ctx, source, sync.OnceFunc(func() { close(begun) }))
			if err == nil {
				both[arm] = started{process: p, source: source, at: at, ready: time.Since(at)}
			}
			end <- err
			close(end)
		}()
		select {
		case <-begun:
		case err := <-end: // it did not even begin, or said nothing of it
			told := make(chan error, 1)
			told <- err
			ended[arm] = told
		}
	}
	// The baseline's failure is told first: of a candidate beside it nothing is known then.
	a, b := <-ended[Baseline], <-ended[Candidate]
	switch {
	case a != nil:
		return &NotReady{Baseline, a}
	case b != nil:
		return &NotReady{Candidate, b}
	}
	return nil
}

func startThen(ctx context.Context, a Artefact, begun func()) (Process, error) {
	if says, ok := a.(announcing); ok {
		return says.StartThen(ctx, begun)
	}
	return a.Start(ctx)
}

// started is a process of an arm and when it began.
type started struct {
	process Process
	source  Artefact
	at      time.Time
	ready   time.Duration
}

// scenario measures one scenario on both processes.
func (r *Runner) scenario(ctx context.Context, s Scenario, both *[2]started, limit time.Duration) (e Epoch, err error) {
	var sides [2]*side
	for _, arm := range Arms {
		conn, err := both[arm].process.Open(ctx, s.Name)
		if err != nil {
			return e, fmt.Errorf("connect to the %s: %w", arm, err)
		}
		sides[arm] = &side{started: both[arm], conn: conn, timeout: r.cfg.Timeout}
		defer func() { err = errors.Join(err, conn.Close()) }()
	}
	where, undo := r.settle(s, both)
	defer undo()
	e.Place = where
	if err := warm(ctx, sides, r.cfg.Warmup); err != nil {
		return e, err
	}
	throttled, known := r.throttled()
	run, err := r.traffic(ctx, s, sides, limit)
	if err != nil {
		return e, err
	}
	if e.Order, e.Lag = run.order, run.lag; s.Mode != ByRequest {
		e.Mode = s.Mode
	}
	e.Ratios = map[string]float64{}
	for _, arm := range Arms {
		if e.Arms[arm], err = sides[arm].close(ctx, s); err != nil {
			return e, err
		}
	}
	for _, m := range s.Metrics {
		if d, ok := Ratio(e.Arms, m); ok {
			e.Ratios[m] = d
		}
	}
	now, _ := r.throttled()
	e.Void, e.VoidBy = void(e, run, known && now > throttled, s.Least())
	return e, nil
}

// traffic is what an epoch sends, in the mode of the scenario.
func (r *Runner) traffic(ctx context.Context, s Scenario, sides [2]*side, limit time.Duration) (traffic, error) {
	if s.Mode == BySlice || s.Mode == ByBlock {
		return r.turns(ctx, s, sides, limit)
	}
	pairs := s.Requests
	if pairs == 0 {
		pairs = max(s.Least(), pairsFor(Traffic, sides))
	}
	return r.pairs(ctx, sides, pairs, limit)
}

func (r *Runner) throttled() (int64, bool) {
	if r.cfg.Throttled == nil {
		return 0, false
	}
	return r.cfg.Throttled()
}

// pairsFor returns how many pairs fill a time, from the requests of the warm-up.
func pairsFor(d time.Duration, sides [2]*side) int {
	each := sides[Baseline].typical() + sides[Candidate].typical()
	if each <= 0 {
		return 0
	}
	return min(maxPairs, int(d/each)+1)
}

// void tells why an epoch does not count, without looking at latencies (gate.md section 3.3).
func void(e Epoch, run traffic, throttled bool, fewest int) (string, *Arm) {
	for _, arm := range Arms {
		if e.Arms[arm].Requests < fewest && !run.capped {
			return VoidSamples, &arm
		}
	}
	switch {
	case run.capped:
		return VoidCapped, run.mute
	case e.Lag > LagLimit:
		return VoidLag, nil
	case throttled:
		return VoidThrottled, nil
	}
	return "", nil
}

// traffic is how the requests of an epoch went.
type traffic struct {
	order  string
	lag    time.Duration
	capped bool
	mute   *Arm // of two arms under load, the one that gave no right answer
}

// pairs sends n pairs of requests, one to each arm, in an order that is drawn for each pair. One request is in flight
// at any time, so that the arms are never loaded at once.
func (r *Runner) pairs(ctx context.Context, sides [2]*side, n int, limit time.Duration) (traffic, error) {
	first, digits := order(r.random, n)
	lags := make([]time.Duration, 0, 2*n)
	begin := time.Now()
	last := begin
	for i, arm := range first {
		for _, a := range [2]Arm{arm, 1 - arm} {
			sent := time.Now()
			lags = append(lags, sent.Sub(last))
			last = sides[a].measure(ctx, i, sent)
		}
		if err := ctx.Err(); err != nil {
			return traffic{}, err
		}
		if limit > 0 && last.Sub(begin) > limit {
			return traffic{order: digits, lag: p99(lags), capped: i+1 < n}, nil
		}
	}
	return traffic{order: digits, lag: p99(lags)}, nil
}

func p99(lags []time.Duration) time.Duration {
	slices.Sort(lags)
	return lags[len(lags)*99/100]
}
