package nn

import (
	"encoding/binary"
	"math"
	"slices"
	"unsafe"

	"github.com/tetratelabs/wazero/api"
)

// memory reads and writes a guest's memory. Every access is checked; a false result means that the range is
// not inside the memory, and that nothing was read or written.
type memory struct{ api.Memory }

// words returns n little-endian u32 from p. The caller bounds n.
func (m memory) words(p, n uint32) ([]uint32, bool) {
	b, ok := m.Read(p, 4*n)
	if !ok {
		return nil, false
	}
	w := make([]uint32, n)
	for i := range w {
		w[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	return w, true
}

// holds reports whether n bytes at p are inside the memory.
func (m memory) holds(p, n uint32) bool {
	_, ok := m.Read(p, n)
	return ok
}

// hostIsLittleEndian says whether a float32 of the guest has the host's byte order.
var hostIsLittleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// inPlace returns the bytes as float32 without copying, where their address and the host's byte order allow
// it. The result is valid as long as b is: until the guest runs again. The length of b is a multiple of 4.
func inPlace(b []byte) ([]float32, bool) {
	if len(b) == 0 {
		return nil, true
	}
	p := unsafe.Pointer(unsafe.SliceData(b))
	if !hostIsLittleEndian || uintptr(p)%unsafe.Alignof(float32(0)) != 0 {
		return nil, false
	}
	return unsafe.Slice((*float32)(p), len(b)/4), true
}

// copied returns the bytes as float32 of its own: in one piece where they are aligned, else one by one.
func copied(b []byte) []float32 {
	if v, ok := inPlace(b); ok {
		return slices.Clone(v)
	}
	f := make([]float32, len(b)/4)
	for i := range f {
		f[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return f
}

// store writes the values into b, which is as long as they are.
func store(b []byte, values []float32) {
	for i, v := range values {
		binary.LittleEndian.PutUint32(b[4*i:], math.Float32bits(v))
	}
}
