package router

import (
	"cmp"
	"maps"
	"math"
	"slices"

	scenario "github.com/assay-bench/assay/scenarios/router"
)

// What a router says of its arithmetic is computed again here, in float64 from the vectors that it gave.

// closeTo is how far a number of a router, which is made of float32 values, may be from its recomputation.
const closeTo = 1e-5

func near(a, b float64) bool { return math.Abs(a-b) <= closeTo }

func dot(a, b []float64) float64 {
	sum := 0.0
	for i := range min(len(a), len(b)) {
		sum += a[i] * b[i]
	}
	return sum
}

func norm(v []float64) float64 { return math.Sqrt(dot(v, v)) }

// unit is v with length 1, in float32 values as routers keep them.
func unit(v []float64) []float64 {
	n, out := norm(v), make([]float64, len(v))
	for i := range v {
		out[i] = float64(float32(v[i] / n))
	}
	return out
}

// axis is the vector with value 1 at the given places' values: pairs of place and value, made a unit vector.
func axis(pairs ...float64) []float64 {
	v := make([]float64, scenario.Dimension)
	for i := 0; i+1 < len(pairs); i += 2 {
		v[int(pairs[i])] = pairs[i+1]
	}
	return unit(v)
}

// degrees is the angle between two unit vectors, from the chord: the arc cosine loses small angles.
func degrees(a, b []float64) float64 {
	chord := 0.0
	for i := range min(len(a), len(b)) {
		chord += (a[i] - b[i]) * (a[i] - b[i])
	}
	return 2 * math.Asin(min(1, math.Sqrt(chord)/2)) * 180 / math.Pi
}

func sameVector(a, b []float64) bool { return len(a) > 0 && slices.Equal(a, b) }

// finite tells whether all values are numbers.
func finite(v []float64) bool {
	return !slices.ContainsFunc(v, func(x float64) bool { return math.IsNaN(x) || math.IsInf(x, 0) })
}

// row is a prototype with its cosine to a vector.
type scored struct {
	scenario.Row
	cosine float64
}

// nearest are the k rows with the greatest cosines. Equal ones stay in the order of the table.
func nearest(u []float64, rows []scenario.Row, k int) []scored {
	all := make([]scored, 0, len(rows))
	for _, r := range rows {
		all = append(all, scored{r, dot(u, r.Vector)})
	}
	slices.SortStableFunc(all, func(a, b scored) int { return cmp.Compare(b.cosine, a.cosine) })
	return all[:min(k, len(all))]
}

// vote adds share × max(0, cosine) to the policy of each row.
func vote(rows []scored, share map[string]float64) []scenario.Vote {
	var out []scenario.Vote
	for _, r := range rows {
		i := slices.IndexFunc(out, func(v scenario.Vote) bool { return v.Policy == r.Policy })
		if i < 0 {
			out = append(out, scenario.Vote{Policy: r.Policy, Weight: share[r.Policy]})
			i = len(out) - 1
		}
		out[i].Sum += share[r.Policy] * max(0, r.cosine)
	}
	slices.SortFunc(out, func(a, b scenario.Vote) int {
		if c := cmp.Compare(b.Sum, a.Sum); c != 0 {
			return c
		}
		return cmp.Compare(a.Policy, b.Policy)
	})
	return out
}

// margin is the lead of the first policy in all that was voted.
func margin(votes []scenario.Vote) float64 {
	all := 0.0
	for _, v := range votes {
		all += v.Sum
	}
	switch {
	case all <= 0:
		return 0
	case len(votes) == 1:
		return 1
	}
	return (votes[0].Sum - votes[1].Sum) / all
}

// shares are the weights of rows' policies, made to sum to 1.
func shares(rows []scenario.Row) map[string]float64 {
	out, sum := map[string]float64{}, 0.0
	for _, r := range rows {
		out[r.Policy] = r.Weight
	}
	for _, p := range sortedKeys(out) {
		sum += out[p]
	}
	for p := range out {
		out[p] /= sum
	}
	return out
}

// step is Rocchio's update with a clipped difference: p ← normalise(p ± η·clip(u − p, c)), in float64, each
// element rounded to float32 once.
func step(p, u []float64, sign, eta, clip float64) []float64 {
	diff := make([]float64, len(p))
	for i := range p {
		diff[i] = u[i] - p[i]
	}
	factor := sign * eta
	if length := norm(diff); length > clip {
		factor *= clip / length
	}
	moved := make([]float64, len(p))
	for i := range p {
		moved[i] = p[i] + factor*diff[i]
	}
	return unit(moved)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
