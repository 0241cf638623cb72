package results_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/assay-bench/assay/results"
)

func TestBytes(t *testing.T) {
	pattern := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(i * 7)
		}
		return b
	}
	for _, n := range []int{0, 1, results.MaxWhole} {
		in := pattern(n)
		b := results.BytesOf(in)
		got, whole := b.Whole()
		if !whole || !bytes.Equal(got, in) || b.Len != n || b.SHA256 != "" {
			t.Errorf("%d bytes: whole %t, len %d, %d bytes back", n, whole, b.Len, len(got))
		}
	}
	in := pattern(results.MaxWhole + 1)
	b := results.BytesOf(in)
	sum := sha256.Sum256(in)
	got, whole := b.Whole()
	tail, err := hex.DecodeString(b.Tail)
	switch {
	case whole || b.Hex != "":
		t.Error("more than MaxWhole bytes were kept whole")
	case b.Len != len(in) || b.SHA256 != hex.EncodeToString(sum[:]):
		t.Errorf("length %d, SHA-256 %s", b.Len, b.SHA256)
	case !bytes.Equal(got, in[:4<<10]) || err != nil || !bytes.Equal(tail, in[len(in)-4<<10:]):
		t.Error("head or tail differ from the bytes")
	}
}

func TestBytesHostile(t *testing.T) {
	for _, b := range []results.Bytes{{Len: 3, Hex: "00"}, {Len: 1, Hex: "zz"}, {Len: 9, Head: "xy"}, {Len: -1}} {
		if got, whole := b.Whole(); whole {
			t.Errorf("%+v is whole: %x", b, got)
		}
	}
}

func TestKey(t *testing.T) {
	sorted := []results.Key{
		{Check: "a"}, {Check: "a", Under: "f"}, {Check: "a", Case: "b"}, {Check: "a", Case: "c"},
		{Check: "a", Case: "c", Under: "f"}, {Check: "b"},
	}
	for i := range sorted {
		for j := range sorted {
			if got := sorted[i].Compare(sorted[j]); (got < 0) != (i < j) || (got == 0) != (i == j) {
				t.Errorf("%s compared with %s = %d", sorted[i], sorted[j], got)
			}
		}
	}
	if got := sorted[4].String(); got != "a#c under f" {
		t.Errorf("printed as %q", got)
	}
}

func TestReadEvidence(t *testing.T) {
	const one, two = `{"seq":1,"at":5,"source":"host","check":"a","kind":"ended"}` + "\n", `{"seq":2,"check":"a","kind":"ended"}` + "\n"
	tests := []struct {
		name, in string
		n        int
		torn     bool
		err      string
	}{
		{name: "empty", in: ""},
		{name: "two", in: one + two, n: 2},
		{name: "unknown field", in: `{"seq":1,"check":"a","later":{"x":1}}` + "\n", n: 1},
		{name: "torn line", in: one + two[:20], n: 1, torn: true},
		{name: "torn right before its newline", in: one + strings.TrimSuffix(two, "\n"), n: 1, torn: true},
		{name: "torn first line", in: "{", torn: true},
		{name: "gap", in: one + strings.Replace(two, `"seq":2`, `"seq":3`, 1), err: "line 2: evidence number 3 is out of order, want 2"},
		{name: "repeated", in: one + one, err: "line 2: evidence number 1"},
		{name: "begins at two", in: two, err: "line 1: evidence number 2"},
		{name: "garbage", in: one + "garbage\n" + two, err: "line 2: invalid character"},
		{name: "empty line", in: one + "\n", err: "line 2: "},
		{name: "null", in: "null\n", err: "line 1: evidence number 0"},
		{name: "array", in: "[]\n", err: "line 1: "},
		{name: "negative number", in: `{"seq":-1}` + "\n", err: "line 1: "},
		{name: "two values", in: strings.TrimSuffix(one, "\n") + two, err: "line 1: "},
		{name: "over-long line", in: one + `{"seq":2,"data":"` + strings.Repeat("x", 4<<20) + `"}` + "\n", err: "line 2: longer than 4194304 bytes"},
		{name: "long line", in: `{"seq":1,"data":"` + strings.Repeat("x", 4<<20-100) + `"}` + "\n", n: 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			all, torn, err := results.ReadEvidence(strings.NewReader(tt.in))
			if tt.err != "" {
				if err == nil || !strings.HasPrefix(err.Error(), tt.err) || all != nil {
					t.Errorf("read %d, error %v, want one that begins %q", len(all), err, tt.err)
				}
				return
			}
			if err != nil || torn != tt.torn || len(all) != tt.n {
				t.Errorf("read %d, torn %t, %v; want %d, torn %t", len(all), torn, err, tt.n, tt.torn)
			}
		})
	}
}

// endless never ends its line.
type endless struct{ read int }

func (e *endless) Read(b []byte) (int, error) { e.read += len(b); return len(b), nil }

func TestReadEvidenceIsBounded(t *testing.T) {
	e := &endless{}
	if _, _, err := results.ReadEvidence(e); err == nil {
		t.Error("an endless line was read")
	}
	if e.read > 8<<20 {
		t.Errorf("%d bytes were read of a line that has to be refused at 4 MiB", e.read)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestReadEvidenceReaderFails(t *testing.T) {
	if _, torn, err := results.ReadEvidence(failing{}); err == nil || torn {
		t.Errorf("torn %t, %v: a failing disk is no torn line", torn, err)
	}
}

func FuzzReadEvidence(f *testing.F) {
	f.Add([]byte(`{"seq":1}` + "\n" + `{"seq":2,"data":{}}` + "\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		all, torn, err := results.ReadEvidence(bytes.NewReader(in))
		if err != nil {
			if all != nil || torn {
				t.Errorf("beside the error %v: %d pieces, torn %t", err, len(all), torn)
			}
			return
		}
		if want := bytes.Count(in, []byte("\n")); len(all) != want {
			t.Errorf("%d pieces of evidence in %d whole lines", len(all), want)
		}
		if torn == (len(in) == 0 || in[len(in)-1] == '\n') {
			t.Errorf("torn = %t of %q", torn, in)
		}
		for i, e := range all {
			if e.Seq != uint64(i+1) {
				t.Errorf("number %d at place %d", e.Seq, i+1)
			}
		}
		rewritten(t, all)
	})
}

// rewritten demands that what was read can be written and read again.
func rewritten(t *testing.T, all []results.Evidence) {
	var file []byte
	for _, e := range all {
		line, err := results.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		file = append(append(file, line...), '\n')
	}
	again, torn, err := results.ReadEvidence(bytes.NewReader(file))
	if err != nil || torn || len(again) != len(all) {
		t.Fatalf("read again: %d of %d, torn %t, %v", len(again), len(all), torn, err)
	}
	same := slices.EqualFunc(all, again, func(a, b results.Evidence) bool { return a.Key() == b.Key() && a.At == b.At && a.Kind == b.Kind })
	if !same {
		t.Error("read again, it differs")
	}
}
