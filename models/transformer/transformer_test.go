package transformer

import (
	"bytes"
	"errors"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/assay-bench/assay/models/encode"
	"github.com/assay-bench/assay/models/engine"
	"github.com/assay-bench/assay/models/engine/ort"
	"github.com/assay-bench/assay/models/onnx"
	"github.com/assay-bench/assay/models/transformer/transformertest"
)

// library is ONNX Runtime. Without it the test is skipped, loudly, and fails where CI promises it.
func library(tb testing.TB) *ort.Library {
	tb.Helper()
	l, err := ort.Open("")
	if err != nil {
		if os.Getenv("CI") != "" {
			tb.Fatal(err)
		}
		tb.Skip(err)
	}
	return l
}

func session(tb testing.TB, m *Model) *Session {
	tb.Helper()
	s, err := m.Open()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	return s
}

func small(tb testing.TB) *Session {
	tb.Helper()
	m, err := Open(transformertest.File(transformertest.Pieces, 1), library(tb))
	if err != nil {
		tb.Fatal(err)
	}
	return session(tb, m)
}

func encoded(tb testing.TB, s encode.Session, text string) []float32 {
	tb.Helper()
	v := make([]float32, encode.Dimensions)
	if known, err := s.Encode(v, text); err != nil || known == 0 || math.Abs(engine.Norm(v)-1) > 1e-5 {
		tb.Fatalf("%q: %d known, norm %v, %v", text, known, engine.Norm(v), err)
	}
	return v
}

func TestEncode(t *testing.T) {
	s := small(t)
	a := encoded(t, s, "please refund my payment")
	long := encoded(t, s, strings.Repeat("parcel ", MaxPieces))
	if b := encoded(t, s, "Please refund my payment"); !slices.Equal(a, b) {
		t.Error("after a longer text the same text has another vector")
	}
	if engine.Dot(a, long) > 0.999 {
		t.Error("all texts have one vector")
	}
	calls := slices.Clone(s.hidden)
	v := slices.Clone(a)
	for _, text := range []string{"", " ?!... ", "где моя посылка", "我的包裹"} {
		if known, err := s.Encode(v, text); known != 0 || err != nil || engine.Norm(v) != 0 {
			t.Errorf("%q: %d known, norm %v, %v", text, known, engine.Norm(v), err)
		}
	}
	if !slices.Equal(calls, s.hidden) {
		t.Error("a text without known pieces reached the engine")
	}
	for _, text := range []string{strings.Repeat("parcel ", MaxPieces+1), strings.Repeat("a", encode.MaxTextBytes+1)} {
		if _, err := s.Encode(v, text); !errors.Is(err, encode.ErrTextTooLong) {
			t.Errorf("%d bytes: %v", len(text), err)
		}
	}
	if _, err := s.Encode(v[1:], "a"); err == nil {
		t.Error("a short vector is taken")
	}
}

// TestNothingIsCopied: the engine writes to the session's own states, and steady state allocates nothing.
func TestNothingIsCopied(t *testing.T) {
	s := small(t)
	v, texts, i := make([]float32, encode.Dimensions), []string{"refund it", "will it rain in lisbon tomorrow"}, 0
	run := func() {
		if _, err := s.Encode(v, texts[i%len(texts)]); err != nil {
			t.Fatal(err)
		}
		i++
	}
	run()
	run()
	if n := testing.AllocsPerRun(200, run); n != 0 {
		t.Errorf("%v allocations", n)
	}
	x := s.session.(*ort.Session)
	if !x.Binds(s.out[0].Floats) || x.Copied() != 0 {
		t.Errorf("bound %t, %d bytes copied", x.Binds(s.out[0].Floats), x.Copied())
	}
}

// TestRefusals: a graph of other ports, of another vocabulary, or damaged, is a typed error.
func TestRefusals(t *testing.T) {
	whole := transformertest.File(transformertest.Pieces, 1)
	ports := transformertest.Graph(transformertest.Pieces, 1)
	ports.Graph.Outputs[0].Name = "pooled"
	renamed, err := onnx.Marshal(ports)
	if err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string][]byte{"nothing": nil, "text": []byte("no model"), "ports": renamed, "half": whole[:len(whole)/2]} {
		if _, err := Open(file, nil); !errors.Is(err, ErrSignature) { // before the library is asked
			t.Errorf("%s: %v", name, err)
		}
	}
	if !Recognise(whole) {
		t.Error("a transformer is not recognised")
	}
	l := library(t)
	for _, pieces := range []int{transformertest.Pieces - 1, transformertest.Pieces + 1} {
		if _, err := Open(transformertest.File(pieces, 1), l); !errors.Is(err, ErrSignature) {
			t.Errorf("a vocabulary of %d pieces: %v", pieces, err)
		}
	}
	damaged := bytes.Replace(whole, []byte("MatMul"), []byte("MutMal"), 1)
	if _, err := Open(damaged, l); err == nil {
		t.Error("an unknown operator is taken")
	}
}

// TestTeacher runs the real teacher where ASSAY_TEACHER names the file that `assay models pull` fetches: near texts
// are near, far ones far.
func TestTeacher(t *testing.T) {
	path := os.Getenv("ASSAY_TEACHER")
	if path == "" {
		t.Skip("ASSAY_TEACHER does not name the file that assay models pull fetches")
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := Open(file, library(t))
	if err != nil {
		t.Fatal(err)
	}
	if m.Identity().Digest != "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6" {
		t.Fatalf("%s is another file: %s", path, m.Identity().Digest)
	}
	s := session(t, m)
	a, b, c := encoded(t, s, "I want my money back"), encoded(t, s, "please give me a refund"), encoded(t, s, "the server is down again")
	if near, far := engine.Dot(a, b), engine.Dot(a, c); near < 0.4 || far > near-0.2 {
		t.Errorf("cosines %.3f near, %.3f far", near, far)
	}
}

// FuzzRecognise: whatever the bytes are, there is no panic and nothing is executed.
func FuzzRecognise(f *testing.F) {
	whole := transformertest.File(8, 1)
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if Recognise(b) {
			if in, out, err := onnx.Ports(b); err != nil || len(in) != 3 || len(out) != 1 {
				t.Fatalf("%v %v %v", in, out, err)
			}
		}
	})
}
