package truth

import (
	"container/heap"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Rule says how long the server takes.
type Rule string

// The rules of the truth server.
const (
	Stall Rule = "stall" // any number of requests at once, 1 ms each; everything stands still for the first 200 ms of every 2 s
	FIFO  Rule = "fifo"  // the same with one request at a time, so that the queue builds
	Exp   Rule = "exp"   // any number at once, exponential with a mean of 10 ms
	Heavy Rule = "heavy" // any number at once, lognormal with a median of 2 ms and σ = 1
)

// Rules lists all rules.
func Rules() []Rule { return []Rule{Stall, FIFO, Exp, Heavy} }

const (
	serviceTime = int64(time.Millisecond)
	freezeTime  = int64(200 * time.Millisecond)
	period      = int64(2 * time.Second)
	expMean     = float64(10 * time.Millisecond)
	heavyMedian = float64(2 * time.Millisecond)
	drawStream  = 0x7472757468 // second PCG word, fixed: one seed, one list of draws
)

func (r Rule) validate() error {
	if !slices.Contains(Rules(), r) {
		return fmt.Errorf("unknown rule %q, want one of %v", r, Rules())
	}
	return nil
}

// delays is a rule in motion: it gives each request the time when its reply is
// due. Draws are a seeded list in the order of arrival, so whoever knows the
// seed knows every delay.
type delays struct {
	rule  Rule
	epoch int64 // when the first freeze begins
	free  int64 // fifo: when the server has finished what it has
	draws *rand.Rand
}

func newDelays(rule Rule, epoch int64, seed uint64) *delays {
	return &delays{rule: rule, epoch: epoch, free: math.MinInt64, draws: rand.New(rand.NewPCG(seed, drawStream))}
}

// due returns when the reply to the next request is due, which arrives at.
func (d *delays) due(at int64) int64 {
	switch d.rule {
	case Stall:
		return d.thawed(at) + serviceTime
	case FIFO:
		d.free = d.thawed(max(at, d.free)) + serviceTime
		return d.free
	case Exp:
		return at + int64(expMean*d.draws.ExpFloat64())
	default:
		return at + int64(heavyMedian*math.Exp(d.draws.NormFloat64()))
	}
}

// thawed returns the earliest time from t on that lies outside a freeze.
func (d *delays) thawed(t int64) int64 {
	phase := (t - d.epoch) % period
	if phase < 0 {
		phase += period
	}
	return t + max(freezeTime-phase, 0)
}

// responses returns the true response time of every request that should start at
// the intended times: end − intended when nothing but the rule and the number of
// workers takes time. Workers are a FIFO queue in front of the server; 0 is any
// number of them.
func responses(d *delays, intended []int64, workers int) []int64 {
	out := make([]int64, len(intended))
	busy := &times{}
	for k, at := range intended {
		start := at
		if workers > 0 && busy.Len() == workers {
			start = max(at, heap.Pop(busy).(int64))
		}
		end := d.due(start)
		if workers > 0 {
			heap.Push(busy, end)
		}
		out[k] = end - at
	}
	return out
}

// times is a heap of the earliest.
type times []int64

func (t times) Len() int           { return len(t) }
func (t times) Less(i, j int) bool { return t[i] < t[j] }
func (t times) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *times) Push(x any)        { *t = append(*t, x.(int64)) }
func (t *times) Pop() any {
	last := (*t)[len(*t)-1]
	*t = (*t)[:len(*t)-1]
	return last
}
