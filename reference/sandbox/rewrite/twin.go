package rewrite

import "github.com/assay-bench/assay/reference/defect"

const (
	// shortFunction is the most bytes that the code of a function with a twin has.
	shortFunction = 512
	// twinDepth is the least limit of frames with which there are twins.
	twinDepth = 64
)

// twin decides whether a function that calls itself is written twice, and returns the index of the second form, or 0.
// The first calls the second where it calls itself, and the second calls the first: only the first tests the fuel
// and counts frames, for both of them. Each takes what its body costs, so that no unit is charged elsewhere than
// without.
//
// As the first form counts two frames whether or not it calls the second, a guest with other functions on its
// stack may have one frame fewer than the limit says.
//
// Tried: charging such functions before their first call, so that those which call nothing go free (1.36 times the
// original's time on fib without optimisation, beside other load, 1.2 now). The engine checks bounds again behind
// a refill.
func (w *writer) twin(own int, f *function) uint32 {
	size := f.code.end - f.code.pos
	if size > shortFunction || size+settleSize > w.spare || w.o.Depth < twinDepth || !w.recursive[own] ||
		w.o.Defects.On(defect.SandboxRecursionUnmetered) || w.o.Defects.On(defect.SandboxDepthUnlimited) {
		return 0
	}
	w.spare -= size + settleSize
	first := w.m.functionCount() + 1 // behind the refill and all functions
	if w.thunk() {
		first++
	}
	w.twins = append(w.twins, w.m.functions[own])
	return first + uint32(len(w.twins)-1)
}

// callee is the new index of a function that is called.
func (b *body) callee(i uint32) uint32 {
	if b.twin != 0 && i == b.m.importedFunctions+uint32(b.own) {
		return b.twin
	}
	return b.shift(i)
}
