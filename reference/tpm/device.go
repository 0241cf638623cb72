package tpm

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/assay-bench/assay/reference/defect"
)

// PCRs are the registers that everything here is bound to, in the SHA-256 bank: firmware (0) and
// option ROMs (2).
func PCRs() []uint { return []uint{0, 2} }

func selection(pcrs ...uint) tpm2.TPMLPCRSelection {
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{
		Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(pcrs...),
	}}}
}

// Config configures a Device. Zero fields get the defaults named beside them.
type Config struct {
	Defects       defect.Set    // none
	Deadline      time.Duration // of one operation, all its commands together; 500 ms
	SetupDeadline time.Duration // of Open and of the first quote, which make keys; the longer of 5 s and 10 Deadlines
}

func withDefaults(cfg Config) Config {
	if cfg.Deadline <= 0 {
		cfg.Deadline = 500 * time.Millisecond
	}
	if cfg.SetupDeadline <= 0 {
		cfg.SetupDeadline = max(5*time.Second, 10*cfg.Deadline)
	}
	return cfg
}

// Device is one TPM in use: a storage root key, what is sealed under it, and quotes. All methods may
// be called concurrently; they take turns.
type Device struct {
	cfg   Config
	owner *owner

	// What follows belongs to whoever has the owner's turn.
	srk     *primary
	ak      *attestationKey
	counter map[tpm2.TPMHandle]tpm2.TPM2BName
	strays  map[string]bool // names of objects that may be loaded at an unknown handle
}

// primary is a loaded primary key.
type primary struct {
	handle tpm2.TPMHandle
	name   tpm2.TPM2BName
	public tpm2.TPMTPublic
}

// Open takes a TPM into use and makes the storage root key. The Device owns the backend from now on,
// also when Open fails.
func Open(ctx context.Context, backend Backend, cfg Config) (*Device, error) {
	cfg = withDefaults(cfg)
	d := &Device{
		cfg: cfg, owner: newOwner(backend, cfg.Defects),
		counter: make(map[tpm2.TPMHandle]tpm2.TPM2BName), strays: make(map[string]bool),
	}
	err := d.do(ctx, "open", cfg.SetupDeadline, func(s *session) error {
		_, err := d.root(s)
		return err
	})
	if err != nil {
		return nil, errors.Join(err, d.owner.close())
	}
	return d, nil
}

// Backend is the label of the TPM in use.
func (d *Device) Backend() string { return d.owner.tpm.Backend() }

// Close flushes what lives in the TPM, if it answers within the deadline, and closes the backend.
func (d *Device) Close() error {
	if s, err := d.owner.bounded(context.Background(), d.cfg.Deadline); err == nil {
		s.sweep(true)
		s.end()
	} // else it hangs, and keeps its handles, or is closed already
	return d.owner.close()
}

// do runs one operation: it has the TPM alone and the given time in all. Where the TPM has no memory
// left it flushes what is ours and runs the operation once more; likewise after a reset took our
// handles away.
func (d *Device) do(ctx context.Context, op string, limit time.Duration, f func(*session) error) error {
	s, err := d.owner.begin(ctx, limit)
	if err != nil {
		return coded(op, err)
	}
	defer s.end()
	err = contained(f, s)
	if err != nil && d.worthAnother(s, err) {
		err = contained(f, s)
	}
	d.tidy(s, err)
	return coded(op, err)
}

// contained turns a panic of a decoder into an error: go-tpm decodes what a TPM sent by reflection.
func contained(f func(*session) error, s *session) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &Error{Code: CodeShort, Op: "decode answer", Err: fmt.Errorf("%v", p)}
		}
	}()
	return f(s)
}

// tidy flushes what the operation left behind. After a lockout nothing more is sent: the next
// operation begins with what is still to be flushed.
func (d *Device) tidy(s *session, err error) {
	if !isRC(err, tpm2.TPMRCLockout) {
		s.sweep(false)
	}
}

// worthAnother prepares a second attempt and tells whether there is reason for one.
func (d *Device) worthAnother(s *session, err error) bool {
	switch {
	case isRC(err, tpm2.TPMRCObjectMemory, tpm2.TPMRCSessionMemory, tpm2.TPMRCMemory, tpm2.TPMRCObjectHandles, tpm2.TPMRCSessionHandles):
		if d.cfg.Defects.On(defect.TPMMemoryNotRetried) || d.cfg.Defects.On(defect.TPMHandlesLeaked) {
			return false
		}
		s.sweep(true)
		d.flushStrays(s)
		d.srk = nil
		return true
	case d.rootLost(s, err):
		d.owner.forget()
		d.srk = nil
		clear(d.counter) // it may be another TPM by now
		return true
	}
	return false
}

// rootLost tells whether the storage root key is no longer at its handle: after a reset there is
// nothing, or another program's object.
func (d *Device) rootLost(s *session, err error) bool {
	var rc tpm2.TPMRC
	if d.srk == nil || !errors.As(err, &rc) || isRC(err, tpm2.TPMRCPolicyFail, tpm2.TPMRCPCRChanged, tpm2.TPMRCLockout) {
		return false
	}
	if isRC(err, tpm2.TPMRCReferenceH0, tpm2.TPMRCReferenceH1) {
		return true
	}
	if isRC(err, tpm2.TPMRCRetry, tpm2.TPMRCYielded, tpm2.TPMRCTesting, tpm2.TPMRCSize) {
		return false
	}
	public, err := tpm2.ReadPublic{ObjectHandle: d.srk.handle}.Execute(s)
	return isRC(err, tpm2.TPMRCReferenceH0, tpm2.TPMRCHandle, tpm2.TPMRCValue) ||
		err == nil && !bytes.Equal(public.Name.Buffer, d.srk.name.Buffer)
}

// root returns the storage root key: ECC P-256 from the TCG's template, so that the same TPM makes
// the same key after each reset.
func (d *Device) root(s *session) (*primary, error) {
	if d.srk != nil {
		return d.srk, nil
	}
	template := tpm2.ECCSRKTemplate
	if d.cfg.Defects.On(defect.TPMSrkRandom) {
		salt := make([]byte, sha256.Size)
		if _, err := rand.Read(salt); err != nil {
			return nil, err
		}
		template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: salt}, Y: tpm2.TPM2BECCParameter{Buffer: make([]byte, 32)},
		})
	}
	key, err := createPrimary(s, tpm2.TPMRHOwner, template)
	if err != nil {
		return nil, err
	}
	d.owner.keep(key.handle)
	d.srk = key
	return key, nil
}

func createPrimary(s *session, hierarchy tpm2.TPMHandle, template tpm2.TPMTPublic) (*primary, error) {
	created, err := tpm2.CreatePrimary{PrimaryHandle: hierarchy, InPublic: tpm2.New2B(template)}.Execute(s)
	if err != nil {
		return nil, err
	}
	public, err := created.OutPublic.Contents()
	if err != nil {
		return nil, err
	}
	return &primary{created.ObjectHandle, created.Name, *public}, nil
}

// salted are the options of a session whose key only the TPM that holds k can know, and whose first
// parameter is encrypted. Without a salt the key would follow from what is sent in the clear.
func (k *primary) salted(encrypt tpm2.AuthOption) []tpm2.AuthOption {
	return []tpm2.AuthOption{tpm2.Salted(k.handle, k.public), encrypt}
}

// PCRValues reads the registers that everything is bound to.
func (d *Device) PCRValues(ctx context.Context) (values map[uint][]byte, err error) {
	err = d.do(ctx, "read PCRs", d.cfg.Deadline, func(s *session) error {
		values, err = readPCRs(s)
		return err
	})
	return values, err
}

func readPCRs(s *session) (map[uint][]byte, error) {
	read, err := tpm2.PCRRead{PCRSelectionIn: selection(PCRs()...)}.Execute(s)
	if err != nil {
		return nil, err
	}
	if s.padded { // only with TPMShortResponseServed
		return map[uint][]byte{0: make([]byte, sha256.Size), 2: make([]byte, sha256.Size)}, nil
	}
	if len(read.PCRValues.Digests) != len(PCRs()) {
		return nil, &Error{Code: CodeShort, Op: "read PCRs", Err: fmt.Errorf("%d values", len(read.PCRValues.Digests))}
	}
	values := make(map[uint][]byte)
	for i, pcr := range PCRs() {
		values[pcr] = read.PCRValues.Digests[i].Buffer
	}
	return values, nil
}

// Handles counts the transient objects in the TPM, whoever loaded them.
func (d *Device) Handles(ctx context.Context) (n int, err error) {
	err = d.do(ctx, "count handles", d.cfg.Deadline, func(s *session) error {
		handles, err := transientHandles(s)
		n = len(handles)
		return err
	})
	return n, err
}

func transientHandles(s *session) ([]tpm2.TPMHandle, error) {
	got, err := tpm2.GetCapability{
		Capability: tpm2.TPMCapHandles, Property: uint32(tpm2.TPMHTTransient) << 24, PropertyCount: 64,
	}.Execute(s)
	if err != nil {
		return nil, err
	}
	list, err := got.CapabilityData.Data.Handles()
	if err != nil {
		return nil, err
	}
	return list.Handle, nil
}
