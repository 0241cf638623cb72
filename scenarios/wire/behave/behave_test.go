package behave

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/fixtures/rpc"
	"github.com/assay-bench/assay/scenarios/wire/thrift"
)

func everything() Msg {
	return Msg{
		Tag: new("ok"), Body: "hi",
		Ops: []Op{
			{Kind: Delay, Millis: new(int64(20))},
			{Kind: Forward, Addresses: []string{"127.0.0.1:1"}, Then: []Op{{Kind: Throw, Code: new(int32(7)), Text: new("boom")}}},
			{Kind: Stream, Times: new(int32(3))},
		},
		Report: &Report{
			Count: new(int64(2)), Meta: map[string]string{"b": "2", "a": "1"}, DeadlineMillis: new(int64(-1)),
			Hops: []Report{{Cancelled: new(true)}, {}},
		},
		Node: &Node{Next: &Node{}, Numbers: []int64{1, -2}},
	}
}

func tree(t testing.TB, b []byte) thrift.Struct {
	t.Helper()
	s, n, err := thrift.ReadStruct(b)
	if err != nil || n != len(b) {
		t.Fatalf("read %d of %d bytes: %v", n, len(b), err)
	}
	return s
}

func TestRoundTrip(t *testing.T) {
	cases := map[string]Msg{
		"everything": everything(),
		"body only":  {Body: ""},
		"empty":      {Tag: new(""), Ops: []Op{}, Report: &Report{Meta: map[string]string{}, Hops: []Report{}}, Node: &Node{Numbers: []int64{}}},
	}
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
	for name, m := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := ReadArgs(tree(t, Args(m)))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(m, got); d != "" {
				t.Error(d)
			}
			r, err := ReadResult(tree(t, Result{Success: &m}.Encode()))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(Result{Success: &m}, r); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestGolden: the types agree with the golden frames, in both directions.
func TestGolden(t *testing.T) {
	golden, err := rpc.Golden()
	if err != nil {
		t.Fatal(err)
	}
	const head = 4 + 4 + len("Echo") + 4 // of an unframed message
	hi := Msg{Tag: new("ok"), Body: "hi"}
	for id, want := range map[string][]byte{
		"buffered-call":      Args(hi),
		"buffered-reply":     Result{Success: &hi}.Encode(),
		"declared-exception": Result{Fault: &Fault{Code: 7, Reason: "boom"}}.Encode(),
	} {
		v, err := rpc.Find(golden, id)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, v.Bytes[head:]); d != "" {
			t.Errorf("%s: %s", id, d)
		}
	}
}

func TestMalformed(t *testing.T) {
	str, i32 := thrift.Value{Type: thrift.String}, thrift.Value{Type: thrift.I32}
	obj := func(f ...thrift.Field) thrift.Value { return thrift.Value{Type: thrift.Object, Fields: f} }
	msg := func(f ...thrift.Field) thrift.Value {
		return obj(append([]thrift.Field{{ID: 2, Value: str}}, f...)...)
	}
	list := func(elem thrift.Type, items ...thrift.Value) thrift.Value {
		return thrift.Value{Type: thrift.List, Elem: elem, Items: items}
	}
	cases := []struct {
		name string
		s    thrift.Struct
		want string
	}{
		{"nothing", nil, "needs one of"},
		{"both", thrift.Struct{{ID: 0, Value: msg()}, {ID: 1, Value: obj()}}, "needs one of"},
		{"success is text", thrift.Struct{{ID: 0, Value: str}}, "Msg is string"},
		{"no body", thrift.Struct{{ID: 0, Value: obj()}}, "field 2 (body)"},
		{"body is i32", thrift.Struct{{ID: 0, Value: obj(thrift.Field{ID: 2, Value: i32})}}, "i32, want string"},
		{"op without kind", thrift.Struct{{ID: 0, Value: msg(thrift.Field{ID: 3, Value: list(thrift.Object, obj())})}}, "field 1 (kind)"},
		{"ops of text", thrift.Struct{{ID: 0, Value: msg(thrift.Field{ID: 3, Value: list(thrift.String, str)})}}, "list<string>, want list<struct>"},
		{"fault reason", thrift.Struct{{ID: 1, Value: obj(thrift.Field{ID: 2, Value: i32})}}, "Fault field 2"},
	}
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
	for _, c := range cases {
		if _, err := ReadResult(c.s); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error = %v, want one with %q", c.name, err, c.want)
		}
	}
	if _, err := ReadArgs(nil); err == nil {
		t.Error("arguments without a request were accepted")
	}
}

// FuzzResult: no input panics, and what was read writes back to the same meaning.
func FuzzResult(f *testing.F) {
	m := everything()
	f.Add(Result{Success: &m}.Encode())
	f.Add(Result{Fault: &Fault{Code: 7, Reason: "boom"}}.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		s, _, err := thrift.ReadStruct(b)
		if err != nil {
			return
		}
		r, err := ReadResult(s)
		if err != nil {
			return
		}
		again, err := ReadResult(tree(t, r.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(r, again); d != "" {
			t.Fatal(d)
		}
	})
}
