package manifest

import (
	"bytes"
	"crypto/ed25519"
	"crypto/mldsa"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func signer(tb testing.TB, fill byte) Signer {
	tb.Helper()
	seed := bytes.Repeat([]byte{fill}, ed25519.SeedSize)
	post, err := mldsa.NewPrivateKey(mldsa.MLDSA65(), seed)
	if err != nil {
		tb.Fatal(err)
	}
	return Signer{Ed25519: ed25519.NewKeyFromSeed(seed), MLDSA65: post}
}

var file = []byte("the bytes of a model")

func list() Manifest {
	return Manifest{Models: []Model{
		Describe("tower", "2", "Apache-2.0", "synthetic", []byte("other bytes")),
		Describe("static", "1", "Apache-2.0", "distilled", file),
	}}
}

func signed(tb testing.TB) []byte {
	tb.Helper()
	b, err := signer(tb, 1).Sign(list())
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// TestModelsInAndOut holds that a listed model is taken and that another file, another name and one flipped
// bit are refused.
func TestModelsInAndOut(t *testing.T) {
	b := signed(t)
	if again := signed(t); !bytes.Equal(b, again) {
		t.Error("the second signing differs")
	}
	m, err := Open(b, signer(t, 1).Public())
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Check("static", file); err != nil {
		t.Error(err)
	}
	if x, there := m.Find(m.Models[0].SHA256); !there || x.Name != "static" || x.Bytes != int64(len(file)) {
		t.Errorf("found %+v, %v", x, there)
	}
	flipped := slices.Clone(file)
	flipped[3] ^= 1
	for name, f := range map[string][]byte{"static": flipped, "tower": file, "none": file} {
		if err := m.Check(name, f); !errors.Is(err, ErrNotListed) {
			t.Errorf("%s: err = %v", name, err)
		}
	}
	if _, there := m.Find("00"); there {
		t.Error("found a digest that is not listed")
	}
}

// TestTampering holds that no byte of the file can change, that no signature can be missing, doubled or of
// another key, and that both kinds count.
func TestTampering(t *testing.T) {
	keys, b := signer(t, 1).Public(), signed(t)
	accepted := 0
	for i := 0; i < len(b); i += 7 {
		edited := slices.Clone(b)
		edited[i] ^= 0x11
		if m, err := Open(edited, keys); err == nil {
			if accepted++; !cmp.Equal(m.Models, mustOpen(t, b, keys).Models) {
				t.Errorf("byte %d changed what is listed", i)
			}
		} else if !errors.Is(err, ErrSignature) && !errors.Is(err, ErrFormat) {
			t.Errorf("byte %d: %v", i, err)
		}
	}
	if accepted > len(b)/100 { // white space between tokens may change and nothing else
		t.Errorf("%d edits were taken", accepted)
	}
	edits := map[string]func(*envelope){
		"no ed25519":    func(e *envelope) { e.Signatures = e.Signatures[1:] },
		"no mldsa65":    func(e *envelope) { e.Signatures = e.Signatures[:1] },
		"doubled":       func(e *envelope) { e.Signatures = append(e.Signatures, e.Signatures[0]) },
		"swapped":       func(e *envelope) { e.Signatures[0].Sig = e.Signatures[1].Sig },
		"another type":  func(e *envelope) { e.PayloadType = "application/json" },
		"more payload":  func(e *envelope) { e.Payload = append(e.Payload, ' ') },
		"empty payload": func(e *envelope) { e.Payload = nil },
	}
	for name, edit := range edits {
		var e envelope
		if err := json.Unmarshal(b, &e); err != nil {
			t.Fatal(err)
		}
		edit(&e)
		edited, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(edited, keys); !errors.Is(err, ErrSignature) && !errors.Is(err, ErrFormat) {
			t.Errorf("%s: err = %v", name, err)
		}
	}
	other := signer(t, 2).Public()
	for name, k := range map[string]Keys{
		"another ed25519": {other.Ed25519, keys.MLDSA65}, "another mldsa65": {keys.Ed25519, other.MLDSA65},
		"no key": {}, "short key": {Ed25519: make([]byte, 31)},
	} {
		if _, err := Open(b, k); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: err = %v", name, err)
		}
	}
}

// TestOneKey holds that one key of a pair is enough for whoever trusts one, and not for whoever trusts both.
func TestOneKey(t *testing.T) {
	both := signer(t, 1)
	for name, s := range map[string]Signer{"ed25519": {Ed25519: both.Ed25519}, "mldsa65": {MLDSA65: both.MLDSA65}} {
		b, err := s.Sign(list())
		if err != nil {
			t.Fatal(err)
		}
		mustOpen(t, b, s.Public())
		if _, err := Open(b, both.Public()); !errors.Is(err, ErrSignature) {
			t.Errorf("%s alone, both trusted: err = %v", name, err)
		}
		mustOpen(t, signed(t), s.Public())
	}
	if _, err := (Signer{}).Sign(list()); !errors.Is(err, ErrSignature) {
		t.Errorf("no key: %v", err)
	}
}

func mustOpen(t *testing.T, b []byte, keys Keys) *Manifest {
	t.Helper()
	m, err := Open(b, keys)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestManifestsRefused(t *testing.T) {
	good := Describe("a", "1", "MIT", "", file)
	upper := good
	upper.SHA256 = strings.ToUpper(upper.SHA256)
	nameless := good
	nameless.Name = ""
	for name, m := range map[string]Manifest{
		"no models": {}, "twice": {Models: []Model{good, good}}, "upper case": {Models: []Model{upper}}, "no name": {Models: []Model{nameless}},
		"too many": {Models: make([]Model, MaxModels+1)},
	} {
		if _, err := signer(t, 1).Sign(m); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: err = %v", name, err)
		}
	}
	if _, err := Open(make([]byte, MaxBytes+1), signer(t, 1).Public()); !errors.Is(err, ErrFormat) {
		t.Errorf("a huge file: %v", err)
	}
}

func TestKeysAreWrittenAndRead(t *testing.T) {
	want := signer(t, 3).Public()
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Keys
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if !got.Ed25519.Equal(want.Ed25519) || !got.MLDSA65.Equal(want.MLDSA65) {
		t.Error("the keys differ")
	}
	if b, err := json.Marshal(Keys{Ed25519: want.Ed25519}); err != nil || json.Unmarshal(b, &got) != nil || got.MLDSA65 != nil {
		t.Errorf("one key alone: %v, %+v", err, got)
	}
	for _, bad := range []string{`{}`, `{"ed25519":"AA=="}`, `{"mldsa65":"AA=="}`, `{"rsa":""}`} {
		if err := json.Unmarshal([]byte(bad), &got); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: err = %v", bad, err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	b := signed(f)
	keys := signer(f, 1).Public()
	f.Add(b)
	f.Add([]byte(`{"payloadType":"application/vnd.assay.models+json","payload":"e30=","signatures":[{"keyid":"ed25519","sig":""}]}`))
	want, err := Open(b, keys)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Open(b, keys)
		if err == nil && !cmp.Equal(want, m) {
			t.Fatalf("another manifest was taken: %+v", m)
		}
	})
}
