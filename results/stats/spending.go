package stats

import (
	"errors"
	"fmt"
	"math"

	"gonum.org/v1/gonum/stat/distuv"
)

// Constants of the recursive quadrature (gate.md section 3.6): halving the intervals changes the levels by less
// than 4e-9.
const (
	intervals = 2000 // Simpson's rule, even
	tail      = 9.0  // standard deviations below 0 at which the density is cut off
)

// ErrLooks is wrapped by the error about looks that can not be used.
var ErrLooks = errors.New("looks can not be used")

// Spend returns how much of level a may be used up when the share t of the units is there: half by O'Brien and Fleming's
// spending function, half by a power of 1.5 (Lan and DeMets 1983). Spend(a, 1) = a.
func Spend(a, t float64) float64 {
	if t <= 0 {
		return 0
	}
	t = min(t, 1)
	obf := 2 * survival(normalQuantile(1-a/2)/math.Sqrt(t))
	return obf/2 + a*math.Pow(t, 1.5)/2
}

// Look is one look at the data and the one-sided level of its test.
type Look struct {
	Units int     `json:"units"`
	Level float64 `json:"level"`
}

// Levels returns the level of the test at each look such that the chance of any rejection under the null stays within a. Looks count
// units and increase; the last one is the full plan. Leading looks at which a signed-rank test could not reach any
// level that may be spent, 2^−k ≥ Spend, are left out, and what they could have spent goes to the next. Errors wrap
// ErrLooks, also where no look is left.
func Levels(looks []int, a float64) ([]Look, error) {
	if err := probability("level", a); err != nil {
		return nil, err
	}
	if err := increasing(looks); err != nil {
		return nil, err
	}
	full := float64(looks[len(looks)-1])
	spend := func(k int) float64 { return Spend(a, float64(k)/full) }
	for len(looks) > 0 && math.Ldexp(1, -looks[0]) >= spend(looks[0]) {
		looks = looks[1:]
	}
	if len(looks) == 0 {
		return nil, fmt.Errorf("%w: %v units can not reach level %v", ErrLooks, full, a)
	}
	out := make([]Look, len(looks))
	spent := spend(looks[0])
	walk := startWalk(looks[0], spent)
	out[0] = Look{looks[0], spent}
	for l := 1; l < len(looks); l++ {
		total := spend(looks[l])
		out[l] = Look{looks[l], walk.advance(looks[l], total-spent)}
		spent = total
	}
	return out, nil
}

func increasing(looks []int) error {
	if len(looks) == 0 {
		return fmt.Errorf("%w: there are none", ErrLooks)
	}
	last := 0
	for _, k := range looks {
		if k <= last || k > MaxUnits {
			return fmt.Errorf("%w: %d after %d, want growing numbers up to %d", ErrLooks, k, last, MaxUnits)
		}
		last = k
	}
	return nil
}

// walk is the density of a Gaussian walk with variance k that has crossed no boundary yet, times the weights of
// Simpson's rule, on a grid from −tail·√k to the boundary.
type walk struct {
	k       float64
	at      [intervals + 1]float64
	density [intervals + 1]float64 // weighted
}

// startWalk returns the walk at its first look, where it crosses with probability cross.
func startWalk(k int, cross float64) *walk {
	w := &walk{k: float64(k)}
	sd := math.Sqrt(w.k)
	w.grid(-normalQuantile(cross) * sd)
	for i, x := range w.at {
		w.density[i] *= normalDensity(x/sd) / sd
	}
	return w
}

// grid lays the grid up to a boundary and puts the bare weights into density.
func (w *walk) grid(boundary float64) {
	from := -tail * math.Sqrt(w.k)
	step := (boundary - from) / intervals
	for i := range w.at {
		w.at[i] = from + float64(i)*step
		weight := 2.0
		switch {
		case i == 0 || i == intervals:
			weight = 1
		case i%2 == 1:
			weight = 4
		}
		w.density[i] = weight * step / 3
	}
}

// advance takes the walk to k units, finds the boundary that it crosses with probability cross for the first time, and returns the
// one-sided normal tail at that boundary.
func (w *walk) advance(k int, cross float64) float64 {
	sd := math.Sqrt(float64(k) - w.k)
	crossing := func(boundary float64) float64 {
		p := 0.0
		for i, x := range w.at {
			p += w.density[i] * survival((boundary-x)/sd)
		}
		return p
	}
	root := math.Sqrt(float64(k))
	lo, hi := -tail*root, tail*root
	for hi-lo > 1e-13*root {
		mid := lo + (hi-lo)/2
		if crossing(mid) > cross {
			lo = mid
		} else {
			hi = mid
		}
	}
	boundary := lo + (hi-lo)/2
	next := &walk{k: float64(k)}
	next.grid(boundary)
	for j, y := range next.at {
		sum := 0.0
		for i, x := range w.at {
			sum += w.density[i] * normalDensity((y-x)/sd)
		}
		next.density[j] *= sum / sd
	}
	*w = *next
	return survival(boundary / root)
}

func normalQuantile(p float64) float64 { return distuv.UnitNormal.Quantile(p) }

// survival returns the upper tail of the unit normal without cancellation.
func survival(z float64) float64 { return math.Erfc(z/math.Sqrt2) / 2 }

func normalDensity(z float64) float64 { return math.Exp(-z*z/2) / math.Sqrt(2*math.Pi) }
