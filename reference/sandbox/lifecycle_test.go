package sandbox

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/assay-bench/assay/fixtures/wasm"
	"github.com/assay-bench/assay/reference/defect"
)

func versioned(n int) Upload {
	return Upload{Wasm: wasm.Module("versioned-" + strconv.Itoa(1+n%2))}
}

// Every answer belongs to the version that it names.
func TestReloadUnderLoad(t *testing.T) {
	reloads := 1000
	if n, err := strconv.Atoi(os.Getenv("ASSAY_SANDBOX_RELOADS")); err == nil {
		reloads = n
	}
	if raceEnabled || testing.Short() {
		reloads = min(reloads, 100)
	}
	r := newRig(t, Config{})
	r.edOnly = true // making the other signature takes as long as the reload
	if err := r.SetTenant("reloading", Tenant{Tier: Enterprise, Ed25519: r.ed.Public().(ed25519.PublicKey)}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.try("reloading", "m", versioned(1)); err != nil {
		t.Fatal(err)
	}
	var calls, failed atomic.Int64
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				a, err := r.Invoke(t.Context(), "reloading", "m", Call{Function: "slow", Args: []string{"2000"}})
				calls.Add(1)
				if err != nil || a.Results[0] != strconv.Itoa(1+int(a.Version%2)) {
					failed.Add(1)
					t.Errorf("version %d: %v, %v", a.Version, a.Results, err)
				}
			}
		})
	}
	for range reloads {
		if _, err := r.try("reloading", "m", versioned(int(r.last+1))); err != nil {
			t.Error(err)
			break
		}
	}
	close(done)
	wg.Wait()
	s := r.Stats().Tenants["reloading"]
	if failed.Load() > 0 || calls.Load() < int64(reloads)/10 {
		t.Errorf("%d of %d calls failed", failed.Load(), calls.Load())
	}
	if most := int64(4 * pageBytes); s.MemoryBytes > most*4 || s.Instances > 4 {
		t.Errorf("%d bytes in %d instances are accounted after %d reloads", s.MemoryBytes, s.Instances, reloads)
	}
	t.Logf("%d reloads, %d calls", reloads, calls.Load())
}

func TestPlantedReloads(t *testing.T) {
	t.Run("mixed", func(t *testing.T) {
		r := newRig(t, bad(defect.SandboxReloadMixed))
		for n := range 2 {
			if _, err := r.try("free", "m", versioned(n)); err != nil {
				t.Fatal(err)
			}
		}
		a, err := r.call("free", "m", "version")
		if err != nil || a.Version != r.last || a.Results[0] != "1" {
			t.Errorf("version %d: %v, %v", a.Version, a.Results, err)
		}
	})
	t.Run("drops", func(t *testing.T) {
		r := newRig(t, bad(defect.SandboxReloadDrops))
		r.publish("enterprise", "spin", Upload{})
		failed := make(chan error)
		go func() {
			_, err := r.call("enterprise", "spin", "spin")
			failed <- err
		}()
		for r.Stats().Tenants["enterprise"].Running == 0 {
			runtime.Gosched()
		}
		r.publish("enterprise", "spin", Upload{})
		if err := <-failed; !errors.Is(err, ErrClosed) {
			t.Errorf("call in flight: %v", err)
		}
	})
	t.Run("refused replaces", func(t *testing.T) {
		for cfg, serves := range map[*Config]bool{{}: true, {Defects: defect.Of(defect.SandboxRefusedReplaces)}: false} {
			r := newRig(t, *cfg)
			if _, err := r.try("free", "m", versioned(0)); err != nil {
				t.Fatal(err)
			}
			_, err := r.try("free", "m", Upload{Wasm: wasm.Module("truncated")})
			step(t, err)
			if _, err := r.call("free", "m", "version"); serves != (err == nil) {
				t.Errorf("defects %v: %v", cfg.Defects.Names(), err)
			}
		}
	})
	t.Run("accounting", func(t *testing.T) {
		for cfg, exact := range map[*Config]bool{{}: true, {Defects: defect.Of(defect.SandboxDrainLeaks)}: false,
			{Defects: defect.Of(defect.SandboxAccountingDrifts)}: false} {
			r := newRig(t, *cfg)
			for n := range 4 {
				if _, err := r.try("free", "m", versioned(n)); err != nil {
					t.Fatal(err)
				}
			}
			bytes := r.Stats().Tenants["free"].MemoryBytes
			if err := r.Remove("free", "m"); err != nil {
				t.Fatal(err)
			}
			rest := r.Stats().Tenants["free"]
			if exact != (rest.MemoryBytes == 0) || rest.Instances != 0 || bytes == 0 {
				t.Errorf("defects %v: %d bytes, after removal %d in %d instances", cfg.Defects.Names(), bytes, rest.MemoryBytes, rest.Instances)
			}
		}
	})
}

func TestCanary(t *testing.T) {
	canary := &Canary{Function: "version", Results: []string{"1"}}
	for cfg, rolled := range map[*Config]bool{{}: true, {Defects: defect.Of(defect.SandboxCanaryIgnored)}: false} {
		r := newRig(t, *cfg)
		u := versioned(0)
		u.Canary = canary
		if _, err := r.try("free", "m", u); err != nil {
			t.Fatal(err)
		}
		u = versioned(1)
		u.Canary = canary
		_, err := r.try("free", "m", u)
		if rolled && step(t, err) != StepCanary || !rolled && err != nil {
			t.Errorf("defects %v: %v", cfg.Defects.Names(), err)
		}
		if got := r.result("free", "m", "version"); (got == "1") != rolled {
			t.Errorf("defects %v: version %s serves", cfg.Defects.Names(), got)
		}
	}
	r := newRig(t, Config{})
	u := Upload{Wasm: wasm.Module("echo-c"), ABI: Buffer, Canary: &Canary{Function: "upper", Args: []string{"abc"}, Results: []string{"ABC"}}}
	if _, err := r.try("free", "echo", u); err != nil {
		t.Error(err)
	}
	u.Canary = &Canary{Function: "fail", Args: []string{"abc"}}
	if _, err := r.try("free", "echo", u); step(t, err) != StepCanary {
		t.Error(err)
	}
}

func cacheFiles(t *testing.T, dir string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && filepath.Base(path) != sumName {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestCacheDamage(t *testing.T) {
	damage := map[string]func(b []byte) []byte{
		"flipped in the code": func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"flipped at the head": func(b []byte) []byte { b[20] ^= 1; return b },
		"flipped at the end":  func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
		"cut":                 func(b []byte) []byte { return b[:len(b)/3] },
		"empty":               func([]byte) []byte { return nil },
	}
	for name, do := range damage {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "cache")
			r := newRig(t, Config{Dir: dir})
			r.publish("free", "fib", Upload{})
			files := cacheFiles(t, dir)
			if len(files) != 1 {
				t.Fatalf("cache files: %q", files)
			}
			sound, err := os.ReadFile(files[0])
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(files[0], do(append([]byte(nil), sound...)), 0o600); err != nil {
				t.Fatal(err)
			}
			if p := r.publish("free", "fib", Upload{}); p.CompiledFromCache {
				t.Error("compiled from the damaged entry")
			}
			if got := r.result("free", "fib", "fib", "10"); got != "55" {
				t.Errorf("fib(10) = %s", got)
			}
			if c := r.Stats().Cache; c.Corrupt != 1 || c.Misses != 2 || c.Hits != 0 {
				t.Errorf("cache: %+v", c)
			}
			if again, err := os.ReadFile(cacheFiles(t, dir)[0]); err != nil || len(again) != len(sound) {
				t.Errorf("the entry was not replaced: %d bytes, %v", len(again), err)
			}
			if p := r.publish("free", "fib", Upload{}); !p.CompiledFromCache {
				t.Error("the replaced entry is not used")
			}
			bent := newRig(t, Config{Dir: dir, Defects: defect.Of(defect.SandboxCacheCorruptFails)})
			if err := os.WriteFile(files[0], do(sound), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := bent.try("free", "fib", Upload{Wasm: wasm.Module("fib")}); step(t, err) != StepCompile {
				t.Errorf("with the defect: %v", err)
			}
		})
	}
}

func TestCacheFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	r := newRig(t, Config{Dir: dir})
	if c := r.Stats().Cache; c.Mode != "0700" || !strings.HasSuffix(c.Dir, WazeroVersion) {
		t.Errorf("cache: %+v", c)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := New(t.Context(), Config{Dir: dir}); err == nil {
		t.Error("a folder that others can read was taken")
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(t.TempDir(), link); err != nil {
		t.Fatal(err)
	}
	if _, err := New(t.Context(), Config{Dir: link}); err == nil {
		t.Error("a link was taken")
	}
	if os.Geteuid() == 0 {
		foreign := filepath.Join(t.TempDir(), "foreign")
		if err := errors.Join(os.Mkdir(foreign, 0o700), os.Chown(foreign, 65534, 65534)); err != nil {
			t.Fatal(err)
		}
		if _, err := New(t.Context(), Config{Dir: foreign}); err == nil {
			t.Error("another user's folder was taken")
		}
	}
	open := newRig(t, Config{Dir: filepath.Join(t.TempDir(), "open"), Defects: defect.Of(defect.SandboxCacheOpen)})
	if c := open.Stats().Cache; c.Mode != "0755" {
		t.Errorf("with the defect: %+v", c)
	}
}

// The version in the folder's name is the one that is linked.
func TestWazeroVersion(t *testing.T) {
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if want := "github.com/tetratelabs/wazero " + WazeroVersion; !strings.Contains(string(mod), want) {
		t.Errorf("go.mod does not say %q", want)
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	reg := prometheus.NewRegistry()
	s, err := New(t.Context(), Config{Dir: filepath.Join(t.TempDir(), "cache"), Registerer: reg})
	if err != nil {
		t.Fatal(err)
	}
	r := newRigOn(t, s)
	r.publish("pro", "secret", Upload{})
	r.publish("free", "echo-c", Upload{ABI: Buffer})
	r.result("pro", "secret", "scan")
	if families, err := reg.Gather(); err != nil || len(families) < 7 {
		t.Errorf("%d metrics, %v", len(families), err)
	}
	if err := s.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	for id, st := range s.Stats().Tenants {
		if st.MemoryBytes != 0 || st.Instances != 0 || st.Running != 0 {
			t.Errorf("%s: %+v", id, st)
		}
	}
	if _, err := r.try("pro", "secret", Upload{Wasm: wasm.Module("secret")}); !errors.Is(err, ErrClosed) {
		t.Errorf("upload after close: %v", err)
	}
	if _, err := r.call("pro", "secret", "scan"); !errors.Is(err, ErrUnknown) {
		t.Errorf("call after close: %v", err)
	}
	deadline := time.Now().Add(2 * time.Second)
	for runtime.NumGoroutine() > before {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
		runtime.Gosched()
	}
}

func TestAudit(t *testing.T) {
	r := newRig(t, Config{})
	since := uint64(len(r.Audit(0)))
	r.publish("free", "traps", Upload{})
	_, err := r.call("free", "traps", "t_load")
	class(t, err)
	_, err = r.try("free", "traps", Upload{Wasm: []byte("no")})
	step(t, err)
	if err := r.Remove("free", "traps"); err != nil {
		t.Fatal(err)
	}
	var got []string
	for n, e := range r.Audit(since) {
		if e.Seq != since+uint64(n)+1 || e.Tenant != "free" || e.Module != "traps" {
			t.Errorf("event %+v", e)
		}
		got = append(got, e.Event)
	}
	if want := "published discarded trap refused drained removed"; strings.Join(got, " ") != want {
		t.Errorf("events %q, want %q", got, want)
	}
	for range 2 * auditEvents {
		r.audit.add("free", "", EventLog, "")
	}
	if n := len(r.Audit(0)); n != auditEvents {
		t.Errorf("%d events are kept, want %d", n, auditEvents)
	}
}
