// Package drift says how far the requests of now are from those that a model was trained on: the
// Kullback-Leibler divergence of their words and features from a snapshot of the training. It takes no action
// and keeps no text: what is kept are counts, of a size that does not grow.
package drift

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"time"
	"unicode"
	"unicode/utf8"
)

// Threshold is the divergence in nats above which a distribution has drifted (design).
const Threshold = 0.15

// The distributions. Buckets are few on purpose: the divergence of two samples of one source is about buckets
// over twice the smaller sample, so Minimum observations of 64 buckets stay well under the threshold.
const (
	tokenBuckets   = 64 // of hashed words
	lengthBuckets  = 16 // of the text's bytes, by powers of two
	latencyBuckets = 20 // of milliseconds, by powers of two
	codeBuckets    = 6  // of status codes, by class
	deviceBuckets  = 8

	Minimum = 200 // observations that a distribution needs on both sides to be compared
)

// maxCount bounds a count that is read, so that no sum overflows.
const maxCount = 1 << 48

// ErrSnapshot is wrapped where a snapshot cannot be read.
var ErrSnapshot = errors.New("drift snapshot")

// Observation is a request as drift sees it. What is unknown stays out of its distribution.
type Observation struct {
	Text    string        // empty is unknown
	Latency time.Duration // 0 is unknown
	Code    int           // HTTP status, 0 is unknown
	Device  int           // a small number from 1, 0 is unknown
}

// Counts are how often each bucket was seen, and by how many observations a distribution was.
type Counts struct {
	Tokens       [tokenBuckets]uint64   `json:"tokens"`
	Lengths      [lengthBuckets]uint64  `json:"lengths"`
	Latencies    [latencyBuckets]uint64 `json:"latencies"`
	Codes        [codeBuckets]uint64    `json:"codes"`
	Devices      [deviceBuckets]uint64  `json:"devices"`
	Observations uint64                 `json:"observations"`
}

// add counts an observation. It allocates nothing and reads a text of any length once.
func (c *Counts) add(o Observation) {
	c.Observations++
	if o.Text != "" {
		words(o.Text, func(hash uint32) { c.Tokens[hash%tokenBuckets]++ })
		c.Lengths[min(bits.Len(uint(len(o.Text))), lengthBuckets-1)]++
	}
	if o.Latency > 0 {
		c.Latencies[min(bits.Len64(uint64(o.Latency.Milliseconds())), latencyBuckets-1)]++
	}
	if class := o.Code / 100; class > 0 && class < codeBuckets {
		c.Codes[class]++
	}
	if o.Device > 0 {
		c.Devices[min(o.Device, deviceBuckets-1)]++
	}
}

// words calls each with the hash (FNV-1a) of every run of letters and digits, in lower case.
func words(text string, each func(hash uint32)) {
	const offset, prime = 2166136261, 16777619
	hash, in := uint32(offset), false
	var buf [utf8.UTFMax]byte
	for _, r := range text {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			if in {
				each(hash)
			}
			hash, in = offset, false
			continue
		}
		in = true
		for _, b := range buf[:utf8.EncodeRune(buf[:], unicode.ToLower(r))] {
			hash = (hash ^ uint32(b)) * prime
		}
	}
	if in {
		each(hash)
	}
}

func (c *Counts) plus(d *Counts) Counts {
	sum := *c
	for i, v := range d.Tokens {
		sum.Tokens[i] += v
	}
	for i, v := range d.Lengths {
		sum.Lengths[i] += v
	}
	for i, v := range d.Latencies {
		sum.Latencies[i] += v
	}
	for i, v := range d.Codes {
		sum.Codes[i] += v
	}
	for i, v := range d.Devices {
		sum.Devices[i] += v
	}
	sum.Observations += d.Observations
	return sum
}

// distribution is one of those that are compared.
type distribution struct {
	name   string
	counts []uint64
}

func (c *Counts) distributions() [5]distribution {
	return [...]distribution{
		{"tokens", c.Tokens[:]}, {"lengths", c.Lengths[:]}, {"latencies", c.Latencies[:]}, {"codes", c.Codes[:]}, {"devices", c.Devices[:]},
	}
}

// Snapshot is what a model's training looked like.
type Snapshot struct {
	Source string `json:"source"` // which training data, in a line
	Counts Counts `json:"counts"`
}

// Take makes a snapshot of training data.
func Take(source string, observations ...Observation) Snapshot {
	s := Snapshot{Source: source}
	for _, o := range observations {
		s.Counts.add(o)
	}
	return s
}

// ParseSnapshot reads a snapshot as JSON. Errors wrap ErrSnapshot.
func ParseSnapshot(b []byte) (Snapshot, error) {
	var s Snapshot
	if err := json.Unmarshal(b, &s); err != nil {
		return Snapshot{}, fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	if n := s.Counts.Observations; n == 0 || n > maxCount {
		return Snapshot{}, fmt.Errorf("%w: it counts %d observations, want 1 to %d", ErrSnapshot, n, uint64(maxCount))
	}
	for _, d := range s.Counts.distributions() {
		for i, n := range d.counts {
			if n > maxCount {
				return Snapshot{}, fmt.Errorf("%w: bucket %d of %s counts %d, at most %d", ErrSnapshot, i, d.name, n, uint64(maxCount))
			}
		}
	}
	return s, nil
}

// Window is the observations of now: at least half of the last size, at most all. Its memory is two Counts.
// It serves one goroutine.
type Window struct {
	half      uint64
	now, past Counts
}

// NewWindow returns an empty window of the last size observations.
func NewWindow(size int) *Window { return &Window{half: max(1, uint64(size)/2)} }

// See adds an observation. It allocates nothing.
func (w *Window) See(o Observation) {
	if w.now.Observations >= w.half {
		w.past, w.now = w.now, Counts{}
	}
	w.now.add(o)
}

// Divergence is of one distribution.
type Divergence struct {
	Name     string  `json:"name"`
	Nats     float64 `json:"nats"`
	Compared bool    `json:"compared"` // false: too few observations on one side
	Drifted  bool    `json:"drifted"`
}

// Report is how far a window is from a snapshot.
type Report struct {
	Observations uint64       `json:"observations"`
	Threshold    float64      `json:"threshold"`
	Of           []Divergence `json:"of"`
	Alert        bool         `json:"alert"` // a distribution has drifted
}

// Compare measures the window against a snapshot.
func (w *Window) Compare(s *Snapshot) Report {
	now := w.now.plus(&w.past)
	r := Report{Observations: now.Observations, Threshold: Threshold}
	train := s.Counts.distributions()
	for i, d := range now.distributions() {
		nats, compared := divergence(d.counts, train[i].counts)
		v := Divergence{Name: d.name, Nats: nats, Compared: compared, Drifted: compared && nats > Threshold}
		r.Of, r.Alert = append(r.Of, v), r.Alert || v.Drifted
	}
	return r
}

// divergence is D(p‖q) in nats, of the counts p from the counts q. Half a count is added to each bucket
// (Jeffreys), so that an empty one is unlikely and not impossible. Fewer than Minimum counts on a side are
// not compared: then it is 0.
func divergence(p, q []uint64) (nats float64, compared bool) {
	ps, qs := total(p), total(q)
	if ps < Minimum || qs < Minimum {
		return 0, false
	}
	const half = 0.5
	n := half * float64(len(p))
	for i := range p {
		a, b := (float64(p[i])+half)/(float64(ps)+n), (float64(q[i])+half)/(float64(qs)+n)
		nats += a * math.Log(a/b)
	}
	return nats, true
}

func total(v []uint64) (sum uint64) {
	for _, x := range v {
		sum += x
	}
	return sum
}
