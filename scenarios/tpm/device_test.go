package tpm

import (
	"context"
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
)

// recorder collects evidence as the runner does.
type recorder struct {
	mu  sync.Mutex
	all []results.Evidence
}

func (r *recorder) put(from results.Source, kind results.Kind, data any) error {
	raw, err := results.Marshal(data)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, results.Evidence{Seq: uint64(len(r.all) + 1), Source: from, Kind: kind, Data: raw})
	return nil
}

func (r *recorder) of(kind results.Kind) (out []results.Evidence) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.all {
		if e.Kind == kind {
			out = append(out, e)
		}
	}
	return out
}

func newEnv(t *testing.T) (*scenarios.Env, *recorder) {
	t.Helper()
	r := &recorder{}
	var dialer net.Dialer
	return &scenarios.Env{
		Key: results.Key{Check: t.Name()}, Token: "test", Endpoints: map[string]string{}, Dial: dialer.DialContext,
		Clock: results.ClockSince(time.Now()), Rand: rand.New(rand.NewPCG(1, 2)), Put: r.put,
	}, r
}

func openDevice(t *testing.T) (*Device, transport.TPM, *recorder) {
	t.Helper()
	env, r := newEnv(t)
	d, err := Open(t.Context(), env)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	tpm, err := linuxudstpm.Open(d.Socket())
	if err != nil {
		t.Fatal(err)
	}
	return d, tpm, r
}

// attestationKey makes a restricted signing key as targets have.
func attestationKey(t *testing.T, tpm transport.TPM) (tpm2.AuthHandle, []byte) {
	t.Helper()
	made, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.TPMRHEndorsement,
		InPublic: tpm2.New2B(tpm2.TPMTPublic{
			Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
			ObjectAttributes: tpm2.TPMAObject{
				FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, Restricted: true, SignEncrypt: true,
			},
			Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
				CurveID: tpm2.TPMECCNistP256,
				Scheme: tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA,
					Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})},
			}),
		}),
	}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	public, err := made.OutPublic.Contents()
	if err != nil {
		t.Fatal(err)
	}
	return tpm2.AuthHandle{Handle: made.ObjectHandle, Name: made.Name, Auth: tpm2.PasswordAuth(nil)}, tpm2.Marshal(*public)
}

func quote(t *testing.T, tpm transport.TPM, key tpm2.AuthHandle, nonce []byte, pcrs ...uint) (attest, signature []byte) {
	t.Helper()
	q, err := tpm2.Quote{SignHandle: key, QualifyingData: tpm2.TPM2BData{Buffer: nonce}, PCRSelect: selection(pcrs...)}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	return q.Quoted.Bytes(), tpm2.Marshal(q.Signature)
}

func random(tpm transport.TPM) error {
	_, err := tpm2.GetRandom{BytesRequested: 8}.Execute(tpm)
	return err
}

func TestDeviceForwardsAndCounts(t *testing.T) {
	d, tpm, r := openDevice(t)
	first, err := d.Mark("first")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := random(tpm); err != nil {
			t.Fatal(err)
		}
	}
	second, err := d.Mark("second")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int{"GetRandom TPM_RC_SUCCESS": 3}, second.Since(first)); diff != "" {
		t.Errorf("counted (-want +got):\n%s", diff)
	}
	var c Command
	commands := r.of(Commanded)
	if len(commands) != 3 {
		t.Fatalf("%d commands recorded", len(commands))
	}
	if err := commands[0].Decode(&c); err != nil || c.Name != "GetRandom" || c.Up != 12 || c.Down != 20 {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestTheRecordIsBounded(t *testing.T) {
	d, tpm, r := openDevice(t)
	for range maxCommands + 20 {
		if err := random(tpm); err != nil {
			t.Fatal(err)
		}
	}
	m, err := d.Mark("end")
	if err != nil || m.Total != maxCommands+20 {
		t.Errorf("%+v, %v", m, err)
	}
	if n := len(r.of(Commanded)); n != maxCommands {
		t.Errorf("%d commands recorded", n)
	}
}

func TestPCRsSurviveNeitherResetNorTurn(t *testing.T) {
	zero, digest := make([]byte, 32), sha256.Sum256([]byte("x"))
	for range 2 { // the second turn begins with a new TPM
		func() {
			env, _ := newEnv(t)
			d, err := Open(t.Context(), env)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := d.Close(); err != nil {
					t.Error(err)
				}
			}()
			if got, err := d.ReadPCR(2); err != nil || string(got) != string(zero) {
				t.Errorf("at first %x, %v", got, err)
			}
			if err := d.Extend(2, digest); err != nil {
				t.Error(err)
			}
			want := sha256.Sum256(append(make([]byte, 32), digest[:]...))
			if got, err := d.ReadPCR(2); err != nil || string(got) != string(want[:]) {
				t.Errorf("extended to %x, %v", got, err)
			}
			if err := d.Reset(); err != nil {
				t.Error(err)
			}
			if got, err := d.ReadPCR(2); err != nil || string(got) != string(zero) {
				t.Errorf("after a reset %x, %v", got, err)
			}
			if err := d.Extend(2, digest); err != nil {
				t.Error(err)
			}
		}()
	}
}

func TestWipeMakesAnotherTPM(t *testing.T) {
	d, tpm, _ := openDevice(t)
	_, first := attestationKey(t, tpm)
	if err := d.Reset(); err != nil {
		t.Fatal(err)
	}
	_, second := attestationKey(t, tpm)
	if err := d.Wipe(); err != nil {
		t.Fatal(err)
	}
	_, third := attestationKey(t, tpm)
	if string(first) != string(second) || string(second) == string(third) {
		t.Error("a primary key must survive a reset and no wipe")
	}
}

func TestLockOut(t *testing.T) {
	d, tpm, _ := openDevice(t)
	if err := d.LockOut(); err != nil {
		t.Fatal(err)
	}
	object, err := (&Direct{d.raw}).passworded("right", false)
	if err != nil {
		t.Fatal(err)
	}
	unseal := tpm2.Unseal{ItemHandle: tpm2.AuthHandle{Handle: object.ObjectHandle, Name: object.Name, Auth: tpm2.PasswordAuth([]byte("right"))}}
	if _, err := unseal.Execute(tpm); !errors.Is(err, tpm2.TPMRCLockout) {
		t.Errorf("the right password during lockout: %v", err)
	}
	if err := d.Unlock(); err != nil {
		t.Fatal(err)
	}
	if _, err := unseal.Execute(tpm); err != nil {
		t.Errorf("the right password after the lockout: %v", err)
	}
}

func TestExhaustion(t *testing.T) {
	d, tpm, _ := openDevice(t)
	if n, err := d.ExhaustObjects(64); err != nil || n == 0 || n == 64 {
		t.Fatalf("%d objects, %v", n, err)
	}
	if _, err := (&Direct{d.raw}).loadForeign(); !errors.Is(err, tpm2.TPMRCObjectMemory) {
		t.Errorf("one object more: %v", err)
	}
	if n, err := d.ExhaustSessions(64); err != nil || n == 0 || n == 64 {
		t.Fatalf("%d sessions, %v", n, err)
	}
	if _, err := (&Direct{d.raw}).startForeign(); !errors.Is(err, tpm2.TPMRCSessionMemory) {
		t.Errorf("one session more: %v", err)
	}
	if err := d.ClearForeign(); err != nil {
		t.Fatal(err)
	}
	attestationKey(t, tpm)
	if n, err := (&Direct{d.raw}).handles(); err != nil || n != 1 {
		t.Errorf("%d handles, %v", n, err)
	}
}

func TestRespond(t *testing.T) {
	d, tpm, r := openDevice(t)
	if err := d.Respond(tpm2.TPMCCGetRandom, tpm2.TPMRCLockout, 2); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := random(tpm); !errors.Is(err, tpm2.TPMRCLockout) {
			t.Errorf("injected: %v", err)
		}
	}
	if err := random(tpm); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	if err := d.Respond(Any, tpm2.TPMRCObjectMemory, Forever); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if err := random(tpm); !errors.Is(err, tpm2.TPMRCObjectMemory) {
			t.Errorf("for ever: %v", err)
		}
	}
	if err := d.Heal(); err != nil {
		t.Fatal(err)
	}
	if err := random(tpm); err != nil {
		t.Errorf("healed: %v", err)
	}
	if n := len(r.of(Faulted)); n != 3 {
		t.Errorf("%d faults recorded", n)
	}
}

func TestTruncateAndEmpty(t *testing.T) {
	d, tpm, _ := openDevice(t)
	for _, keep := range []int{0, 4, 12} {
		if err := d.Truncate(tpm2.TPMCCGetRandom, keep, 1); err != nil {
			t.Fatal(err)
		}
		if err := random(tpm); err == nil {
			t.Errorf("%d bytes of a response are taken", keep)
		}
		if err := random(tpm); err != nil {
			t.Errorf("after %d bytes: %v", keep, err)
		}
	}
}

func TestHangEndsWithClear(t *testing.T) {
	d, tpm, _ := openDevice(t)
	if err := d.Hang(Any); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- random(tpm) }()
	if _, err := d.ReadPCR(0); err != nil { // the harness's own way stays open
		t.Error(err)
	}
	select {
	case err := <-done:
		t.Fatalf("answered while it hangs: %v", err)
	default:
	}
	d.Clear() // whether the command is held back already or still on its way
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestCloseEndsAHang(t *testing.T) {
	env, _ := newEnv(t)
	d, err := Open(t.Context(), env)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Hang(Any), d.Delay(Any, time.Hour, 1)); err != nil {
		t.Fatal(err)
	}
	tpm, err := linuxudstpm.Open(d.Socket())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- random(tpm) }()
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	<-done // answered or cut off: what matters is that it is over
	if err := d.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
}

func TestBefore(t *testing.T) {
	d, tpm, r := openDevice(t)
	var seen int
	err := d.Before(tpm2.TPMCCGetRandom, 2, "extend", func(direct *Direct, command []byte) error {
		seen = len(command)
		return direct.Extend(2, sha256.Sum256([]byte("race")))
	})
	if err != nil {
		t.Fatal(err)
	}
	zero := make([]byte, 32)
	for i := range 3 {
		if err := random(tpm); err != nil {
			t.Fatal(err)
		}
		got, err := d.ReadPCR(2)
		if err != nil || (string(got) == string(zero)) != (i == 0) {
			t.Errorf("after command %d PCR 2 is %x, %v", i+1, got, err)
		}
	}
	if seen != 12 || len(r.of(Faulted)) != 2 {
		t.Errorf("the hook saw %d bytes, %d faults recorded", seen, len(r.of(Faulted)))
	}
}

func TestForgeries(t *testing.T) {
	d, tpm, _ := openDevice(t)
	key, public := attestationKey(t, tpm)
	nonce := []byte("challenge")
	attest, signature := quote(t, tpm, key, nonce, 0, 2)
	if err := VerifyAttest(attest, signature, public); err != nil {
		t.Fatalf("a genuine quote: %v", err)
	}
	a, err := ParseAttest(attest)
	if err != nil || a.Magic != AttestMagic || a.Type != AttestQuote || string(a.Extra) != string(nonce) || !a.Selects(0, 2) || a.Selects(0) {
		t.Fatalf("%+v, %v", a, err)
	}
	if string(a.Digest) != string(PCRDigest(make([]byte, 32), make([]byte, 32))) {
		t.Errorf("digest %x", a.Digest)
	}
	bent := append([]byte{1, 2, 3, 4}, attest[4:]...)
	var timed, timeSignature, bentSignature []byte
	err = d.Before(tpm2.TPMCCQuote, 1, "forge", func(direct *Direct, command []byte) (err error) {
		if timed, timeSignature, err = direct.AttestTime(command, nonce); err != nil {
			return err
		}
		if _, err = direct.SignBytes(command, attest); err == nil {
			return errors.New("the key signs what looks like an attestation")
		}
		bentSignature, err = direct.SignBytes(command, bent)
		if err != nil {
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	quote(t, tpm, key, nonce, 0, 2)
	if err := errors.Join(VerifyAttest(timed, timeSignature, public), VerifyAttest(bent, bentSignature, public)); err != nil {
		t.Errorf("forgeries: %v", err)
	}
	if a, err := ParseAttest(timed); err != nil || a.Type == AttestQuote || a.Magic != AttestMagic {
		t.Errorf("%+v, %v", a, err)
	}
	signature[len(signature)-1] ^= 1
	if VerifyAttest(attest, signature, public) == nil {
		t.Error("a flipped bit verifies")
	}
	other, err := SignAsOther(attest)
	if err != nil || VerifyAttest(attest, other, public) == nil {
		t.Errorf("another key's signature verifies (%v)", err)
	}
}

func TestGarbageOnTheSocket(t *testing.T) {
	d, tpm, _ := openDevice(t)
	for _, text := range []string{"", "x", "\x80\x01\xff\xff\xff\xff0000", "\x80\x01\x00\x00\x00\x000000", "\x80\x01\x00\x00\x00\x0a\xff\xff\xff\xff"} {
		conn, err := net.Dial("unix", d.Socket())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
	}
	if err := random(tpm); err != nil {
		t.Error(err)
	}
}

func TestTurns(t *testing.T) {
	env, _ := newEnv(t)
	first, err := Open(t.Context(), env)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if d, err := Open(ctx, env); err == nil {
		t.Error("opened with a context that is over", d.Close())
	}
	second := make(chan error)
	go func() {
		d, err := Open(t.Context(), env)
		if err == nil {
			err = d.Close()
		}
		second <- err
	}()
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if err := <-second; err != nil {
		t.Error(err)
	}
}

func TestSwtpm(t *testing.T) {
	program, err := findSwtpm()
	if err != nil {
		missing(t, err)
	}
	raw, err := openSwtpm(t.Context(), program, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := raw.Close(); err != nil {
			t.Error(err)
		}
	}()
	direct := &Direct{raw}
	_, first := attestationKey(t, direct)
	if err := direct.Extend(2, sha256.Sum256(nil)); err != nil {
		t.Fatal(err)
	}
	if err := raw.Reset(); err != nil {
		t.Fatal(err)
	}
	if got, err := direct.ReadPCR(2); err != nil || string(got) != string(make([]byte, 32)) {
		t.Errorf("after a reset %x, %v", got, err)
	}
	_, second := attestationKey(t, direct)
	if err := raw.Wipe(); err != nil {
		t.Fatal(err)
	}
	_, third := attestationKey(t, direct)
	if string(first) != string(second) || string(second) == string(third) {
		t.Error("a primary key must survive a reset and no wipe")
	}
	if tries, err := direct.lockOut(); err != nil || tries < 2 {
		t.Errorf("%d wrong passwords, %v", tries, err)
	}
	if err := direct.unlock(); err != nil {
		t.Error(err)
	}
}
