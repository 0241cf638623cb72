package sandbox

import (
	"maps"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Stats is the state of the sandbox and its counters since the start.
type Stats struct {
	Tenants          map[string]TenantStats `json:"tenants"`
	Cache            CacheStats             `json:"cache"`
	Engine           string                 `json:"engine"`
	GCPauseMaxMicros int64                  `json:"gcPauseMaxMicros"` // of the last 256 collections
	ParserCalls      uint64                 `json:"parserCalls"`      // model bytes of guests that were parsed
}

// TenantStats are those of one tenant.
type TenantStats struct {
	Running     int64            `json:"running"`    // calls now
	RunningMax  int64            `json:"runningMax"` // most at a time
	Instances   int64            `json:"instances"`  // alive now, pooled ones too
	MemoryBytes int64            `json:"memoryBytes"`
	Calls       int64            `json:"calls"`
	Fuel        int64            `json:"fuel"`
	CPUMicros   int64            `json:"cpuMicros"`
	Traps       map[string]int64 `json:"traps"`   // by class
	Refused     map[string]int64 `json:"refused"` // by step
}

// CacheStats are those of the compilation cache.
type CacheStats struct {
	Dir     string `json:"dir"`
	Mode    string `json:"mode"` // octal
	Hits    int64  `json:"hits"`
	Misses  int64  `json:"misses"`
	Corrupt int64  `json:"corrupt"`
}

// Stats returns the counters. They are read one after another, not at one instant.
func (s *Sandbox) Stats() Stats {
	var gc debug.GCStats
	gc.PauseQuantiles = make([]time.Duration, 2)
	debug.ReadGCStats(&gc)
	out := Stats{
		Tenants:          map[string]TenantStats{},
		Engine:           "wazero " + WazeroVersion,
		GCPauseMaxMicros: gc.PauseQuantiles[1].Microseconds(),
		ParserCalls:      s.models.ParserCalls.Load(),
	}
	if d := s.disk; d != nil {
		out.Cache = CacheStats{Dir: d.dir, Mode: d.mode(), Hits: d.hits.Load(), Misses: d.misses.Load(), Corrupt: d.corrupt.Load()}
	}
	s.mu.RLock()
	tenants := maps.Clone(s.tenants)
	s.mu.RUnlock()
	for id, t := range tenants {
		out.Tenants[id] = t.stats()
	}
	return out
}

func (t *tenant) stats() TenantStats {
	t.mu.Lock()
	defer t.mu.Unlock()
	return TenantStats{
		Running: t.running.Load(), RunningMax: t.runningMax.Load(),
		Instances: t.instances.Load(), MemoryBytes: t.memory.Load(),
		Calls: t.calls.Load(), Fuel: t.fuel.Load(), CPUMicros: t.micros.Load(),
		Traps: maps.Clone(t.traps), Refused: maps.Clone(t.refused),
	}
}

// Collect runs the garbage collector and returns how long that took: with a guest that never leaves
// compiled code it would take as long as the guest.
func Collect() time.Duration {
	began := time.Now()
	runtime.GC()
	return time.Since(began)
}

// metrics shows the counters of all tenants to Prometheus. Tenants are at most MaxTenants.
type metrics struct {
	s *Sandbox

	calls, fuel, cpu, traps, refused *prometheus.Desc
	running, instances, memory       *prometheus.Desc
	cache                            *prometheus.Desc
}

func newMetrics(s *Sandbox) *metrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("assay_sandbox_"+name, help, labels, nil)
	}
	return &metrics{
		s:         s,
		calls:     desc("calls_total", "Calls of guests that were begun.", "tenant"),
		fuel:      desc("fuel_total", "Fuel that calls used.", "tenant"),
		cpu:       desc("cpu_seconds_total", "Thread CPU time of calls.", "tenant"),
		traps:     desc("traps_total", "Calls that ended in a trap.", "tenant", "class"),
		refused:   desc("refused_total", "Uploads that were refused.", "tenant", "step"),
		running:   desc("running", "Calls that run now.", "tenant"),
		instances: desc("instances", "Instances alive now.", "tenant"),
		memory:    desc("memory_bytes", "Linear memory of instances.", "tenant"),
		cache:     desc("cache_total", "Lookups in the compilation cache.", "result"),
	}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(to chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, to) }

// Collect implements prometheus.Collector.
func (m *metrics) Collect(to chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	level := func(d *prometheus.Desc, v int64, tenant string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), tenant)
	}
	stats := m.s.Stats()
	for id, t := range stats.Tenants {
		count(m.calls, float64(t.Calls), id)
		count(m.fuel, float64(t.Fuel), id)
		count(m.cpu, float64(t.CPUMicros)/1e6, id)
		level(m.running, t.Running, id)
		level(m.instances, t.Instances, id)
		level(m.memory, t.MemoryBytes, id)
		for class, n := range t.Traps {
			count(m.traps, float64(n), id, class)
		}
		for step, n := range t.Refused {
			count(m.refused, float64(n), id, step)
		}
	}
	count(m.cache, float64(stats.Cache.Hits), "hit")
	count(m.cache, float64(stats.Cache.Misses), "miss")
	count(m.cache, float64(stats.Cache.Corrupt), "corrupt")
}
