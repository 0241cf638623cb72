package tpm

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"

	scenario "github.com/assay-bench/assay/scenarios/tpm"
	"github.com/assay-bench/assay/suites"
)

// Reasons of the checks of quotes.
const (
	reasonUnchecked   = "unchecked"    // what must be refused was accepted, or refused for another reason
	reasonWrongQuote  = "wrong-quote"  // a quote is not what was asked for
	reasonRefusedGood = "refused-good" // a good quote was not verified
	reasonHidden      = "hidden"       // a reset of the TPM does not show
)

// genuine says what is wrong with a quote of PCR 0 and 2 that a call of /verify carried, by the
// harness's own reading of it.
func (s *story) genuine(quote, verify string) error {
	q, _ := answer[scenario.Quoted](s, quote)
	asked := s.asked(verify)
	if err := scenario.VerifyAttest(q.Attest, q.Signature, q.Key); err != nil {
		return err
	}
	a, err := scenario.ParseAttest(q.Attest)
	switch {
	case err != nil:
		return err
	case a.Magic != scenario.AttestMagic || a.Type != scenario.AttestQuote:
		return fmt.Errorf("magic %#x, type %#x", a.Magic, a.Type)
	case !bytes.Equal(a.Extra, asked.Nonce):
		return fmt.Errorf("qualifyingData is %x, the challenge was %x", a.Extra, asked.Nonce)
	case !a.Selects(0, 2):
		return fmt.Errorf("selects %+v", a.Banks)
	case !bytes.Equal(a.Digest, asked.pcrDigest()):
		return fmt.Errorf("PCR digest %x, from the PCRs follows %x", a.Digest, asked.pcrDigest())
	}
	return nil
}

// verified sums up the answer to a call of /verify: ok, or a code.
func (s *story) verified(name string) string {
	v, answered := answer[scenario.Verified](s, name)
	switch {
	case !answered:
		return "no answer"
	case v.OK:
		return "ok"
	case v.Error == nil:
		return "refused without a code"
	}
	return v.Error.Code
}

// forger is a case in which one thing about a quote is wrong.
type forger struct {
	id, title string
	codes     []string // that name what is wrong
	forge     func(ctx context.Context, b *bench, good scenario.Quoted, nonce []byte) (scenario.Forgery, error)
}

// forgeries is the frame of checks that have a good quote verified, then one with a fault.
type forgeries struct {
	want  string
	cases []forger
}

func (f forgeries) check(c suites.Check) suites.Check {
	for _, x := range f.cases {
		c.Cases = append(c.Cases, suites.Case{ID: x.id, Title: x.title})
	}
	c.Reasons = []string{reasonUnchecked, reasonWrongQuote, reasonRefusedGood, reasonNoBite}
	c.Drive = driving(setup{}, f.drive)
	c.Judge = judging(f.want, f.judge)
	return c
}

func (f forgeries) of(id string) forger {
	i := slices.IndexFunc(f.cases, func(x forger) bool { return x.id == id })
	return f.cases[max(i, 0)] // the frame asks only for cases that exist
}

func (f forgeries) drive(ctx context.Context, b *bench) error {
	nonce := b.response(20)
	good, err := b.quote(ctx, "quote", nonce, 0, 2)
	if err != nil || len(good.Attest) == 0 || len(good.Signature) == 0 {
		return err // there is nothing to bend
	}
	if err := b.verify(ctx, "verify", good.Attest, good.Signature, nonce); err != nil {
		return err
	}
	x, err := f.of(b.env.Key.Case).forge(ctx, b, good, nonce)
	if err != nil {
		return err
	}
	x.Name = "forged"
	if err := b.env.Record(scenario.Forged, x); err != nil || x.Error != "" {
		return err
	}
	return b.verify(ctx, "verify forged", x.Attest, x.Signature, nonce)
}

func (f forgeries) judge(t suites.Trace, s *story) suites.Finding {
	x := f.of(t.Key.Case)
	if err := s.genuine("quote", "verify"); err != nil {
		return s.fail(reasonWrongQuote, "", "the quote: "+err.Error())
	}
	observed := fmt.Sprintf("a good quote: %s; with the fault: %s", s.verified("verify"), s.verified("verify forged"))
	if s.verified("verify") != "ok" {
		return s.fail(reasonRefusedGood, "", observed)
	}
	if forged, made := s.forgeries["forged"]; made && forged.Error != "" {
		return s.unsure("", "the fault could not be made: "+forged.Error)
	}
	if !slices.Contains(x.codes, s.verified("verify forged")) {
		return s.fail(reasonUnchecked, "", fmt.Sprintf("%s, want it refused as %v", observed, x.codes))
	}
	return s.pass("", observed)
}

// signedByTPM has the target's own key sign something else while it makes a quote.
func signedByTPM(ctx context.Context, b *bench, nonce []byte, f func(t *scenario.Direct, command []byte) (attest, signature []byte, err error)) (x scenario.Forgery, err error) {
	x.Error = "the target sent no TPM2_Quote"
	err = b.device.Before(tpm2.TPMCCQuote, 1, "sign something else", func(t *scenario.Direct, command []byte) error {
		attest, signature, err := f(t, command)
		x = scenario.Forgery{Attest: attest, Signature: signature}
		if err != nil {
			x.Error = err.Error()
		}
		return err
	})
	if err != nil {
		return x, err
	}
	_, err = b.quote(ctx, "quote for the fault", nonce, 0, 2)
	return x, err
}

var _ = addQuote(forgeries{
	want: "a quote is verified under the enrolled key; a wrong signature, magic or type is refused for what it is",
	cases: []forger{
		{
			id: "flipped", title: "a bit of the signature is flipped", codes: []string{"quote_signature"},
			forge: func(_ context.Context, _ *bench, good scenario.Quoted, _ []byte) (scenario.Forgery, error) {
				signature := bytes.Clone(good.Signature)
				signature[len(signature)-1] ^= 1
				return scenario.Forgery{Attest: good.Attest, Signature: signature}, nil
			},
		},
		{
			id: "other-key", title: "another key signed", codes: []string{"quote_signature"},
			forge: func(_ context.Context, _ *bench, good scenario.Quoted, _ []byte) (scenario.Forgery, error) {
				signature, err := scenario.SignAsOther(good.Attest)
				return scenario.Forgery{Attest: good.Attest, Signature: signature}, err
			},
		},
		{
			id: "magic", title: "the enrolled key signed what no TPM generated", codes: []string{"quote_magic"},
			forge: func(ctx context.Context, b *bench, good scenario.Quoted, nonce []byte) (scenario.Forgery, error) {
				attest := bytes.Clone(good.Attest)
				attest[0] ^= 0xff // of the magic's four bytes
				return signedByTPM(ctx, b, nonce, func(t *scenario.Direct, command []byte) ([]byte, []byte, error) {
					signature, err := t.SignBytes(command, attest)
					return attest, signature, err
				})
			},
		},
		{
			id: "type", title: "the enrolled key signed the time", codes: []string{"quote_type"},
			forge: func(ctx context.Context, b *bench, _ scenario.Quoted, nonce []byte) (scenario.Forgery, error) {
				return signedByTPM(ctx, b, nonce, func(t *scenario.Direct, command []byte) ([]byte, []byte, error) {
					return t.AttestTime(command, nonce)
				})
			},
		},
	},
}.check(suites.Check{
	ID: "tpm/quote/signature", Title: "signature, magic and type of a quote are checked", Covers: []string{"tpm/quote/signature"},
	Kills: append(append(killIn("flipped", reasonUnchecked, "tpm.quote-signature-unchecked"),
		killIn("other-key", reasonUnchecked, "tpm.quote-signature-unchecked")...),
		append(killIn("magic", reasonUnchecked, "tpm.quote-magic-unchecked"),
			killIn("type", reasonUnchecked, "tpm.quote-magic-unchecked")...)...),
}))

// another makes a quote of its own and passes it off as the answer to the case's challenge.
func another(nonce func(b *bench, nonce []byte) []byte, pcrs ...uint) func(context.Context, *bench, scenario.Quoted, []byte) (scenario.Forgery, error) {
	return func(ctx context.Context, b *bench, _ scenario.Quoted, challenge []byte) (scenario.Forgery, error) {
		q, err := b.quote(ctx, "quote for the fault", nonce(b, challenge), pcrs...)
		x := scenario.Forgery{Attest: q.Attest, Signature: q.Signature}
		if q.Error != nil {
			x.Error = "no quote of that kind: " + q.Error.Code
		}
		return x, err
	}
}

func sameNonce(_ *bench, nonce []byte) []byte { return nonce }

var _ = addQuote(forgeries{
	want: "a quote holds for its own challenge alone",
	cases: []forger{
		{
			id: "replayed", title: "an earlier quote for another challenge", codes: []string{"quote_nonce"},
			forge: another(func(b *bench, nonce []byte) []byte { return b.response(len(nonce)) }, 0, 2),
		},
		{
			id: "prefix", title: "the challenge without its last byte", codes: []string{"quote_nonce"},
			forge: another(func(_ *bench, nonce []byte) []byte { return nonce[:len(nonce)-1] }, 0, 2),
		},
	},
}.check(suites.Check{
	ID: "tpm/quote/nonce-bound", Title: "a quote is bound to its challenge", Covers: []string{"tpm/quote/nonce-bound"},
	Kills: append(killIn("replayed", reasonUnchecked, "tpm.quote-nonce-unchecked"), killIn("prefix", reasonUnchecked, "tpm.quote-nonce-unchecked")...),
}))

var _ = addQuote(forgeries{
	want: "a quote selects PCR 0 and 2 of the SHA-256 bank, and its digest follows from their values",
	cases: []forger{
		{id: "pcr0-only", title: "PCR 0 alone is quoted", codes: []string{"quote_selection"}, forge: another(sameNonce, 0)},
		{id: "equal-values", title: "other PCRs of the same values are quoted", codes: []string{"quote_selection"}, forge: another(sameNonce, 3, 4)},
		{
			id: "extended", title: "PCR 2 was extended before the quote, the old value is expected", codes: []string{"quote_digest"},
			forge: quoteExtended,
		},
	},
}.check(suites.Check{
	ID: "tpm/quote/pcr-digest", Title: "selection and digest of a quote are checked", Covers: []string{"tpm/quote/pcr-digest"},
	Kills: append(killIn("equal-values", reasonUnchecked, "tpm.quote-selection-unchecked"),
		killIn("extended", reasonUnchecked, "tpm.quote-digest-unchecked")...),
}))

// quoteExtended makes a quote while PCR 2 is extended, and resets the TPM so that the values are again
// what they were.
func quoteExtended(ctx context.Context, b *bench, _ scenario.Quoted, nonce []byte) (scenario.Forgery, error) {
	if err := b.device.Extend(2, b.digest()); err != nil {
		return scenario.Forgery{}, err
	}
	q, err := b.quote(ctx, "quote for the fault", nonce, 0, 2)
	if err != nil {
		return scenario.Forgery{}, err
	}
	x := scenario.Forgery{Attest: q.Attest, Signature: q.Signature}
	if q.Error != nil {
		x.Error = "no quote: " + q.Error.Code
	}
	return x, b.device.Reset()
}

const wantReset = "a reset between two quotes shows in the answers to their verification"

var _ = addQuote(suites.Check{
	ID: "tpm/quote/reset-visible", Title: "a reset of the TPM shows", Covers: []string{"tpm/quote/reset-visible"},
	Reasons: []string{reasonHidden, reasonWrongQuote, reasonRefusedGood, reasonNoBite},
	Drive:   driving(setup{}, quoteAroundReset),
	Judge:   judging(wantReset, judgeReset),
	Kills:   kill(reasonHidden, "tpm.reset-hidden"),
})

func quoteAroundReset(ctx context.Context, b *bench) error {
	for _, when := range []string{"before", "after"} {
		nonce := b.response(16)
		q, err := b.quote(ctx, "quote "+when, nonce, 0, 2)
		if err != nil {
			return err
		}
		if err := b.verify(ctx, "verify "+when, q.Attest, q.Signature, nonce); err != nil {
			return err
		}
		if when == "before" {
			if err := b.device.Reset(); err != nil {
				return err
			}
		}
	}
	return nil
}

func judgeReset(_ suites.Trace, s *story) suites.Finding {
	var counts [2][2]uint32
	for i, when := range []string{"before", "after"} {
		if err := s.genuine("quote "+when, "verify "+when); err != nil {
			return s.fail(reasonWrongQuote, "", "the quote "+when+" the reset: "+err.Error())
		}
		if got := s.verified("verify " + when); got != "ok" {
			return s.fail(reasonRefusedGood, "", "the quote "+when+" the reset: "+got)
		}
		q, _ := answer[scenario.Quoted](s, "quote "+when)
		if a, err := scenario.ParseAttest(q.Attest); err == nil {
			counts[i] = [2]uint32{a.Resets, a.Restarts}
		}
	}
	before, _ := answer[scenario.Verified](s, "verify before")
	after, _ := answer[scenario.Verified](s, "verify after")
	observed := fmt.Sprintf("the quotes say %v and %v; reported were %d/%d, then %d/%d, changed %t then %t", counts[0], counts[1],
		before.Resets, before.Restarts, after.Resets, after.Restarts, before.Changed, after.Changed)
	switch {
	case counts[0] == counts[1]:
		return s.unsure("", observed)
	case before.Changed || !after.Changed, [2]uint32{after.Resets, after.Restarts} != counts[1]:
		return s.fail(reasonHidden, "", observed)
	}
	return s.pass("", observed)
}
