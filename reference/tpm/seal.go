package tpm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/assay-bench/assay/reference/defect"
)

// MaxDirect is the most that a TPM seals at once, in bytes (TPM 2.0 Library part 2, MAX_SYM_DATA).
const MaxDirect = 128

// Blob is sealed data outside of the TPM: useless without the TPM that made it.
type Blob struct {
	Public  []byte // TPM2B_PUBLIC without its size
	Private []byte // TPM2B_PRIVATE without its size
}

const (
	maxPublic  = 256
	maxPrivate = 512 // of 128 sealed bytes it is 254
)

// Marshal returns the blob as bytes: each part after its length in two bytes.
func (b Blob) Marshal() []byte {
	out := binary.BigEndian.AppendUint16(nil, uint16(len(b.Public)))
	out = append(out, b.Public...)
	out = binary.BigEndian.AppendUint16(out, uint16(len(b.Private)))
	return append(out, b.Private...)
}

// ParseBlob is the inverse of Marshal. It refuses bytes that are left over.
func ParseBlob(data []byte) (Blob, error) {
	public, rest, err := cut16(data, maxPublic)
	if err != nil {
		return Blob{}, fmt.Errorf("public part: %w", err)
	}
	private, rest, err := cut16(rest, maxPrivate)
	if err != nil {
		return Blob{}, fmt.Errorf("private part: %w", err)
	}
	if len(rest) > 0 {
		return Blob{}, fmt.Errorf("%d bytes after the private part", len(rest))
	}
	return Blob{public, private}, nil
}

// cut16 splits off what follows a length of two bytes. The result shares data's memory.
func cut16(data []byte, limit int) (part, rest []byte, err error) {
	if len(data) < 2 {
		return nil, nil, errors.New("length is cut off")
	}
	n := int(binary.BigEndian.Uint16(data))
	if n > limit || n > len(data)-2 {
		return nil, nil, fmt.Errorf("length %d with %d bytes left, limit %d", n, len(data)-2, limit)
	}
	return data[2 : 2+n], data[2+n:], nil
}

// Seal seals up to 128 bytes under the present PCR values. More is refused by the TPM: TPM_RC_SIZE.
func (d *Device) Seal(ctx context.Context, data []byte) (blob Blob, err error) {
	if d.cfg.Defects.On(defect.TPMTruncatesAt128) && len(data) > MaxDirect {
		data = data[:MaxDirect]
	}
	if len(data) > maxMessage/2 { // the command would not fit the TPM's buffer
		return Blob{}, &Error{Code: responseCode(tpm2.TPMRCSize), Op: "seal", Err: fmt.Errorf("%d bytes", len(data))}
	}
	err = d.do(ctx, "seal", d.cfg.Deadline, func(s *session) error {
		blob, err = d.seal(s, data)
		return err
	})
	return blob, err
}

// Unseal returns what was sealed, if the PCRs have the values that they had then.
func (d *Device) Unseal(ctx context.Context, blob Blob) (data []byte, err error) {
	err = d.do(ctx, "unseal", d.cfg.Deadline, func(s *session) error {
		data, err = d.unseal(s, blob)
		return err
	})
	return data, err
}

func (d *Device) seal(s *session, data []byte) (Blob, error) {
	root, err := d.root(s)
	if err != nil {
		return Blob{}, err
	}
	template, err := d.sealTemplate(s)
	if err != nil {
		return Blob{}, err
	}
	auth, flush, err := tpm2.HMACSession(s, tpm2.TPMAlgSHA256, 16, root.salted(tpm2.AESEncryption(128, tpm2.EncryptIn))...)
	if err != nil {
		return Blob{}, err
	}
	created, err := tpm2.Create{
		ParentHandle: tpm2.AuthHandle{Handle: root.handle, Name: root.name, Auth: auth},
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
			Data: tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: data}),
		}},
		InPublic: tpm2.New2B(template),
	}.Execute(s)
	if err != nil {
		return Blob{}, err // the session is swept up with the operation
	}
	if err := flush(); err != nil {
		return Blob{}, err
	}
	return Blob{bytes.Clone(created.OutPublic.Bytes()), bytes.Clone(created.OutPrivate.Buffer)}, nil
}

// sealTemplate is the public area of sealed data: it never leaves the TPM, is exempt from the
// dictionary attack logic, and opens by the PCR policy alone.
func (d *Device) sealTemplate(s *session) (tpm2.TPMTPublic, error) {
	template := tpm2.TPMTPublic{
		Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, NoDA: true},
	}
	if d.cfg.Defects.On(defect.TPMPolicyAbsent) {
		template.ObjectAttributes.UserWithAuth = true
		return template, nil
	}
	trial, flush, err := tpm2.PolicySession(s, tpm2.TPMAlgSHA256, 16, tpm2.Trial())
	if err != nil {
		return template, err
	}
	if err := boundToPCRs(s, trial); err != nil {
		return template, err
	}
	digest, err := tpm2.PolicyGetDigest{PolicySession: trial.Handle()}.Execute(s)
	if err != nil {
		return template, err
	}
	template.AuthPolicy = digest.PolicyDigest
	return template, flush()
}

// boundToPCRs extends a policy session by the present values of the PCRs.
func boundToPCRs(s *session, policy tpm2.Session) error {
	_, err := tpm2.PolicyPCR{PolicySession: policy.Handle(), Pcrs: selection(PCRs()...)}.Execute(s)
	return err
}

// unseal leaves nothing in the TPM, so that one operation may open several blobs; only after a lockout
// no further command is sent.
func (d *Device) unseal(s *session, blob Blob) ([]byte, error) {
	data, err := d.unsealLoaded(s, blob)
	d.tidy(s, err)
	return data, err
}

func (d *Device) unsealLoaded(s *session, blob Blob) ([]byte, error) {
	root, err := d.root(s)
	if err != nil {
		return nil, err
	}
	loaded, err := tpm2.Load{
		ParentHandle: tpm2.AuthHandle{Handle: root.handle, Name: root.name, Auth: tpm2.PasswordAuth(nil)},
		InPrivate:    tpm2.TPM2BPrivate{Buffer: blob.Private},
		InPublic:     tpm2.BytesAs2B[tpm2.TPMTPublic](blob.Public),
	}.Execute(s)
	if err != nil {
		return nil, d.loadError(blob, err)
	}
	auth, err := d.unsealSession(s, root)
	if err != nil {
		return nil, err
	}
	unsealed, err := tpm2.Unseal{
		ItemHandle: tpm2.AuthHandle{Handle: loaded.ObjectHandle, Name: loaded.Name, Auth: auth},
	}.Execute(s)
	if err != nil {
		return nil, err
	}
	return unsealed.OutData.Buffer, nil
}

func (d *Device) unsealSession(s *session, root *primary) (tpm2.Session, error) {
	options := root.salted(tpm2.AESEncryption(128, tpm2.EncryptOut))
	if d.cfg.Defects.On(defect.TPMPolicyAbsent) {
		auth, _, err := tpm2.HMACSession(s, tpm2.TPMAlgSHA256, 16, options...)
		return auth, err
	}
	policy, _, err := tpm2.PolicySession(s, tpm2.TPMAlgSHA256, 16, options...)
	if err != nil {
		return nil, err
	}
	return policy, boundToPCRs(s, policy)
}

// loadError tells a blob that the TPM refuses from other failures. The private part, and the public
// part through it, is under a MAC of the storage key: TPM_RC_INTEGRITY. A public part that is not even
// well-formed gives one of many other codes for the same thing.
func (d *Device) loadError(blob Blob, err error) error {
	if CodeOf(err) == CodeShort {
		d.strays[nameOf(blob.Public)] = true
	}
	var about tpm2.TPMFmt1Error
	if errors.As(err, &about) && !isRC(err, tpm2.TPMRCIntegrity) {
		if parameter, _ := about.Parameter(); parameter {
			return &Error{Code: CodeTampered, Op: "load", Err: err}
		}
	}
	return err
}

// nameOf is the Name of an object with SHA-256 as its name algorithm (part 1, section 16).
func nameOf(public []byte) string {
	digest := sha256.Sum256(public)
	return string(binary.BigEndian.AppendUint16(nil, uint16(tpm2.TPMAlgSHA256))) + string(digest[:])
}

// flushStrays flushes objects whose Load was answered too briefly to tell their handle. They are known
// by their name, which no other program's object has.
func (d *Device) flushStrays(s *session) {
	if len(d.strays) == 0 {
		return
	}
	handles, err := transientHandles(s)
	if err != nil {
		return // the next memory error comes here again
	}
	for _, h := range handles {
		public, err := tpm2.ReadPublic{ObjectHandle: h}.Execute(s)
		if err == nil && d.strays[string(public.Name.Buffer)] {
			_, err = tpm2.FlushContext{FlushHandle: h}.Execute(s)
		}
		if err != nil {
			return
		}
	}
	clear(d.strays)
}
