// Package backend keeps the upstreams of a router: what they cost, how they are, which one serves, and how
// they are called. It knows no policies and decides nothing about texts.
package backend

import (
	"cmp"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// smoothing is the weight of the newest observation in a moving average.
const smoothing = 0.2

// leastHealth keeps a sick backend in the running, so that its recovery can be seen.
const leastHealth = 0.05

// Spec is an OpenAI-compatible upstream.
type Spec struct {
	URL           string   `json:"url"`
	Model         string   `json:"model"`
	Cost          float64  `json:"cost"`
	Priority      int      `json:"priority"`
	Modalities    []string `json:"modalities"`
	TimeoutMillis int      `json:"timeoutMillis"`
}

// State is a backend with what was observed of it.
type State struct {
	Backend       string   `json:"backend"`
	URL           string   `json:"url"`
	Model         string   `json:"model"`
	Cost          float64  `json:"cost"`
	Priority      int      `json:"priority"`
	Modalities    []string `json:"modalities"`
	TimeoutMillis int      `json:"timeoutMillis"`
	Requests      int64    `json:"requests"`
	Errors        int64    `json:"errors"`
	LatencyMillis float64  `json:"latencyMillis"`
	ErrorRate     float64  `json:"errorRate"`
	Health        float64  `json:"health"`
}

// Backend is one upstream.
type Backend struct {
	Name string
	Spec Spec

	mu               sync.Mutex
	requests, errors int64
	latency          float64 // milliseconds; 0 is never observed
	errorRate        float64
}

// Timeout is how long the first byte of an answer may take.
func (b *Backend) Timeout() time.Duration {
	return time.Duration(b.Spec.TimeoutMillis) * time.Millisecond
}

// Takes reports whether the backend claims a modality.
func (b *Backend) Takes(modality string) bool { return slices.Contains(b.Spec.Modalities, modality) }

func (b *Backend) observed() (latency, errorRate float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.latency, b.errorRate
}

// Set is the backends of a router. It is safe for concurrent use.
type Set struct {
	mu    sync.Mutex
	all   map[string]*Backend
	epoch atomic.Uint64 // changes with every observation
}

// Epoch changes whenever a health may have changed.
func (s *Set) Epoch() uint64 { return s.epoch.Load() }

// Put registers a backend, or replaces it and forgets what was observed.
func (s *Set) Put(name string, spec Spec) *Backend {
	b := &Backend{Name: name, Spec: spec}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[string]*Backend{}
	}
	s.all[name] = b
	s.epoch.Add(1)
	return b
}

// Remove forgets a backend and reports whether it was there.
func (s *Set) Remove(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.all[name]
	delete(s.all, name)
	s.epoch.Add(1)
	return ok
}

// Len returns the number of backends.
func (s *Set) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all)
}

// Get returns a backend by name.
func (s *Set) Get(name string) (*Backend, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.all[name]
	return b, ok
}

// All returns the backends by name.
func (s *Set) All() []*Backend {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Values(s.all), func(a, b *Backend) int { return cmp.Compare(a.Name, b.Name) })
}

// Observe counts a request: how long its first byte took, and whether it failed.
func (s *Set) Observe(b *Backend, latency time.Duration, failed bool) {
	b.mu.Lock()
	b.requests++
	millis, wrong := max(float64(latency)/float64(time.Millisecond), 1e-3), 0.0
	if failed {
		b.errors++
		wrong = 1
	}
	if b.latency == 0 {
		b.latency = millis
	} else {
		b.latency += smoothing * (millis - b.latency)
	}
	b.errorRate += smoothing * (wrong - b.errorRate)
	b.mu.Unlock()
	s.epoch.Add(1)
}

// Health returns max(0.05, (1 − error rate) × min(1, median latency / latency)) of each backend; the median
// is that of the observed ones, the lower one of two.
func (s *Set) Health() map[string]float64 {
	all := s.All()
	var latencies []float64
	for _, b := range all {
		if l, _ := b.observed(); l > 0 {
			latencies = append(latencies, l)
		}
	}
	median := 0.0
	if len(latencies) > 0 {
		slices.Sort(latencies)
		median = latencies[(len(latencies)-1)/2]
	}
	health := make(map[string]float64, len(all))
	for _, b := range all {
		latency, errorRate := b.observed()
		h := 1 - errorRate
		if latency > median {
			h *= median / latency
		}
		health[b.Name] = max(leastHealth, h)
	}
	return health
}

// States returns every backend as it is now.
func (s *Set) States() []State {
	health, states := s.Health(), []State{}
	for _, b := range s.All() {
		b.mu.Lock()
		states = append(states, State{
			Backend: b.Name, URL: b.Spec.URL, Model: b.Spec.Model, Cost: b.Spec.Cost, Priority: b.Spec.Priority,
			Modalities: b.Spec.Modalities, TimeoutMillis: b.Spec.TimeoutMillis, Requests: b.requests,
			Errors: b.errors, LatencyMillis: b.latency, ErrorRate: b.errorRate, Health: health[b.Name],
		})
		b.mu.Unlock()
	}
	return states
}

// Objectives of a request.
const (
	Cost     = "cost"
	Latency  = "latency"
	Priority = "priority"
)

// Order returns the backends in the order in which they should be tried: the cheapest, the fastest observed
// (what was never observed comes first, or it never would be), or that of the highest priority first. Equal
// ones, and all of them without an objective, keep their order.
func Order(candidates []*Backend, objective string) []*Backend {
	ordered := slices.Clone(candidates)
	var by func(*Backend) float64
	switch objective {
	case Cost:
		by = func(b *Backend) float64 { return b.Spec.Cost }
	case Latency:
		by = func(b *Backend) float64 { l, _ := b.observed(); return l }
	case Priority:
		by = func(b *Backend) float64 { return -float64(b.Spec.Priority) }
	default:
		return ordered
	}
	keys := make(map[*Backend]float64, len(ordered)) // observations go on meanwhile
	for _, b := range ordered {
		keys[b] = by(b)
	}
	slices.SortStableFunc(ordered, func(a, b *Backend) int { return cmp.Compare(keys[a], keys[b]) })
	return ordered
}

// Fraction maps a key to [0, 1): a key keeps its place as long as the seed is the same.
func Fraction(seed int64, salt, key string) float64 {
	h := fnv.New64a()
	for _, part := range []string{strconv.FormatInt(seed, 10), "\x00", salt, "\x00", key} {
		_, _ = h.Write([]byte(part)) // a hash never fails
	}
	x := h.Sum64() // the upper bits of FNV-1a are poorly mixed for short keys
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return float64(x>>11) / (1 << 53)
}
