package proxywasm

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"os"
	"time"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
)

const (
	maxWrite  = 16 << 10 // bytes of one fd_write that reach the log
	maxRandom = 64 << 10 // bytes of one random_get
)

// wasiCall is a function of WASI preview 1 that the ABI describes.
type wasiCall struct {
	name   string
	params string
	run    func(*call) errno
}

var wasiCalls = [...]wasiCall{
	{"fd_write", "iiii", (*call).fdWrite},
	{"clock_time_get", "ili", (*call).clockTime},
	{"random_get", "ii", (*call).random},
	{"environ_sizes_get", "ii", (*call).environSizes},
	{"environ_get", "ii", (*call).environ},
	{"args_sizes_get", "ii", (*call).argsSizes},
	{"args_get", "ii", func(*call) errno { return errnoSuccess }},
}

// instantiateWASI offers all of WASI preview 1, so that modules of any tool chain link. The engine's
// functions have no files, sockets or real sleep here; the ones above take the place of the rest.
func (f *Filter) instantiateWASI(ctx context.Context) error {
	b := f.runtime.NewHostModuleBuilder(wasi_snapshot_preview1.ModuleName)
	wasi_snapshot_preview1.NewFunctionExporter().ExportFunctions(b)
	for _, w := range wasiCalls {
		run := func(ctx context.Context, guest api.Module, stack []uint64) {
			f.overdue()
			stack[0] = uint64(w.run(&call{ctx: ctx, f: f, vm: f.vm, guest: guest, args: stack}))
		}
		b.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(run), types(w.params), types("i")).Export(w.name)
	}
	_, err := b.Instantiate(ctx)
	return err
}

// fdWrite (fd, vectors, count, return length) logs each line that goes to standard output or error.
func (c *call) fdWrite() errno {
	fd, vectors, count := c.u32(0), c.u32(1), c.u32(2)
	if fd != 1 && fd != 2 {
		return errnoBadf
	}
	if count > 1024 {
		return errnoInval
	}
	table, ok := c.viewOf(vectors, 8*count)
	if _, cell := c.cell(3); !ok || !cell {
		return errnoFault
	}
	var text []byte
	var total uint64
	for ; len(table) > 0; table = table[8:] {
		part, ok := c.viewOf(binary.LittleEndian.Uint32(table), binary.LittleEndian.Uint32(table[4:]))
		if !ok {
			return errnoFault
		}
		total += uint64(len(part))
		text = append(text, part[:min(len(part), maxWrite-len(text))]...)
	}
	if total > 1<<31-1 {
		return errnoInval
	}
	for line := range bytes.Lines(text) {
		c.f.log.add(bytes.TrimRight(line, "\r\n"))
	}
	c.putU32(3, uint32(total))
	return errnoSuccess
}

// clockTime (clock, precision, return time).
func (c *call) clockTime() errno {
	var value uint64
	switch c.u32(0) {
	case 0:
		value = uint64(time.Now().UnixNano())
	case 1:
		value = uint64(time.Since(c.f.born).Nanoseconds())
	default:
		return errnoNotsup
	}
	if m := c.memory(); m == nil || !m.WriteUint64Le(c.u32(2), value) {
		return errnoFault
	}
	return errnoSuccess
}

// random (buffer, length).
func (c *call) random() errno {
	if c.u32(1) > maxRandom {
		return errnoInval
	}
	buffer, ok := c.view(0)
	if !ok {
		return errnoFault
	}
	_, _ = rand.Read(buffer) // never fails
	return errnoSuccess
}

// environment is what the guest may see of the host's: nothing.
func (c *call) environment() []string {
	if c.f.on(defect.SandboxProxyEnvironment) {
		return os.Environ()
	}
	return nil
}

// environSizes (return count, return bytes).
func (c *call) environSizes() errno {
	size := 0
	for _, variable := range c.environment() {
		size += len(variable) + 1
	}
	return c.sizes(uint32(len(c.environment())), uint32(size))
}

// argsSizes (return count, return bytes).
func (c *call) argsSizes() errno { return c.sizes(0, 0) }

// sizes writes both results, or none.
func (c *call) sizes(count, size uint32) errno {
	first, ok1 := c.cell(0)
	second, ok2 := c.cell(1)
	if !ok1 || !ok2 {
		return errnoFault
	}
	binary.LittleEndian.PutUint32(first, count)
	binary.LittleEndian.PutUint32(second, size)
	return errnoSuccess
}

// environ (return pointers, return bytes).
func (c *call) environ() errno {
	table, at := c.u32(0), c.u32(1)
	if _, ok := c.viewOf(table, uint32(4*len(c.environment()))); !ok {
		return errnoFault
	}
	if _, ok := c.viewOf(at, 0); !ok {
		return errnoFault
	}
	for i, variable := range c.environment() {
		into, ok := c.viewOf(at, uint32(len(variable)+1))
		if !ok {
			return errnoFault
		}
		into[copy(into, variable)] = 0
		if !c.memory().WriteUint32Le(table+uint32(4*i), at) {
			return errnoFault
		}
		at += uint32(len(into))
	}
	return errnoSuccess
}
