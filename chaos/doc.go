// Package chaos is the light part of fault injection: what a fault is, its life cycle, the journal
// that makes it undoable by somebody else, and the watchdog that is this somebody. Drivers live in
// packages below it. The package may not judge: a fault that was not seen to be in force is recorded
// as such and is an error of nobody.
//
// The life of a fault is plan, journal, apply, witness, revert, residue. The undo record is on disk
// before anything happens; the witness looks on another path than the one that applied; the residue
// check lists what is left. [Inject] runs all of it.
//
// Tried: PR_SET_PDEATHSIG in place of a watchdog. Lost: it kills a child but undoes nothing, a frozen
// cgroup for one, and it fires on the death of the parent thread.
package chaos
