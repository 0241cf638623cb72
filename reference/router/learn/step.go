// Package learn is the arithmetic of feedback: the step that moves a prototype, and the limits of a source.
// It knows no policies and no versions.
package learn

import "math"

// Step is Rocchio's update with a clipped difference: p ← normalise(p ± eta·clip(u − p, clip)).
type Step struct {
	Eta, Clip float64 // a clip of 2 clips no difference of unit vectors
}

// Apply returns p moved towards u (sign 1) or away from it (sign −1). All arithmetic is float64 in the order
// of the elements and each element is rounded to float32 once, so that whoever has p, u and the step gets the
// same bits. It reports false where the result has no direction.
func (s Step) Apply(p, u []float32, sign float64) ([]float32, bool) {
	difference := make([]float64, len(p))
	length := 0.0
	for i := range p {
		difference[i] = float64(u[i]) - float64(p[i])
		length += float64(difference[i] * difference[i])
	}
	length = math.Sqrt(length)
	factor := sign * s.Eta
	if length > s.Clip {
		factor *= s.Clip / length
	}
	norm := 0.0
	for i := range p {
		difference[i] = float64(p[i]) + float64(factor*difference[i])
		norm += float64(difference[i] * difference[i])
	}
	norm = math.Sqrt(norm)
	if !(norm > 1e-6) {
		return nil, false
	}
	moved := make([]float32, len(p))
	for i := range moved {
		moved[i] = float32(difference[i] / norm)
	}
	return moved, true
}

// Degrees returns the angle between two unit vectors. It takes the chord, because the arc cosine loses small
// angles.
func Degrees(a, b []float32) float64 {
	chord := 0.0
	for i := range a {
		d := float64(a[i]) - float64(b[i])
		chord += float64(d * d)
	}
	return 2 * math.Asin(min(1, math.Sqrt(chord)/2)) * 180 / math.Pi
}
