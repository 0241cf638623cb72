package nn

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/tetratelabs/wazero"
)

var approximately = cmpopts.EquateApprox(0, 1e-5)

func TestRoundTrip(t *testing.T) {
	onBoth(t, func(t *testing.T, config wazero.RuntimeConfig) {
		s := serve(t, config)
		g := s.guest(t, Policy{})
		ctx := g.context()
		g.tensor(atData, []uint32{1, 4}, 1, 2, 3, 4)
		g.want(Success, "set_input", ctx, 0, atTensor)
		g.floats(atData, 9, 9, 9, 9) // set_input took its copy
		g.want(Success, "compute", ctx)
		g.want(Success, "get_output", ctx, 0, atOut, 12, atWrote)
		if diff := cmp.Diff([]float32{3, 7, 11}, g.output(3), approximately); diff != "" || g.word(atWrote) != 12 {
			t.Errorf("%d bytes, %s", g.word(atWrote), diff)
		}
		if s.counters.Computes.Load() != 1 || s.counters.InputCopies.Load() != 1 || s.counters.InputViews.Load() != 0 {
			t.Errorf("counters: %d runs, %d copies, %d views", s.counters.Computes.Load(), s.counters.InputCopies.Load(), s.counters.InputViews.Load())
		}
	})
}

// TestInputViews covers the reading in place: at compute, after growth, aligned or not, and out of range.
func TestInputViews(t *testing.T) {
	onBoth(t, func(t *testing.T, config wazero.RuntimeConfig) {
		s := serve(t, config)
		g := s.guest(t, Policy{ViewInputs: true})
		ctx := g.context()
		for _, at := range []uint32{atData, atData + 1} {
			g.tensor(at, []uint32{1, 4}, 9, 9, 9, 9)
			g.want(Success, "set_input", ctx, 0, atTensor)
			g.call("grow", 1)
			g.floats(at, 1, 2, 3, 4)
			g.want(Success, "compute", ctx)
			g.want(Success, "get_output", ctx, 0, atOut, 12, atWrote)
			if diff := cmp.Diff([]float32{3, 7, 11}, g.output(3), approximately); diff != "" {
				t.Error(diff)
			}
		}
		if v, c := s.counters.InputViews.Load(), s.counters.InputCopies.Load(); v != 1 || c != 1 {
			t.Errorf("%d views and %d copies, want the aligned one viewed and the other copied", v, c)
		}
	})
}

// badCall is a call that must be refused, after the set-up of ready.
type badCall struct {
	what string
	name string
	args []uint32
	want Errno
}

const (
	past  = page - 2 // an address whose four bytes end outside
	wild  = 0xffff_fff0
	wrong = 77
)

// badCalls are made on a guest whose graph and context are both 1, whose tensor record is good, and whose
// policy allows everything.
var badCalls = []badCall{
	{"name past the end", "load_by_name", []uint32{page - 4, 10, atGraph}, MissingMemory},
	{"name wraps", "load_by_name", []uint32{wild, 0x20, atGraph}, MissingMemory},
	{"name of 4 GiB", "load_by_name", []uint32{0, 0xffff_ffff, atGraph}, MissingMemory},
	{"long name", "load_by_name", []uint32{0, page, atGraph}, NotFound},
	{"empty name", "load_by_name", []uint32{atName, 0, atGraph}, NotFound},
	{"unknown name", "load_by_name", []uint32{atName, 3, atGraph}, NotFound},
	{"out past the end", "load_by_name", []uint32{atName, 10, past}, MissingMemory},

	{"encoding", "load", []uint32{atModel, 1, 6, 0, atGraph}, InvalidEncoding},
	{"onnx", "load", []uint32{atModel, 1, 1, 0, atGraph}, InvalidEncoding},
	{"openvino", "load", []uint32{atModel, 1, 0, 0, atGraph}, InvalidEncoding},
	{"no model", "load", []uint32{atModel, 1, 5, 0, atGraph}, InvalidEncoding},
	{"target", "load", []uint32{atModel, 1, 5, 3, atGraph}, InvalidArgument},
	{"gpu", "load", []uint32{atModel, 1, 5, 1, atGraph}, UnsupportedOperation},
	{"no builders", "load", []uint32{atModel, 0, 5, 0, atGraph}, InvalidArgument},
	{"many builders", "load", []uint32{atModel, 17, 5, 0, atGraph}, TooLarge},
	{"2^32-1 builders", "load", []uint32{atModel, 0xffff_ffff, 5, 0, atGraph}, TooLarge},
	{"builders past the end", "load", []uint32{page - 4, 1, 5, 0, atGraph}, MissingMemory},
	{"builder's bytes past the end", "load", []uint32{atModel + 8, 1, 5, 0, atGraph}, MissingMemory},
	{"model's out past the end", "load", []uint32{atModel, 1, 5, 0, past}, MissingMemory},

	{"graph", "init_execution_context", []uint32{wrong, atCtx}, InvalidArgument},
	{"graph 0", "init_execution_context", []uint32{0, atCtx}, InvalidArgument},
	{"graph -1", "init_execution_context", []uint32{0xffff_ffff, atCtx}, InvalidArgument},
	{"context's out", "init_execution_context", []uint32{1, past}, MissingMemory},

	{"set_input context", "set_input", []uint32{wrong, 0, atTensor}, InvalidArgument},
	{"input index", "set_input", []uint32{1, 1, atTensor}, InvalidArgument},
	{"input index -1", "set_input", []uint32{1, 0xffff_ffff, atTensor}, InvalidArgument},
	{"record past the end", "set_input", []uint32{1, 0, page - 19}, MissingMemory},
	{"record wraps", "set_input", []uint32{1, 0, wild}, MissingMemory},

	{"compute context", "compute", []uint32{wrong}, InvalidArgument},
	{"compute without input", "compute", []uint32{1}, InvalidArgument},

	{"get_output context", "get_output", []uint32{wrong, 0, atOut, 12, atWrote}, InvalidArgument},
	{"output index", "get_output", []uint32{1, 1, atOut, 12, atWrote}, InvalidArgument},
	{"output before compute", "get_output", []uint32{1, 0, atOut, 12, atWrote}, RuntimeError},
}

func TestBadCalls(t *testing.T) {
	onBoth(t, func(t *testing.T, config wazero.RuntimeConfig) {
		s := serve(t, config)
		seen := 0
		for _, c := range badCalls {
			seen++
			t.Run(c.what, func(t *testing.T) {
				g := s.guest(t, Policy{LoadBytes: true})
				g.context()
				g.tensor(atData, []uint32{1, 4}, 1, 2, 3, 4)
				g.words(atModel, 0, 16, 0, page+1)
				before := g.state.Usage()
				g.want(c.want, c.name, c.args...)
				if diff := cmp.Diff(before, g.state.Usage()); diff != "" {
					t.Errorf("a refused call left something behind: %s", diff)
				}
			})
		}
		if seen == 0 {
			t.Fatal("no cases")
		}
	})
}

func TestBadTensors(t *testing.T) {
	onBoth(t, func(t *testing.T, config wazero.RuntimeConfig) {
		g := serve(t, config).guest(t, Policy{})
		ctx := g.context()
		cases := []struct {
			what   string
			dims   []uint32
			record [tensorWords]uint32
			want   Errno
		}{
			{"data too short", []uint32{1, 4}, [5]uint32{atDims, 2, 1, atData, 12}, InvalidArgument},
			{"data too long", []uint32{1, 4}, [5]uint32{atDims, 2, 1, atData, 20}, InvalidArgument},
			{"another shape", []uint32{4, 1}, [5]uint32{atDims, 2, 1, atData, 16}, InvalidArgument},
			{"another rank", []uint32{4}, [5]uint32{atDims, 1, 1, atData, 16}, InvalidArgument},
			{"scalar", nil, [5]uint32{atDims, 0, 1, atData, 4}, InvalidArgument},
			{"nothing", nil, [5]uint32{}, InvalidArgument},
			{"zero dimension", []uint32{0, 4}, [5]uint32{atDims, 2, 1, atData, 0}, InvalidArgument},
			{"product overflows 32 bits", []uint32{1 << 30, 4}, [5]uint32{atDims, 2, 1, atData, 0}, InvalidArgument},
			{"product overflows 64 bits", []uint32{1 << 31, 1 << 31, 4}, [5]uint32{atDims, 3, 1, atData, 0}, InvalidArgument},
			{"rank 9", nil, [5]uint32{atDims, 9, 1, atData, 16}, InvalidArgument},
			{"rank 2^30", nil, [5]uint32{atDims, 1 << 30, 1, atData, 16}, InvalidArgument},
			{"dimensions past the end", nil, [5]uint32{page - 4, 2, 1, atData, 16}, MissingMemory},
			{"data past the end", []uint32{1, 4}, [5]uint32{atDims, 2, 1, page - 12, 16}, MissingMemory},
			{"data wraps", []uint32{1, 4}, [5]uint32{atDims, 2, 1, wild, 16}, MissingMemory},
			{"f16", []uint32{1, 4}, [5]uint32{atDims, 2, 0, atData, 8}, UnsupportedOperation},
			{"u8", []uint32{1, 4}, [5]uint32{atDims, 2, 3, atData, 4}, UnsupportedOperation},
			{"i64", []uint32{1, 4}, [5]uint32{atDims, 2, 5, atData, 32}, UnsupportedOperation},
			{"u8 of the wrong length", []uint32{1, 4}, [5]uint32{atDims, 2, 3, atData, 16}, InvalidArgument},
			{"unknown type", []uint32{1, 4}, [5]uint32{atDims, 2, 6, atData, 16}, InvalidArgument},
			{"padding is not read", []uint32{1, 4}, [5]uint32{atDims, 2, 0xabcdef01, atData, 16}, Success},
			{"the very end", []uint32{1, 4}, [5]uint32{atDims, 2, 1, page - 16, 16}, Success},
		}
		seen := 0
		for _, c := range cases {
			seen++
			g.words(atDims, c.dims...)
			g.words(atTensor, c.record[:]...)
			if got := g.call("set_input", ctx, 0, atTensor); got != c.want {
				t.Errorf("%s: %v, want %v", c.what, got, c.want)
			}
		}
		if seen == 0 {
			t.Fatal("no cases")
		}
	})
}

// computed returns a guest with a result to get.
func computed(t *testing.T, s *server) (*guest, uint32) {
	t.Helper()
	g := s.guest(t, Policy{})
	ctx := g.context()
	g.tensor(atData, []uint32{1, 4}, 1, 2, 3, 4)
	g.want(Success, "set_input", ctx, 0, atTensor)
	g.want(Success, "compute", ctx)
	return g, ctx
}

func TestOutputs(t *testing.T) {
	onBoth(t, func(t *testing.T, config wazero.RuntimeConfig) {
		g, ctx := computed(t, serve(t, config))
		for i := range uint32(8) {
			g.words(atOut+4*i, 0xa5a5a5a5)
		}
		g.words(atWrote, 0xa5a5a5a5)
		cases := []struct {
			out, size, written uint32
			want               Errno
		}{
			{atOut, 0, atWrote, TooLarge},
			{atOut, 11, atWrote, TooLarge},
			{page - 8, 12, atWrote, MissingMemory},
			{wild, 12, atWrote, MissingMemory},
			{atOut, 12, past, MissingMemory},
			{atOut, 12, wild, MissingMemory},
		}
		seen := 0
		for _, c := range cases {
			seen++
			g.want(c.want, "get_output", ctx, 0, c.out, c.size, c.written)
			for _, p := range []uint32{atOut, atOut + 4, atOut + 8, atWrote} {
				if w := g.word(p); w != 0xa5a5a5a5 {
					t.Errorf("%+v wrote %#x at %d", c, w, p)
				}
			}
		}
		if seen == 0 {
			t.Fatal("no cases")
		}
		g.want(Success, "get_output", ctx, 0, atOut, 1000, atWrote)
		if w := g.word(atOut + 12); w != 0xa5a5a5a5 {
			t.Errorf("wrote %#x after the result", w)
		}
	})
}

func TestLoadBytes(t *testing.T) {
	model := []byte(`{"name":"m","layers":[{"weights":[[2],[3]]}]}`)
	onBoth(t, func(t *testing.T, config wazero.RuntimeConfig) {
		s := serve(t, config)
		free := s.guest(t, Policy{})
		for encoding := range uint32(6) {
			free.want(UnsupportedOperation, "load", atModel, 1, encoding, 0, atGraph)
		}
		if n := s.counters.ParserCalls.Load(); n != 0 {
			t.Errorf("the parser was called %d times", n)
		}
		pro := s.guest(t, Policy{LoadBytes: true})
		pro.put(atModel+16, model)
		pro.words(atModel, atModel+16, 10, atModel+26, uint32(len(model))-10)
		pro.want(Success, "load", atModel, 2, 5, 0, atGraph)
		pro.want(InvalidEncoding, "load", atModel, 2, 1, 0, atGraph)
		if n := s.counters.ParserCalls.Load(); n != 2 {
			t.Errorf("the parser was called %d times", n)
		}
		if u := pro.state.Usage(); u.Bytes != graphBytes+4*3 {
			t.Errorf("%d bytes are charged", u.Bytes)
		}
		pro.want(Success, "init_execution_context", pro.word(atGraph), atCtx)
		pro.tensor(atData, []uint32{1, 2}, 5, 7)
		pro.want(Success, "set_input", pro.word(atCtx), 0, atTensor)
		pro.want(Success, "compute", pro.word(atCtx))
		pro.want(Success, "get_output", pro.word(atCtx), 0, atOut, 4, atWrote)
		if got := pro.output(1)[0]; got != 31 {
			t.Errorf("result = %v", got)
		}
		ragged := []byte(`{"name":"m","layers":[{"weights":[[2],[3,4]]}]}`)
		pro.put(atModel+16, ragged)
		pro.words(atModel, atModel+16, uint32(len(ragged)))
		pro.want(InvalidArgument, "load", atModel, 1, 5, 0, atGraph)
	})
}

func TestLimits(t *testing.T) {
	onBoth(t, func(t *testing.T, config wazero.RuntimeConfig) {
		s := serve(t, config)

		g := s.guest(t, Policy{MaxGraphs: 2, MaxContexts: 3})
		graph := g.graph()
		g.graph()
		g.want(Busy, "load_by_name", atName, uint32(len(theName)), atGraph)
		for range 3 {
			g.want(Success, "init_execution_context", graph, atCtx)
		}
		for range 1000 {
			g.want(Busy, "init_execution_context", graph, atCtx)
		}
		if diff := cmp.Diff(Usage{2, 3, 2*graphBytes + 3*contextBytes}, g.state.Usage()); diff != "" {
			t.Error(diff)
		}

		small := s.guest(t, Policy{MaxBytes: graphBytes + contextBytes + 16 + 8, LoadBytes: true})
		ctx := small.context()
		small.want(TooLarge, "init_execution_context", 1, atCtx)
		small.tensor(atData, []uint32{1, 4}, 1, 2, 3, 4)
		for range 10 { // replaced, not added
			small.want(Success, "set_input", ctx, 0, atTensor)
		}
		small.want(TooLarge, "compute", ctx) // 12 bytes of output, 8 are left
		small.words(atModel, 0, 9)
		small.want(TooLarge, "load", atModel, 1, 5, 0, atGraph)
		if got := small.state.Usage().Bytes; got != graphBytes+contextBytes+16 {
			t.Errorf("%d bytes after refusals", got)
		}
	})
}

func TestHandlesArePrivate(t *testing.T) {
	onBoth(t, func(t *testing.T, config wazero.RuntimeConfig) {
		s := serve(t, config)
		a, ctx := computed(t, s)
		b := s.guest(t, Policy{})
		b.want(InvalidArgument, "init_execution_context", 1, atCtx)
		b.want(InvalidArgument, "get_output", ctx, 0, atOut, 12, atWrote)
		a.state.Reset()
		a.want(InvalidArgument, "compute", ctx)
		if diff := cmp.Diff(Usage{}, a.state.Usage()); diff != "" {
			t.Error(diff)
		}
		if got := a.context(); got != ctx {
			t.Errorf("after Reset the first context is %d, of a fresh instance %d", got, ctx)
		}
	})
}

func TestCallsWithoutState(t *testing.T) {
	onBoth(t, func(t *testing.T, config wazero.RuntimeConfig) {
		g := serve(t, config).guest(t, Policy{})
		out, err := g.mod.ExportedFunction("compute").Call(context.Background(), 1)
		if err != nil || Errno(out[0]) != RuntimeError {
			t.Errorf("%v, %v", out, err)
		}
	})
}

// TestGuestWithoutMemory calls through a module that has none.
func TestGuestWithoutMemory(t *testing.T) {
	wasm := append([]byte("\x00asm\x01\x00\x00\x00"), section(1, [][]byte{{0x60, 1, 0x7f, 1, 0x7f}})...)
	wasm = append(wasm, section(2, [][]byte{append(append(text(ModuleName), text("compute")...), 0, 0)})...)
	wasm = append(wasm, section(3, [][]byte{{0}})...)
	wasm = append(wasm, section(7, [][]byte{append(text("compute"), 0, 1)})...)
	wasm = append(wasm, section(10, [][]byte{sized([]byte{0, 0x20, 0, 0x10, 0, 0x0b})})...)
	onBoth(t, func(t *testing.T, config wazero.RuntimeConfig) {
		s := serve(t, config)
		mod, err := s.runtime.InstantiateWithConfig(t.Context(), wasm, wazero.NewModuleConfig().WithName(""))
		if err != nil {
			t.Fatal(err)
		}
		out, err := mod.ExportedFunction("compute").Call(WithState(t.Context(), NewState(Policy{})), 1)
		if err != nil || Errno(out[0]) != MissingMemory {
			t.Errorf("%v, %v", out, err)
		}
	})
}

func TestInstantiateTwice(t *testing.T) {
	s := serve(t, wazero.NewRuntimeConfigInterpreter())
	if err := Instantiate(t.Context(), s.runtime, Host{}); err == nil || !strings.Contains(err.Error(), ModuleName) {
		t.Errorf("err = %v", err)
	}
}

func TestErrnoNames(t *testing.T) {
	if got := fmt.Sprint(Success, NotFound, Errno(9)); got != "success not_found errno(9)" {
		t.Error(got)
	}
}

func TestCopiedWithoutAlignment(t *testing.T) {
	b := binary.LittleEndian.AppendUint32([]byte{0}, 0x3f800000)
	if got := copied(b[1:]); len(got) != 1 || got[0] != 1 {
		t.Errorf("%v", got)
	}
}
