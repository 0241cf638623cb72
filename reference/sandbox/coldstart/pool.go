package coldstart

import (
	"bytes"
	"context"
	"fmt"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/assay-bench/assay/reference/sandbox/rewrite"
)

// pooled is an instance that is used again after a reset of its memory and of all its mutable globals. Tables
// and dropped segments are not restored here, so it is for guests that change neither.
type pooled struct {
	stage    *stage
	compiled wazero.CompiledModule
	guest    *prepared
	mod      api.Module
	memory   []byte // as it was when the instance was fresh
	globals  []uint64
}

// resetChunk is what a reset compares before it copies: comparing is cheaper than copying for what did not
// change, and a write to an untouched page would make it resident.
const resetChunk = 4096

// replace puts a fresh instance in place of the present one, and remembers its state.
func (p *pooled) replace(ctx context.Context) error {
	if p.mod != nil {
		if err := p.mod.Close(ctx); err != nil {
			return err
		}
	}
	mod, err := p.stage.instantiate(ctx, p.compiled)
	if err != nil {
		return fmt.Errorf("guest %s: pool: %w", p.guest.Name, err)
	}
	p.mod, p.memory, p.globals = mod, bytes.Clone(linear(mod)), p.globals[:0]
	for _, name := range p.guest.globals {
		p.globals = append(p.globals, mod.ExportedGlobal(name).Get())
	}
	return nil
}

// grown reports whether the instance can not be reset: memory never shrinks.
func (p *pooled) grown() bool { return len(linear(p.mod)) != len(p.memory) }

// reset makes the instance what it was when it was fresh.
func (p *pooled) reset() {
	now := linear(p.mod)
	for at := 0; at < len(p.memory); at += resetChunk {
		end := min(at+resetChunk, len(p.memory))
		if want := p.memory[at:end]; !bytes.Equal(now[at:end], want) {
			copy(now[at:end], want)
		}
	}
	for i, name := range p.guest.globals {
		setGlobal(p.mod, name, p.globals[i])
	}
	setGlobal(p.mod, rewrite.FuelExport, fuelSlice)
	setGlobal(p.mod, rewrite.DepthExport, 0)
}

// linear returns a view of the instance's memory, empty where it has none that it exports.
func linear(m api.Module) []byte {
	if len(m.ExportedMemoryDefinitions()) == 0 {
		return nil
	}
	b, _ := m.Memory().Read(0, m.Memory().Size())
	return b
}
