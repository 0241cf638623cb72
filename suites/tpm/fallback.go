package tpm

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/go-tpm/tpm2"

	scenario "github.com/assay-bench/assay/scenarios/tpm"
	"github.com/assay-bench/assay/suites"
)

const wantFallback = "whatever is wrong with the cache is named, and the handshake gets a current staple, from the responder where the cache can not serve"

// trouble is something that is wrong with the cache when a handshake asks for a staple.
type trouble struct {
	id, title string
	harm      func(context.Context, *bench, *scenario.Certificate) error
	end       func(context.Context, *bench) error
	codes     []string // of which one must be named
	mild      bool     // the cache may serve all the same, and then nothing needs a name
}

// simply is harm that needs no certificate.
func simply(f func(context.Context, *bench) error) func(context.Context, *bench, *scenario.Certificate) error {
	return func(ctx context.Context, b *bench, _ *scenario.Certificate) error { return f(ctx, b) }
}

var troubles = []trouble{
	{id: "pcr-changed", title: "PCR 2 is extended", harm: simply(extending(2)), codes: changed()},
	{id: "reset", title: "the TPM is reset", harm: simply(reset), mild: true},
	{
		id: "lockout", title: "the TPM locks out", codes: []string{"TPM_RC_LOCKOUT"},
		harm: simply(respond(scenario.Any, tpm2.TPMRCLockout, scenario.Forever)),
	},
	{
		id: "sessions-exhausted", title: "another program has all sessions", mild: true, end: clearForeign,
		harm:  simply(func(_ context.Context, b *bench) error { _, err := b.device.ExhaustSessions(64); return err }),
		codes: []string{"TPM_RC_SESSION_MEMORY", "TPM_RC_SESSION_HANDLES", "TPM_RC_MEMORY"},
	},
	{
		id: "wiped", title: "the TPM is manufactured anew", codes: []string{"TPM_RC_INTEGRITY", "entry_rolled_back"},
		harm: simply(func(_ context.Context, b *bench) error { return b.device.Wipe() }),
	},
	{id: "tampered", title: "a byte of each file is inverted", harm: simply(tamperAll), codes: []string{"entry_tampered", "TPM_RC_INTEGRITY"}},
	{id: "rolled-back", title: "the files are replaced by older ones", harm: rollBackStaple, codes: []string{"entry_rolled_back", "entry_tampered"}},
	{id: "expired", title: "the stored staple has expired", harm: storeExpired, codes: []string{"entry_expired", "entry_absent"}},
}

// tamperAll inverts the last byte of each file.
func tamperAll(_ context.Context, b *bench) error {
	files, err := b.folder.Snapshot()
	if err != nil {
		return err
	}
	for _, name := range files.Names() {
		if n := len(files[name]); n > 0 {
			files = files.Flipped(name, n-1)
		}
	}
	return b.folder.Restore("last bytes inverted", files)
}

// rollBackStaple stores a newer staple and brings the files from before it back.
func rollBackStaple(ctx context.Context, b *bench, c *scenario.Certificate) error {
	older, err := b.folder.Snapshot()
	if err != nil {
		return err
	}
	if err := b.storeStaple(ctx, "newer", c, lifetime); err != nil {
		return err
	}
	return b.folder.Restore("older copy", older)
}

// storeExpired stores a staple that expired an hour ago in place of the good one.
func storeExpired(ctx context.Context, b *bench, c *scenario.Certificate) error {
	return b.storeStaple(ctx, "newer", c, -lifetime)
}

func troubleOf(id string) trouble {
	i := slices.IndexFunc(troubles, func(x trouble) bool { return x.id == id })
	return troubles[max(i, 0)] // the frame asks only for cases that exist
}

func fallback() suites.Check {
	c := suites.Check{
		ID: "tpm/fault/fallback", Title: "trouble with the cache costs no handshake its staple", Covers: []string{"tpm/fault/fallback"},
		Cost:    suites.Cost{Time: 300 * time.Millisecond},
		Reasons: []string{reasonBlocked, reasonUnstapled, reasonStale, reasonNotStored, reasonWrongCode},
		Drive:   driving(setup{serve: true, responder: true}, driveTrouble),
		Judge:   judging(wantFallback, judgeTrouble),
		Kills:   killIn("expired", reasonStale, "tpm.expired-served"),
	}
	for _, x := range troubles {
		c.Cases = append(c.Cases, suites.Case{ID: x.id, Title: x.title})
		if !x.mild {
			c.Kills = append(c.Kills, killIn(x.id, reasonUnstapled, "tpm.responder-skipped")...)
		}
	}
	return c
}

var _ = add(fallback())

func driveTrouble(ctx context.Context, b *bench) error {
	x := troubleOf(b.env.Key.Case)
	c, err := b.answering()
	if err != nil || c == nil {
		return err
	}
	if err := b.storeStaple(ctx, "store", c, lifetime); err != nil {
		return err
	}
	if ok, err := b.handshake(ctx, "before"); err != nil || !ok {
		return err
	}
	if err := b.status(ctx, "counted"); err != nil {
		return err
	}
	if err := x.harm(ctx, b, c); err != nil {
		return err
	}
	if _, err := b.handshake(ctx, "during"); err != nil {
		return err
	}
	if _, err := b.get(ctx, "during", b.opened.ID); err != nil {
		return err
	}
	if err := b.status(ctx, "told"); err != nil {
		return err
	}
	if err := b.device.Heal(); err != nil {
		return err
	}
	if x.end != nil {
		if err := x.end(ctx, b); err != nil {
			return err
		}
	}
	_, err = b.handshake(ctx, "after")
	return err
}

// named collects the codes that the target counted or answered with between the two calls of /status.
func (s *story) named() []string {
	before, _ := answer[scenario.Status](s, "counted")
	after, _ := answer[scenario.Status](s, "told")
	codes := map[string]bool{}
	for code, n := range after.Errors {
		if n > before.Errors[code] {
			codes[code] = true
		}
	}
	if g, ok := answer[scenario.Got](s, "during"); ok && g.Error != nil {
		codes[g.Error.Code] = true
	}
	return slices.Sorted(maps.Keys(codes))
}

func judgeTrouble(t suites.Trace, s *story) suites.Finding {
	x := troubleOf(t.Key.Case)
	before, during, after := s.stapled("before", "store"), s.stapled("during", "store", "newer"), s.stapled("after", "store", "newer")
	named := s.named()
	observed := fmt.Sprintf("before: %s; during: %s, named %v; after: %s; %s", before, during, named, after, s.tale("store", "newer", "during"))
	switch {
	case s.looks[lookCertificate] != 1:
		return s.fail(reasonNoSession, "", "no leaf, issuer and key of the issuer to make a staple with")
	case !s.stored("store"):
		return s.fail(reasonNotStored, "", observed)
	case before != fromStore:
		return s.fail(unstapledReason(before), "", observed)
	case x.mild && during == fromStore: // the cache did not mind
	case during != fromResponder:
		return s.fail(unstapledReason(during), "", observed)
	case len(x.codes) > 0 && !slices.ContainsFunc(x.codes, func(code string) bool { return slices.Contains(named, code) }):
		return s.fail(reasonWrongCode, "", observed+fmt.Sprintf("; want one of %v named", x.codes))
	}
	if after == noHandshake || after == noStaple || after == fromElsewhere {
		return s.fail(unstapledReason(after), "", observed)
	}
	return s.pass("", observed)
}
