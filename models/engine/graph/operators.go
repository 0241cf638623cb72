package graph

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/assay-bench/assay/models/engine"
	"github.com/assay-bench/assay/models/onnx"
)

// operator says how many inputs a node has and how its kernel is made from its attributes.
type operator struct {
	least, most int
	prepare     func(*attributes) (kernel, error)
}

var operators = map[string]operator{
	"Add":                {2, 2, binary(func(x, y float32) float32 { return x + y })},
	"Cast":               {1, 1, cast},
	"Concat":             {1, onnx.MaxPorts, concat},
	"Div":                {2, 2, binary(func(x, y float32) float32 { return x / y })},
	"Gather":             {2, 2, gather},
	"Gemm":               {2, 3, gemm},
	"Identity":           {1, 1, identity},
	"LayerNormalization": {2, 3, layerNorm},
	"LpNormalization":    {1, 1, lpNorm},
	"MatMul":             {2, 2, matMul},
	"Mul":                {2, 2, binary(func(x, y float32) float32 { return x * y })},
	"ReduceMean":         {1, 2, reduceMean},
	"Relu":               {1, 1, unary(func(x float32) float32 { return max(x, 0) })},
	"Reshape":            {2, 2, reshape},
	"Sin":                {1, 1, unary(func(x float32) float32 { return float32(math.Sin(float64(x))) })},
	"Softmax":            {1, 1, softmax},
	"Sqrt":               {1, 1, unary(func(x float32) float32 { return float32(math.Sqrt(float64(x))) })},
	"Sub":                {2, 2, binary(func(x, y float32) float32 { return x - y })},
	"Transpose":          {1, 1, transpose},
}

// Operators returns the names of the operators that are executed, sorted.
func Operators() []string { return slices.Sorted(maps.Keys(operators)) }

// floats refuses inputs of other types.
func floats(in ...*tensor) error {
	for i, t := range in {
		if t != nil && t.kind != onnx.Float {
			return fmt.Errorf("%w: input %d of %v", ErrUnsupported, i, t.kind)
		}
	}
	return nil
}

func unary(f func(float32) float32) func(*attributes) (kernel, error) {
	return func(*attributes) (kernel, error) {
		return func(in []*tensor, out *tensor) error {
			if err := floats(in[0]); err != nil {
				return err
			}
			if err := out.sized(in[0].dims...); err != nil {
				return err
			}
			for i, x := range in[0].f32 {
				out.f32[i] = f(x)
			}
			return nil
		}, nil
	}
}

// binary is an element-wise operator with broadcasting.
func binary(f func(x, y float32) float32) func(*attributes) (kernel, error) {
	return func(*attributes) (kernel, error) {
		return func(in []*tensor, out *tensor) error {
			a, b := in[0], in[1]
			if err := floats(a, b); err != nil {
				return err
			}
			var buf [engine.MaxRank]int
			dims, err := broadcast(buf[:0], a.dims, b.dims)
			if err != nil {
				return err
			}
			if err := out.sized(dims...); err != nil {
				return err
			}
			ia, ib := walkOver(out.dims, a.dims), walkOver(out.dims, b.dims)
			for i := range out.f32 {
				out.f32[i] = f(a.f32[ia.at], b.f32[ib.at])
				ia.next()
				ib.next()
			}
			return nil
		}, nil
	}
}

// broadcast appends the shape that two shapes broadcast to.
func broadcast(to, a, b []int) ([]int, error) {
	rank := max(len(a), len(b))
	for i := range rank {
		x, y := 1, 1
		if j := i - rank + len(a); j >= 0 {
			x = a[j]
		}
		if j := i - rank + len(b); j >= 0 {
			y = b[j]
		}
		if x != y && x != 1 && y != 1 {
			return nil, fmt.Errorf("%w: dimension %d from the right is %d and %d", engine.ErrShape, rank-i, x, y)
		}
		to = append(to, max(x, y))
	}
	return to, nil
}

// walk goes over the elements of a tensor in the order of a larger shape that it broadcasts to, or of a
// permutation of its dimensions.
type walk struct {
	at               int
	rank             int
	dims, step, seen [engine.MaxRank]int
}

func walkOver(shape, dims []int) walk {
	w := walk{rank: len(shape)}
	copy(w.dims[:], shape)
	stride := 1
	for i := len(dims) - 1; i >= 0; i-- {
		if dims[i] != 1 {
			w.step[i+len(shape)-len(dims)] = stride
		}
		stride *= dims[i]
	}
	return w
}

func (w *walk) next() {
	for d := w.rank - 1; d >= 0; d-- {
		w.at += w.step[d]
		if w.seen[d]++; w.seen[d] < w.dims[d] {
			return
		}
		w.at -= w.step[d] * w.dims[d]
		w.seen[d] = 0
	}
}

// cast widens to float32.
func cast(a *attributes) (kernel, error) {
	a.only("to", a.int("to", 0), int64(onnx.Float))
	return func(in []*tensor, out *tensor) error {
		x := in[0]
		if x.kind == onnx.Float {
			return out.view(x, x.dims)
		}
		if err := out.sized(x.dims...); err != nil {
			return err
		}
		for i := range out.f32 {
			switch x.kind {
			case onnx.Int8:
				out.f32[i] = float32(x.i8[i])
			case onnx.Int64:
				out.f32[i] = float32(x.i64[i])
			case onnx.Float16:
				out.f32[i] = engine.Float16(x.f16[i])
			}
		}
		return nil
	}, nil
}

func identity(*attributes) (kernel, error) {
	return func(in []*tensor, out *tensor) error { return out.view(in[0], in[0].dims) }, nil
}

// axisOf resolves an axis that may count from the end.
func axisOf(axis int64, rank int) (int, error) {
	if axis < 0 {
		axis += int64(rank)
	}
	if axis < 0 || axis >= int64(rank) {
		return 0, fmt.Errorf("%w: axis %d of %d dimensions", engine.ErrShape, axis, rank)
	}
	return int(axis), nil
}

func product(dims []int) int {
	n := 1
	for _, d := range dims {
		n *= d
	}
	return n
}

func concat(a *attributes) (kernel, error) {
	along := a.int("axis", 0)
	return func(in []*tensor, out *tensor) error {
		if err := floats(in...); err != nil {
			return err
		}
		axis, err := axisOf(along, len(in[0].dims))
		if err != nil {
			return err
		}
		var buf [engine.MaxRank]int
		dims := append(buf[:0], in[0].dims...)
		dims[axis] = 0
		for _, x := range in {
			if len(x.dims) != len(dims) || !slices.Equal(x.dims[:axis], dims[:axis]) || !slices.Equal(x.dims[axis+1:], dims[axis+1:]) {
				return fmt.Errorf("%w: %v beside %v", engine.ErrShape, x.dims, in[0].dims)
			}
			dims[axis] += x.dims[axis]
		}
		if err := out.sized(dims...); err != nil {
			return err
		}
		at := 0
		for o := range product(dims[:axis]) {
			for _, x := range in {
				n := product(x.dims[axis:])
				at += copy(out.f32[at:], x.f32[o*n:(o+1)*n])
			}
		}
		return nil
	}, nil
}

func gather(a *attributes) (kernel, error) {
	a.only("axis", a.int("axis", 0), 0)
	return func(in []*tensor, out *tensor) error {
		rows, ids := in[0], in[1]
		if ids.kind != onnx.Int64 || len(rows.dims) == 0 {
			return fmt.Errorf("%w: ids of %v into %v", ErrUnsupported, ids.kind, rows.dims)
		}
		var buf [2 * engine.MaxRank]int
		dims := append(append(buf[:0], ids.dims...), rows.dims[1:]...)
		if err := out.sized(dims...); err != nil {
			return err
		}
		n := product(rows.dims[1:])
		for i, id := range ids.i64 {
			if id < 0 {
				id += int64(rows.dims[0])
			}
			if id < 0 || id >= int64(rows.dims[0]) {
				return fmt.Errorf("%w: id %d of %d rows", engine.ErrShape, ids.i64[i], rows.dims[0])
			}
			rows.widen(int(id)*n, out.f32[i*n:(i+1)*n])
		}
		return nil
	}, nil
}

// widen writes the elements from at as float32. A Cast of what Gather gave is therefore only a view: rows of
// int8 and float16 are widened where they are gathered.
func (t *tensor) widen(at int, dst []float32) {
	switch t.kind {
	case onnx.Float:
		copy(dst, t.f32[at:])
	case onnx.Int8:
		for i, q := range t.i8[at:][:len(dst)] {
			dst[i] = float32(q)
		}
	case onnx.Float16:
		for i, h := range t.f16[at:][:len(dst)] {
			dst[i] = engine.Float16(h)
		}
	case onnx.Int64:
		for i, v := range t.i64[at:][:len(dst)] {
			dst[i] = float32(v)
		}
	}
}

// rowsOf splits a tensor at an axis into rows of its inner dimensions.
func rowsOf(x *tensor, along int64) (axis, inner int, err error) {
	axis, err = axisOf(along, len(x.dims))
	if err != nil {
		return 0, 0, err
	}
	return axis, product(x.dims[axis:]), nil
}

func layerNorm(a *attributes) (kernel, error) {
	along, epsilon := a.int("axis", -1), float64(a.float("epsilon", 1e-5))
	a.only("stash_type", a.int("stash_type", 1), 1)
	return func(in []*tensor, out *tensor) error {
		x, scale := in[0], in[1]
		if err := floats(in...); err != nil {
			return err
		}
		_, n, err := rowsOf(x, along)
		if err != nil {
			return err
		}
		var bias []float32
		if len(in) == 3 && in[2] != nil {
			bias = in[2].f32
		}
		if len(scale.f32) != n || (bias != nil && len(bias) != n) {
			return fmt.Errorf("%w: rows of %d, a scale of %d and a bias of %d", engine.ErrShape, n, len(scale.f32), len(bias))
		}
		if err := out.sized(x.dims...); err != nil {
			return err
		}
		for at := 0; at < len(x.f32); at += n {
			normRow(out.f32[at:at+n], x.f32[at:at+n], scale.f32, bias, epsilon)
		}
		return nil
	}, nil
}

func normRow(dst, x, scale, bias []float32, epsilon float64) {
	sum, squares := 0.0, 0.0
	for _, v := range x {
		sum += float64(v)
	}
	mean := sum / float64(len(x))
	for _, v := range x {
		d := float64(v) - mean
		squares += float64(d * d)
	}
	inverse := 1 / math.Sqrt(squares/float64(len(x))+epsilon)
	for i, v := range x {
		y := float32(float32((float64(v)-mean)*inverse) * scale[i])
		if bias != nil {
			y += bias[i]
		}
		dst[i] = y
	}
}

func lpNorm(a *attributes) (kernel, error) {
	along := a.int("axis", -1)
	a.only("p", a.int("p", 2), 2)
	return func(in []*tensor, out *tensor) error {
		x := in[0]
		if err := floats(x); err != nil {
			return err
		}
		axis, n, err := rowsOf(x, along)
		if err != nil {
			return err
		}
		if axis != len(x.dims)-1 {
			return fmt.Errorf("%w: a norm along axis %d of %d", ErrUnsupported, axis, len(x.dims))
		}
		if err := out.sized(x.dims...); err != nil {
			return err
		}
		for at := 0; at < len(x.f32); at += n {
			row, norm := out.f32[at:at+n], engine.Norm(x.f32[at:at+n])
			for i, v := range x.f32[at : at+n] {
				row[i] = 0
				if norm != 0 {
					row[i] = float32(float64(v) / norm)
				}
			}
		}
		return nil
	}, nil
}

func softmax(a *attributes) (kernel, error) {
	along := a.int("axis", -1)
	return func(in []*tensor, out *tensor) error {
		x := in[0]
		if err := floats(x); err != nil {
			return err
		}
		axis, n, err := rowsOf(x, along)
		if err != nil {
			return err
		}
		if axis != len(x.dims)-1 {
			return fmt.Errorf("%w: along axis %d of %d", ErrUnsupported, axis, len(x.dims))
		}
		if err := out.sized(x.dims...); err != nil {
			return err
		}
		copy(out.f32, x.f32)
		for at := 0; at < len(x.f32); at += n {
			engine.Softmax.Apply(out.f32[at : at+n])
		}
		return nil
	}, nil
}

// matMul multiplies a tensor by a matrix: the dimensions before the last of the first are rows.
func matMul(*attributes) (kernel, error) {
	return func(in []*tensor, out *tensor) error {
		x, w := in[0], in[1]
		if err := floats(x, w); err != nil {
			return err
		}
		if len(x.dims) < 2 || len(w.dims) != 2 || x.dims[len(x.dims)-1] != w.dims[0] {
			return fmt.Errorf("%w: %v by %v, want rows by a matrix", engine.ErrShape, x.dims, w.dims)
		}
		var buf [engine.MaxRank]int
		dims := append(buf[:0], x.dims...)
		dims[len(dims)-1] = w.dims[1]
		if err := out.sized(dims...); err != nil {
			return err
		}
		clear(out.f32)
		multiply(out.f32, x.f32, w.f32, w.dims[0], w.dims[1])
		return nil
	}, nil
}

// multiply adds x·w to dst, where w has k rows of n.
func multiply(dst, x, w []float32, k, n int) {
	for ; len(dst) > 0; dst, x = dst[n:], x[k:] {
		engine.Combine(dst[:n], x[:k], w)
	}
}

func gemm(a *attributes) (kernel, error) {
	alpha, beta := a.float("alpha", 1), a.float("beta", 1)
	transposed := a.int("transB", 0) != 0
	a.only("transA", a.int("transA", 0), 0)
	return func(in []*tensor, out *tensor) error {
		x, w := in[0], in[1]
		if err := floats(in...); err != nil {
			return err
		}
		if len(x.dims) != 2 || len(w.dims) != 2 {
			return fmt.Errorf("%w: %v by %v, want matrices", engine.ErrShape, x.dims, w.dims)
		}
		k, n := w.dims[0], w.dims[1]
		if transposed {
			k, n = n, k
		}
		if x.dims[1] != k {
			return fmt.Errorf("%w: %v by %v", engine.ErrShape, x.dims, w.dims)
		}
		if err := out.sized(x.dims[0], n); err != nil {
			return err
		}
		if transposed {
			dots(out.f32, x.f32, w.f32, k, n)
		} else {
			clear(out.f32)
			multiply(out.f32, x.f32, w.f32, k, n)
		}
		if len(in) < 3 || in[2] == nil {
			return scale(out, alpha, nil, 0)
		}
		return scale(out, alpha, in[2], beta)
	}, nil
}

// dots writes x·wᵀ, where w has n rows of k.
func dots(dst, x, w []float32, k, n int) {
	for ; len(dst) > 0; dst, x = dst[n:], x[k:] {
		for j := range n {
			dst[j] = engine.Dot(x[:k], w[j*k:(j+1)*k])
		}
	}
}

// scale makes out alpha × out + beta × c.
func scale(out *tensor, alpha float32, c *tensor, beta float32) error {
	if alpha != 1 {
		for i := range out.f32 {
			out.f32[i] *= alpha
		}
	}
	if c == nil {
		return nil
	}
	var buf [engine.MaxRank]int
	dims, err := broadcast(buf[:0], out.dims, c.dims)
	if err != nil || !slices.Equal(dims, out.dims) {
		return fmt.Errorf("%w: a bias of %v onto %v", engine.ErrShape, c.dims, out.dims)
	}
	w := walkOver(out.dims, c.dims)
	for i := range out.f32 {
		out.f32[i] += float32(beta * c.f32[w.at])
		w.next()
	}
	return nil
}

// reduceMean takes one axis: an attribute up to operator set 17, a constant input after it.
func reduceMean(a *attributes) (kernel, error) {
	axes, keep := a.ints("axes"), a.int("keepdims", 1) != 0
	if a.opset >= 18 && len(a.constants) == 2 {
		axes = a.constants[1].i64
	}
	if len(axes) != 1 || (a.opset < 18 && len(a.constants) == 2) {
		return nil, fmt.Errorf("%w: axes %v, want one constant", ErrUnsupported, axes)
	}
	along := axes[0]
	return func(in []*tensor, out *tensor) error {
		x := in[0]
		if err := floats(x); err != nil {
			return err
		}
		axis, err := axisOf(along, len(x.dims))
		if err != nil {
			return err
		}
		var buf [engine.MaxRank]int
		dims := append(buf[:0], x.dims[:axis]...)
		if keep {
			dims = append(dims, 1)
		}
		dims = append(dims, x.dims[axis+1:]...)
		if err := out.sized(dims...); err != nil {
			return err
		}
		n, inner := x.dims[axis], product(x.dims[axis+1:])
		clear(out.f32)
		for o := range product(x.dims[:axis]) {
			row := out.f32[o*inner : (o+1)*inner]
			for i := range n {
				for j, v := range x.f32[(o*n+i)*inner:][:inner] {
					row[j] += v
				}
			}
			for j := range row {
				row[j] /= float32(n)
			}
		}
		return nil
	}, nil
}

func reshape(a *attributes) (kernel, error) {
	a.only("allowzero", a.int("allowzero", 0), 0)
	return func(in []*tensor, out *tensor) error {
		x, to := in[0], in[1]
		if to.kind != onnx.Int64 || len(to.i64) > engine.MaxRank {
			return fmt.Errorf("%w: a shape of %v with %d elements", ErrUnsupported, to.kind, len(to.i64))
		}
		var buf [engine.MaxRank]int
		dims, known, open := buf[:len(to.i64)], 1, -1
		for i, d := range to.i64 {
			switch {
			case d == -1 && open < 0:
				open, dims[i] = i, 1
			case d == 0 && i < len(x.dims):
				dims[i] = x.dims[i]
			case d > 0 && d <= engine.MaxElements:
				dims[i] = int(d)
			default:
				return fmt.Errorf("%w: dimension %d of a new shape is %d", engine.ErrShape, i, d)
			}
			known = min(known*dims[i], engine.MaxElements+1)
		}
		if open >= 0 {
			dims[open] = x.elements() / known
			known *= dims[open]
		}
		if known != x.elements() {
			return fmt.Errorf("%w: %v elements into another number", engine.ErrShape, x.dims)
		}
		return out.view(x, dims)
	}, nil
}

func transpose(a *attributes) (kernel, error) {
	perm := a.ints("perm")
	return func(in []*tensor, out *tensor) error {
		x := in[0]
		if err := floats(x); err != nil {
			return err
		}
		rank := len(x.dims)
		var buf [engine.MaxRank]int
		dims, w, from := buf[:rank], walk{rank: rank}, walkOver(x.dims, x.dims)
		var seen [engine.MaxRank]bool
		for i := range rank {
			p := int64(rank - 1 - i)
			if perm != nil {
				if len(perm) != rank {
					return fmt.Errorf("%w: perm %v of %d dimensions", engine.ErrShape, perm, rank)
				}
				p = perm[i]
			}
			if p < 0 || p >= int64(rank) || seen[p] {
				return fmt.Errorf("%w: perm %v", engine.ErrShape, perm)
			}
			seen[p], dims[i] = true, x.dims[p]
			w.dims[i], w.step[i] = x.dims[p], from.step[p]
		}
		if err := out.sized(dims...); err != nil {
			return err
		}
		for i := range out.f32 {
			out.f32[i] = x.f32[w.at]
			w.next()
		}
		return nil
	}, nil
}
