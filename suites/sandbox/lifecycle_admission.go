package sandbox

import (
	"github.com/assay-bench/assay/fixtures/wasm"
	scenario "github.com/assay-bench/assay/scenarios/sandbox"
	"github.com/assay-bench/assay/suites"
	"strings"
)

// unsign takes both signatures away.
func unsign(_ *bench, u *scenario.Upload) error {
	u.Signatures = scenario.Signatures{}
	return nil
}

// sing has a canary that sings another song than get.
func sing(_ *bench, u *scenario.Upload) error {
	u.Canary = &scenario.Canary{Function: "get", Results: []string{"-12345"}}
	return nil
}

// older signs the upload for a version that is not greater than the one before.
func older(by uint64) func(*bench, *scenario.Upload) error {
	return func(b *bench, u *scenario.Upload) error {
		u.Version -= by
		return b.sign(u)
	}
}

func five() []byte         { return constant(5) }
func six() []byte          { return constant(6) }
func unsoundWide() []byte  { return unsound(65) } // one page above the tier
func unsoundSmall() []byte { return unsound(1) }

var _ = add(refusedRow{[]refusedCase{
	{id: "size-signature", title: "too large and unsigned", code: capped("size"), bend: unsign, steps: []string{"size"}},
	{id: "signature-structure", title: "unsigned and a table bomb", code: guest("table-bomb"), bend: unsign, steps: []string{"signature"}},
	{id: "version-structure", title: "an older version and a table bomb", before: five, code: guest("table-bomb"), bend: older(2), steps: []string{"version"}},
	{id: "structure-validation", title: "too many pages and invalid code", code: unsoundWide, steps: []string{"structure"}},
	{id: "validation-canary", title: "invalid code and a failing canary", code: unsoundSmall, bend: sing, steps: []string{"validation"}},
	{id: "instantiate-canary", title: "an endless start and a failing canary", code: guest("start-endless"), bend: sing, steps: []string{"instantiate"}},
	{id: "canary", title: "a failing canary alone", code: six, bend: sing, steps: []string{"canary"}},
}}.check(suites.Check{
	ID: "sandbox/lifecycle/admission-order", Title: "the earliest step that fails is named", Covers: []string{"sandbox/lifecycle/admission-order"},
	Cost:  suites.Cost{Time: 300 * ms},
	Kills: kills(killIn("signature-structure", reasonWrongStep, "sandbox.admission-reversed"), killIn("canary", reasonTaken, "sandbox.canary-ignored")),
}))

// flip inverts a bit of a copy.
func flip(b []byte, at int) []byte {
	out := append([]byte(nil), b...)
	if len(out) > 0 {
		out[at%len(out)] ^= 1
	}
	return out
}

var signatureStep = []string{"signature"}

var _ = add(refusedRow{[]refusedCase{
	{id: "none", title: "no signature", code: five, bend: unsign, steps: signatureStep},
	{id: "no-ed25519", title: "the signature of Ed25519 is missing", code: five, steps: signatureStep, bend: func(_ *bench, u *scenario.Upload) error {
		u.Signatures.Ed25519 = nil
		return nil
	}},
	{id: "no-mldsa65", title: "the signature of ML-DSA-65 is missing", code: five, steps: signatureStep, bend: func(_ *bench, u *scenario.Upload) error {
		u.Signatures.MLDSA65 = nil
		return nil
	}},
	{id: "flipped-module", title: "another constant than was signed", code: five, steps: signatureStep, bend: func(_ *bench, u *scenario.Upload) error {
		u.Wasm = constant(7)
		return nil
	}},
	{id: "flipped-ed25519", title: "a bit of the signature of Ed25519", code: five, steps: signatureStep, bend: func(_ *bench, u *scenario.Upload) error {
		u.Signatures.Ed25519 = flip(u.Signatures.Ed25519, 20)
		return nil
	}},
	{id: "flipped-mldsa65", title: "a bit of the signature of ML-DSA-65", code: five, steps: signatureStep, bend: func(_ *bench, u *scenario.Upload) error {
		u.Signatures.MLDSA65 = flip(u.Signatures.MLDSA65, 1000)
		return nil
	}},
	{id: "other-key", title: "keys that are not the tenant's", code: five, steps: signatureStep, bend: func(_ *bench, u *scenario.Upload) error {
		stranger, err := scenario.NewSigner()
		if err == nil {
			u.Signatures, err = stranger.Sign(scenario.SignedBytes(u.Tenant, u.Module, u.Version, u.Wasm))
		}
		return err
	}},
}}.check(suites.Check{
	ID: "sandbox/lifecycle/signature-required", Title: "unsigned and altered modules are refused", Covers: []string{"sandbox/lifecycle/signature-required"},
	Kills: kills(killIn("none", reasonTaken, "sandbox.unsigned-taken"), killIn("no-mldsa65", reasonTaken, "sandbox.unsigned-taken"),
		killIn("flipped-ed25519", reasonTaken, "sandbox.signature-unchecked"), killIn("flipped-module", reasonTaken, "sandbox.signature-unchecked"),
		killIn("other-key", reasonTaken, "sandbox.signature-unchecked")),
}))

// otherTenant and otherName are where a replayed upload was published first.
func otherTenant(u *scenario.Upload) { u.Tenant = strings.TrimSuffix(u.Tenant, "-a") + "-b" }
func otherName(u *scenario.Upload)   { u.Module += "-else" }

// signedFor signs the upload as if it were another one.
func signedFor(change func(*scenario.Upload)) func(*bench, *scenario.Upload) error {
	return func(b *bench, u *scenario.Upload) error {
		other := *u
		change(&other)
		if err := b.sign(&other); err != nil {
			return err
		}
		u.Signatures = other.Signatures
		return nil
	}
}

var _ = add(refusedRow{[]refusedCase{
	{id: "tenant", title: "signed for another tenant, where it is published", code: five, steps: signatureStep, replayed: true, bend: signedFor(otherTenant)},
	{id: "name", title: "signed for another name, under which it is published", code: five, steps: signatureStep, replayed: true, bend: signedFor(otherName)},
	{id: "version", title: "signed for the version before, which serves", before: five, code: five, steps: signatureStep, bend: signedFor(func(u *scenario.Upload) { u.Version-- })},
}}.check(suites.Check{
	ID: "sandbox/lifecycle/signature-scope", Title: "tenant, name and version are signed", Covers: []string{"sandbox/lifecycle/signature-scope"},
	Kills: kills(killIn("tenant", reasonTaken, "sandbox.scope-unchecked"), killIn("name", reasonTaken, "sandbox.scope-unchecked"),
		killIn("version", reasonTaken, "sandbox.scope-unchecked")),
}))

var _ = add(refusedRow{[]refusedCase{
	{id: "equal", title: "the same version again", before: five, code: six, bend: older(1), steps: []string{"version"}},
	{id: "lower", title: "a lower one", before: five, code: six, bend: older(2), steps: []string{"version"}},
}}.check(suites.Check{
	ID: "sandbox/lifecycle/no-version-rollback", Title: "a version that is not greater is refused", Covers: []string{"sandbox/lifecycle/no-version-rollback"},
	Kills: kills(killIn("equal", reasonTaken, "sandbox.version-rollback"), killIn("lower", reasonTaken, "sandbox.version-rollback")),
}))

var _ = add(refusedRow{[]refusedCase{
	{id: "unsigned", title: "an unsigned version", before: five, code: six, bend: unsign, steps: signatureStep},
	{id: "structure", title: "a table bomb", before: five, code: guest("table-bomb"), steps: []string{"structure"}},
	{id: "import", title: "an unknown import", before: five, code: guest("unknown-import"), steps: []string{"structure"}},
	{id: "invalid", title: "invalid code", before: five, code: unsoundSmall, steps: []string{"validation"}},
	{id: "cut", title: "a module that was cut off", before: five, code: func() []byte { return constant(6)[:len(constant(6))-3] }, steps: []string{"structure", "validation"}},
	{id: "text", title: "no module at all", before: five, code: func() []byte { return []byte("hello, I am text") }, steps: []string{"structure", "validation"}},
	{id: "start", title: "an endless start function", before: five, code: guest("start-endless"), steps: []string{"instantiate"}},
	{id: "canary", title: "a canary that gives another result", before: five, code: six, bend: sing, steps: []string{"canary"}},
	{id: "pages", title: "more pages than the tier has", before: five, code: func() []byte { return wasm.Module("memory-initial-65") }, steps: []string{"structure"}},
}}.check(suites.Check{
	ID: "sandbox/lifecycle/reload-refused", Title: "a refused version leaves the old one in service", Covers: []string{"sandbox/lifecycle/reload-refused"},
	Kills: kills(killIn("unsigned", reasonNotServed, "sandbox.refused-replaces"), killIn("structure", reasonNotServed, "sandbox.refused-replaces"),
		killIn("canary", reasonTaken, "sandbox.canary-ignored")),
}))
