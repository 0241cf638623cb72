package load

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"time"
)

// MaxArrivals bounds a schedule: its offsets are kept, 8 bytes each.
const MaxArrivals = 10_000_000

const (
	second      = int64(time.Second)
	microHertz  = 1e6             // rates are taken to the nearest millionth per second
	maxRate     = float64(second) // the clock has no finer step
	maxDuration = 30 * 24 * time.Hour
	pcgStream   = 0x61737361792d6c64 // second PCG word, fixed: one seed, one schedule
)

// Kind says how arrivals are spaced.
type Kind string

// The kinds of schedule.
const (
	Const   Kind = "const"   // evenly
	Poisson Kind = "poisson" // independently, exponential gaps
)

// ErrSchedule is wrapped by every refusal of a schedule.
var ErrSchedule = errors.New("schedule refused")

// Schedule says when arrivals should start. Equal schedules have equal offsets
// on every machine and in every version.
type Schedule struct {
	Kind     Kind
	Rate     float64       // arrivals per second, to the nearest millionth
	Duration time.Duration // arrivals lie in [0, Duration)
	Seed     uint64        // for Poisson
}

// Validate tells why the schedule cannot be played, or returns nil.
func (s Schedule) Validate() error {
	switch {
	case s.Kind != Const && s.Kind != Poisson:
		return fmt.Errorf("%w: unknown kind %q", ErrSchedule, s.Kind)
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

// Offsets returns the intended times in nanoseconds since the start, in order.
func (s Schedule) Offsets() ([]int64, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	offsets := make([]int64, 0, int(s.Rate*s.Duration.Seconds())+1)
	if s.Kind == Const {
		return s.evenly(offsets), nil
	}
	return s.atRandom(offsets)
}

// evenly computes floor(k × 10⁹ / rate) from k in 128 bits: no drift.
func (s Schedule) evenly(offsets []int64) []int64 {
	rate := uint64(math.Round(s.Rate * microHertz))
	for k := uint64(0); ; k++ {
		high, low := bits.Mul64(k, uint64(second)*uint64(microHertz))
		at, _ := bits.Div64(high, low, rate)
		if at >= uint64(s.Duration) {
			return offsets
		}
		offsets = append(offsets, int64(at))
	}
}

// atRandom sums exponential gaps in float64 seconds.
func (s Schedule) atRandom(offsets []int64) ([]int64, error) {
	source := rand.NewPCG(s.Seed, pcgStream)
	end, sum := int64(s.Duration), 0.0
	for {
		sum += exponential(source.Uint64()) / s.Rate
		at := int64(sum * float64(second))
		if at >= end {
			break
		}
		if len(offsets) == MaxArrivals {
			return nil, fmt.Errorf("%w: seed %d draws more than %d arrivals", ErrSchedule, s.Seed, MaxArrivals)
		}
		offsets = append(offsets, at)
	}
	if len(offsets) == 0 {
		return nil, fmt.Errorf("%w: seed %d draws no arrival in %v at %v per second", ErrSchedule, s.Seed, s.Duration, s.Rate)
	}
	return offsets, nil
}

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

// Digest returns the SHA-256 of the little-endian offsets in hexadecimal.
func Digest(offsets []int64) string {
	sum, block := sha256.New(), make([]byte, 0, 8*512)
	for _, at := range offsets {
		block = binary.LittleEndian.AppendUint64(block, uint64(at))
		if len(block) == cap(block) {
			sum.Write(block)
			block = block[:0]
		}
	}
	sum.Write(block)
	return hex.EncodeToString(sum.Sum(nil))
}
