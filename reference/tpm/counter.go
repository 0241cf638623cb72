package tpm

import (
	"encoding/binary"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// counterBytes is the size of an NV counter.
const counterBytes = 8

// increment adds one to the NV counter at an index and returns its new value. It defines the counter
// where there is none. A new counter begins above every value that any counter of this TPM ever had
// (TPM 2.0 Library part 3, TPM2_NV_Increment), so that deleting one does not turn it back.
func (d *Device) increment(s *session, index tpm2.TPMHandle) (uint64, error) {
	name, err := d.counterName(s, index)
	if isRC(err, tpm2.TPMRCHandle) {
		name, err = d.defineCounter(s, index)
	}
	if err != nil {
		return 0, err
	}
	_, err = tpm2.NVIncrement{AuthHandle: ownerAuth(), NVIndex: tpm2.NamedHandle{Handle: index, Name: name}}.Execute(s)
	if err != nil {
		return 0, d.forgetCounter(index, err)
	}
	delete(d.counter, index) // the first increment sets TPMA_NV_WRITTEN, which is part of the name
	return d.readCounter(s, index)
}

// readCounter returns the value of the NV counter, and 0 where there is none: no file was ever
// written under generation 0.
func (d *Device) readCounter(s *session, index tpm2.TPMHandle) (uint64, error) {
	name, err := d.counterName(s, index)
	if isRC(err, tpm2.TPMRCHandle) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	read, err := tpm2.NVRead{
		AuthHandle: ownerAuth(), NVIndex: tpm2.NamedHandle{Handle: index, Name: name}, Size: counterBytes,
	}.Execute(s)
	if isRC(err, tpm2.TPMRCNVUninitialized) {
		return 0, nil // defined, but its first increment never came
	}
	if isRC(err, tpm2.TPMRCHandle) { // the TPM was wiped since its name was read
		delete(d.counter, index)
		return 0, nil
	}
	if err != nil {
		return 0, d.forgetCounter(index, err)
	}
	if len(read.Data.Buffer) != counterBytes {
		return 0, &Error{Code: CodeShort, Op: "read counter", Err: fmt.Errorf("%d bytes", len(read.Data.Buffer))}
	}
	return binary.BigEndian.Uint64(read.Data.Buffer), nil
}

// forgetCounter drops the remembered name of an index, which may be the reason of the error.
func (d *Device) forgetCounter(index tpm2.TPMHandle, err error) error {
	delete(d.counter, index)
	return err
}

func ownerAuth() tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
}

func (d *Device) counterName(s *session, index tpm2.TPMHandle) (tpm2.TPM2BName, error) {
	if name, known := d.counter[index]; known {
		return name, nil
	}
	public, err := tpm2.NVReadPublic{NVIndex: index}.Execute(s)
	if err != nil {
		return tpm2.TPM2BName{}, err
	}
	d.counter[index] = public.NVName
	return public.NVName, nil
}

func (d *Device) defineCounter(s *session, index tpm2.TPMHandle) (tpm2.TPM2BName, error) {
	_, err := tpm2.NVDefineSpace{
		AuthHandle: ownerAuth(),
		PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
			NVIndex: index, NameAlg: tpm2.TPMAlgSHA256, DataSize: counterBytes,
			Attributes: tpm2.TPMANV{OwnerWrite: true, OwnerRead: true, NT: tpm2.TPMNTCounter, NoDA: true},
		}),
	}.Execute(s)
	if err != nil {
		return tpm2.TPM2BName{}, err
	}
	return d.counterName(s, index)
}
