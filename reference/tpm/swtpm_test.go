package tpm_test

import (
	"bytes"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/tpm"
)

// newSwtpm starts swtpm, or skips the test where it is not installed; with CI set it must be.
func newSwtpm(t testing.TB) *tpm.Swtpm {
	t.Helper()
	if _, err := exec.LookPath("swtpm"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("swtpm is not installed")
		}
		t.Skip("NOT TESTED: swtpm is not installed")
	}
	dir, err := os.MkdirTemp("", "swtpm") // t.TempDir may be too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	sw, err := tpm.StartSwtpm(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sw.Close(); err != nil {
			t.Error(err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return sw
}

func openSwtpm(t testing.TB) (*tpm.Device, tpm.Backend) {
	t.Helper()
	backend, err := newSwtpm(t).Backend()
	if err != nil {
		t.Fatal(err)
	}
	dev, err := tpm.Open(t.Context(), backend, tpm.Config{Deadline: patient})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
	})
	return dev, backend
}

func TestSwtpm(t *testing.T) {
	dev, backend := openSwtpm(t)
	if dev.Backend() != tpm.LabelSwtpm {
		t.Errorf("label %q", dev.Backend())
	}
	c, err := tpm.OpenCache(dev, tpm.CacheConfig{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	data := random(t, 3508)
	put(t, c, "leaf", data)
	for range 20 {
		served(t, c, "leaf", data)
	}
	_, err = dev.Seal(t.Context(), make([]byte, 129))
	isCode(t, err, "TPM_RC_SIZE")
	key, err := dev.AttestationKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	public, err := tpm.PublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	values, err := dev.PCRValues(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	q, err := dev.Quote(t.Context(), []byte("nonce"), tpm.PCRs())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tpm.Verify(q, tpm.Challenge{Key: public, Nonce: []byte("nonce"), Values: values}, defect.Set{}); err != nil {
		t.Error(err)
	}
	extend(t, backend, 2) // between commands of the device, over a connection of its own
	refused(t, c, "leaf", "TPM_RC_POLICY_FAIL")
	if n, err := dev.Handles(t.Context()); n != 1 || err != nil {
		t.Errorf("%d transient objects, %v", n, err)
	}
}

// script listens on a unix socket and answers each connection with what serve writes.
func script(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tpm")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = l.Close()
		_ = os.RemoveAll(dir)
	})
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				serve(conn)
			}()
		}
	}()
	return path
}

func TestSocketAnswers(t *testing.T) {
	command := func(conn net.Conn) { _, _ = conn.Read(make([]byte, 4096)) }
	cases := map[string]struct {
		serve func(net.Conn)
		want  tpm.Code
	}{
		"closes":         {func(c net.Conn) { command(c) }, tpm.CodeShort},
		"header alone":   {func(c net.Conn) { command(c); _, _ = c.Write([]byte{0x80, 1, 0, 0, 0, 20, 0, 0, 0, 0}) }, tpm.CodeShort},
		"stays short":    {func(c net.Conn) { command(c); _, _ = c.Write([]byte{0x80, 1, 0}); _, _ = io.Copy(io.Discard, c) }, tpm.CodeShort},
		"size too big":   {func(c net.Conn) { command(c); _, _ = c.Write(bytes.Repeat([]byte{0xff}, 5000)) }, tpm.CodeShort},
		"size too small": {func(c net.Conn) { command(c); _, _ = c.Write(make([]byte, 20)) }, tpm.CodeShort},
		"silent":         {func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, tpm.CodeDeadline},
		"refuses":        {func(c net.Conn) { command(c); _, _ = c.Write([]byte{0x80, 1, 0, 0, 0, 10, 0, 0, 1, 1}) }, "TPM_RC_FAILURE"},
	}
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			backend, err := tpm.OpenSocket(script(t, c.serve), tpm.LabelSocket)
			if err != nil {
				t.Fatal(err)
			}
			_, err = tpm.Open(t.Context(), backend, tpm.Config{SetupDeadline: 500 * time.Millisecond})
			isCode(t, err, c.want)
		})
	}
	backend, err := tpm.OpenSocket(filepath.Join(t.TempDir(), "none"), tpm.LabelSocket)
	if err != nil {
		t.Fatal(err)
	}
	_, err = tpm.Open(t.Context(), backend, tpm.Config{})
	isCode(t, err, tpm.CodeUnavailable)
}

// TestSocketRetry counts what go on the wire: nothing below the owner repeats a command.
func TestSocketRetry(t *testing.T) { // tpm/fault/transient
	commands := make(chan struct{}, 100)
	path := script(t, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 4096))
		commands <- struct{}{}
		_, _ = c.Write([]byte{0x80, 1, 0, 0, 0, 10, 0, 0, 9, 0x22})
	})
	backend, err := tpm.OpenSocket(path, tpm.LabelSocket)
	if err != nil {
		t.Fatal(err)
	}
	_, err = tpm.Open(t.Context(), backend, tpm.Config{})
	isCode(t, err, "TPM_RC_RETRY")
	if len(commands) != 3 {
		t.Errorf("%d commands, want 3", len(commands))
	}
}

// TestWithoutCgo builds a program of this package without cgo and asks it what works.
func TestWithoutCgo(t *testing.T) { // tpm/seal/backend-labelled
	program := filepath.Join(t.TempDir(), "usable")
	build := exec.Command("go", "build", "-o", program, "./testdata/usable")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build without cgo: %v\n%s", err, out)
	}
	out, err := exec.Command(program).CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("simulator: open simulator: tpm_unavailable: no simulator")) {
		t.Errorf("%v: %s", err, out)
	}
}

func benchmarkBackends(b *testing.B, f func(*testing.B, *tpm.Device)) {
	b.Run("backend=simulator", func(b *testing.B) { f(b, newBench(b).dev) })
	b.Run("backend=swtpm", func(b *testing.B) {
		dev, _ := openSwtpm(b)
		f(b, dev)
	})
}

func BenchmarkPut(b *testing.B) {
	benchmarkBackends(b, func(b *testing.B, dev *tpm.Device) {
		c, err := tpm.OpenCache(dev, tpm.CacheConfig{Dir: b.TempDir()})
		if err != nil {
			b.Fatal(err)
		}
		data := random(b, 3508)
		for b.Loop() {
			put(b, c, "leaf", data)
		}
	})
}

func BenchmarkGet(b *testing.B) {
	for _, mode := range []tpm.Mode{tpm.EntryMode, tpm.KEKMode} {
		b.Run("mode="+string(mode), func(b *testing.B) {
			benchmarkBackends(b, func(b *testing.B, dev *tpm.Device) {
				c, err := tpm.OpenCache(dev, tpm.CacheConfig{Dir: b.TempDir(), Mode: mode})
				if err != nil {
					b.Fatal(err)
				}
				data := random(b, 3508)
				put(b, c, "leaf", data)
				for b.Loop() {
					served(b, c, "leaf", data)
				}
			})
		})
	}
}

func BenchmarkSeal(b *testing.B) {
	benchmarkBackends(b, func(b *testing.B, dev *tpm.Device) {
		for b.Loop() {
			if _, err := dev.Seal(b.Context(), make([]byte, 32)); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkUnseal(b *testing.B) {
	benchmarkBackends(b, func(b *testing.B, dev *tpm.Device) {
		blob, err := dev.Seal(b.Context(), make([]byte, 32))
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if _, err := dev.Unseal(b.Context(), blob); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkQuote(b *testing.B) {
	benchmarkBackends(b, func(b *testing.B, dev *tpm.Device) {
		for b.Loop() {
			if _, err := dev.Quote(b.Context(), []byte("nonce"), tpm.PCRs()); err != nil {
				b.Fatal(err)
			}
		}
	})
}
