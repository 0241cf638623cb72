package tpm

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"

	"github.com/google/go-tpm/tpm2"

	"github.com/assay-bench/assay/reference/defect"
)

// MaxNonce is the longest challenge in bytes (TPM 2.0 Library part 2, TPM2B_DATA with SHA-512).
const MaxNonce = 64

// Quote is a signed statement of a TPM about its PCRs. The fields are TPM structures as bytes.
type Quote struct {
	Attest    []byte // TPMS_ATTEST
	Signature []byte // TPMT_SIGNATURE
	Key       []byte // TPMT_PUBLIC of the key that signed
}

// Counts are the reset counters that a quote carries.
type Counts struct {
	Reset   uint32 // TPM resets since the last TPM2_Clear
	Restart uint32 // restarts and resumes since the last reset
}

// attestationKey is the signing key, saved outside of the TPM between quotes: it needs one of a TPM's
// three object slots only while it signs.
type attestationKey struct {
	name    tpm2.TPM2BName
	public  tpm2.TPMTPublic
	context tpm2.TPMSContext
}

// attestationTemplate is a restricted ECDSA P-256 signing key. Being restricted, it signs nothing that
// begins with TPM_GENERATED_VALUE unless the TPM itself made it. It is a primary key of the
// endorsement hierarchy, where the reset counters are not obfuscated (part 1, TPMS_CLOCK_INFO).
func attestationTemplate() tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true,
			NoDA: true, Restricted: true, SignEncrypt: true,
		},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			CurveID: tpm2.TPMECCNistP256,
			Scheme: tpm2.TPMTECCScheme{
				Scheme:  tpm2.TPMAlgECDSA,
				Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256}),
			},
		}),
	}
}

// AttestationKey returns the public key that quotes are verified under, as TPMT_PUBLIC.
func (d *Device) AttestationKey(ctx context.Context) (key []byte, err error) {
	err = d.do(ctx, "make attestation key", d.cfg.SetupDeadline, func(s *session) error {
		ak, _, err := d.attestation(s)
		if err == nil {
			key = tpm2.Marshal(ak.public)
		}
		return err
	})
	return key, err
}

// attestation returns the key and its handle for this operation.
func (d *Device) attestation(s *session) (*attestationKey, tpm2.TPMHandle, error) {
	if d.ak != nil {
		loaded, err := tpm2.ContextLoad{Context: d.ak.context}.Execute(s)
		if err == nil {
			return d.ak, loaded.LoadedHandle, nil
		}
		if !isRC(err, tpm2.TPMRCIntegrity, tpm2.TPMRCHierarchy, tpm2.TPMRCHandle, tpm2.TPMRCBadContext) {
			return nil, 0, err
		}
		d.ak = nil // saved contexts do not outlive a reset; the key can be made again
	}
	key, err := createPrimary(s, tpm2.TPMRHEndorsement, attestationTemplate())
	if err != nil {
		return nil, 0, err
	}
	saved, err := tpm2.ContextSave{SaveHandle: key.handle}.Execute(s)
	if err != nil {
		return nil, 0, err
	}
	d.ak = &attestationKey{key.name, key.public, saved.Context}
	return d.ak, key.handle, nil
}

// Quote signs the present values of the given PCRs of the SHA-256 bank together with the nonce.
func (d *Device) Quote(ctx context.Context, nonce []byte, pcrs []uint) (Quote, error) {
	if len(nonce) > MaxNonce {
		return Quote{}, &Error{Code: responseCode(tpm2.TPMRCSize), Op: "quote", Err: fmt.Errorf("nonce of %d bytes", len(nonce))}
	}
	for _, pcr := range pcrs {
		if pcr > 23 {
			return Quote{}, &Error{Code: responseCode(tpm2.TPMRCValue), Op: "quote", Err: fmt.Errorf("PCR %d", pcr)}
		}
	}
	var q Quote
	err := d.do(ctx, "quote", d.cfg.Deadline, func(s *session) error {
		ak, handle, err := d.attestation(s)
		if err != nil {
			return err
		}
		quoted, err := tpm2.Quote{
			SignHandle:     tpm2.AuthHandle{Handle: handle, Name: ak.name, Auth: tpm2.PasswordAuth(nil)},
			QualifyingData: tpm2.TPM2BData{Buffer: nonce},
			PCRSelect:      selection(pcrs...),
		}.Execute(s)
		if err != nil {
			return err
		}
		q = Quote{bytes.Clone(quoted.Quoted.Bytes()), tpm2.Marshal(quoted.Signature), tpm2.Marshal(ak.public)}
		return nil
	})
	return q, err
}

// PublicKey decodes the TPMT_PUBLIC of an attestation key.
func PublicKey(encoded []byte) (*ecdsa.PublicKey, error) {
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](encoded)
	if err != nil {
		return nil, fmt.Errorf("attestation key: %w", err)
	}
	params, err := public.Parameters.ECCDetail()
	if err != nil {
		return nil, fmt.Errorf("attestation key: %w", err)
	}
	point, err := public.Unique.ECC()
	if err != nil {
		return nil, fmt.Errorf("attestation key: %w", err)
	}
	if params.CurveID != tpm2.TPMECCNistP256 {
		return nil, errors.New("attestation key: not on P-256")
	}
	return tpm2.ECDSAPub(params, point)
}

// Challenge is what a quote is held against.
type Challenge struct {
	Key    *ecdsa.PublicKey // the enrolled key
	Nonce  []byte
	Values map[uint][]byte // expected SHA-256 values of PCR 0 and 2
}

// Verify checks a quote and returns the reset counters that it carries. The signature comes first: no
// byte is believed before it. It uses no TPM.
func Verify(q Quote, c Challenge, defects defect.Set) (Counts, error) {
	if err := verifySignature(q, c.Key); err != nil && !defects.On(defect.TPMQuoteSignatureUnchecked) {
		return Counts{}, &Error{Code: CodeQuoteSignature, Op: "verify quote", Err: err}
	}
	a, err := parseAttest(q.Attest)
	if err != nil {
		return Counts{}, &Error{Code: CodeQuoteType, Op: "verify quote", Err: err}
	}
	refuse := func(code Code, d defect.Name, format string, args ...any) error {
		if defects.On(d) {
			return nil
		}
		return &Error{Code: code, Op: "verify quote", Err: fmt.Errorf(format, args...)}
	}
	if a.magic != attestMagic {
		err = refuse(CodeQuoteMagic, defect.TPMQuoteMagicUnchecked, "magic %#x", a.magic)
	}
	if err == nil && a.kind != attestQuote {
		err = refuse(CodeQuoteType, defect.TPMQuoteMagicUnchecked, "type %#x", a.kind)
	}
	if err == nil && !bytes.Equal(a.extra, c.Nonce) {
		err = refuse(CodeQuoteNonce, defect.TPMQuoteNonceUnchecked, "qualifyingData %x", a.extra)
	}
	if err == nil && !a.selects(PCRs()) {
		err = refuse(CodeQuoteSelection, defect.TPMQuoteSelectionUnchecked, "selection %v", a.selections)
	}
	if err == nil && !bytes.Equal(a.digest, digestOf(c.Values)) {
		err = refuse(CodeQuoteDigest, defect.TPMQuoteDigestUnchecked, "digest %x", a.digest)
	}
	return a.counts, err
}

// digestOf is the digest of a quote over PCR 0 and 2 with the given values.
func digestOf(values map[uint][]byte) []byte {
	h := sha256.New()
	for _, pcr := range PCRs() {
		h.Write(values[pcr])
	}
	return h.Sum(nil)
}

func verifySignature(q Quote, key *ecdsa.PublicKey) error {
	in := reader{rest: q.Signature}
	scheme, hash := in.uint16(), in.uint16()
	r, s := in.sized(), in.sized()
	switch {
	case in.failed || len(in.rest) > 0:
		return errors.New("signature is no TPMT_SIGNATURE of ECDSA")
	case scheme != uint16(tpm2.TPMAlgECDSA) || hash != uint16(tpm2.TPMAlgSHA256):
		return fmt.Errorf("signature scheme %#x with hash %#x", scheme, hash)
	case len(r) > 32 || len(s) > 32:
		return errors.New("signature is too long for P-256")
	}
	digest := sha256.Sum256(q.Attest)
	if !ecdsa.Verify(key, digest[:], new(big.Int).SetBytes(r), new(big.Int).SetBytes(s)) {
		return errors.New("signature does not verify")
	}
	return nil
}

const (
	attestMagic = 0xff544347 // TPM_GENERATED_VALUE
	attestQuote = 0x8018     // TPM_ST_ATTEST_QUOTE
)

// attest is a TPMS_ATTEST; what follows the counters is there for a quote only.
type attest struct {
	magic      uint32
	kind       uint16
	extra      []byte
	counts     Counts
	selections []pcrSelection
	digest     []byte
}

type pcrSelection struct {
	hash   uint16
	bitmap []byte
}

// selects tells whether exactly the given PCRs of the SHA-256 bank are selected.
func (a *attest) selects(pcrs []uint) bool {
	if len(a.selections) != 1 || a.selections[0].hash != uint16(tpm2.TPMAlgSHA256) {
		return false
	}
	return bytes.Equal(bytes.TrimRight(a.selections[0].bitmap, "\x00"),
		bytes.TrimRight(tpm2.PCClientCompatible.PCRs(pcrs...), "\x00"))
}

// parseAttest decodes a TPMS_ATTEST. Of another type, or not by a TPM, only magic and type must be there
// for Verify to say what is wrong with it.
func parseAttest(data []byte) (*attest, error) {
	in := reader{rest: data}
	a := &attest{magic: in.uint32(), kind: in.uint16()}
	if in.failed {
		return nil, errors.New("attestation is cut off")
	}
	in.sized() // qualifiedSigner
	a.extra = in.sized()
	in.bytes(8) // clock
	a.counts = Counts{Reset: in.uint32(), Restart: in.uint32()}
	in.bytes(1 + 8)                  // safe, firmware version
	for range min(in.uint32(), 16) { // a TPM has at most 16 banks
		a.selections = append(a.selections, pcrSelection{hash: in.uint16(), bitmap: in.bytes(int(in.uint8()))})
	}
	a.digest = in.sized()
	if a.magic == attestMagic && a.kind == attestQuote && (in.failed || len(in.rest) > 0) {
		return nil, errors.New("attestation is no TPMS_ATTEST of a quote")
	}
	return a, nil
}

// reader takes big-endian fields off a buffer. After the end it returns zeroes and has failed.
type reader struct {
	rest   []byte
	failed bool
}

func (r *reader) bytes(n int) []byte {
	if r.failed || n > len(r.rest) {
		r.failed = true
		return nil
	}
	part := r.rest[:n]
	r.rest = r.rest[n:]
	return part
}

func (r *reader) uint8() uint8 {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if b := r.bytes(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if b := r.bytes(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) sized() []byte { return r.bytes(int(r.uint16())) }
