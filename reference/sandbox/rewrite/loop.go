package rewrite

import "github.com/assay-bench/assay/reference/defect"

const (
	// passes is how many passes of a short loop are charged at once: the loop's code is written as often.
	passes = 4
	// shortLoop is the most bytes that such a loop has. In longer ones a charge is a small part of a pass.
	shortLoop = 96
	// spareCode is how many bytes a module may grow by copies of loops, besides half of its size, so that what
	// an engine has to compile stays in proportion to what was sent.
	spareCode = 4096
	// settleSize is about what a copy adds besides the loop's code.
	settleSize = 16

	// Labels that are added to those of the original around a loop, and around a copy of its code.
	aroundLoop = 3
	aroundCopy = 2
)

// openLoop is a loop that is being written.
type openLoop struct {
	region
	index  uint32 // of the region
	height int    // of the stack outside of it
	values bool   // it takes values from the stack
	copies int    // of its code; 0: the fuel is taken from the global
	at     int    // the one that is written now, from 1
}

// atOnce is what is taken or looked for at once.
func (l *openLoop) atOnce() int64 { return l.cost * int64(max(l.copies, 1)) }

// loop writes the head of a loop. The guest asks for fuel behind the loop and then enters it again, so that the
// loop itself holds no call: across a call the engine keeps in memory what lives, wherever the call is skipped
// as well.
//
//	block                     done
//	  loop                    again
//	    block                 low
//	      left = fuel
//	      loop                the original's
//	        br_if left < cost low
//	        left = fuel = left - cost
//	        …
//	      end
//	      br done
//	    end
//	    fuel = left - cost
//	    refill
//	    fuel = fuel + cost    taken again when the loop is entered
//	    br again
//	  end
//	end
//
// A loop that holds calls, loops or bulk operations takes the fuel from the global and puts it back, since both
// change it. A short one of no others is written several times, and the fuel of all passes is looked for at once:
//
//	loop
//	  br_if left < 4 * cost   low
//	  block                   left for another pass
//	    block
//	      …                   the first copy; where it leaves the loop it takes one pass from the fuel
//	    end
//	    left = fuel = left - cost
//	    br done
//	  end
//	  …                       three more, which take 2, 3 and 4 passes
//	  left = fuel = left - 4 * cost
//	  br                      the loop
//	end
//
// So a trap in such a loop leaves the passes since the last charge, four at most, untaken; the same ones each
// time.
//
// Tried: one loop with the call behind an if (1.6 times the original's time on a product of matrices, 1.05
// now; 1.47 on recursion, 1.2 now), and storing the fuel only at calls and exits (what a trap leaves is then
// off by a whole slice).
func (b *body) loop(raw []byte) {
	b.loops++
	if !b.paired {
		b.out = append(b.out, raw...)
		return
	}
	l := openLoop{region: b.s.regions[b.loops], index: b.loops, height: len(b.f.stack) - 1, at: 1}
	l.values = b.f.stack[l.height].values
	l.copies = b.copies(l)
	if l.tables && b.o.Defects.On(defect.SandboxRewriteSkipsBrTable) {
		l.cost *= 2
	}
	b.open = append(b.open, l)
	b.info.FuelSites++
	if l.values {
		b.loopWithValues(raw, l.cost)
		return
	}
	b.out = append(append(b.out, opBlock), raw[1:]...)
	b.out = append(append(b.out, opLoop), raw[1:]...)
	b.out = append(b.out, opBlock, blockEmpty)
	if l.copies == 0 {
		b.out = append(b.out, raw...)
		b.takeOr(l.cost, 1)
		return
	}
	b.op(opGlobalGet, b.fuel)
	b.op(opLocalSet, b.left)
	b.out = append(b.out, raw...)
	b.op(opLocalGet, b.left)
	b.out = append(appendS64(append(b.out, opI64Const), l.atOnce()), opI64LtS)
	b.op(opBrIf, 1)
	if l.copies == 1 {
		b.settlePasses(l.cost)
		return
	}
	b.openCopy()
}

// openCopy opens the block that a copy leaves for another pass, and the one in which its code is as valid or
// invalid as in the loop.
func (b *body) openCopy() {
	b.out = append(b.out, opBlock, blockEmpty, opBlock, blockEmpty)
}

// copies says how often the code of a loop is written; 0 means that the fuel is taken from the global.
func (b *body) copies(l openLoop) int {
	size := l.end - l.start
	more := (passes-1)*size + passes*settleSize
	switch {
	case l.values, l.calls, l.nests, l.dynamic, b.o.Defects.On(defect.SandboxFuelForgeable):
		return 0
	case l.fixed, size > shortLoop, more > b.spare:
		return 1
	}
	b.spare -= more
	return passes
}

// loopWithValues writes the head of a loop that takes values from the stack, which can not be put into a block
// that takes none: the call stands before the loop. Two blocks keep the number of labels.
func (b *body) loopWithValues(raw []byte, cost int64) {
	for range aroundLoop - 1 {
		b.out = append(append(b.out, opBlock), raw[1:]...)
	}
	b.out = append(b.out, raw...)
	b.charge(cost)
	b.giveBack(cost)
	b.out = append(b.out, raw...)
	b.take(cost)
	b.op(opLocalTee, b.left)
	b.out = append(b.out, opI64Const, 0, opI64LtS)
	b.op(opBrIf, 1)
	b.op(opLocalGet, b.left)
	b.op(opGlobalSet, b.fuel)
}

// giveBack adds units to the fuel that are taken again.
func (b *body) giveBack(units int64) {
	b.take(-units)
	b.op(opGlobalSet, b.fuel)
}

// settlePasses takes units from the local and stores it.
func (b *body) settlePasses(units int64) {
	b.sum(opLocalGet, b.left, -units)
	b.op(opLocalTee, b.left)
	b.op(opGlobalSet, b.fuel)
}

// closeLoop writes what follows the code of the innermost open loop.
func (b *body) closeLoop() error {
	l := &b.open[len(b.open)-1]
	if l.copies > 1 {
		if err := b.copyLoop(l); err != nil {
			return err
		}
	}
	b.out = append(b.out, opEnd)
	if !l.values {
		b.op(opBr, aroundLoop-1) // done
		b.out = append(b.out, opEnd)
		if l.copies > 0 {
			b.sum(opLocalGet, b.left, -l.atOnce())
			b.op(opGlobalSet, b.fuel)
		}
		b.refuel(l.atOnce())
	} else {
		b.out = append(b.out, opEnd)
	}
	b.out = append(b.out, opEnd, opEnd)
	b.open = b.open[:len(b.open)-1]
	return nil
}

// copyLoop writes the code of the loop again, behind the first copy.
func (b *body) copyLoop(l *openLoop) error {
	for {
		b.out = append(b.out, opEnd)
		b.settlePasses(l.cost * int64(l.at))
		b.op(opBr, aroundLoop+aroundCopy-1) // done
		b.out = append(b.out, opEnd)
		if l.at == l.copies {
			break
		}
		l.at++
		b.openCopy()
		if err := b.rewalk(l); err != nil {
			return err
		}
	}
	b.settlePasses(l.atOnce())
	b.op(opBr, 0) // the loop
	return nil
}

// rewalk writes the loop's code once more.
func (b *body) rewalk(l *openLoop) error {
	f := b.f
	f.step(instruction{op: opLoop, block: blockVoid}, l.index)
	r := reader{b: b.m.wasm, pos: l.start, end: l.end, name: sectionNames[sectionCode]}
	for r.pos < r.end {
		in, err := r.instruction()
		if err != nil {
			return err
		}
		f.step(in, 0)
		if err := b.instruction(in, l.index); err != nil {
			return err
		}
	}
	f.step(instruction{op: opEnd}, 0)
	return nil
}

// label is the index that a label has among those that are added.
func (b *body) label(i uint32) uint32 {
	if !b.paired {
		return i
	}
	added := aroundLoop * b.f.loopsInside(i)
	switch {
	case b.leavesCopy(i):
		added += aroundCopy
	case b.copying() && i == b.f.stack[len(b.f.stack)-1].inside: // another pass
		added++
	}
	return i + added
}

// leavesCopy says whether a branch to the label leaves a loop whose passes are not taken yet.
func (b *body) leavesCopy(label uint32) bool {
	return b.copying() && b.f.loopsInside(label) > 0
}

// copying says whether the code of the innermost loop is written several times.
func (b *body) copying() bool {
	n := len(b.open)
	return n > 0 && b.open[n-1].copies > 1
}

// exit goes before a branch.
func (b *body) exit(label uint32) {
	if b.leavesCopy(label) {
		l := b.open[len(b.open)-1]
		b.settlePasses(l.cost * int64(l.at))
	}
}

// branchIf writes br_if. One that leaves a copy carries no values; see shape.see.
func (b *body) branchIf(label uint32) {
	if !b.leavesCopy(label) {
		b.op(opBrIf, b.label(label))
		return
	}
	b.out = append(b.out, opIf, blockEmpty)
	b.exit(label)
	b.op(opBr, b.label(label)+1)
	b.out = append(b.out, opEnd)
}
