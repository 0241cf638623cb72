package tls

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"time"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/host"
	drive "github.com/assay-bench/assay/scenarios/tls"
	wire "github.com/assay-bench/assay/scenarios/wire/tls"
	"github.com/assay-bench/assay/suites"
)

// Measured in blocks of handshakes of one kind, that alternate: what disturbs the host disturbs both.
const (
	cpuPairs = 160 // blocks of each kind
	cpuBlock = 5   // handshakes in a block
	cpuWarm  = 8   // of each kind before the first block
	cpuLeast = 12  // pairs without which nothing is said
)

const (
	reasonCostly      = "too-costly"
	reasonNotMeasured = "not-measured" // handshakes failed, or no clock of the target could be read
)

// Costs is the data of Measured evidence on processor time.
type Costs struct {
	Base   string     `json:"base"`
	Other  string     `json:"other"`
	Block  int        `json:"block"` // handshakes
	Pairs  []CostPair `json:"pairs"`
	Failed string     `json:"failed,omitempty"` // why there are no more pairs: what a handshake ended in
}

// CostPair is the processor time of two neighbouring blocks: of the target's processes, and of the harness's
// own end.
type CostPair struct {
	Base     time.Duration `json:"base"`
	Other    time.Duration `json:"other"`
	OwnBase  time.Duration `json:"ownBase"`
	OwnOther time.Duration `json:"ownOther"`
}

// cpuKind is one of the two kinds of handshakes.
type cpuKind struct {
	name    string
	offer   wire.Offer
	group   wire.Group
	resumed bool
}

// errDisappointing is wrapped where a handshake of a block did not end as it must: that is evidence.
var errDisappointing = errors.New("a handshake of a block did not complete as it must")

// measure alternates blocks of both kinds and records their costs.
func measure(ctx context.Context, env *scenarios.Env, base, other cpuKind) error {
	if len(env.Processes) == 0 {
		return fmt.Errorf("%s needs the target's process, and none is known", env.Key)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c := Costs{Base: base.name, Other: other.name, Block: cpuBlock, Pairs: []CostPair{}}
	err := c.warm(ctx, env, base, other)
	for i := 0; err == nil && i < cpuPairs; i++ {
		err = c.pair(ctx, env, base, other, i%2 == 1)
	}
	if err != nil && (ctx.Err() != nil || !errors.Is(err, errDisappointing)) {
		return err
	}
	if err != nil {
		c.Failed = err.Error()
	}
	return env.Put(results.FromHost, results.Measured, c)
}

func (c *Costs) warm(ctx context.Context, env *scenarios.Env, kinds ...cpuKind) error {
	for _, k := range kinds {
		if _, _, err := block(ctx, env, k, cpuWarm); err != nil {
			return err
		}
	}
	return nil
}

// pair measures two neighbouring blocks, the other kind first where turned.
func (c *Costs) pair(ctx context.Context, env *scenarios.Env, base, other cpuKind, turned bool) error {
	var p CostPair
	one := func(k cpuKind, target, own *time.Duration) (err error) {
		*target, *own, err = block(ctx, env, k, cpuBlock)
		return err
	}
	first := func() error { return one(base, &p.Base, &p.OwnBase) }
	second := func() error { return one(other, &p.Other, &p.OwnOther) }
	if turned {
		first, second = second, first
	}
	if err := first(); err != nil {
		return err
	}
	if err := second(); err != nil {
		return err
	}
	c.Pairs = append(c.Pairs, p)
	return nil
}

// block makes n handshakes and gives what they cost.
func block(ctx context.Context, env *scenarios.Env, k cpuKind, n int) (target, own time.Duration, err error) {
	tree, err := env.Processes[0].Tree()
	if err != nil {
		return 0, 0, fmt.Errorf("%w: %w", errDisappointing, err) // it ended: a fact about the target
	}
	t0, err := host.ProcessCPU(tree)
	if err != nil {
		return 0, 0, fmt.Errorf("%w: %w", errDisappointing, err)
	}
	o0, err := host.ThreadCPU()
	if err != nil {
		return 0, 0, err
	}
	for range n {
		if err := once(ctx, env, k); err != nil {
			return 0, 0, err
		}
	}
	o1, err := host.ThreadCPU()
	if err != nil {
		return 0, 0, err
	}
	t1, err := host.ProcessCPU(tree)
	if err != nil {
		return 0, 0, fmt.Errorf("%w: %w", errDisappointing, err)
	}
	return t1 - t0, o1 - o0, nil
}

// once makes one handshake without recording it: there are hundreds, and recording costs time.
func once(ctx context.Context, env *scenarios.Env, k cpuKind) error {
	conn, err := env.Dial(ctx, "tcp", env.Endpoints[endpoint])
	if errors.Is(err, scenarios.ErrNotAllowed) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errDisappointing, err)
	}
	c := wire.Client{Offer: k.offer, Wait: answerWait(env.Claims), Now: time.Now()}
	for i := range c.Seed {
		c.Seed[i] = byte(env.Rand.Uint32())
	}
	if env.Claims.TLS != nil {
		c.Offer.ServerName = env.Claims.TLS.ServerName
	}
	o := c.Run(ctx, conn)
	_ = conn.Close() // Run has closed it already
	if r := served(o, k.group); r != "" || o.Resumed != k.resumed {
		return fmt.Errorf("%w: %s: %s, resumed %t", errDisappointing, k.name, describe(o), o.Resumed)
	}
	return nil
}

// judgeCPU compares the target's costs of both kinds with a bound. The interval is that of the median over
// the pairs, by order statistics: it asks nothing of how the host's noise is distributed.
func judgeCPU(t suites.Trace, bound float64) suites.Finding {
	want := fmt.Sprintf("at most %.2f times the processor time in the target: assay TLS rules", bound)
	for _, e := range t.Evidence {
		var c Costs
		if e.Kind != results.Measured || e.Source != results.FromHost {
			continue
		}
		cites := []uint64{e.Seq}
		if err := e.Decode(&c); err != nil {
			return suites.Failing(reasonNotMeasured, want, err.Error(), cites)
		}
		if c.Failed != "" {
			return suites.Failing(reasonNotMeasured, want, c.Failed, cites)
		}
		return c.judge(want, bound, cites)
	}
	return suites.Failing(reasonNotMeasured, want, "no costs are in the evidence", nil)
}

func (c Costs) judge(want string, bound float64, cites []uint64) suites.Finding {
	ratios := c.ratios()
	if len(ratios) < cpuLeast {
		return suites.TooNoisy(want, fmt.Sprintf("%d pairs of blocks could be compared, %d are needed", len(ratios), cpuLeast), cites)
	}
	low, high := medianInterval(ratios)
	observed := fmt.Sprintf("%s costs %.2f times %s (95%% interval of the median over %d pairs of blocks of %d handshakes: %.2f to %.2f)",
		c.Other, c.ratio(), c.Base, len(ratios), c.Block, low, high)
	var f suites.Finding
	switch {
	case high <= bound:
		f = suites.Passing(want, observed, cites)
	case low > bound:
		f = suites.Failing(reasonCostly, want, observed, cites)
	default:
		f = suites.TooNoisy(want, observed, cites)
	}
	f.Figures = c.figures(low, high)
	return f
}

// ratios are those of the pairs, sorted. A block that took no time has none.
func (c Costs) ratios() []float64 {
	var out []float64
	for _, p := range c.Pairs {
		if p.Base > 0 && p.Other > 0 {
			out = append(out, float64(p.Other)/float64(p.Base))
		}
	}
	slices.Sort(out)
	return out
}

func (c Costs) sums() (total CostPair) {
	for _, p := range c.Pairs {
		total.Base += p.Base
		total.Other += p.Other
		total.OwnBase += p.OwnBase
		total.OwnOther += p.OwnOther
	}
	return total
}

// ratio is that of the sums.
func (c Costs) ratio() float64 {
	s := c.sums()
	if s.Base <= 0 {
		return math.Inf(1)
	}
	return float64(s.Other) / float64(s.Base)
}

func (c Costs) figures(low, high float64) []results.Figure {
	s := c.sums()
	each := func(d time.Duration) float64 { return d.Seconds() / float64(max(1, len(c.Pairs)*c.Block)) }
	return []results.Figure{
		{Name: "cpu ratio", Value: c.ratio(), Unit: "ratio"},
		{Name: "cpu ratio, low", Value: low, Unit: "ratio"},
		{Name: "cpu ratio, high", Value: high, Unit: "ratio"},
		{Name: "cpu of the target, " + c.Base, Value: each(s.Base), Unit: "seconds"},
		{Name: "cpu of the target, " + c.Other, Value: each(s.Other), Unit: "seconds"},
		{Name: "cpu of the prober, " + c.Base, Value: each(s.OwnBase), Unit: "seconds"},
		{Name: "cpu of the prober, " + c.Other, Value: each(s.OwnOther), Unit: "seconds"},
	}
}

// medianInterval covers the median of sorted values with a probability of 95 % at least: as many values lie
// below it as heads come up in as many throws of a coin.
func medianInterval(sorted []float64) (low, high float64) {
	n := len(sorted)
	if n == 0 {
		return math.Inf(-1), math.Inf(1)
	}
	k, tail, p := 0, 0.0, math.Pow(0.5, float64(n))
	for tail+p <= 0.025 && k < n/2 {
		tail += p
		p *= float64(n-k) / float64(k+1)
		k++
	}
	if k == 0 {
		return math.Inf(-1), math.Inf(1)
	}
	return sorted[k-1], sorted[n-k]
}

// classicalCertificate offers a group and classical signatures: the costs of ML-DSA would hide the key
// exchange's.
func classicalCertificate(g wire.Group) wire.Offer { return withSchemes(alone(g), classicalSchemes()) }

func cpuCheck(c suites.Check, bound float64) suites.Check {
	c.Covers, c.Locality, c.Explain = []string{c.ID}, suites.SameHost, explain
	c.Cost = suites.Cost{Time: 3 * time.Second, Exclusive: true}
	c.Judge = func(t suites.Trace) suites.Finding { return judgeCPU(t, bound) }
	return c
}

var _ = add(cpuCheck(suites.Check{
	ID: "tls/kex/cpu-ratio", Title: "X25519MLKEM768 costs the server at most 1.45 times the processor time of X25519",
	Needs:   []features.Feature{features.TLSServer, features.TLSX25519, features.TLSDual},
	Reasons: []string{reasonCostly, reasonNotMeasured},
	Kills:   []suites.Kill{{Defect: "tls.hybrid-slow", Reason: reasonCostly}},
	Drive: func(ctx context.Context, env *scenarios.Env) error {
		return measure(ctx, env,
			cpuKind{name: "X25519", offer: classicalCertificate(wire.X25519), group: wire.X25519},
			cpuKind{name: "X25519MLKEM768", offer: classicalCertificate(wire.X25519MLKEM768), group: wire.X25519MLKEM768})
	},
}, 1.45))

var _ = add(cpuCheck(suites.Check{
	ID: "tls/resume/cpu-ratio", Title: "a resumption with X25519MLKEM768 costs the server at most 1.8 times the processor time of one with X25519",
	Needs:   []features.Feature{features.TLSServer, features.TLSX25519, features.TLSTickets, features.TLSDual},
	Reasons: []string{reasonCostly, reasonNotMeasured},
	Kills:   []suites.Kill{{Defect: "tls.psk-hybrid-slow", Reason: reasonCostly}},
	Drive:   driveResumedCPU,
}, 1.8))

// driveResumedCPU takes a ticket of each kind and resumes with it again and again.
func driveResumedCPU(ctx context.Context, env *scenarios.Env) error {
	kinds := []cpuKind{{name: "PSK with X25519", group: wire.X25519}, {name: "PSK with X25519MLKEM768", group: wire.X25519MLKEM768}}
	for i := range kinds {
		c := resumable(env, kinds[i].group)
		c.Offer.Schemes = classicalSchemes()
		first, err := drive.Probe(ctx, env, endpoint, "ticket-"+kinds[i].group.String(), c)
		if err != nil {
			return err
		}
		if len(first.Sessions) == 0 {
			failed := Costs{Base: kinds[0].name, Other: kinds[1].name, Pairs: []CostPair{}, Failed: "no ticket: " + describe(*first)}
			return env.Put(results.FromHost, results.Measured, failed)
		}
		kinds[i].offer, kinds[i].resumed = classicalCertificate(kinds[i].group), true
		kinds[i].offer.Session = first.Sessions[0]
	}
	return measure(ctx, env, kinds[0], kinds[1])
}
