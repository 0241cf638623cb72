package cost

import "runtime"

// thread runs functions one after another on one operating-system thread, whose CPU clock can then be read.
type thread struct{ work chan func() }

func newThread() *thread {
	t := &thread{work: make(chan func())}
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		for f := range t.work {
			f()
		}
	}()
	return t
}

func (t *thread) do(f func()) { t.work <- f }
func (t *thread) close()      { close(t.work) }
