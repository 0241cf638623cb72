package proxywasm

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/tetratelabs/wazero/api"
)

const invokeArgs = 12 // most parameters of a host function

// invoke calls the host function with the given place in the table, for a stream or the plugin context.
func invoke(f *Filter, s *stream, fn int, args ...uint64) (uint32, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := append([]uint64{uint64(fn)}, make([]uint64, invokeArgs)...)
	copy(all[1:], args)
	v := f.vm
	v.active, v.began = s, time.Now()
	defer func() { v.active = nil }()
	out, err := v.guest.ExportedFunction("invoke").Call(context.Background(), all...)
	if err != nil {
		return 0, err
	}
	v.finalize()
	return api.DecodeU32(out[0]), nil
}

// hostile is a filter that calls what a test wants, with a stream in its request phase.
func hostile(tb testing.TB, interpreter bool) (*Filter, *stream) {
	f := load(tb, guest(tb, "invoke"), Options{Interpreter: interpreter, Configuration: []byte("configuration"), callLimit: time.Minute})
	tb.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = f.Close(ctx) // frees it with its open stream
	})
	s := newStream(fields{{keyMethod, "GET"}, {keyPath, "/"}, {keyAuthority, "a"}, {"x-in", "value"}}, "HTTP/1.1")
	if err := f.open(s); err != nil {
		tb.Fatal(err)
	}
	return f, s
}

func (f *Filter) memoryCopy() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.vm.guest.Memory()
	view, _ := m.Read(0, m.Size())
	return bytes.Clone(view)
}

var statuses = []uint32{0, 1, 2, 4, 6, 10, 12}
var errnos = []uint32{0, 8, 21, 28, 58}

// TestHostileArguments calls every host function with pointers and lengths at and past every edge: none
// may trap, and one that finds a bad pointer may change nothing.
func TestHostileArguments(t *testing.T) {
	edges := []uint64{0, 1, 2, 3, 4, 7, 16, 99, 4096, 65535, 1<<17 - 4, 1<<17 - 3, 1 << 17, 1<<31 - 1, 1 << 31, 1<<32 - 16, 1<<32 - 4, 1<<32 - 1}
	engines(t, func(t *testing.T, interpreter bool) {
		f, s := hostile(t, interpreter)
		r := rand.New(rand.NewPCG(1, 2))
		refusals := 0
		for fn := range len(hostCalls) + len(wasiCalls) {
			for range 80 {
				args := make([]uint64, invokeArgs)
				for i := range args {
					args[i] = edges[r.IntN(len(edges))]
				}
				setAllocator(t, f, uint32(edges[r.IntN(len(edges))]))
				before := f.memoryCopy()
				got, err := invoke(f, s, fn, args...)
				if err != nil {
					t.Fatalf("function %d with %x: %v", fn, args, err)
				}
				wasi := fn >= len(hostCalls)
				if !wasi && !slices.Contains(statuses, got) || wasi && !slices.Contains(errnos, got) {
					t.Fatalf("function %d with %x: result %d is none of the ABI's", fn, args, got)
				}
				if got != 0 {
					refusals++
					if !bytes.Equal(before, f.memoryCopy()) {
						t.Fatalf("function %d with %x: result %d and memory was written", fn, args, got)
					}
				}
				f.calm(s)
			}
		}
		if refusals == 0 {
			t.Error("nothing was refused")
		}
	})
}

// calm takes back what a call changed, so that the next one finds the same stream.
func (f *Filter) calm(s *stream) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.vm.setTick(0)
	s.local, s.reset = nil, false
	s.maps[mapRequestHeaders] = fields{{keyMethod, "GET"}, {"x-in", "value"}}
}

func setAllocator(tb testing.TB, f *Filter, at uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.vm.guest.ExportedFunction("set_allocator").Call(context.Background(), uint64(at)); err != nil {
		tb.Fatal(err)
	}
}

func FuzzHostCall(f *testing.F) {
	f.Add(uint8(12), uint32(4096), []byte("\x00\x00\x00\x00\xf0\xff\xff\xff"))
	f.Add(uint8(19), uint32(0), []byte("\xc8\x00\x00\x00\x00\x00\x00\x00\x04"))
	f.Add(uint8(39), uint32(1<<17), []byte("\x01\x00\x00\x00\xff\xff\xff\xff\xff"))
	f.Add(uint8(11), uint32(16), []byte("\x00\x00\x00\x00\x10\x00\x00\x00\x04"))
	filter, s := hostile(f, false)
	f.Fuzz(func(t *testing.T, fn uint8, allocator uint32, raw []byte) {
		args := make([]uint64, invokeArgs)
		for i := range args {
			for j := range 4 {
				if at := 4*i + j; at < len(raw) {
					args[i] |= uint64(raw[at]) << (8 * j)
				}
			}
		}
		setAllocator(t, filter, allocator)
		if _, err := invoke(filter, s, int(fn)%(len(hostCalls)+len(wasiCalls)), args...); err != nil {
			t.Fatalf("function %d with %x: %v", fn, args, err)
		}
		filter.calm(s)
	})
}

func FuzzPairs(f *testing.F) {
	for _, seed := range []string{"", "\x00", "\x00\x00\x00\x00", "\x01\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00a\x001\x00",
		"\x02\x00\x00\x00\x01\x00\x00\x00", "\xff\xff\xff\xff", "\x01\x00\x00\x00\xf0\xff\xff\xff\x01\x00\x00\x00a"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, c := range []codec{{order: little}, {order: bigOrder}} {
			pairs, err := c.decode(data)
			if err != nil {
				if pairs != nil {
					t.Errorf("%d pairs beside the error %v", len(pairs), err)
				}
				continue
			}
			again := c.encode(pairs)
			if len(pairs) == 0 && len(again) != 0 || len(pairs) > 0 && !bytes.Equal(again, data) {
				t.Errorf("decode and encode make %x of %x", again, data)
			}
			if c.size(pairs) != len(again) {
				t.Errorf("size %d of %d bytes", c.size(pairs), len(again))
			}
		}
		if _, err := (codec{order: little, lenient: true}).decode(data); err != nil && !errors.Is(err, errTooManyPairs) {
			t.Errorf("the lenient codec refuses %x: %v", data, err)
		}
	})
}
