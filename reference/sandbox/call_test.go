package sandbox

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/fixtures/wasm"
	"github.com/assay-bench/assay/reference/defect"
)

var engines = []Engine{Compiler, Interpreter}

// Every case is given twice to the same module: the second time its instance has served before, unless a
// trap or growth discarded it.
func TestCasesFreshAndPooled(t *testing.T) {
	t.Parallel()
	for _, e := range engines {
		t.Run(string(e), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, Config{Models: linear43()})
			published := map[string]bool{}
			seen, pooled := 0, 0
			for range 2 {
				for _, c := range wasm.Cases() {
					if strings.HasPrefix(c.Guest, "proxy-") || c.Guest == "echo-go" ||
						raceEnabled && e == Interpreter && c.Guest == "slow-start" { // longer than a second under the race detector
						continue
					}
					if !published[c.Guest] {
						r.publish("enterprise", c.Guest, Upload{Engine: e})
						published[c.Guest] = true
					}
					a, err := r.call("enterprise", c.Guest, c.Function, c.Args...)
					seen++
					if a.Pooled {
						pooled++
					}
					if c.Trap != "" {
						if got := class(t, err); got != c.Trap {
							t.Errorf("%s %s %v: class %s, want %s (%v)", c.Guest, c.Function, c.Args, got, c.Trap, err)
						}
						continue
					}
					if err != nil || !slices.Equal(a.Results, c.Results) {
						t.Errorf("%s %s %v: %v %v, want %v", c.Guest, c.Function, c.Args, a.Results, err, c.Results)
					}
				}
			}
			if seen < 200 || pooled < seen/4 {
				t.Fatalf("%d cases, %d pooled: this test proves little", seen, pooled)
			}
		})
	}
}

func TestGoReactor(t *testing.T) {
	if !slices.Contains(wasm.Names(), "echo-go") {
		t.Fatal("no guest echo-go")
	}
	r := newRig(t, Config{})
	first := r.publish("enterprise", "echo-go", Upload{ABI: Buffer})
	if first.CompiledFromCache {
		t.Error("the first compilation came from the cache")
	}
	for range 2 {
		if got := r.result("enterprise", "echo-go", "fib", "20"); got != "6765" {
			t.Fatalf("fib(20) = %s", got)
		}
	}
	again := r.publish("enterprise", "echo-go", Upload{ABI: Buffer})
	if !again.CompiledFromCache {
		t.Error("the second compilation did not come from the cache")
	}
	a, err := r.Invoke(t.Context(), "enterprise", "echo-go", Call{Function: "echo", Input: []byte("hello")})
	if err != nil || string(a.Output) != "hello" {
		t.Errorf("echo: %q, %v", a.Output, err)
	}
}

func TestBufferABI(t *testing.T) {
	large := strings.Repeat("Ab", 30_000)
	if raceEnabled {
		large = large[:6_000] // the interpreter is slow enough to run into its quota
	}
	for _, e := range engines {
		r := newRig(t, Config{})
		r.publish("pro", "echo-c", Upload{ABI: Buffer, Engine: e})
		call := func(function string, input []byte) (Answer, error) {
			return r.Invoke(t.Context(), "pro", "echo-c", Call{Function: function, Input: input})
		}
		for _, input := range []string{"", "x", large} {
			a, err := call("upper", []byte(input))
			if err != nil || string(a.Output) != strings.ToUpper(input) {
				t.Errorf("%s: upper of %d bytes: %d bytes, %v", e, len(input), len(a.Output), err)
			}
		}
		before, err := call("echo", []byte("a"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = call("fail", []byte("a"))
		trap, ok := errors.AsType[*Trap](err)
		if !ok || trap.Class != ClassGuest || trap.Text != "refused by the guest" {
			t.Errorf("%s: error text: %v", e, err)
		}
		after, err := call("echo", []byte("b"))
		if err != nil || after.Instance != before.Instance {
			t.Errorf("%s: an error text discarded the instance: %v", e, err)
		}
		if _, err = call("wild", []byte("a")); class(t, err) != ClassMemory {
			t.Errorf("%s: wild output: %v", e, err)
		}
		if _, err = call("echo", make([]byte, 200<<10)); class(t, err) != ClassQuota {
			t.Errorf("%s: no room: %v", e, err)
		}
		if _, err = call("absent", nil); !errors.Is(err, ErrUnknown) {
			t.Errorf("%s: absent function: %v", e, err)
		}
	}
}

func TestViewFresh(t *testing.T) {
	grown := func(cfg Config, function string) string {
		r := newRig(t, cfg)
		r.publish("pro", "view", Upload{ABI: Buffer})
		a, err := r.Invoke(t.Context(), "pro", "view", Call{Function: function, Input: []byte("x")})
		if err != nil {
			t.Fatal(err)
		}
		return string(a.Output)
	}
	for _, f := range []string{"grow_and_write", "grow_high"} {
		if got := grown(Config{}, f); got != "\x4d" {
			t.Errorf("%s: %q", f, got)
		}
		if got := grown(bad(defect.SandboxViewStale), f); got == "\x4d" {
			t.Errorf("%s: the stale view has the new byte", f)
		}
	}
}

func TestStream(t *testing.T) {
	r := newRig(t, Config{})
	r.publish("free", "echo-c", Upload{ABI: Buffer})
	in := bytes.Repeat([]byte("streamed "), 500_000)
	var out bytes.Buffer
	if err := r.Stream(t.Context(), "free", "echo-c", "upper", iotest.HalfReader(bytes.NewReader(in)), &out); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), bytes.ToUpper(in)) {
		t.Errorf("%d bytes came back, want %d", out.Len(), len(in))
	}
	broken := errors.New("broken")
	if err := r.Stream(t.Context(), "free", "echo-c", "upper", iotest.ErrReader(broken), &out); !errors.Is(err, broken) {
		t.Errorf("broken input: %v", err)
	}
	if err := r.Stream(t.Context(), "free", "echo-c", "fail", strings.NewReader("x"), &out); class(t, err) != ClassGuest {
		t.Errorf("refusing guest: %v", err)
	}
	if n := r.Stats().Tenants["free"].Running; n != 0 {
		t.Errorf("%d calls run after the streams", n)
	}
}

func TestArguments(t *testing.T) {
	r := newRig(t, Config{})
	r.publish("free", "fib", Upload{})
	for _, args := range [][]string{nil, {"1", "2"}, {"x"}, {"4294967296"}, {"-2147483649"}, {"1.5"}, {""}} {
		if _, err := r.call("free", "fib", "fib", args...); !errors.Is(err, ErrArguments) {
			t.Errorf("%q: %v", args, err)
		}
	}
	for _, name := range []string{"absent", "memory", "__assay_start", "__assay_fuel", ""} {
		if _, err := r.call("free", "fib", name); !errors.Is(err, ErrUnknown) {
			t.Errorf("function %q: %v", name, err)
		}
	}
	if _, err := r.call("free", "absent", "fib", "1"); !errors.Is(err, ErrUnknown) {
		t.Errorf("module: %v", err)
	}
	if _, err := r.call("nobody", "fib", "fib", "1"); !errors.Is(err, ErrUnknown) {
		t.Errorf("tenant: %v", err)
	}
}

func TestRun(t *testing.T) {
	for _, e := range engines {
		var out bytes.Buffer
		o := RunOptions{Engine: e, Module: wasm.Module("fib"), Function: "fib", Args: []string{"24"}}
		if err := Run(t.Context(), o, &out); err != nil || out.String() != "46368\n" {
			t.Errorf("%s: %q, %v", e, out.String(), err)
		}
		out.Reset()
		o.Module, o.Function, o.Args = wasm.Module("traps"), "t_div_zero", nil
		if err := Run(t.Context(), o, &out); class(t, err) != ClassDivide || out.Len() != 0 {
			t.Errorf("%s: %q, %v", e, out.String(), err)
		}
		o.Module = wasm.Module("truncated")
		if err := Run(t.Context(), o, &out); step(t, err) != StepStructure {
			t.Errorf("%s: %v", e, err)
		}
	}
	o := RunOptions{Module: wasm.Module("fib"), Function: "fib", Args: []string{"1"}, Defects: defect.Of(defect.SandboxRunAbsent)}
	if err := Run(t.Context(), o, &bytes.Buffer{}); err == nil {
		t.Error("it runs though it is absent")
	}
}

func TestModelGuest(t *testing.T) {
	r := newRig(t, Config{Models: linear43()})
	for _, tenant := range []string{"free", "pro"} {
		r.publish(tenant, "nn", Upload{})
		if got := r.result(tenant, "nn", "roundtrip"); got != "0" {
			t.Errorf("%s: roundtrip: errno %s", tenant, got)
		}
	}
	if got := r.result("free", "nn", "load_bytes"); got != "6" {
		t.Errorf("free: load_bytes: errno %s, want 6", got)
	}
	if n := r.Stats().ParserCalls; n != 0 {
		t.Errorf("the parser ran %d times for the free tenant", n)
	}
	if got := r.result("pro", "nn", "open_graph"); strings.HasPrefix(got, "-") {
		t.Fatalf("open_graph: %s", got)
	}
	if got := r.result("pro", "nn", "use_graph", "0"); got == "0" {
		t.Error("a handle of an earlier call is good")
	}
}

func TestCallEndsWithItsCaller(t *testing.T) {
	r := newRig(t, Config{})
	r.publish("enterprise", "spin", Upload{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := r.Invoke(ctx, "enterprise", "spin", Call{Function: "spin"})
	if class(t, err) != ClassDeadline {
		t.Errorf("cancelled call: %v", err)
	}
}

func TestFuelDeterministic(t *testing.T) {
	measure := func(r *rig, e Engine) int64 {
		r.publish("enterprise", "fib", Upload{Engine: e})
		var fuel int64
		for n := range 10 {
			a, err := r.call("enterprise", "fib", "fib", "21")
			if err != nil {
				t.Fatal(err)
			}
			if n > 0 && a.Fuel != fuel {
				t.Errorf("%s: call %d used %d units, the first %d", e, n, a.Fuel, fuel)
			}
			fuel = a.Fuel
		}
		return fuel
	}
	r := newRig(t, Config{})
	compiled, interpreted := measure(r, Compiler), measure(r, Interpreter)
	if compiled < fuelSlice || compiled != interpreted {
		t.Errorf("compiled %d units, interpreted %d", compiled, interpreted)
	}
	r = newRig(t, bad(defect.SandboxFuelRandom))
	r.publish("enterprise", "fib", Upload{})
	used := map[int64]bool{}
	for range 10 {
		a, err := r.call("enterprise", "fib", "fib", "5")
		if err != nil {
			t.Fatal(err)
		}
		used[a.Fuel] = true
	}
	if len(used) < 2 {
		t.Error("random fuel is not")
	}
}

func FuzzValue(f *testing.F) {
	f.Add("1")
	f.Add("-2147483648")
	f.Add("18446744073709551615")
	f.Add("nan")
	f.Add("1e400")
	f.Fuzz(func(t *testing.T, text string) {
		for _, k := range valueTypes {
			v, err := parseValue(k.kind, text)
			if err != nil {
				if !errors.Is(err, ErrArguments) {
					t.Errorf("%s %q: %v", k.name, text, err)
				}
				continue
			}
			again, err := parseValue(k.kind, formatValue(k.kind, v))
			if err != nil || again != v && formatValue(k.kind, v) != "nan" {
				t.Errorf("%s %q: %s reads as %d, want %d (%v)", k.name, text, formatValue(k.kind, v), again, v, err)
			}
		}
	})
}

func FuzzMutates(f *testing.F) {
	for _, name := range []string{"secret", "traps", "huge-length", "truncated", "vector"} {
		f.Add(wasm.Module(name))
	}
	f.Fuzz(func(t *testing.T, module []byte) { mutates(module) })
}

// FuzzUpload looks for a module that ends the process or is served in spite of a wrong answer.
func FuzzUpload(f *testing.F) {
	for _, name := range []string{"fib", "truncated", "table-bomb", "start-small", "forged-fuel"} {
		f.Add(wasm.Module(name))
	}
	f.Fuzz(func(t *testing.T, module []byte) {
		err := Run(t.Context(), RunOptions{Engine: Interpreter, Module: module, Function: "f", Tier: Free}, &bytes.Buffer{})
		if err == nil {
			return
		}
		_, refused := errors.AsType[*Refusal](err)
		_, trapped := errors.AsType[*Trap](err)
		if !refused && !trapped && !errors.Is(err, ErrUnknown) && !errors.Is(err, ErrArguments) {
			t.Errorf("an error without a kind: %v", err)
		}
	})
}

func TestMutates(t *testing.T) {
	want := map[string]bool{"secret": true, "fib": false, "traps": false, "echo-c": false, "vector": false, "storage": true}
	got := map[string]bool{}
	for name := range want {
		got[name] = mutates(wasm.Module(name))
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestFormat(t *testing.T) {
	r := newRig(t, Config{})
	r.publish("free", "bounds", Upload{})
	if got := r.result("free", "bounds", "host_ok"); got != strconv.Itoa(0x41414141) {
		t.Errorf("host_ok = %s", got)
	}
}
