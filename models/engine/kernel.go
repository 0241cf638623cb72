package engine

import "math"

// The kernels below have one order of summation and no fused multiply-add: the conversions to float32 forbid
// it, because some processors lack it. The same inputs give the same bits everywhere.

// Dot returns the inner product of two vectors of one length. It sums in eight lanes, element i in lane
// i mod 8 (what is left over in lane 0), and then the lanes pairwise.
func Dot(a, b []float32) float32 {
	var s0, s1, s2, s3, s4, s5, s6, s7 float32
	b = b[:len(a)]
	for len(a) >= 8 {
		x, y := (*[8]float32)(a), (*[8]float32)(b)
		s0 += float32(x[0] * y[0])
		s1 += float32(x[1] * y[1])
		s2 += float32(x[2] * y[2])
		s3 += float32(x[3] * y[3])
		s4 += float32(x[4] * y[4])
		s5 += float32(x[5] * y[5])
		s6 += float32(x[6] * y[6])
		s7 += float32(x[7] * y[7])
		a, b = a[8:], b[8:]
	}
	for i := range a {
		s0 += float32(a[i] * b[i])
	}
	return ((s0 + s4) + (s2 + s6)) + ((s1 + s5) + (s3 + s7))
}

// Combine adds w·rows to dst, where rows holds len(w) rows of len(dst) elements: dst = ((dst + w0·r0) + w1·r1) + …
func Combine(dst, w, rows []float32) {
	n := len(dst)
	for len(w) >= 4 { // four rows a pass load and store dst once; the order stays
		combine4(dst, (*[4]float32)(w), rows[:n], rows[n:2*n], rows[2*n:3*n], rows[3*n:4*n])
		w, rows = w[4:], rows[4*n:]
	}
	for i, x := range w {
		addScaled(dst, x, rows[i*n:(i+1)*n])
	}
}

func combine4(dst []float32, w *[4]float32, r0, r1, r2, r3 []float32) {
	w0, w1, w2, w3 := w[0], w[1], w[2], w[3]
	r0, r1, r2, r3 = r0[:len(dst)], r1[:len(dst)], r2[:len(dst)], r3[:len(dst)]
	for j, y := range dst {
		y += float32(w0 * r0[j])
		y += float32(w1 * r1[j])
		y += float32(w2 * r2[j])
		y += float32(w3 * r3[j])
		dst[j] = y
	}
}

func addScaled(dst []float32, w float32, row []float32) {
	for j, x := range row[:len(dst)] {
		dst[j] += float32(w * x)
	}
}

// Norm returns the Euclidean length of v, summed in float64 from the first element to the last.
func Norm(v []float32) float64 {
	sum := 0.0
	for _, x := range v {
		sum += float64(float64(x) * float64(x))
	}
	return math.Sqrt(sum)
}
