package tpm

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/assay-bench/assay/reference/defect"
)

func sample(t testing.TB) []byte {
	t.Helper()
	e := &entry{generation: 7, nextUpdate: time.UnixMilli(1_800_000_000_000), blob: Blob{make([]byte, 78), make([]byte, 158)}}
	if err := e.seal(make([]byte, keySize), "leaf", []byte("response"), defect.Set{}); err != nil {
		t.Fatal(err)
	}
	return e.marshal()
}

func FuzzParseEntry(f *testing.F) {
	f.Add(sample(f))
	f.Add([]byte(entryMagic))
	f.Add(append(sample(f)[:fixedSize], 0xff, 0xff))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := parseEntry(data)
		if err != nil {
			return
		}
		if !bytes.Equal(e.marshal(), data) {
			t.Error("an entry is decoded that is not encoded so")
		}
		_, _ = e.open(make([]byte, keySize), "leaf", defect.Set{}) // no panic, whatever it says
	})
}

func FuzzParseBlob(f *testing.F) {
	f.Add(Blob{make([]byte, 78), make([]byte, 158)}.Marshal())
	f.Add([]byte{0, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		if b, err := ParseBlob(data); err == nil && !bytes.Equal(b.Marshal(), data) {
			t.Error("a blob is decoded that is not encoded so")
		}
	})
}

func FuzzVerify(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	attest := append([]byte{0xff, 0x54, 0x43, 0x47, 0x80, 0x18, 0, 0, 0, 0}, make([]byte, 25)...)
	f.Add(append(attest, 0, 0, 0, 1, 0, 0x0b, 3, 5, 0, 0, 0, 0), []byte{0, 0x18, 0, 0x0b, 0, 1, 1, 0, 1, 1})
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, attest, signature []byte) {
		c := Challenge{Key: &key.PublicKey, Nonce: []byte("nonce")}
		if _, err := Verify(Quote{Attest: attest, Signature: signature}, c, defect.Set{}); err == nil {
			t.Error("a quote without a TPM")
		}
		_, _ = Verify(Quote{Attest: attest}, c, defect.Of(defect.TPMQuoteSignatureUnchecked)) // the decoder alone
	})
}

// FuzzAnswers feeds answers to go-tpm's decoders through the owner: an error, but no panic.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte{0x80, 0x01, 0, 0, 0, 10, 0, 0, 0, 0})
	f.Add([]byte{0x80, 0x02, 0, 0, 0, 14, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x01, 0x82})
	f.Fuzz(func(t *testing.T, response []byte) {
		d, err := Open(t.Context(), canned{response}, Config{Deadline: time.Second})
		if err == nil {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

type canned struct{ response []byte }

func (c canned) Send([]byte) ([]byte, error) { return c.response, nil }
func (canned) Backend() string               { return "canned" }
func (canned) Close() error                  { return nil }

func TestCodes(t *testing.T) {
	codes := map[Code]tpm2.TPMRC{
		"TPM_RC_POLICY_FAIL": tpm2.TPMRCPolicyFail, "TPM_RC_INTEGRITY": tpm2.TPMRCIntegrity,
		"TPM_RC_LOCKOUT": tpm2.TPMRCLockout, "TPM_RC_OBJECT_MEMORY": tpm2.TPMRCObjectMemory,
		"TPM_RC_SESSION_MEMORY": tpm2.TPMRCSessionMemory, "TPM_RC_SIZE": tpm2.TPMRCSize,
		"TPM_RC_PCR_CHANGED": tpm2.TPMRCPCRChanged, "TPM_RC_RETRY": tpm2.TPMRCRetry,
		"TPM_RC_YIELDED": tpm2.TPMRCYielded, "TPM_RC_TESTING": tpm2.TPMRCTesting,
		"TPM_RC_FAILURE": tpm2.TPMRCFailure, "TPM_RC_ASYMMETRIC": tpm2.TPMRCAsymmetric, "TPM_RC_0x7f": 0x7f,
	}
	for want, rc := range codes {
		if got := CodeOf(coded("test", rc)); got != want {
			t.Errorf("%#x is %s, want %s", uint32(rc), got, want)
		}
	}
	if len(codes) == 0 || CodeOf(nil) != "" {
		t.Error("no code for no error")
	}
}

func TestIndexOf(t *testing.T) {
	for _, dir := range []string{"/a", "/b", "/var/lib/assay"} {
		if i := indexOf(dir); i < 0x01800000 || i > 0x01bfffff {
			t.Errorf("index %#x of %s is not the owner's", i, dir)
		}
	}
	if indexOf("/a") == indexOf("/b") {
		t.Error("two folders share a counter")
	}
}
