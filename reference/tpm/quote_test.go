package tpm_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/tpm"
)

// attester quotes PCRs of a simulator and holds the enrolled key.
type attester struct {
	*bench
	key *ecdsa.PublicKey
}

func newAttester(t testing.TB) attester {
	t.Helper()
	b := newBench(t)
	encoded, err := b.dev.AttestationKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	key, err := tpm.PublicKey(encoded)
	if err != nil {
		t.Fatal(err)
	}
	return attester{b, key}
}

func (a attester) quote(nonce string, pcrs ...uint) tpm.Quote {
	a.t.Helper()
	q, err := a.dev.Quote(a.t.Context(), []byte(nonce), pcrs)
	if err != nil {
		a.t.Fatalf("quote: %v", err)
	}
	return q
}

func (a attester) challenge(nonce string) tpm.Challenge {
	a.t.Helper()
	values, err := a.dev.PCRValues(a.t.Context())
	if err != nil {
		a.t.Fatal(err)
	}
	return tpm.Challenge{Key: a.key, Nonce: []byte(nonce), Values: values}
}

func TestQuote(t *testing.T) { // tpm/quote/signature, nonce-bound, pcr-digest
	a := newAttester(t)
	a.extend(2) // values that are not all zero
	c := a.challenge("nonce")
	q := a.quote("nonce", 0, 2)
	if _, err := tpm.Verify(q, c, defect.Set{}); err != nil {
		t.Fatalf("a good quote: %v", err)
	}
	for i := range q.Attest {
		bad := q
		bad.Attest = bytes.Clone(q.Attest)
		bad.Attest[i] ^= 1
		_, err := tpm.Verify(bad, c, defect.Set{})
		isCode(t, err, tpm.CodeQuoteSignature)
	}
	for i := range q.Signature {
		bad := q
		bad.Signature = bytes.Clone(q.Signature)
		bad.Signature[i] ^= 1
		_, err := tpm.Verify(bad, c, defect.Set{})
		isCode(t, err, tpm.CodeQuoteSignature)
	}
	_, err := tpm.Verify(q, a.challenge("another"), defect.Set{}) // a replay
	isCode(t, err, tpm.CodeQuoteNonce)
	for _, pcrs := range [][]uint{{0}, {2}, {0, 1, 2}, {0, 2, 23}, {}} {
		_, err = tpm.Verify(a.quote("nonce", pcrs...), c, defect.Set{})
		isCode(t, err, tpm.CodeQuoteSelection)
	}
	a.extend(2)
	_, err = tpm.Verify(a.quote("nonce", 0, 2), c, defect.Set{})
	isCode(t, err, tpm.CodeQuoteDigest)
	if n := a.handles(); n != 1 {
		t.Errorf("%d transient objects, want the storage key alone", n)
	}
	_, err = a.dev.Quote(t.Context(), make([]byte, tpm.MaxNonce+1), tpm.PCRs())
	isCode(t, err, "TPM_RC_SIZE")
	_, err = a.dev.Quote(t.Context(), nil, []uint{24})
	isCode(t, err, "TPM_RC_VALUE")
}

// TestOtherAttestations has the enrolled key sign what is no quote.
func TestOtherAttestations(t *testing.T) { // tpm/quote/signature
	a := newAttester(t)
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](a.quote("nonce", 0, 2).Key)
	if err != nil {
		t.Fatal(err)
	}
	template := *public
	template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{})
	key, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(template)}.Execute(a.sim)
	if err != nil {
		t.Fatal(err)
	}
	defer flush(t, a.sim, key.ObjectHandle)
	signer := tpm2.AuthHandle{Handle: key.ObjectHandle, Name: key.Name, Auth: tpm2.PasswordAuth(nil)}
	timed, err := tpm2.GetTime{
		PrivacyAdminHandle: tpm2.TPMRHEndorsement,
		SignHandle:         signer, QualifyingData: tpm2.TPM2BData{Buffer: []byte("nonce")},
	}.Execute(a.sim)
	if err != nil {
		t.Fatal(err)
	}
	c := a.challenge("nonce")
	_, err = tpm.Verify(tpm.Quote{Attest: timed.TimeInfo.Bytes(), Signature: tpm2.Marshal(timed.Signature)}, c, defect.Set{})
	isCode(t, err, tpm.CodeQuoteType)

	forged := bytes.Clone(a.quote("nonce", 0, 2).Attest)
	forged[0] = 0
	hashed, err := tpm2.Hash{
		Data: tpm2.TPM2BMaxBuffer{Buffer: forged}, HashAlg: tpm2.TPMAlgSHA256, Hierarchy: tpm2.TPMRHEndorsement,
	}.Execute(a.sim)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := tpm2.Sign{KeyHandle: signer, Digest: hashed.OutHash, Validation: hashed.Validation}.Execute(a.sim)
	if err != nil {
		t.Fatal(err)
	}
	_, err = tpm.Verify(tpm.Quote{Attest: forged, Signature: tpm2.Marshal(signed.Signature)}, c, defect.Set{})
	isCode(t, err, tpm.CodeQuoteMagic)
}

func TestOtherKey(t *testing.T) { // tpm/quote/signature
	a := newAttester(t)
	if err := a.sim.ManufactureReset(); err != nil {
		t.Fatal(err)
	}
	_, err := tpm.Verify(a.quote("nonce", 0, 2), a.challenge("nonce"), defect.Set{})
	isCode(t, err, tpm.CodeQuoteSignature)
}

func TestResetVisible(t *testing.T) { // tpm/quote/reset-visible
	a := newAttester(t)
	count := func() tpm.Counts {
		t.Helper()
		counts, err := tpm.Verify(a.quote("nonce", 0, 2), a.challenge("nonce"), defect.Set{})
		if err != nil {
			t.Fatal(err)
		}
		return counts
	}
	before, again := count(), count()
	if before != again {
		t.Errorf("counts went from %v to %v without a reset", before, again)
	}
	if err := a.sim.Reset(); err != nil {
		t.Fatal(err)
	}
	if after := count(); after.Reset != before.Reset+1 {
		t.Errorf("reset count %d after %d", after.Reset, before.Reset)
	}
}

// forge signs an attestation with a key of the test's own.
func forge(t testing.TB, key *ecdsa.PrivateKey, attest []byte) tpm.Quote {
	t.Helper()
	digest := sha256.Sum256(attest)
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	signature := []byte{0, 0x18, 0, 0x0b, 0, 32}
	signature = append(signature, r.FillBytes(make([]byte, 32))...)
	signature = append(append(signature, 0, 32), s.FillBytes(make([]byte, 32))...)
	return tpm.Quote{Attest: attest, Signature: signature}
}

// attestation is a TPMS_ATTEST of a quote.
func attestation(magic uint32, kind uint16, nonce string, selection byte, digest []byte) []byte {
	out := binary.BigEndian.AppendUint32(nil, magic)
	out = binary.BigEndian.AppendUint16(out, kind)
	out = append(out, 0, 0) // qualifiedSigner
	out = binary.BigEndian.AppendUint16(out, uint16(len(nonce)))
	out = append(out, nonce...)
	out = append(out, make([]byte, 8+4+4+1+8)...)
	out = append(out, 0, 0, 0, 1, 0, 0x0b, 3, selection, 0, 0)
	out = binary.BigEndian.AppendUint16(out, uint16(len(digest)))
	return append(out, digest...)
}

// TestDefectsOfQuotes shows that each planted defect lets one fault through and no other.
func TestDefectsOfQuotes(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	values := map[uint][]byte{0: random(t, 32), 2: random(t, 32)}
	good := sha256.Sum256(append(bytes.Clone(values[0]), values[2]...))
	challenge := tpm.Challenge{Key: &key.PublicKey, Nonce: []byte("nonce"), Values: values}
	unsigned := forge(t, key, attestation(0xff544347, 0x8018, "nonce", 5, good[:]))
	unsigned.Signature[10] ^= 1
	quotes := map[tpm.Code]tpm.Quote{
		"":                     forge(t, key, attestation(0xff544347, 0x8018, "nonce", 5, good[:])),
		tpm.CodeQuoteSignature: unsigned,
		tpm.CodeQuoteMagic:     forge(t, key, attestation(0xff544348, 0x8018, "nonce", 5, good[:])),
		tpm.CodeQuoteNonce:     forge(t, key, attestation(0xff544347, 0x8018, "other", 5, good[:])),
		tpm.CodeQuoteSelection: forge(t, key, attestation(0xff544347, 0x8018, "nonce", 1, good[:])),
		tpm.CodeQuoteDigest:    forge(t, key, attestation(0xff544347, 0x8018, "nonce", 5, make([]byte, 32))),
	}
	defects := map[defect.Name]tpm.Code{
		"none":                            "none",
		defect.TPMQuoteSignatureUnchecked: tpm.CodeQuoteSignature,
		defect.TPMQuoteMagicUnchecked:     tpm.CodeQuoteMagic,
		defect.TPMQuoteNonceUnchecked:     tpm.CodeQuoteNonce,
		defect.TPMQuoteSelectionUnchecked: tpm.CodeQuoteSelection,
		defect.TPMQuoteDigestUnchecked:    tpm.CodeQuoteDigest,
	}
	judged := 0
	for name, lets := range defects {
		for code, q := range quotes {
			judged++
			want := code
			if code == lets {
				want = ""
			}
			if _, err := tpm.Verify(q, challenge, defect.Of(name)); tpm.CodeOf(err) != want {
				t.Errorf("%s: a quote of %q gives %v", name, code, err)
			}
		}
	}
	if judged == 0 {
		t.Fatal("no cases")
	}
}
