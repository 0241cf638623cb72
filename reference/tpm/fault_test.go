package tpm_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/tpm"
)

func path(dir, id string) string {
	return filepath.Join(dir, hex.EncodeToString([]byte(id))+".entry")
}

// load puts a foreign object into the TPM.
func load(t testing.TB, to transport.TPM, template tpm2.TPMTPublic) tpm2.TPMHandle {
	t.Helper()
	created, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHNull, InPublic: tpm2.New2B(template)}.Execute(to)
	if err != nil {
		t.Fatalf("foreign object: %v", err)
	}
	return created.ObjectHandle
}

func flush(t testing.TB, to transport.TPM, handles ...tpm2.TPMHandle) {
	t.Helper()
	for _, h := range handles {
		if _, err := (tpm2.FlushContext{FlushHandle: h}).Execute(to); err != nil {
			t.Errorf("flush %#x: %v", h, err)
		}
	}
}

func TestObjectMemory(t *testing.T) { // tpm/fault/memory
	b := newBench(t)
	c := b.cache(tpm.EntryMode)
	data := random(t, 264)
	put(t, c, "leaf", data)
	first := load(t, b.sim, tpm2.ECCSRKTemplate)
	served(t, c, "leaf", data) // three slots: theirs, the storage key, the sealed key
	second := load(t, b.sim, tpm2.ECCSRKTemplate)
	refused(t, c, "leaf", "TPM_RC_OBJECT_MEMORY")
	flush(t, b.sim, first, second) // ours were flushed, theirs were not
	served(t, c, "leaf", data)
	b.fault.Respond(tpm2.TPMCCLoad, tpm2.TPMRCObjectMemory, 1)
	served(t, c, "leaf", data) // flushed and tried again
	b.fault.Clear()
	b.fault.Respond(tpm2.TPMCCLoad, tpm2.TPMRCObjectMemory, tpm.Forever)
	refused(t, c, "leaf", "TPM_RC_OBJECT_MEMORY")
	if n := b.fault.Count(tpm2.TPMCCLoad); n != 2 {
		t.Errorf("%d loads, want 2", n)
	}
}

func TestSessionMemory(t *testing.T) { // tpm/fault/memory
	b := newBench(t)
	c := b.cache(tpm.EntryMode)
	data := random(t, 264)
	put(t, c, "leaf", data)
	var foreign []func() error
	for range 3 {
		_, done, err := tpm2.HMACSession(b.sim, tpm2.TPMAlgSHA256, 16)
		if err != nil {
			t.Fatal(err)
		}
		foreign = append(foreign, done)
	}
	refused(t, c, "leaf", "TPM_RC_SESSION_MEMORY")
	for _, done := range foreign {
		if err := done(); err != nil {
			t.Errorf("a foreign session is gone: %v", err)
		}
	}
	served(t, c, "leaf", data)
	b.fault.Respond(tpm2.TPMCCStartAuthSession, tpm2.TPMRCSessionMemory, 1)
	served(t, c, "leaf", data)
}

func TestNoLeak(t *testing.T) { // tpm/fault/memory
	b := newBench(t)
	c := b.cache(tpm.EntryMode)
	data := random(t, 264)
	put(t, c, "leaf", data)
	for range 1000 {
		served(t, c, "leaf", data)
	}
	for _, code := range []tpm2.TPMCC{tpm2.TPMCCUnseal, tpm2.TPMCCPolicyPCR, tpm2.TPMCCNVRead, tpm2.TPMCCStartAuthSession} {
		for range 5 { // as many failures as there are slots, and more
			b.fault.Respond(code, tpm2.TPMRCFailure, 1)
			refused(t, c, "leaf", "TPM_RC_FAILURE")
		}
	}
	served(t, c, "leaf", data)
	if n := b.handles(); n != 1 {
		t.Errorf("%d transient objects, want the storage key alone", n)
	}
}

func TestTransient(t *testing.T) { // tpm/fault/transient
	b := newBench(t)
	c := b.cache(tpm.EntryMode)
	data := random(t, 264)
	put(t, c, "leaf", data)
	for code, rc := range map[tpm.Code]tpm2.TPMRC{
		"TPM_RC_RETRY": tpm2.TPMRCRetry, "TPM_RC_YIELDED": tpm2.TPMRCYielded, "TPM_RC_TESTING": tpm2.TPMRCTesting,
	} {
		b.fault.Clear()
		b.fault.Respond(tpm2.TPMCCUnseal, rc, 2)
		served(t, c, "leaf", data)
		if n := b.fault.Count(tpm2.TPMCCUnseal); n != 3 {
			t.Errorf("%s twice: %d sends, want 3", code, n)
		}
		b.fault.Clear()
		b.fault.Respond(tpm2.TPMCCUnseal, rc, tpm.Forever)
		refused(t, c, "leaf", code)
		if n := b.fault.Count(tpm2.TPMCCUnseal); n != 3 {
			t.Errorf("%s for ever: %d sends, want 3", code, n)
		}
	}
}

func TestShortResponse(t *testing.T) { // tpm/fault/short-response
	b := newBench(t)
	c := b.cache(tpm.EntryMode)
	data := random(t, 264)
	put(t, c, "leaf", data)
	served(t, c, "leaf", data)
	b.fault.Clear()
	served(t, c, "leaf", data)
	sequence := b.fault.Sent()
	if len(sequence) == 0 {
		t.Fatal("an open sends nothing")
	}
	seen := make(map[tpm2.TPMCC]bool)
	for _, code := range sequence {
		if seen[code] || code == tpm2.TPMCCFlushContext { // a flush comes after the entry was opened
			continue
		}
		seen[code] = true
		for _, keep := range []int{0, 1, 6, 9, 10, 12, 16} {
			if code == tpm2.TPMCCPolicyPCR && keep >= 10 { // its answer is a bare header
				continue
			}
			b.fault.Clear()
			b.fault.Truncate(code, keep, tpm.Forever)
			refused(t, c, "leaf", tpm.CodeShort)
			if code == tpm2.TPMCCStartAuthSession && keep < 14 { // nobody can tell the session's handle
				if err := b.sim.Reset(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	b.fault.Clear()
	served(t, c, "leaf", data)
}

func TestPCRRace(t *testing.T) { // tpm/fault/pcr-race
	b := newBench(t)
	c := b.cache(tpm.EntryMode)
	put(t, c, "leaf", random(t, 264))
	b.fault.Before(tpm2.TPMCCUnseal, 1, func(inner transport.TPM) { extend(t, inner, 0) })
	refused(t, c, "leaf", "TPM_RC_PCR_CHANGED", "TPM_RC_POLICY_FAIL")
	_, err := c.Get(t.Context(), "leaf")
	isCode(t, err, "TPM_RC_POLICY_FAIL")
}

// lockOut guesses the password of an object without NoDA until the TPM locks out.
func lockOut(t *testing.T, to transport.TPM) {
	t.Helper()
	created, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.TPMRHOwner,
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
			UserAuth: tpm2.TPM2BAuth{Buffer: []byte("right")},
			Data:     tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: []byte("secret")}),
		}},
		InPublic: tpm2.New2B(tpm2.TPMTPublic{
			Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256,
			ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, UserWithAuth: true},
		}),
	}.Execute(to)
	if err != nil {
		t.Fatal(err)
	}
	defer flush(t, to, created.ObjectHandle)
	for range 64 {
		_, err := tpm2.Unseal{ItemHandle: tpm2.AuthHandle{
			Handle: created.ObjectHandle, Name: created.Name, Auth: tpm2.PasswordAuth([]byte("wrong")),
		}}.Execute(to)
		if errors.Is(err, tpm2.TPMRCLockout) {
			isCode(t, err, "TPM_RC_LOCKOUT")
			return
		}
	}
	t.Fatal("no lockout")
}

// lockReset is TPM2_DictionaryAttackLockReset, which go-tpm does not have (part 3, section 25.2).
const lockReset = "80020000001b00000139" + "4000000a" + "00000009" + "400000090000000000"

func TestLockout(t *testing.T) { // tpm/fault/lockout
	b := newBench(t)
	c := b.cache(tpm.EntryMode)
	data := random(t, 264)
	put(t, c, "leaf", data)
	lockOut(t, b.sim)
	served(t, c, "leaf", data) // what is ours is exempt
	put(t, c, "leaf", data)
	command, err := hex.DecodeString(lockReset)
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := b.sim.Send(command); err != nil || !bytes.Equal(answer[6:10], make([]byte, 4)) {
		t.Errorf("lock reset: %x, %v", answer, err)
	}
	b.fault.Clear()
	b.fault.Respond(tpm2.TPMCCUnseal, tpm2.TPMRCLockout, tpm.Forever)
	up := &upstream{der: random(t, 264)}
	o := tpm.NewSource(c, "leaf", up, nil).Fetch(t.Context(), "leaf", nil, nil)
	isCode(t, o.CacheErr, "TPM_RC_LOCKOUT")
	if o.Origin != tpm.FromResponder || !bytes.Equal(o.Response, up.der) {
		t.Errorf("%s served", o.Origin)
	}
	sent := b.fault.Sent()
	if len(sent) == 0 || sent[len(sent)-1] != tpm2.TPMCCUnseal {
		t.Errorf("after a lockout went on with %#x", sent)
	}
	b.fault.Clear()
	served(t, c, "leaf", data)
	if n := b.handles(); n != 1 {
		t.Errorf("%d transient objects, want 1", n)
	}
}

func TestHungTPM(t *testing.T) { // tpm/fault/latency
	b := newBenchWith(t, tpm.Config{Deadline: 300 * time.Millisecond, SetupDeadline: patient})
	c := b.cache(tpm.EntryMode)
	data := random(t, 264)
	put(t, c, "leaf", data)
	b.fault.Clear()
	b.fault.Delay(tpm2.TPMCCLoad, time.Hour, 1)
	start := time.Now()
	refused(t, c, "leaf", tpm.CodeDeadline)
	if took := time.Since(start); took < 250*time.Millisecond || took > 3*time.Second {
		t.Errorf("gave up after %v", took)
	}
	start = time.Now()
	var callers sync.WaitGroup
	for range 50 {
		callers.Go(func() {
			if _, err := c.Get(context.Background(), "leaf"); tpm.CodeOf(err) != tpm.CodeDeadline {
				t.Errorf("while the TPM hangs: %v", err)
			}
		})
	}
	callers.Wait()
	if took := time.Since(start); took > 200*time.Millisecond {
		t.Errorf("50 calls to a hung TPM took %v", took)
	}
	if n := b.fault.Count(tpm2.TPMCCLoad); n != 1 {
		t.Errorf("%d commands were sent to a hung TPM", n)
	}
	b.fault.Clear() // it answers: the object that nobody waited for is flushed
	deadline := time.Now().Add(patient)
	for {
		if got, err := c.Get(t.Context(), "leaf"); err == nil && bytes.Equal(got.DER, data) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the TPM answers again and is not used")
		}
	}
	if n := b.handles(); n != 1 {
		t.Errorf("%d transient objects, want 1", n)
	}
}

// TestWaitingCounts shows that the wait for other operations is part of the deadline.
func TestWaitingCounts(t *testing.T) {
	b := newBenchWith(t, tpm.Config{Deadline: 300 * time.Millisecond, SetupDeadline: patient})
	b.fault.Delay(tpm.AnyCommand, 100*time.Millisecond, tpm.Forever)
	start := time.Now()
	var callers sync.WaitGroup
	for range 20 {
		callers.Go(func() {
			_, err := b.dev.PCRValues(context.Background())
			if code := tpm.CodeOf(err); code != "" && code != tpm.CodeDeadline {
				t.Errorf("%v", err)
			}
		})
	}
	callers.Wait()
	if took := time.Since(start); took > 1500*time.Millisecond {
		t.Errorf("20 callers of a slow TPM took %v", took)
	}
	b.fault.Clear()
}

func TestWaitsForTPM(t *testing.T) {
	b := newBenchWith(t, tpm.Config{
		Deadline: 50 * time.Millisecond, SetupDeadline: patient, Defects: defect.Of(defect.TPMWaitsForTpm),
	})
	b.fault.Delay(tpm2.TPMCCPCRRead, 300*time.Millisecond, 1)
	start := time.Now()
	if _, err := b.dev.PCRValues(t.Context()); err != nil || time.Since(start) < 250*time.Millisecond {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}

func TestCloseWhileHung(t *testing.T) {
	fault := tpm.NewFault(simulator(t))
	dev, err := tpm.Open(t.Context(), fault, tpm.Config{Deadline: 100 * time.Millisecond, SetupDeadline: patient})
	if err != nil {
		t.Fatal(err)
	}
	fault.Delay(tpm.AnyCommand, time.Hour, tpm.Forever)
	_, err = dev.PCRValues(t.Context())
	isCode(t, err, tpm.CodeDeadline)
	if err := dev.Close(); err != nil {
		t.Error(err)
	}
	_, err = dev.PCRValues(t.Context())
	isCode(t, err, tpm.CodeDeadline, tpm.CodeUnavailable)
}

// upstream is a responder that always has the same answer.
type upstream struct {
	der   []byte
	err   error
	asked int
	until time.Time
}

func (u *upstream) Response(context.Context, *x509.Certificate, *x509.Certificate) ([]byte, time.Time, error) {
	u.asked++
	if u.until.IsZero() {
		return u.der, soon(), u.err
	}
	return u.der, u.until, u.err
}

func TestSource(t *testing.T) {
	b := newBench(t)
	c := b.cache(tpm.EntryMode)
	up := &upstream{der: random(t, 3508), until: time.Now().Add(7 * 24 * time.Hour)}
	s := tpm.NewSource(c, "leaf", up, nil)
	expect := func(origin string, code tpm.Code, asked int64) {
		t.Helper()
		o := s.Fetch(t.Context(), "leaf", nil, nil)
		if o.Origin != origin || tpm.CodeOf(o.CacheErr) != code || s.Asked() != asked {
			t.Fatalf("from %s, code %q, responder asked %d times (%v); want %s, %q, %d", o.Origin, tpm.CodeOf(o.CacheErr), s.Asked(), o.Err, origin, code, asked)
		}
		if origin != tpm.FromNone && !bytes.Equal(o.Response, up.der) {
			t.Fatal("another response")
		}
	}
	expect(tpm.FromResponder, tpm.CodeAbsent, 1)
	expect(tpm.FromCache, "", 1) // stored, though the response lives longer than an entry may
	b.extend(2)
	expect(tpm.FromResponder, "TPM_RC_POLICY_FAIL", 2)
	expect(tpm.FromCache, "", 2)
	if err := b.sim.ManufactureReset(); err != nil {
		t.Fatal(err)
	}
	expect(tpm.FromResponder, "TPM_RC_INTEGRITY", 3)
	expect(tpm.FromCache, "", 3)
	up.err = errors.New("down")
	b.extend(0)
	expect(tpm.FromNone, "TPM_RC_POLICY_FAIL", 4)
	up.err = nil
	der, _, err := s.Response(t.Context(), nil, nil)
	if err != nil || !bytes.Equal(der, up.der) {
		t.Errorf("%d bytes, %v", len(der), err)
	}
	if got := c.Errors(); got["TPM_RC_POLICY_FAIL"] != 3 || got["TPM_RC_INTEGRITY"] != 1 || got[tpm.CodeAbsent] != 1 {
		t.Errorf("counted %v", got)
	}
}
