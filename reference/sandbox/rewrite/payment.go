package rewrite

import "github.com/assay-bench/assay/reference/defect"

// mostUntested is the most units of a body whose entry is not tested, or not even charged. It bounds what
// calls between two tests amount to, what a call from the host takes without paying, and what a call that is not
// reached is charged.
const mostUntested = 64

// findPrepaid finds the functions whose bodies are charged to their callers, with the region of the call, which
// saves a charge at each entry: half of what metering costs recursion. They are those that others call
// directly, that no table, reference or start section leads to, and that call nothing outside of their loops: a
// round of calls meets the test of a loop. The host may call them as exports; such a call gets the body, up to
// mostUntested units, for nothing.
func (w *writer) findPrepaid() error {
	if w.m.hasStart {
		w.refer(w.m.start)
	}
	imported := w.m.importedFunctions
	costs, called := make([]int64, len(w.m.bodies)), make([]bool, len(w.m.bodies))
	w.recursive = make([]bool, len(w.m.bodies))
	for i := range w.m.bodies {
		f, err := w.m.function(i)
		if err != nil {
			return err
		}
		var s shape
		err = f.scan(&s, func(in instruction, _ *region) {
			switch in.op {
			case opRefFunc:
				w.refer(in.index)
			case opReturnCallIndirect:
				w.again = opReturnCall
			case opReturnCall:
				w.again = opReturnCall
				fallthrough
			case opCall:
				if own := int64(in.index) - int64(imported); own >= 0 && own < int64(len(called)) {
					called[own] = true
					w.recursive[own] = w.recursive[own] || own == int64(i)
				}
			}
		})
		if err != nil {
			return err
		}
		if body := s.regions[0]; !body.calls && !body.dynamic && body.cost <= mostUntested {
			costs[i] = body.cost
		}
	}
	for i := range costs {
		if !called[i] || w.referred[i] || w.o.Defects.On(defect.SandboxRecursionUnmetered) {
			costs[i] = 0
		}
	}
	w.prepaid = costs
	return nil
}

// refer notes that a function can be called by more than direct calls.
func (w *writer) refer(i uint32) {
	if own := int64(i) - int64(w.m.importedFunctions); own >= 0 && own < int64(len(w.referred)) {
		w.referred[own] = true
	}
}

// prepay adds what a direct call pays for its callee to the region of the call.
func (w *writer) prepay(in instruction, at *region) {
	if in.op != opCall && in.op != opReturnCall {
		return
	}
	if own := int64(in.index) - int64(w.m.importedFunctions); own >= 0 && own < int64(len(w.prepaid)) {
		at.add(w.prepaid[own])
	}
}
