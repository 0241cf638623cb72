package load

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"iter"
	"math"
	"math/rand/v2"
	"time"
)

// MaxArrivals bounds a schedule. Offsets are made while the run goes on, but
// every block of 1,024 arrivals keeps 8 bytes.
const MaxArrivals = 1_000_000_000

const (
	second      = int64(time.Second)
	microHertz  = 1e6             // rates are taken to the nearest millionth per second
	maxRate     = float64(second) // the clock has no finer step
	maxDuration = 30 * 24 * time.Hour
	maxBurst    = 1_000_000
	pcgStream   = 0x61737361792d6c64 // second PCG word, fixed: one seed, one schedule
)

// Kind says how arrivals are spaced.
type Kind string

// The kinds of schedule.
const (
	Const   Kind = "const"   // evenly
	Poisson Kind = "poisson" // independently, exponential gaps
	Ramp    Kind = "ramp"    // one stage: the rate rises or falls linearly
	Stages  Kind = "stages"  // the rate follows straight lines from stage to stage
	Burst   Kind = "burst"   // groups of arrivals that are due at once, evenly spaced
	Trace   Kind = "trace"   // as recorded
)

// ErrSchedule is wrapped by every refusal of a schedule or a segment.
var ErrSchedule = errors.New("schedule refused")

// Schedule says when arrivals should start. It depends on its fields alone:
// equal schedules have equal offsets on every machine and in every version.
type Schedule struct {
	Kind     Kind
	Rate     float64       // arrivals per second, to the nearest millionth; of ramp and stages at offset 0
	Duration time.Duration // of const, poisson and burst: arrivals lie in [0, Duration)
	Seed     uint64        // of poisson, and of random ramp and stages
	Stages   []Stage       // of stages, and the one of ramp
	Random   bool          // ramp, stages: Poisson arrivals of that rate instead of even spacing
	Burst    int           // of burst: how many arrivals are due at once; Rate stays the mean rate
	Trace    []int64       // of trace: nanoseconds since the start, never falling
}

// Validate tells why the schedule cannot be played, or returns nil.
func (s Schedule) Validate() error {
	switch s.Kind {
	case Const, Poisson:
		return s.validateRate()
	case Burst:
		if s.Burst < 1 || s.Burst > maxBurst {
			return fmt.Errorf("%w: bursts of %d arrivals, want 1 to %d", ErrSchedule, s.Burst, maxBurst)
		}
		return s.validateRate()
	case Ramp:
		if len(s.Stages) != 1 {
			return fmt.Errorf("%w: a ramp has one stage, this has %d", ErrSchedule, len(s.Stages))
		}
		return s.validateStages()
	case Stages:
		return s.validateStages()
	case Trace:
		return s.validateTrace()
	}
	return fmt.Errorf("%w: unknown kind %q", ErrSchedule, s.Kind)
}

func (s Schedule) validateRate() error {
	switch {
	case !(s.Rate*microHertz >= 1) || s.Rate > maxRate:
		return fmt.Errorf("%w: rate %v per second is outside %v to %v", ErrSchedule, s.Rate, 1/microHertz, maxRate)
	case s.Duration <= 0 || s.Duration > maxDuration:
		return fmt.Errorf("%w: duration %v is outside 0 to %v", ErrSchedule, s.Duration, maxDuration)
	case s.Rate*s.Duration.Seconds() > MaxArrivals:
		return fmt.Errorf("%w: %v per second for %v is %.0f arrivals, the limit is %d",
			ErrSchedule, s.Rate, s.Duration, s.Rate*s.Duration.Seconds(), MaxArrivals)
	}
	return nil
}

// Length returns the end of the schedule: every offset is below it.
func (s Schedule) Length() time.Duration {
	switch s.Kind {
	case Ramp, Stages:
		return s.stagesLength()
	case Trace:
		if len(s.Trace) == 0 {
			return 0
		}
		return time.Duration(s.Trace[len(s.Trace)-1] + 1)
	}
	return s.Duration
}

// source makes the offsets of a schedule one by one, in order.
type source interface {
	// next returns the next offset, and false at the end.
	next() (at int64, ok bool)
}

// source returns the offsets of a valid schedule from the start.
func (s Schedule) source() source {
	switch s.Kind {
	case Poisson:
		return &atRandom{draw: newDraws(s.Seed), rate: s.Rate, end: int64(s.Duration)}
	case Ramp, Stages:
		return s.stagedSource()
	case Trace:
		return &replay{offsets: s.Trace}
	}
	return newEvenly(uint64(math.Round(s.Rate*microHertz)), max(s.Burst, 1), int64(s.Duration))
}

// Offsets returns the intended times in nanoseconds since the start, in order.
func (s Schedule) Offsets() (iter.Seq[int64], error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	return func(yield func(int64) bool) {
		from := s.source()
		for at, ok := from.next(); ok && yield(at); at, ok = from.next() {
		}
	}, nil
}

// evenly makes floor(k × 10⁹ / rate) exactly: the remainder of the division is
// carried from one k to the next, so nothing is rounded and nothing drifts. Of a
// group all take the time of the first.
type evenly struct {
	rate         uint64 // in millionths per second
	whole, rest  uint64 // of one step, 10¹⁵ / rate
	at, carry    uint64 // of the next arrival
	group, place int
	first        int64 // the time of the group under way
	end          int64
}

func newEvenly(rate uint64, group int, end int64) *evenly {
	step := uint64(second) * uint64(microHertz)
	return &evenly{rate: rate, whole: step / rate, rest: step % rate, group: group, end: end}
}

func (s *evenly) next() (int64, bool) {
	if s.place == 0 {
		s.first = int64(s.at)
	}
	if s.place++; s.place == s.group {
		s.place = 0
	}
	s.at += s.whole
	if s.carry += s.rest; s.carry >= s.rate {
		s.carry -= s.rate
		s.at++
	}
	return s.first, s.first < s.end
}

// atRandom sums exponential gaps in float64 seconds.
type atRandom struct {
	draw *draws
	rate float64
	sum  float64
	end  int64
}

func (s *atRandom) next() (int64, bool) {
	s.sum += s.draw.exponential() / s.rate
	at := int64(s.sum * float64(second))
	return at, at < s.end
}

// draws is the randomness of a schedule.
type draws struct{ from *rand.PCG }

func newDraws(seed uint64) *draws { return &draws{rand.NewPCG(seed, pcgStream)} }

func (d *draws) exponential() float64 { return exponential(d.from.Uint64()) }

// exponential maps 64 random bits to a draw of Exp(1), −ln u with u in (0, 1).
//
// Tried: rand.ExpFloat64. Lost: it leans on math.Exp and math.Log, which have
// assembly on some machines, and on products that others fuse; a last bit of
// difference there is another schedule digest.
func exponential(random uint64) float64 {
	u := (float64(random>>12) + 0.5) * 0x1p-52 // exact
	m, e := math.Frexp(u)
	if m < math.Sqrt2/2 {
		m, e = m*2, e-1
	}
	// ln m = 2 artanh(f), f = (m−1)/(m+1), |f| < 0.172: eleven terms reach 2⁻⁵³.
	f := (m - 1) / (m + 1)
	f2, series := float64(f*f), 0.0
	for k := 21; k >= 1; k -= 2 {
		series = float64(series*f2) + 1/float64(k) // the conversion forbids fusing
	}
	return -(float64(float64(e)*math.Ln2) + float64(2*f*series))
}

// Played describes the whole schedule of a result, whatever share of it was run.
type Played struct {
	Kind     Kind    `json:"kind"`
	Rate     float64 `json:"rate"`
	Duration int64   `json:"duration_ns"`
	Seed     uint64  `json:"seed"`
	Stages   []Stage `json:"stages,omitempty"`
	Random   bool    `json:"random,omitempty"`
	Burst    int     `json:"burst,omitempty"`
	Digest   string  `json:"digest"` // SHA-256 of the little-endian offsets
	Count    int64   `json:"count"`
	First    int64   `json:"first_ns"`
	Last     int64   `json:"last_ns"`
}

// Survey walks the whole schedule once and describes it. It refuses a schedule
// without an arrival and one with more than MaxArrivals.
func (s Schedule) Survey() (Played, error) {
	if err := s.Validate(); err != nil {
		return Played{}, err
	}
	p := Played{
		Kind: s.Kind, Rate: s.Rate, Duration: int64(s.Length()), Seed: s.Seed,
		Stages: s.Stages, Random: s.Random, Burst: s.Burst, First: -1,
	}
	sum, from := newDigest(), s.source()
	for at, ok := from.next(); ok; at, ok = from.next() {
		if p.Count == MaxArrivals {
			return p, fmt.Errorf("%w: more than %d arrivals", ErrSchedule, MaxArrivals)
		}
		if p.Count == 0 {
			p.First = at
		}
		p.Count++
		p.Last = at
		sum.add(at)
	}
	if p.Count == 0 {
		return p, fmt.Errorf("%w: no arrival in %v (seed %d)", ErrSchedule, s.Length(), s.Seed)
	}
	p.Digest = sum.hex()
	return p, nil
}

// digest is the SHA-256 of offsets, a block at a time.
type digest struct {
	sum   hash.Hash
	block []byte
}

func newDigest() *digest { return &digest{sha256.New(), make([]byte, 0, 8*512)} }

func (d *digest) add(at int64) {
	d.block = binary.LittleEndian.AppendUint64(d.block, uint64(at))
	if len(d.block) == cap(d.block) {
		d.sum.Write(d.block)
		d.block = d.block[:0]
	}
}

func (d *digest) hex() string {
	d.sum.Write(d.block)
	d.block = d.block[:0]
	return hex.EncodeToString(d.sum.Sum(nil))
}

// Digest returns the SHA-256 of the little-endian offsets in hexadecimal.
func Digest(offsets iter.Seq[int64]) string {
	d := newDigest()
	for at := range offsets {
		d.add(at)
	}
	return d.hex()
}
