package onnx

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
)

func sample() *Model {
	return &Model{
		IR: IRVersion, Opset: Opset, Producer: "assay", Metadata: map[string]string{"b": "2", "a": "1", "": "ü"},
		Graph: Graph{
			Name: "g",
			Nodes: []Node{
				{Op: "Gather", Name: "n", Inputs: []string{"e", "ids"}, Outputs: []string{"rows"}, Attributes: []Attribute{Int("axis", 0)}},
				{Op: "Odd", Domain: "org.example", Inputs: []string{"", "rows"}, Outputs: []string{"y"}, Attributes: []Attribute{Flt("alpha", 0.5), Ints("axes", -1, 2)}},
			},
			Initializers: []Tensor{
				Floats("e", []float32{1, -2, 3, 4}, 2, 2), Halves("h", []uint16{0x3c00}, 1), Bytes("q", []int8{-128, 127}, 2), Longs("l", []int64{-1}), Floats("none", nil, 0, 3),
			},
			Inputs:  []Value{{Name: "ids", Type: Int64, Dims: []Dim{{Param: "n"}}}},
			Outputs: []Value{{Name: "y", Type: Float, Dims: []Dim{{Size: 1}, {Size: 2}}}},
		},
	}
}

func marshal(tb testing.TB, m *Model) []byte {
	tb.Helper()
	b, err := Marshal(m)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestReadsWhatItWrites(t *testing.T) {
	b := marshal(t, sample())
	got, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	want := sample()
	want.Graph.Initializers[4].Raw = []byte{}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for range 10 {
		if !bytes.Equal(b, marshal(t, got)) {
			t.Fatal("the second writing differs")
		}
	}
	e, _ := got.Graph.Initializer("e")
	floats, err := e.Floats()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]float32{1, -2, 3, 4}, floats); diff != "" {
		t.Error(diff)
	}
	if _, err := e.Longs(); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), `"e" is float, not int64`) {
		t.Errorf("a float tensor read as int64: %v", err)
	}
	if _, there := got.Graph.Initializer("f"); there {
		t.Error("found f")
	}
}

// TestBadModel is the part of router/onnx/bad-model that a file alone decides: truncated, oversized and
// foreign files are errors that say what and where.
func TestBadModel(t *testing.T) {
	b := marshal(t, sample())
	for n := range b {
		switch m, err := Parse(b[:n]); {
		case err != nil && !errors.Is(err, ErrFormat):
			t.Errorf("%d bytes: %v", n, err)
		case err == nil && len(m.Metadata) == 3: // cut between metadata it is a model with less of it: Seal finds that
			t.Errorf("the first %d of %d bytes are the whole model", n, len(b))
		}
	}
	edit := func(f func(*Model)) []byte {
		m := sample()
		f(m)
		var out message // Marshal itself refuses tensors that do not fit
		out.int(1, m.IR)
		out.sub(7, func(g *message) { g.graph(&m.Graph) })
		out.sub(8, func(o *message) { o.int(2, m.Opset) })
		return out
	}
	field := func(parent protowire.Number, f func(*message)) []byte {
		var out message
		out.sub(parent, f)
		return append(marshal(t, sample()), out...)
	}
	tensor := func(f func(*message)) []byte {
		return field(7, func(g *message) { g.sub(5, f) })
	}
	cases := []struct {
		name, want string
		bytes      []byte
	}{
		{"old", "IR version 2", edit(func(m *Model) { m.IR = 2 })},
		{"new opset", "operator set 22", edit(func(m *Model) { m.Opset = 22 })},
		{"no outputs", "no outputs", edit(func(m *Model) { m.Graph.Outputs = nil })},
		{"short tensor", `tensor "e": [2 2] elements of float take 16 bytes, there are 15`, edit(func(m *Model) { m.Graph.Initializers[0].Raw = make([]byte, 15) })},
		{"huge tensor", "too large", edit(func(m *Model) { m.Graph.Initializers[0].Dims = []int64{1 << 40, 1 << 40} })},
		{"negative", "too large", edit(func(m *Model) { m.Graph.Initializers[0].Dims = []int64{-1} })},
		{"type", `tensor "e" has elements of type 99`, edit(func(m *Model) { m.Graph.Initializers[0].Type = 99 })},
		{"rank", "too large: 9 integers", edit(func(m *Model) { m.Graph.Initializers[0].Dims = make([]int64, 9) })},
		{"twice", `initializer "e" is there twice`, edit(func(m *Model) { m.Graph.Initializers[1].Name = "e" })},
		{"long name", "too large", edit(func(m *Model) { m.Graph.Name = strings.Repeat("x", MaxString+1) })},
		{"no UTF-8", "no UTF-8", edit(func(m *Model) { m.Graph.Name = "\xff" })},
		{"nodes", "too large", edit(func(m *Model) { m.Graph.Nodes = make([]Node, MaxNodes+1) })},
		{"external data", "outside of the file", tensor(func(m *message) { m.text(8, "w"); m.int(14, 1) })},
		{"string data", "field 6 is not in use", tensor(func(m *message) { m.text(6, "s") })},
		{"sparse", "sparse", field(7, func(g *message) { g.text(15, "") })},
		{"function", "functions", field(25, func(*message) {})},
		{"subgraph", "subgraphs", field(7, func(g *message) {
			g.sub(1, func(n *message) { n.text(4, "If"); n.sub(5, func(a *message) { a.text(6, "") }) })
		})},
		{"wire type", "wire type", field(7, func(g *message) { g.int(1, 3) })},
		{"group", "wire type 3", append(marshal(t, sample()), 1<<3|3)},
		{"metadata twice", `metadata "a" is there twice`, field(14, func(p *message) { p.text(1, "a") })},
		{"no tensor", "no tensor", field(7, func(g *message) { g.sub(11, func(v *message) { v.sub(2, func(x *message) { x.text(4, "") }) }) })},
	}
	seen := 0
	for _, c := range cases {
		seen++
		if _, err := Parse(c.bytes); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: err = %v, want %q", c.name, err, c.want)
		}
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
}

// TestTypedData reads tensors whose producer stored the elements in typed fields.
func TestTypedData(t *testing.T) {
	b := marshal(t, sample())
	var more message
	more.sub(7, func(g *message) {
		g.sub(5, func(m *message) {
			m.bytes(1, []byte{2}) // dims, packed
			m.int(2, int64(Float))
			m.bytes(4, []byte{0, 0, 128, 63, 0, 0, 0, 64})
			m.text(8, "packed")
		})
		g.sub(5, func(m *message) {
			m.int(2, int64(Int64))
			m.bytes(7, protowire.AppendVarint(nil, 300))
			m.text(8, "scalar")
		})
	})
	m, err := Parse(append(b, more...))
	if err != nil {
		t.Fatal(err)
	}
	packed, _ := m.Graph.Initializer("packed")
	if v, err := packed.Floats(); err != nil || !cmp.Equal(v, []float32{1, 2}) {
		t.Errorf("packed: %v, %v", v, err)
	}
	scalar, _ := m.Graph.Initializer("scalar")
	if v, err := scalar.Longs(); err != nil || !cmp.Equal(v, []int64{300}) {
		t.Errorf("scalar: %v, %v", v, err)
	}
}

func TestMarshalRefuses(t *testing.T) {
	m := sample()
	m.Graph.Initializers[0].Raw = nil
	if _, err := Marshal(m); !errors.Is(err, ErrFormat) {
		t.Errorf("err = %v", err)
	}
}

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "m.onnx")
	if err := os.WriteFile(path, marshal(t, sample()), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFile(path); err != nil {
		t.Error(err)
	}
	if _, err := ReadFile(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := ReadFile(dir); !errors.Is(err, ErrFormat) {
		t.Errorf("a folder: %v", err)
	}
	huge, err := os.Create(filepath.Join(dir, "huge"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(huge.Truncate(MaxBytes+1), huge.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFile(huge.Name()); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a huge file: %v", err)
	}
}

// TestParseMemory holds that a hostile file takes at most a small multiple of its size.
func TestParseMemory(t *testing.T) {
	var nodes message
	nodes.sub(7, func(g *message) {
		for range MaxNodes {
			g.sub(1, func(n *message) {
				for range MaxPorts {
					n.text(1, "")
					n.text(2, "")
					n.sub(5, func(*message) {})
				}
			})
		}
	})
	zeros := binary.AppendUvarint(nil, 0)
	var longs message
	longs.sub(7, func(g *message) {
		g.sub(5, func(m *message) { m.bytes(7, bytes.Repeat(zeros, 1<<20)) })
	})
	for name, b := range map[string][]byte{"empty nodes": nodes, "typed longs": longs} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := Parse(b); err == nil {
			t.Errorf("%s: parsed", name)
		}
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > uint64(128*len(b)) {
			t.Errorf("%s: %d bytes took %d", name, len(b), got)
		} else {
			t.Logf("%s: %d bytes took %d", name, len(b), got)
		}
	}
}

func FuzzParse(f *testing.F) {
	b := marshal(f, sample())
	f.Add(b)
	f.Add(b[:len(b)/2])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Parse(b)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		once := marshal(t, m)
		again, err := Parse(once)
		if err != nil {
			t.Fatalf("what was read and written cannot be read: %v", err)
		}
		if !bytes.Equal(once, marshal(t, again)) {
			t.Fatal("the second writing differs")
		}
	})
}
