package pki

import (
	"bytes"
	"crypto"
	"crypto/mldsa"
	"slices"
	"testing"
	"time"

	"github.com/cloudflare/circl/sign/mldsa/mldsa65"
)

func TestSignersAgree(t *testing.T) {
	message, seed := []byte("signed by one, verified by the other"), bytes.Repeat([]byte{7}, 32)
	seen := 0
	for _, p := range []mldsa.Parameters{mldsa.MLDSA44(), mldsa.MLDSA65(), mldsa.MLDSA87()} {
		seen++
		std, err := NewMLDSASigner(p, seed)
		if err != nil {
			t.Fatal(err)
		}
		fast, err := NewCirclSigner(p, seed)
		if err != nil {
			t.Fatal(err)
		}
		public, ok := fast.Public().(*mldsa.PublicKey)
		if !ok || !public.Equal(std.Public()) {
			t.Fatalf("%v: the keys of one seed differ", p)
		}
		sig, err := fast.Sign(nil, message, crypto.Hash(0))
		if err != nil {
			t.Fatal(err)
		}
		if err := mldsa.Verify(public, message, sig, nil); err != nil {
			t.Errorf("%v: circl's signature under the standard library: %v", p, err)
		}
		opts := &mldsa.Options{Context: "x"}
		if sig, err = fast.Sign(nil, message, opts); err != nil {
			t.Fatal(err)
		}
		if mldsa.Verify(public, message, sig, opts) != nil || mldsa.Verify(public, message, sig, nil) == nil {
			t.Errorf("%v: the context does not enter the signature", p)
		}
		if _, err := fast.Sign(nil, message, crypto.SHA256); err == nil {
			t.Errorf("%v: signs a hash", p)
		}
	}
	if seen == 0 {
		t.Error("no case ran")
	}
}

func TestStandardSignatureUnderCircl(t *testing.T) {
	seed := [32]byte{1, 2, 3}
	public, _ := mldsa65.NewKeyFromSeed(&seed)
	std, err := NewMLDSASigner(mldsa.MLDSA65(), seed[:])
	if err != nil {
		t.Fatal(err)
	}
	sig, err := std.Sign(nil, []byte("m"), crypto.Hash(0))
	if err != nil {
		t.Fatal(err)
	}
	if !mldsa65.Verify(public, []byte("m"), nil, sig) {
		t.Error("circl refuses the standard library's signature")
	}
	if _, err := NewCirclSigner(mldsa.MLDSA65(), seed[:31]); err == nil {
		t.Error("a short seed is taken")
	}
}

// BenchmarkSign signs with both libraries in turn, so that a slow moment of the machine hits both,
// and reports how many times as long the standard library takes: by median, since signing is
// rejection sampling and a mean of few says nothing.
func BenchmarkSign(b *testing.B) {
	seed, message := make([]byte, 32), make([]byte, 130) // the length of a CertificateVerify's input
	std, err := NewMLDSASigner(mldsa.MLDSA65(), seed)
	if err != nil {
		b.Fatal(err)
	}
	fast, err := NewCirclSigner(mldsa.MLDSA65(), seed)
	if err != nil {
		b.Fatal(err)
	}
	var times [2][]time.Duration
	for i := 0; b.Loop(); i++ {
		for j, s := range []crypto.Signer{std, fast} {
			message[0] = byte(i)
			start := time.Now()
			if _, err := s.Sign(nil, message, crypto.Hash(0)); err != nil {
				b.Fatal(err)
			}
			times[j] = append(times[j], time.Since(start))
		}
	}
	slices.Sort(times[0])
	slices.Sort(times[1])
	a, c := times[0][len(times[0])/2], times[1][len(times[1])/2]
	b.ReportMetric(float64(a)/float64(c), "std/circl")
	b.ReportMetric(float64(a.Microseconds()), "std-p50-us")
	b.ReportMetric(float64(c.Microseconds()), "circl-p50-us")
}
