package sandbox

import (
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/assay-bench/assay/fixtures/wasm"
	"github.com/assay-bench/assay/reference/defect"
)

// Every guest is refused where its manifest says, or taken.
func TestGuestsAreRefusedWhereTheyShould(t *testing.T) {
	r := newRig(t, Config{Models: linear43()})
	seen, refused := 0, 0
	for _, g := range wasm.Guests() {
		if g.ABI == wasm.Proxy || g.Name == "echo-go" {
			continue
		}
		seen++
		_, err := r.try("enterprise", g.Name, Upload{Wasm: wasm.Module(g.Name)})
		if g.Refused == "" {
			if err != nil {
				t.Errorf("%s: %v", g.Name, err)
			}
			continue
		}
		refused++
		if got := step(t, err); got != g.Refused {
			t.Errorf("%s: refused at %s, want %s (%v)", g.Name, got, g.Refused, err)
		}
	}
	if seen < 20 || refused < 5 {
		t.Fatalf("%d guests, %d refused", seen, refused)
	}
}

func TestExports(t *testing.T) {
	module := wasm.Module("bad-export")
	i32 := []string{"i32"}
	for _, c := range []struct {
		u    Upload
		want string // in the reason; "" is taken
	}{
		{Upload{Exports: []Signature{{"run", i32, i32}}}, ""},
		{Upload{Exports: []Signature{{"run", []string{"i64"}, []string{"i64"}}}}, `"run"`},
		{Upload{Exports: []Signature{{"missing", i32, i32}}}, `"missing"`},
		{Upload{Exports: []Signature{{"memory", i32, i32}}}, `"memory"`},
		{Upload{ABI: Buffer}, `"alloc"`},
		{Upload{ABI: "other"}, "other"},
		{Upload{ABI: Proxy}, "proxy"},
		{Upload{Engine: "other"}, "other"},
	} {
		r := newRig(t, Config{})
		c.u.Wasm = module
		_, err := r.try("free", "m", c.u)
		if c.want == "" {
			if err != nil {
				t.Error(err)
			}
			continue
		}
		step(t, err)
		if !strings.Contains(err.Error(), c.want) {
			t.Errorf("reason %q does not name %s", err, c.want)
		}
	}
	r := newRig(t, bad(defect.SandboxExportUnchecked))
	if _, err := r.try("free", "m", Upload{Wasm: module, Exports: []Signature{{"missing", i32, i32}}}); err != nil {
		t.Errorf("with the defect: %v", err)
	}
}

func TestImports(t *testing.T) {
	r := newRig(t, Config{})
	_, err := r.try("free", "m", Upload{Wasm: wasm.Module("unknown-import")})
	if step(t, err) != StepStructure || !strings.Contains(err.Error(), "env") || !strings.Contains(err.Error(), "launch") {
		t.Errorf("reason %v", err)
	}
	r = newRig(t, bad(defect.SandboxImportUnchecked))
	for _, guest := range []string{"unknown-import", "wrong-import"} {
		if _, err := r.try("free", guest, Upload{Wasm: wasm.Module(guest)}); guest == "unknown-import" && err != nil {
			t.Fatalf("%s with the defect: %v", guest, err)
		}
	}
	if _, err := r.call("free", "unknown-import", "run"); class(t, err) != ClassHostError {
		t.Errorf("unknown import: %v", err)
	}
}

// A module that is wrong in two ways is refused at the earlier step.
func TestAdmissionOrder(t *testing.T) {
	r := newRig(t, Config{})
	unsigned := func(guest string) Upload {
		u := r.sign("free", "m", Upload{Wasm: wasm.Module(guest)})
		u.Signatures.Ed25519 = nil
		return u
	}
	upload := func(s *Sandbox, u Upload) string {
		_, err := s.Upload(t.Context(), "free", "m", u)
		return step(t, err)
	}
	big := Upload{Wasm: wasm.Capped("size"), Version: 1}
	if got := upload(r.Sandbox, big); got != StepSize {
		t.Errorf("large and unsigned: %s", got)
	}
	if got := upload(r.Sandbox, unsigned("table-bomb")); got != StepSignature {
		t.Errorf("unsigned and bad structure: %s", got)
	}
	canary := r.sign("free", "m", Upload{Wasm: wasm.Module("forged-fuel"), Canary: &Canary{Function: "absent"}})
	if got := upload(r.Sandbox, canary); got != StepValidation {
		t.Errorf("invalid with a bad canary: %s", got)
	}
	bent := newRig(t, bad(defect.SandboxAdmissionReversed))
	if got := upload(bent.Sandbox, unsigned("table-bomb")); got != StepStructure {
		t.Errorf("with the defect: %s", got)
	}
}

// alterations are uploads of a signed module that must not be taken.
var alterations = []struct {
	name  string
	alter func(r *rig, u Upload) (tenant, name string, altered Upload)
	step  string
	taken defect.Name // by which it is taken
}{
	{"no ed25519", func(_ *rig, u Upload) (string, string, Upload) { u.Signatures.Ed25519 = nil; return "free", "m", u }, StepSignature, defect.SandboxUnsignedTaken},
	{"no mldsa65", func(_ *rig, u Upload) (string, string, Upload) { u.Signatures.MLDSA65 = nil; return "free", "m", u }, StepSignature, defect.SandboxUnsignedTaken},
	{"altered module", func(_ *rig, u Upload) (string, string, Upload) {
		u.Wasm = wasm.Module("spin")
		return "free", "m", u
	}, StepSignature, defect.SandboxSignatureUnchecked},
	{"altered ed25519", func(_ *rig, u Upload) (string, string, Upload) {
		u.Signatures.Ed25519 = append([]byte{u.Signatures.Ed25519[0] ^ 1}, u.Signatures.Ed25519[1:]...)
		return "free", "m", u
	}, StepSignature, defect.SandboxSignatureUnchecked},
	{"altered mldsa65", func(_ *rig, u Upload) (string, string, Upload) {
		u.Signatures.MLDSA65 = append([]byte{u.Signatures.MLDSA65[0] ^ 1}, u.Signatures.MLDSA65[1:]...)
		return "free", "m", u
	}, StepSignature, defect.SandboxSignatureUnchecked},
	{"other key", func(r *rig, u Upload) (string, string, Upload) {
		_, other, _ := ed25519.GenerateKey(nil)
		u.Signatures.Ed25519 = ed25519.Sign(other, SignedBytes("free", "m", u.Version, u.Wasm))
		return "free", "m", u
	}, StepSignature, defect.SandboxSignatureUnchecked},
	{"other tenant", func(_ *rig, u Upload) (string, string, Upload) { return "pro", "m", u }, StepSignature, defect.SandboxScopeUnchecked},
	{"other name", func(_ *rig, u Upload) (string, string, Upload) { return "free", "n", u }, StepSignature, defect.SandboxScopeUnchecked},
	{"other version", func(_ *rig, u Upload) (string, string, Upload) { u.Version += 5; return "free", "m", u }, StepSignature, defect.SandboxScopeUnchecked},
	{"same version", func(_ *rig, u Upload) (string, string, Upload) { return "free", "m", u }, StepVersion, defect.SandboxVersionRollback},
}

func TestSignatures(t *testing.T) {
	for _, a := range alterations {
		for _, d := range []defect.Name{"", a.taken} {
			r := newRig(t, bad(d))
			u := r.sign("free", "m", Upload{Wasm: wasm.Module("fib"), Version: 7})
			if _, err := r.Upload(t.Context(), "free", "m", u); err != nil {
				t.Fatal(err)
			}
			if a.step == StepSignature && a.name != "other tenant" && a.name != "other name" && a.name != "other version" {
				u = r.sign("free", "m", Upload{Wasm: u.Wasm, Version: 8})
			}
			tenant, name, altered := a.alter(r, u)
			_, err := r.Upload(t.Context(), tenant, name, altered)
			if d != "" {
				if err != nil {
					t.Errorf("%s with %s: %v", a.name, d, err)
				}
				continue
			}
			if got := step(t, err); got != a.step {
				t.Errorf("%s: refused at %s, want %s", a.name, got, a.step)
			}
		}
	}
	r := newRig(t, Config{})
	if err := r.SetTenant("keyless", Tenant{Tier: Free}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.try("keyless", "m", Upload{Wasm: wasm.Module("fib")}); step(t, err) != StepSignature {
		t.Error(err)
	}
	if _, err := r.try("nobody", "m", Upload{Wasm: wasm.Module("fib")}); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
	if _, err := r.try("free", "two\nlines", Upload{Wasm: wasm.Module("fib")}); step(t, err) != StepSignature {
		t.Error(err)
	}
}

func TestAdmit(t *testing.T) {
	r := newRig(t, Config{})
	u := r.sign("free", "filter", Upload{Wasm: wasm.Module("fib"), ABI: Proxy, Version: 3})
	for range 2 { // until a version is committed, it may be tried again
		a, err := r.Admit(t.Context(), "free", "filter", u)
		if err != nil || len(a.Wasm) <= len(u.Wasm) || a.Info.FuelSites == 0 {
			t.Fatalf("%+v, %v", a, err)
		}
		defer a.Commit()
	}
	a, err := r.Admit(t.Context(), "free", "filter", u)
	if err != nil {
		t.Fatal(err)
	}
	a.Commit()
	if _, err := r.Admit(t.Context(), "free", "filter", u); step(t, err) != StepVersion {
		t.Error(err)
	}
	u.Wasm = wasm.Module("traps")
	if _, err := r.Admit(t.Context(), "free", "filter", u); step(t, err) != StepSignature {
		t.Error(err)
	}
}

// Defects of which one call tells.
func TestPlantedDefects(t *testing.T) {
	invoke := func(tenant, guest, function string, args ...string) func(r *rig) string {
		return func(r *rig) string {
			u := Upload{Wasm: wasm.Module(guest)}
			if guest == "fib" || args != nil {
				u.Engine = Interpreter
			}
			if _, err := r.try(tenant, guest, u); err != nil {
				if refusal, ok := errors.AsType[*Refusal](err); ok {
					return "refused at " + refusal.Step
				}
				return "error"
			}
			if function == "" {
				return "taken"
			}
			a, err := r.call(tenant, guest, function, args...)
			if trap, ok := errors.AsType[*Trap](err); ok {
				return trap.Class
			}
			return strings.Join(a.Results, " ")
		}
	}
	capped := func(kind string) func(r *rig) string {
		return func(r *rig) string {
			if _, err := r.try("free", "m", Upload{Wasm: wasm.Capped(kind), Engine: Interpreter}); err != nil {
				return "refused at " + step(t, err)
			}
			return "taken"
		}
	}
	for _, c := range []struct {
		defect     defect.Name
		do         func(r *rig) string
		good, bent string
	}{
		{defect.SandboxInterpreterAbsent, invoke("free", "fib", "fib", "9"), "34", "refused at compile"},
		{defect.SandboxHostBoundsTrap, invoke("free", "bounds", "host_past"), "21", ClassHostError},
		{defect.SandboxHostPartialWrite, invoke("free", "bounds", "host_partial"), "0", "16"},
		{defect.SandboxTrapsAsInternal, invoke("free", "traps", "t_load"), ClassMemory, ClassInternal},
		{defect.SandboxFuelAsUnreachable, invoke("free", "spin", "spin"), ClassFuel, ClassUnreachable},
		{defect.SandboxEngineDiffers, invoke("free", "memory-bomb", "grow", "70000"), "-1", "-2"},
		{defect.SandboxPagesUnlimited, invoke("pro", "memory-bomb", "grow_all"), "64", "256"},
		{defect.SandboxInitialUnchecked, invoke("free", "memory-initial-17", ""), "refused at structure", "error"},
		{defect.SandboxTableUnchecked, invoke("free", "table-bomb", ""), "refused at structure", "taken"},
		{defect.SandboxCapsUnchecked, capped("functions"), "refused at structure", "taken"},
		{defect.SandboxCapsUnchecked, capped("size"), "refused at size", "taken"},
		{defect.SandboxRefusedAs500, invoke("free", "truncated", ""), "refused at structure", "error"},
	} {
		if got := c.do(newRig(t, Config{})); got != c.good {
			t.Errorf("without %s: %s, want %s", c.defect, got, c.good)
		}
		if got := c.do(newRig(t, bad(c.defect))); got != c.bent {
			t.Errorf("with %s: %s, want %s", c.defect, got, c.bent)
		}
	}
}

// What a planted defect leaves without a quota ends all the same.
func TestUnmeteredEnds(t *testing.T) {
	const bound = 300 * time.Millisecond
	for d, c := range map[defect.Name][]string{
		defect.SandboxCPUUnmetered:       {"spin", "spin"},
		defect.SandboxHostTimeFree:       {"busy", "busy_loop"},
		defect.SandboxRecursionUnmetered: {"spin", "spin_rec", "60"},
	} {
		t.Run(string(d), func(t *testing.T) {
			r := newRig(t, bad(d))
			r.bound = bound
			r.publish("free", c[0], Upload{})
			began := time.Now()
			_, err := r.call("free", c[0], c[1], c[2:]...)
			class(t, err)
			if took := time.Since(began); took < bound/3 {
				t.Errorf("ended after %s, %v", took, err)
			}
		})
	}
	t.Run(string(defect.SandboxStartUnmetered), func(t *testing.T) {
		r := newRig(t, bad(defect.SandboxStartUnmetered))
		r.bound = bound
		if _, err := r.try("free", "start-endless", Upload{Wasm: wasm.Module("start-endless")}); step(t, err) != StepInstantiate {
			t.Error(err)
		}
	})
}

// TestRefusedInstanceGivesMemoryBack uploads a module whose data segment begins behind its memory: it is refused when
// it is instantiated, after its memory was made.
func TestRefusedInstanceGivesMemoryBack(t *testing.T) {
	module := []byte("\x00asm\x01\x00\x00\x00" + "\x05\x03\x01\x00\x01" + // one page
		"\x0b\x09\x01\x00\x41\x80\x80\x04\x0b\x01x") // at 65536: x
	for _, engine := range []Engine{Compiler, Interpreter} {
		r := newRig(t, Config{})
		_, err := r.try("free", "outside", Upload{Wasm: module, ABI: Plain, Engine: engine})
		if at := step(t, err); at != "instantiate" {
			t.Errorf("%s: refused at %s: %v", engine, at, err)
		}
		if s := r.Stats().Tenants["free"]; s.MemoryBytes != 0 || s.Instances != 0 {
			t.Errorf("%s: %d bytes and %d instances are left", engine, s.MemoryBytes, s.Instances)
		}
	}
}
