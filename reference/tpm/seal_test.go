package tpm_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/mldsa"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/tpm"
)

// The sizes of an ECDSA and an ML-DSA OCSP response.
var responseSizes = []int{1, 264, 3508, tpm.MaxResponse}

func TestEnvelope(t *testing.T) { // tpm/seal/envelope
	b := newBench(t)
	c := b.cache(tpm.EntryMode)
	for _, size := range responseSizes {
		data := random(t, size)
		put(t, c, "leaf", data)
		served(t, c, "leaf", data)
		const header = 8 + 1 + 8 + 8
		for name, file := range files(t, b.dir) {
			if want := header + 80 + 2 + 158 + size + 28; len(file) != want {
				t.Errorf("%s: %d bytes for a response of %d, want %d", name, len(file), size, want)
			}
		}
	}
	blob, err := b.dev.Seal(t.Context(), random(t, 32))
	if err != nil || 2+len(blob.Public) != 80 || len(blob.Private) != 158 {
		t.Errorf("public %d with its size, private %d bytes, %v; want 80 and 158", 2+len(blob.Public), len(blob.Private), err)
	}
	refused(t, c, "other", tpm.CodeAbsent)
}

func TestPutRefuses(t *testing.T) {
	b := newBench(t)
	c := b.cache(tpm.EntryMode)
	ctx := t.Context()
	isCode(t, c.Put(ctx, "leaf", []byte{1}, time.Now().Add(tpm.MaxLifetime+time.Minute)), tpm.CodeTooLong)
	isCode(t, c.Put(ctx, "", []byte{1}, soon()), tpm.CodeLimit)
	isCode(t, c.Put(ctx, string(make([]byte, 65)), []byte{1}, soon()), tpm.CodeLimit)
	isCode(t, c.Put(ctx, "leaf", make([]byte, tpm.MaxResponse+1), soon()), tpm.CodeLimit)
	refused(t, c, "leaf", tpm.CodeAbsent)
	refused(t, c, "", tpm.CodeLimit)
	if n := b.fault.Count(tpm2.TPMCCCreate); n != 0 {
		t.Errorf("%d objects were made for refused entries", n)
	}
}

func TestDirectLimit(t *testing.T) { // tpm/seal/direct-limit
	b := newBench(t)
	for _, size := range []int{1, 32, 128} {
		data := random(t, size)
		blob, err := b.dev.Seal(t.Context(), data)
		if err != nil {
			t.Fatalf("seal %d bytes: %v", size, err)
		}
		if again, err := tpm.ParseBlob(blob.Marshal()); err != nil || !bytes.Equal(again.Private, blob.Private) {
			t.Errorf("blob of %d bytes does not survive encoding: %v", size, err)
		}
		if got, err := b.dev.Unseal(t.Context(), blob); err != nil || !bytes.Equal(got, data) {
			t.Errorf("unseal %d bytes: %d bytes, %v", size, len(got), err)
		}
	}
	for _, size := range []int{129, 256, 60000} {
		_, err := b.dev.Seal(t.Context(), random(t, size))
		isCode(t, err, "TPM_RC_SIZE")
	}
}

func TestPCRPolicy(t *testing.T) { // tpm/seal/pcr-policy
	b := newBench(t)
	c := b.cache(tpm.EntryMode)
	data := random(t, 264)
	put(t, c, "leaf", data)
	b.extend(1) // a register that nothing is bound to
	served(t, c, "leaf", data)
	b.extend(2)
	refused(t, c, "leaf", "TPM_RC_POLICY_FAIL")
	put(t, c, "leaf", data) // obtained again: sealed under the new values
	served(t, c, "leaf", data)
	b.extend(0)
	refused(t, c, "leaf", "TPM_RC_POLICY_FAIL")
	if got := c.Errors()["TPM_RC_POLICY_FAIL"]; got != 2 {
		t.Errorf("%d failures counted, want 2", got)
	}
}

func TestKEK(t *testing.T) { // tpm/seal/kek-recheck
	b := newBench(t)
	c := b.cache(tpm.KEKMode)
	data := random(t, 264)
	put(t, c, "leaf", data)
	served(t, c, "leaf", data)
	b.fault.Clear()
	served(t, c, "leaf", data)
	if b.fault.Count(tpm2.TPMCCUnseal) != 0 || b.fault.Count(tpm2.TPMCCPCRRead) != 1 {
		t.Errorf("a use of the key sent %#x", b.fault.Sent())
	}
	b.extend(0)
	refused(t, c, "leaf", tpm.CodePCRChanged)
	refused(t, c, "leaf", "TPM_RC_POLICY_FAIL") // the key was dropped
	c.Close()
}

func TestRollback(t *testing.T) { // tpm/seal/rollback-detected
	b := newBench(t)
	c := b.cache(tpm.EntryMode)
	old, other, fresh := random(t, 264), random(t, 300), random(t, 264)
	put(t, c, "leaf", old)
	put(t, c, "other", other)
	before := files(t, b.dir)
	put(t, c, "leaf", fresh)
	served(t, c, "leaf", fresh)
	served(t, c, "other", other) // carried into the new generation
	restore(t, before)
	refused(t, c, "leaf", tpm.CodeRolledBack)
	refused(t, c, "other", tpm.CodeRolledBack)
	refused(t, b.cache(tpm.EntryMode), "leaf", tpm.CodeRolledBack) // nor after a restart
	put(t, c, "leaf", fresh)
	served(t, c, "leaf", fresh)
	refused(t, c, "other", tpm.CodeRolledBack)
}

func TestCounterOncePerGeneration(t *testing.T) {
	b := newBench(t)
	c := b.cache(tpm.EntryMode)
	for _, id := range []string{"a", "b", "c"} {
		put(t, c, id, random(t, 10))
	}
	b.fault.Clear()
	put(t, c, "d", random(t, 10)) // four files
	if n := b.fault.Count(tpm2.TPMCCNVIncrement); n != 1 {
		t.Errorf("%d increments for one generation", n)
	}
	if n, err := c.Len(); n != 4 || err != nil {
		t.Errorf("%d entries, %v", n, err)
	}
}

func TestTamper(t *testing.T) { // tpm/seal/tamper-detected
	b := newBench(t)
	c := b.cache(tpm.EntryMode)
	put(t, c, "leaf", random(t, 40))
	put(t, c, "other", random(t, 40))
	clean := files(t, b.dir)
	flips := 0
	for name, data := range clean {
		if name != path(b.dir, "leaf") {
			continue
		}
		for i := range data {
			bad := bytes.Clone(data)
			bad[i] ^= 1 << (i % 8)
			restore(t, map[string][]byte{name: bad})
			refused(t, c, "leaf", tpm.CodeTampered, "TPM_RC_INTEGRITY")
			flips++
		}
		for _, cut := range []int{0, 1, 24, 100, len(data) - 1} {
			restore(t, map[string][]byte{name: data[:cut]})
			refused(t, c, "leaf", tpm.CodeTampered)
		}
		restore(t, map[string][]byte{name: append(bytes.Clone(data), 0)})
		refused(t, c, "leaf", tpm.CodeTampered)
	}
	if flips == 0 {
		t.Fatal("nothing was tampered with")
	}
	restore(t, map[string][]byte{path(b.dir, "leaf"): clean[path(b.dir, "other")], path(b.dir, "other"): clean[path(b.dir, "leaf")]})
	refused(t, c, "leaf", tpm.CodeTampered) // the other entry's file
	refused(t, c, "other", tpm.CodeTampered)
	if n := b.handles(); n != 1 {
		t.Errorf("%d transient objects, want the storage key alone", n)
	}
}

func TestExpired(t *testing.T) {
	b := newBench(t)
	now := time.Now()
	c := b.cacheWith(tpm.CacheConfig{Now: func() time.Time { return now }})
	data := random(t, 264)
	put(t, c, "leaf", data)
	now = now.Add(59 * time.Minute)
	served(t, c, "leaf", data)
	now = now.Add(2 * time.Minute)
	refused(t, c, "leaf", tpm.CodeExpired)
	if err := c.Put(t.Context(), "late", data, now.Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	refused(t, c, "late", tpm.CodeExpired)
}

func TestRebootAndWipe(t *testing.T) { // tpm/seal/reboot-survives, tpm/fault/wiped
	for _, mode := range []tpm.Mode{tpm.EntryMode, tpm.KEKMode} {
		t.Run(string(mode), func(t *testing.T) {
			b := newBench(t)
			c := b.cache(mode)
			data := random(t, 264)
			put(t, c, "leaf", data)
			if err := b.sim.Reset(); err != nil {
				t.Fatal(err)
			}
			served(t, c, "leaf", data)
			if err := b.sim.Reset(); err != nil {
				t.Fatal(err)
			}
			served(t, b.cache(mode), "leaf", data)
			put(t, c, "leaf", data)
			if err := b.sim.ManufactureReset(); err != nil {
				t.Fatal(err)
			}
			refused(t, b.cache(mode), "leaf", "TPM_RC_INTEGRITY")
			put(t, c, "leaf", data)
			served(t, c, "leaf", data)
		})
	}
}

// TestForeignRoot loads another program's object at the handle that the storage key had before a reset.
func TestForeignRoot(t *testing.T) {
	b := newBench(t)
	c := b.cache(tpm.EntryMode)
	data := random(t, 264)
	put(t, c, "leaf", data)
	if err := b.sim.Reset(); err != nil {
		t.Fatal(err)
	}
	foreign := load(t, b.sim, tpm2.RSASRKTemplate)
	served(t, c, "leaf", data)
	flush(t, b.sim, foreign) // it is still there
}

func TestNoPlaintext(t *testing.T) { // tpm/seal/no-plaintext
	b := newBench(t)
	c := b.cache(tpm.EntryMode)
	data := random(t, 264)
	put(t, c, "leaf", data)
	served(t, c, "leaf", data)
	b.fault.Respond(tpm.AnyCommand, tpm2.TPMRCFailure, tpm.Forever)
	if err := c.Put(t.Context(), "leaf", data, soon()); err == nil {
		t.Error("stored without a TPM")
	}
	for name, file := range files(t, b.dir) {
		for i := 0; i+16 <= len(data); i++ {
			if bytes.Contains(file, data[i:i+16]) {
				t.Fatalf("%s holds the response", name)
			}
		}
	}
}

func TestSeedSigner(t *testing.T) {
	b := newBench(t)
	key, err := mldsa.GenerateKey(mldsa.MLDSA87())
	if err != nil {
		t.Fatal(err)
	}
	blob, err := b.dev.SealSeed(t.Context(), key.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	signer, err := b.dev.OpenSeed(t.Context(), blob, mldsa.MLDSA87())
	if err != nil {
		t.Fatal(err)
	}
	signature, err := signer.Sign(nil, []byte("message"), crypto.Hash(0))
	if err != nil {
		t.Fatal(err)
	}
	if err := mldsa.Verify(key.PublicKey(), []byte("message"), signature, nil); err != nil {
		t.Error(err)
	}
	b.extend(0)
	_, err = signer.Sign(nil, []byte("message"), crypto.Hash(0))
	isCode(t, err, "TPM_RC_POLICY_FAIL")
	_, err = b.dev.SealSeed(t.Context(), []byte("short"))
	isCode(t, err, tpm.CodeLimit)
}

func TestBackendLabels(t *testing.T) { // tpm/seal/backend-labelled
	b := newBench(t)
	if got := b.dev.Backend(); got != "fault(simulator)" {
		t.Errorf("label %q", got)
	}
	_, err := tpm.OpenSimulator() // a second one would block for ever
	isCode(t, err, tpm.CodeUnavailable)
	if usable := tpm.Usable(t.Context()); !slices.Contains(usable, tpm.LabelSimulator) {
		t.Errorf("usable: %v", usable)
	}
	_, err = tpm.OpenSocket("relative", tpm.LabelSocket)
	isCode(t, err, tpm.CodeUnavailable)
}

// TestDefectsOfSealing shows that each planted defect changes what a caller sees.
func TestDefectsOfSealing(t *testing.T) {
	data := random(t, 264)
	stored := func(b *bench, mode tpm.Mode) *tpm.Cache {
		c := b.cache(mode)
		put(b.t, c, "leaf", data)
		served(b.t, c, "leaf", data)
		return c
	}
	cases := map[defect.Name]func(*testing.T, *bench){
		defect.TPMEnvelopeAbsent: func(t *testing.T, b *bench) {
			isCode(t, b.cache(tpm.EntryMode).Put(t.Context(), "leaf", data, soon()), "TPM_RC_SIZE")
		},
		defect.TPMTruncatesAt128: func(t *testing.T, b *bench) {
			blob, err := b.dev.Seal(t.Context(), data[:129])
			if err != nil {
				t.Fatal(err)
			}
			if got, err := b.dev.Unseal(t.Context(), blob); err != nil || len(got) != 128 {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		},
		defect.TPMPolicyAbsent: func(t *testing.T, b *bench) {
			c := stored(b, tpm.EntryMode)
			b.extend(2)
			served(t, c, "leaf", data)
		},
		defect.TPMKekKept: func(t *testing.T, b *bench) {
			c := stored(b, tpm.KEKMode)
			b.extend(0)
			served(t, c, "leaf", data)
		},
		defect.TPMRollbackUnchecked: func(t *testing.T, b *bench) {
			c := stored(b, tpm.EntryMode)
			before := files(t, b.dir)
			put(t, c, "leaf", random(t, 10))
			restore(t, before)
			served(t, c, "leaf", data)
		},
		defect.TPMAadUnbound: func(t *testing.T, b *bench) {
			c := stored(b, tpm.EntryMode)
			put(t, c, "other", random(t, 10))
			restore(t, map[string][]byte{path(b.dir, "other"): files(t, b.dir)[path(b.dir, "leaf")]})
			served(t, c, "other", data)
		},
		defect.TPMSrkRandom: func(t *testing.T, b *bench) {
			c := stored(b, tpm.EntryMode)
			if err := b.sim.Reset(); err != nil {
				t.Fatal(err)
			}
			refused(t, c, "leaf", "TPM_RC_INTEGRITY")
		},
		defect.TPMPlaintextCopy: func(t *testing.T, b *bench) {
			stored(b, tpm.EntryMode)
			if !slices.ContainsFunc(slices.Collect(maps.Values(files(t, b.dir))), func(f []byte) bool { return bytes.Equal(f, data) }) {
				t.Error("no copy")
			}
		},
		defect.TPMHandlesLeaked: func(t *testing.T, b *bench) {
			c := b.cache(tpm.EntryMode)
			put(t, c, "leaf", data)
			for range 2 {
				served(t, c, "leaf", data)
			}
			refused(t, c, "leaf", "TPM_RC_OBJECT_MEMORY")
		},
		defect.TPMMemoryNotRetried: func(t *testing.T, b *bench) {
			c := stored(b, tpm.EntryMode)
			b.fault.Respond(tpm2.TPMCCLoad, tpm2.TPMRCObjectMemory, 1)
			refused(t, c, "leaf", "TPM_RC_OBJECT_MEMORY")
		},
		defect.TPMTransientNotRetried: func(t *testing.T, b *bench) {
			c := stored(b, tpm.EntryMode)
			b.fault.Respond(tpm2.TPMCCLoad, tpm2.TPMRCRetry, 1)
			refused(t, c, "leaf", "TPM_RC_RETRY")
		},
		defect.TPMTransientRetriedForever: func(t *testing.T, b *bench) {
			c := stored(b, tpm.EntryMode)
			b.fault.Clear()
			b.fault.Respond(tpm2.TPMCCLoad, tpm2.TPMRCRetry, 20)
			served(t, c, "leaf", data)
			if n := b.fault.Count(tpm2.TPMCCLoad); n != 21 {
				t.Errorf("%d sends", n)
			}
		},
		defect.TPMLockoutRetried: func(t *testing.T, b *bench) {
			c := stored(b, tpm.EntryMode)
			b.fault.Clear()
			b.fault.Respond(tpm2.TPMCCUnseal, tpm2.TPMRCLockout, tpm.Forever)
			refused(t, c, "leaf", "TPM_RC_LOCKOUT")
			if n := b.fault.Count(tpm2.TPMCCUnseal); n <= 1 {
				t.Errorf("%d sends", n)
			}
		},
		defect.TPMShortResponseServed: func(t *testing.T, b *bench) {
			c := stored(b, tpm.EntryMode)
			for _, keep := range []int{0, 5, 10, 30} {
				b.fault.Truncate(tpm2.TPMCCUnseal, keep, 1)
				if _, err := c.Get(t.Context(), "leaf"); err != nil {
					t.Errorf("%d bytes: %v", keep, err)
				}
			}
		},
		defect.TPMRaceServed: func(t *testing.T, b *bench) {
			c := stored(b, tpm.EntryMode)
			b.fault.Before(tpm2.TPMCCUnseal, 1, func(inner transport.TPM) { extend(t, inner, 0) })
			served(t, c, "leaf", data)
		},
		defect.TPMWipedGivesUp: func(t *testing.T, b *bench) {
			c := stored(b, tpm.EntryMode)
			if err := b.sim.ManufactureReset(); err != nil {
				t.Fatal(err)
			}
			refused(t, c, "leaf", "TPM_RC_INTEGRITY")
			put(t, c, "leaf", data)
			refused(t, c, "leaf", "TPM_RC_INTEGRITY")
		},
		defect.TPMExpiredServed: func(t *testing.T, b *bench) {
			c := b.cache(tpm.EntryMode)
			if err := c.Put(t.Context(), "leaf", data, time.Now().Add(-time.Hour)); err != nil {
				t.Fatal(err)
			}
			served(t, c, "leaf", data)
		},
		defect.TPMResponderSkipped: func(t *testing.T, b *bench) {
			up := &upstream{der: data}
			o := tpm.NewSource(b.cache(tpm.EntryMode), "leaf", up, nil).Fetch(context.Background(), "leaf", nil, nil)
			if o.Origin != tpm.FromNone || up.asked != 0 {
				t.Errorf("%s after %d questions", o.Origin, up.asked)
			}
		},
	}
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
	for name, check := range cases {
		t.Run(string(name), func(t *testing.T) { check(t, newBench(t, name)) })
	}
}
