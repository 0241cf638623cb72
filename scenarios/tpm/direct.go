package tpm

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// Direct is the TPM itself, past all rules and counters. It is the harness's own way in.
type Direct struct{ raw backend }

// maxRepeats bounds how often a command is repeated that the TPM could not begin.
const maxRepeats = 8

// Send runs one command, again where the TPM could not begin it: swtpm says so of the command after the
// first wrong password. It makes a Direct a transport.TPM of go-tpm.
func (t *Direct) Send(command []byte) ([]byte, error) {
	for range maxRepeats {
		response, err := t.raw.Send(command)
		if err != nil || len(response) < headerBytes || tpm2.TPMRC(binary.BigEndian.Uint32(response[6:])) != tpm2.TPMRCRetry {
			return response, err
		}
	}
	return t.raw.Send(command)
}

func selection(pcrs ...uint) tpm2.TPMLPCRSelection {
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{
		Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(pcrs...),
	}}}
}

// Extend extends a PCR of the SHA-256 bank.
func (t *Direct) Extend(pcr uint, digest [32]byte) error {
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: digest[:]}}},
	}.Execute(t)
	return err
}

// ReadPCR reads a PCR of the SHA-256 bank.
func (t *Direct) ReadPCR(pcr uint) ([]byte, error) {
	read, err := tpm2.PCRRead{PCRSelectionIn: selection(pcr)}.Execute(t)
	if err != nil {
		return nil, fmt.Errorf("read PCR %d: %w", pcr, err)
	}
	if len(read.PCRValues.Digests) != 1 {
		return nil, fmt.Errorf("read PCR %d: %d values", pcr, len(read.PCRValues.Digests))
	}
	return read.PCRValues.Digests[0].Buffer, nil
}

// passworded makes a primary object that holds data behind a password; noDA exempts it from lockout.
func (t *Direct) passworded(password string, noDA bool) (*tpm2.CreatePrimaryResponse, error) {
	return tpm2.CreatePrimary{
		PrimaryHandle: tpm2.TPMRHOwner,
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
			UserAuth: tpm2.TPM2BAuth{Buffer: []byte(password)},
			Data:     tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: []byte("assay")}),
		}},
		InPublic: tpm2.New2B(tpm2.TPMTPublic{
			Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256,
			ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, UserWithAuth: true, NoDA: noDA},
			Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgKeyedHash, &tpm2.TPMSKeyedHashParms{
				Scheme: tpm2.TPMTKeyedHashScheme{Scheme: tpm2.TPMAlgNull},
			}),
		}),
	}.Execute(t)
}

// maxGuesses bounds the wrong passwords until lockout.
const maxGuesses = 64

// lockOut returns how many wrong passwords it took.
func (t *Direct) lockOut() (tries int, err error) {
	object, err := t.passworded("right", false)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, t.flush(object.ObjectHandle)) }()
	for tries = 1; tries <= maxGuesses; tries++ {
		_, err := tpm2.Unseal{ItemHandle: tpm2.AuthHandle{
			Handle: object.ObjectHandle, Name: object.Name, Auth: tpm2.PasswordAuth([]byte("wrong")),
		}}.Execute(t)
		if errors.Is(err, tpm2.TPMRCLockout) {
			return tries, nil
		}
		if !errors.Is(err, tpm2.TPMRCAuthFail) {
			return tries, fmt.Errorf("a wrong password: %w", err)
		}
	}
	return tries, fmt.Errorf("%d wrong passwords and no lockout", maxGuesses)
}

// unlock sends TPM2_DictionaryAttackLockReset, which go-tpm does not have.
func (t *Direct) unlock() error {
	response, err := t.Send([]byte{
		0x80, 0x02, 0, 0, 0, 27, 0, 0, 0x01, 0x39, 0x40, 0, 0, 0x0a, // TPM_RH_LOCKOUT
		0, 0, 0, 9, 0x40, 0, 0, 0x09, 0, 0, 0, 0, 0, // an empty password
	})
	if err != nil {
		return err
	}
	if len(response) < headerBytes {
		return fmt.Errorf("a response of %d bytes", len(response))
	}
	if rc := tpm2.TPMRC(binary.BigEndian.Uint32(response[6:])); rc != tpm2.TPMRCSuccess {
		return rc
	}
	return nil
}

func (t *Direct) loadForeign() (tpm2.TPMHandle, error) {
	object, err := t.passworded("foreign", true)
	if err != nil {
		return 0, err
	}
	return object.ObjectHandle, nil
}

func (t *Direct) startForeign() (tpm2.TPMHandle, error) {
	started, err := tpm2.StartAuthSession{
		TPMKey: tpm2.TPMRHNull, Bind: tpm2.TPMRHNull, NonceCaller: tpm2.TPM2BNonce{Buffer: make([]byte, 16)},
		SessionType: tpm2.TPMSEHMAC, Symmetric: tpm2.TPMTSymDef{Algorithm: tpm2.TPMAlgNull}, AuthHash: tpm2.TPMAlgSHA256,
	}.Execute(t)
	if err != nil {
		return 0, err
	}
	return tpm2.TPMHandle(started.SessionHandle), nil
}

// full tells whether an error says that the TPM has no room left.
func full(err error) bool {
	for _, rc := range []tpm2.TPMRC{tpm2.TPMRCObjectMemory, tpm2.TPMRCSessionMemory, tpm2.TPMRCObjectHandles, tpm2.TPMRCSessionHandles, tpm2.TPMRCMemory} {
		if errors.Is(err, rc) {
			return true
		}
	}
	return false
}

func (t *Direct) flush(handle tpm2.TPMHandle) error {
	_, err := tpm2.FlushContext{FlushHandle: handle}.Execute(t)
	return err
}

// handles counts transient objects and loaded sessions.
func (t *Direct) handles() (int, error) {
	n := 0
	for _, kind := range []uint32{0x80000000, 0x02000000} {
		got, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: kind, PropertyCount: 64}.Execute(t)
		if err != nil {
			return 0, err
		}
		list, err := got.CapabilityData.Data.Handles()
		if err != nil {
			return 0, err
		}
		n += len(list.Handle)
	}
	return n, nil
}

// signer is the key that a command of the target signs with. Its authorisation must be empty, as the
// harness does not know any other.
func (t *Direct) signer(command []byte) (tpm2.AuthHandle, error) {
	if len(command) < headerBytes+4 {
		return tpm2.AuthHandle{}, errShortCommand
	}
	handle := tpm2.TPMHandle(binary.BigEndian.Uint32(command[headerBytes:]))
	public, err := tpm2.ReadPublic{ObjectHandle: handle}.Execute(t)
	if err != nil {
		return tpm2.AuthHandle{}, fmt.Errorf("read the public part of %#x: %w", uint32(handle), err)
	}
	return tpm2.AuthHandle{Handle: handle, Name: public.Name, Auth: tpm2.PasswordAuth(nil)}, nil
}

// AttestTime makes the key of a TPM2_Quote command sign an attestation of another type, the time, with
// the given qualifying data.
func (t *Direct) AttestTime(quote, nonce []byte) (attest, signature []byte, err error) {
	key, err := t.signer(quote)
	if err != nil {
		return nil, nil, err
	}
	got, err := tpm2.GetTime{
		PrivacyAdminHandle: tpm2.TPMRHEndorsement,
		SignHandle:         key, QualifyingData: tpm2.TPM2BData{Buffer: nonce},
		InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
	}.Execute(t)
	if err != nil {
		return nil, nil, err
	}
	return got.TimeInfo.Bytes(), tpm2.Marshal(got.Signature), nil
}

// SignBytes makes the key of a TPM2_Quote command sign bytes of the harness's choice. A restricted key
// signs only what the TPM hashed itself and what does not begin like an attestation of a TPM.
func (t *Direct) SignBytes(quote, data []byte) (signature []byte, err error) {
	key, err := t.signer(quote)
	if err != nil {
		return nil, err
	}
	hashed, err := tpm2.Hash{
		Data: tpm2.TPM2BMaxBuffer{Buffer: data}, HashAlg: tpm2.TPMAlgSHA256, Hierarchy: tpm2.TPMRHEndorsement,
	}.Execute(t)
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(data); string(hashed.OutHash.Buffer) != string(sum[:]) {
		return nil, errors.New("the TPM hashes wrongly")
	}
	signed, err := tpm2.Sign{
		KeyHandle: key, Digest: hashed.OutHash, InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull}, Validation: hashed.Validation,
	}.Execute(t)
	if err != nil {
		return nil, err
	}
	return tpm2.Marshal(signed.Signature), nil
}
