package router

import (
	"math"
	"math/rand/v2"
	"runtime/metrics"
	"slices"
	"strings"
	"time"

	"github.com/assay-bench/assay/reference/defect"
)

// Stats returns the counters of the router.
func (r *Router) Stats() RouterStats {
	l, c := r.live.Load(), &r.counters
	s := RouterStats{
		Decisions: c.decisions.Load(), EngineCalls: c.engineCalls.Load(), Fallbacks: c.fallbacks.Load(),
		Rollbacks: c.rollbacks.Load(), Canary: c.canary.Load(), Abstained: map[string]int64{},
		Feedback: map[string]int64{"applied": c.applied.Load()},
		Shadow:   ShadowStats{c.compared.Load(), c.agreed.Load(), c.shadowed.Load()},
		Cache:    CacheStats{Capacity: *l.settings.Cache, Hits: c.hits.Load(), Misses: c.misses.Load()},
		Engine:   r.service.engine(l.settings.Engine),
	}
	if l.stable.cache != nil {
		s.Cache.Entries = l.stable.cache.Len()
	}
	for i, why := range abstentions {
		s.Abstained[string(why)] = c.abstained[i].Load()
	}
	for i, why := range refusals {
		s.Feedback[string(why)] = c.refused[i].Load()
	}
	return s
}

// maxMeasured bounds the samples of a measurement.
const maxMeasured = 1_000_000

// Measure times decisions, text to policy, one after the other. Its percentiles are order statistics, and the
// interval of p99 is that of the binomial distribution.
func (r *Router) Measure(q MeasureOrder) (Measured, error) {
	if q.Samples < 100 || q.Samples > maxMeasured {
		return Measured{}, bad("samples is %d, want 100 to 1,000,000", q.Samples)
	}
	if !r.service.measuring.TryLock() {
		return Measured{}, refuse(Busy, "", "a measurement is under way")
	}
	defer r.service.measuring.Unlock()
	texts := q.Texts
	if len(texts) == 0 {
		texts = madeTexts(r.live.Load().settings.Seed)
	}
	var s Scratch
	defer s.Release()
	for _, text := range texts { // caches of the processor, pools, and errors before the clock runs
		if err := r.Ask(&s, text); err != nil {
			return Measured{}, err
		}
	}
	nanos := make([]int64, q.Samples)
	l, hits := r.live.Load(), r.counters.hits.Load()
	objects, bytes := heap()
	last := time.Now()
	for i := range nanos {
		if err := r.Ask(&s, texts[i%len(texts)]); err != nil {
			return Measured{}, err
		}
		now := time.Now()
		nanos[i], last = now.Sub(last).Nanoseconds(), now
	}
	objectsAfter, bytesAfter := heap()
	m := Measured{
		N: len(nanos), Engine: l.stable.engine, Model: l.stable.model.info.Digest, Version: l.version.ID,
		Rows: l.stable.table.Rows(), AllocsPerOp: float64(objectsAfter-objects) / float64(len(nanos)),
		BytesPerOp: float64(bytesAfter-bytes) / float64(len(nanos)), CacheHits: r.counters.hits.Load() - hits,
	}
	if r.service.cfg.Defects.On(defect.RouterMeasuresOther) {
		m.Model = strings.Repeat("0", len(m.Model))
	}
	m.percentiles(nanos)
	return m, nil
}

func (m *Measured) percentiles(nanos []int64) {
	slices.Sort(nanos)
	n := float64(len(nanos))
	at := func(rank float64) int64 {
		return nanos[min(max(int(math.Ceil(rank))-1, 0), len(nanos)-1)]
	}
	m.P50Nanos, m.P90Nanos, m.P99Nanos, m.MaxNanos = at(n*0.5), at(n*0.9), at(n*0.99), nanos[len(nanos)-1]
	spread := 1.96 * math.Sqrt(n*0.99*0.01)
	m.P99LowNanos, m.P99HighNanos = at(n*0.99-spread), at(n*0.99+spread+1)
}

// heap returns what the process has allocated so far.
func heap() (objects, bytes uint64) {
	samples := []metrics.Sample{{Name: "/gc/heap/allocs:objects"}, {Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64(), samples[1].Value.Uint64()
}

// madeTexts are 256 texts of everyday words, the same for the same seed.
func madeTexts(seed int64) []string {
	words := strings.Fields(`please can you show me my account balance invoice order status refund the last payment
		reset password change address book a flight to paris tomorrow what is weather like play some music cancel
		subscription translate this sentence into french write code for sorting list how much does it cost where
		nearest station call support agent open new ticket urgent server down deploy version`)
	random := rand.New(rand.NewPCG(uint64(seed), 0x9e3779b97f4a7c15))
	texts := make([]string, 256)
	for i := range texts {
		text := make([]string, 4+random.IntN(12))
		for j := range text {
			text[j] = words[random.IntN(len(words))]
		}
		texts[i] = strings.Join(text, " ")
	}
	return texts
}
