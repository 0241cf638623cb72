package proxywasm

import (
	"context"
	"errors"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/tetratelabs/wazero/api"
)

var errBadPointer = errors.New("bad pointer")

// call is one call of a host function. Arguments and the result share the engine's stack.
type call struct {
	ctx   context.Context
	f     *Filter
	vm    *vm
	guest api.Module
	args  []uint64
}

func (c *call) u32(i int) uint32 { return uint32(c.args[i]) }

// memory is the guest's memory, nil when it exports none. It is asked for again after each call into the
// guest, because growth moves it.
func (c *call) memory() api.Memory { return c.guest.ExportedMemory("memory") }

// view returns the guest's bytes that the arguments at i and i+1 point to. It is valid until the guest
// runs again.
func (c *call) view(i int) ([]byte, bool) { return c.viewOf(c.u32(i), c.u32(i+1)) }

func (c *call) viewOf(at, n uint32) ([]byte, bool) {
	m := c.memory()
	if m == nil {
		return nil, false
	}
	return m.Read(at, n)
}

// invalid is the result for a pointer that leaves the guest's memory.
func (c *call) invalid() status {
	if c.f.on(defect.SandboxProxyBadPointerTraps) {
		panic(errBadPointer)
	}
	return statusInvalidMemory
}

// cell is the 4 bytes at the address in argument i.
func (c *call) cell(i int) ([]byte, bool) { return c.viewOf(c.u32(i), 4) }

// putU32 writes n to the address in argument i.
func (c *call) putU32(i int, n uint32) status {
	if m := c.memory(); m == nil || !m.WriteUint32Le(c.u32(i), n) {
		return c.invalid()
	}
	return statusOK
}

// give returns data to the guest: in memory from the guest's allocator, its address and length at the
// addresses in arguments i and i+1. Nothing is written unless all of it can be. An empty value needs no
// memory: address and length are 0.
func (c *call) give(i int, data []byte) status {
	_, pointer := c.cell(i)
	_, size := c.cell(i + 1)
	if !pointer || !size {
		return c.invalid()
	}
	var at uint32
	if len(data) > 0 {
		var st status
		if at, st = c.allocate(uint32(len(data))); st != statusOK {
			return st
		}
		into, ok := c.viewOf(at, uint32(len(data)))
		if !ok {
			return c.invalid()
		}
		copy(into, data)
	}
	if st := c.putU32(i, at); st != statusOK {
		return st
	}
	return c.putU32(i+1, uint32(len(data)))
}

// allocate asks the guest for n bytes (Proxy-Wasm 0.2.1, Memory management). The guest is entered from a
// host function here, and not a second time when its allocator calls such a function itself. A trap in
// the allocator is one of the callback.
func (c *call) allocate(n uint32) (uint32, status) {
	allocator := c.allocator()
	if allocator == nil || c.vm.allocating {
		return 0, statusInternalFailure
	}
	c.vm.allocating = true
	results, err := allocator.Call(c.ctx, uint64(n))
	c.vm.allocating = false
	if err != nil {
		panic(err)
	}
	at := uint32(results[0])
	if at == 0 && !c.f.on(defect.SandboxProxyAllocatorUnchecked) {
		return 0, statusInternalFailure
	}
	return at, statusOK
}

// allocator is the guest's, which malloc stands in for. A start section may need it before the instance
// has its functions.
func (c *call) allocator() api.Function {
	for _, name := range [...]string{onAllocate, onMalloc} {
		if fn := c.vm.functions[name]; fn != nil {
			return fn
		}
		if c.vm.guest == nil {
			if fn := c.guest.ExportedFunction(name); fn != nil {
				return fn
			}
		}
	}
	return nil
}
