package sandbox

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// confined is a goroutine locked to a thread that runs on all processors but one and gives way to whoever wakes
// up. The zero value is not.
type confined struct {
	before unix.CPUSet
	share  *unix.SchedAttr // what it had; nil: as it is
	is     bool
}

// patientSlice is the longest slice that Linux grants (6.12 and later). A thread that wakes up with a shorter one, which all
// others have, takes the processor from a thread in such a slice at once; otherwise it may wait for the slice's end.
const patientSlice = 100 * time.Millisecond

// confine keeps the calling goroutine's thread off the highest of its processors, if it has two, and makes it give
// way. New threads of the runtime do not inherit that: it clones none from a thread that a goroutine is locked to.
func confine() (c confined) {
	runtime.LockOSThread()
	if c.narrow() {
		c.is = true
		c.giveWay()
		return c
	}
	runtime.UnlockOSThread()
	return c
}

func (c *confined) narrow() bool {
	if unix.SchedGetaffinity(0, &c.before) != nil || c.before.Count() < 2 {
		return false
	}
	fewer := c.before
	last := len(fewer)*64 - 1 // no word has more bits
	for !fewer.IsSet(last) {
		last--
	}
	fewer.Clear(last)
	return unix.SchedSetaffinity(0, &fewer) == nil
}

// giveWay lengthens the thread's slice. Kernels before 6.12 have none to set and take no notice.
func (c *confined) giveWay() {
	share, err := unix.SchedGetAttr(0, 0)
	if err != nil || share.Policy != unix.SCHED_NORMAL {
		return
	}
	patient := *share
	patient.Runtime = uint64(patientSlice)
	if unix.SchedSetAttr(0, &patient, 0) == nil {
		c.share = share
	}
}

// release gives the thread back what it had. Where that is refused the goroutine keeps it, and the thread ends with it.
func (c *confined) release() {
	if !c.is {
		return
	}
	c.is = false
	if unix.SchedSetaffinity(0, &c.before) != nil || (c.share != nil && unix.SchedSetAttr(0, c.share, 0) != nil) {
		return
	}
	runtime.UnlockOSThread()
}
