package tpm_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/tpm"
)

// bench is a simulator behind a fault wrapper, in use by a device.
type bench struct {
	t     testing.TB
	sim   *tpm.Simulator
	fault *tpm.Fault
	dev   *tpm.Device
	dir   string
}

// patient is a deadline that a loaded machine keeps; tests of deadlines have their own.
const patient = 20 * time.Second

func newBench(t testing.TB, defects ...defect.Name) *bench {
	return newBenchWith(t, tpm.Config{Deadline: patient, Defects: defect.Of(defects...)})
}

func newBenchWith(t testing.TB, cfg tpm.Config) *bench {
	t.Helper()
	sim := simulator(t)
	fault := tpm.NewFault(sim)
	dev, err := tpm.Open(t.Context(), fault, cfg)
	if err != nil {
		t.Fatalf("open device: %v", err)
	}
	t.Cleanup(func() {
		if err := dev.Close(); err != nil {
			t.Errorf("close device: %v", err)
		}
	})
	fault.Clear()
	return &bench{t, sim, fault, dev, t.TempDir()}
}

// simulator opens the process's simulator, or skips the test where there is none; with CI set there must
// be.
func simulator(t testing.TB) *tpm.Simulator {
	t.Helper()
	sim, err := tpm.OpenSimulator()
	if err == nil {
		return sim
	}
	if os.Getenv("CI") != "" || errors.Is(err, tpm.ErrSimulatorBusy) {
		t.Fatalf("open simulator: %v", err)
	}
	t.Skipf("NOT TESTED: %v", err)
	return nil
}

func (b *bench) cache(mode tpm.Mode) *tpm.Cache { return b.cacheWith(tpm.CacheConfig{Mode: mode}) }

func (b *bench) cacheWith(cfg tpm.CacheConfig) *tpm.Cache {
	b.t.Helper()
	cfg.Dir = b.dir
	cache, err := tpm.OpenCache(b.dev, cfg)
	if err != nil {
		b.t.Fatalf("open cache: %v", err)
	}
	return cache
}

func (b *bench) extend(pcr int) { b.t.Helper(); extend(b.t, b.sim, pcr) }

func extend(t testing.TB, to transport.TPM, pcr int) {
	t.Helper()
	digest := sha256.Sum256([]byte("another firmware"))
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)},
		Digests: tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{
			{HashAlg: tpm2.TPMAlgSHA256, Digest: digest[:]},
		}},
	}.Execute(to)
	if err != nil {
		t.Fatalf("extend PCR %d: %v", pcr, err)
	}
}

func random(t testing.TB, n int) []byte {
	t.Helper()
	data := make([]byte, n)
	if _, err := rand.Read(data); err != nil {
		t.Fatal(err)
	}
	return data
}

func soon() time.Time { return time.Now().Add(time.Hour) }

func put(t testing.TB, c *tpm.Cache, id string, data []byte) {
	t.Helper()
	if err := c.Put(context.Background(), id, data, soon()); err != nil {
		t.Fatalf("put %s: %v", id, err)
	}
}

func served(t testing.TB, c *tpm.Cache, id string, want []byte) {
	t.Helper()
	got, err := c.Get(context.Background(), id)
	if err != nil {
		t.Fatalf("get %s: %v", id, err)
	}
	if !bytes.Equal(got.DER, want) {
		t.Fatalf("get %s: %d other bytes", id, len(got.DER))
	}
}

func refused(t testing.TB, c *tpm.Cache, id string, want ...tpm.Code) {
	t.Helper()
	got, err := c.Get(context.Background(), id)
	if err == nil || got.DER != nil {
		t.Fatalf("get %s: served %d bytes, want %v", id, len(got.DER), want)
	}
	isCode(t, err, want...)
}

func isCode(t testing.TB, err error, want ...tpm.Code) {
	t.Helper()
	for _, w := range want {
		if tpm.CodeOf(err) == w {
			return
		}
	}
	t.Fatalf("error %v has code %q, want one of %v", err, tpm.CodeOf(err), want)
}

// files returns the content of a folder by name; it fails on an empty one.
func files(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no files in %s: %v", dir, err)
	}
	content := make(map[string][]byte)
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		content[name] = data
	}
	return content
}

func restore(t testing.TB, content map[string][]byte) {
	t.Helper()
	for name, data := range content {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func (b *bench) handles() int {
	b.t.Helper()
	n, err := b.dev.Handles(context.Background())
	if err != nil {
		b.t.Fatalf("count handles: %v", err)
	}
	return n
}
