package sandbox

import (
	"sync"

	"github.com/tetratelabs/wazero/experimental"

	"github.com/assay-bench/assay/reference/defect"
)

const pageBytes = 64 << 10

// linear is the memory of one instance: a Go slice that moves when it grows. Nothing holds a view of it
// across a call of the guest, and the collector keeps old views harmless.
type linear struct {
	version *version
	quota   uint64 // bytes
	buf     []byte
	made    bool
}

var _ experimental.LinearMemory = (*linear)(nil)

// Allocate implements experimental.MemoryAllocator. An instance has at most one memory.
func (l *linear) Allocate(_, _ uint64) experimental.LinearMemory {
	l.made = true
	return l
}

// Reallocate returns nil beyond the quota, which memory.grow answers with -1. The first size was compared
// before, since wazero cannot bear nil there.
func (l *linear) Reallocate(size uint64) []byte {
	if size > l.quota {
		return nil
	}
	l.version.tenant.memory.Add(int64(size) - int64(len(l.buf)))
	switch {
	case l.buf == nil:
		l.buf = l.version.sandbox.spare.first(size)
	case size <= uint64(cap(l.buf)):
		l.buf = l.buf[:size] // never used before: memory does not shrink
	default:
		grown := make([]byte, size, min(max(2*uint64(cap(l.buf)), size), l.quota))
		copy(grown, l.buf)
		l.buf = grown
	}
	return l.buf
}

// Free gives the bytes back to the tenant's account.
func (l *linear) Free() {
	bytes := int64(len(l.buf))
	switch d := l.version.defects(); {
	case d.On(defect.SandboxDrainLeaks) && l.version.replaced.Load():
		bytes = 0
	case d.On(defect.SandboxAccountingDrifts) && bytes > 0:
		bytes -= pageBytes
	}
	l.version.tenant.memory.Add(-bytes)
	l.version.sandbox.spare.freed(l.buf)
	l.buf = nil
}

// spare makes the buffers of memories. Only planted defects make it hand out used ones.
type spare struct {
	shared   bool // defect.SandboxMemoryShared
	recycled bool // defect.SandboxViewRecycled

	mu   sync.Mutex
	last []byte
	free [][]byte
}

// first returns the buffer of a new memory.
func (s *spare) first(size uint64) []byte {
	buf := make([]byte, size)
	if !s.shared && !s.recycled {
		return buf
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shared {
		copy(buf, s.last)
		return buf
	}
	for i, old := range s.free {
		if uint64(len(old)) == size {
			s.free = append(s.free[:i], s.free[i+1:]...)
			clear(old)
			return old
		}
	}
	return buf
}

func (s *spare) freed(buf []byte) {
	if !s.recycled {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.free) < 16 {
		s.free = append(s.free, buf)
	}
}

// leave keeps what a call left behind.
func (s *spare) leave(buf []byte) {
	if !s.shared {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = append(s.last[:0], buf...)
}
