package load

import (
	"fmt"
	"math"
	"time"
)

const maxStages = 10_000

// Stage is a straight line of the rate, from where the stage before ended to
// Rate. One of no duration is a jump.
type Stage struct {
	Rate     float64       `json:"rate"` // arrivals per second at its end
	Duration time.Duration `json:"duration_ns"`
}

func (s Schedule) validateStages() error {
	if len(s.Stages) == 0 || len(s.Stages) > maxStages {
		return fmt.Errorf("%w: %d stages, want 1 to %d", ErrSchedule, len(s.Stages), maxStages)
	}
	if !(s.Rate >= 0) || s.Rate > maxRate {
		return fmt.Errorf("%w: rate %v per second at the start is outside 0 to %v", ErrSchedule, s.Rate, maxRate)
	}
	length := time.Duration(0)
	for i, g := range s.Stages {
		switch {
		case !(g.Rate >= 0) || g.Rate > maxRate:
			return fmt.Errorf("%w: rate %v per second of stage %d is outside 0 to %v", ErrSchedule, g.Rate, i+1, maxRate)
		case g.Duration < 0 || g.Duration > maxDuration-length:
			return fmt.Errorf("%w: stage %d of %v: stages end after 0 to %v", ErrSchedule, i+1, g.Duration, maxDuration)
		}
		length += g.Duration
	}
	lines := s.lines()
	if n := lines[len(lines)-1].after; n > MaxArrivals {
		return fmt.Errorf("%w: the stages make %.0f arrivals, the limit is %d", ErrSchedule, n, MaxArrivals)
	}
	return nil
}

func (s Schedule) stagesLength() (sum time.Duration) {
	for _, g := range s.Stages {
		sum += g.Duration
	}
	return sum
}

// line is a stage with its place in the integral Λ(t) = ∫ rate.
type line struct {
	begin         int64   // ns since the start
	length        float64 // seconds
	from, to      float64 // rates
	before, after float64 // Λ at its begin and end
}

func (s Schedule) lines() []line {
	lines := make([]line, 0, len(s.Stages))
	rate, begin, sum := s.Rate, int64(0), 0.0
	for _, g := range s.Stages {
		l := line{begin: begin, length: g.Duration.Seconds(), from: rate, to: g.Rate, before: sum}
		sum += float64((l.from+l.to)/2) * l.length
		l.after = sum
		lines = append(lines, l)
		rate, begin = g.Rate, begin+int64(g.Duration)
	}
	return lines
}

// at solves from × t + (to − from) × t² / (2 × length) = λ − before for t, in
// the form that loses no digits whatever the slope, and returns ns since the
// start of the schedule.
func (l line) at(lambda float64) int64 {
	x := lambda - l.before
	if x <= 0 {
		return l.begin
	}
	slope := (l.to - l.from) / l.length
	root := math.Sqrt(max(float64(l.from*l.from)+float64(2*slope*x), 0)) // the conversions forbid fusing
	t := 2 * x / (l.from + root)
	return l.begin + int64(min(t, l.length)*float64(second))
}

// staged walks Λ⁻¹: of k for even spacing, of a running sum of Exp(1) for
// Poisson arrivals.
type staged struct {
	lines  []line
	draw   *draws // nil: evenly
	lambda float64
	k      int64
	last   int64
}

func (s Schedule) stagedSource() source {
	from := &staged{lines: s.lines()}
	if s.Random {
		from.draw = newDraws(s.Seed)
	}
	return from
}

func (s *staged) next() (int64, bool) {
	if s.draw != nil {
		s.lambda += s.draw.exponential()
	} else {
		s.lambda = float64(s.k)
		s.k++
	}
	for len(s.lines) > 0 && s.lambda >= s.lines[0].after {
		s.lines = s.lines[1:]
	}
	if len(s.lines) == 0 {
		return 0, false
	}
	// Offsets never fall, whatever the last bit of the root is.
	s.last = max(s.last, s.lines[0].at(s.lambda))
	return s.last, true
}
