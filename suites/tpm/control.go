package tpm

import (
	"context"
	"fmt"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	scenario "github.com/assay-bench/assay/scenarios/tpm"
	"github.com/assay-bench/assay/suites"
)

// smallResponse is a size that also fits where a response is not put into an envelope.
const smallResponse = 96

// reasonAbsent is given by the probes of features.
const reasonAbsent = "absent"

// driveCache stores a small response and gets it back.
func driveCache(ctx context.Context, b *bench) error {
	if err := b.store(ctx, "store", "control", b.response(smallResponse)); err != nil {
		return err
	}
	_, err := b.get(ctx, "get", "control")
	return err
}

// cacheWorks judges driveCache.
func (s *story) cacheWorks() (ok bool, observed string) {
	return s.opened("open") && s.stored("store") && s.sameAs("get", "store") == "", s.tale("alive", "open", "store", "get")
}

// cacheControl is the positive control of the cache: silence and refusals mean something only where a
// response can be stored and comes back.
func cacheControl() *suites.Control {
	return &suites.Control{Drive: driving(setup{}, driveCache), Judge: controlled((*story).cacheWorks)}
}

// openControl asks only for a session.
func openControl() *suites.Control {
	return &suites.Control{
		Drive: driving(setup{}, func(context.Context, *bench) error { return nil }),
		Judge: controlled(func(s *story) (bool, string) { return s.opened("open"), s.tale("alive", "open") }),
	}
}

// driveQuote quotes PCR 0 and 2 and has the quote verified.
func driveQuote(ctx context.Context, b *bench) error {
	nonce := b.response(16)
	q, err := b.quote(ctx, "quote", nonce, 0, 2)
	if err != nil {
		return err
	}
	return b.verify(ctx, "verify", q.Attest, q.Signature, nonce)
}

// quoteWorks judges driveQuote: the signature must hold for the harness too.
func (s *story) quoteWorks() (ok bool, observed string) {
	q, _ := answer[scenario.Quoted](s, "quote")
	signed := "its signature holds"
	err := scenario.VerifyAttest(q.Attest, q.Signature, q.Key)
	if err != nil {
		signed = err.Error()
	}
	observed = fmt.Sprintf("%s; the quote: %s; the target's verification: %s", s.tale("alive", "open", "quote", "verify"), signed, s.verified("verify"))
	return s.opened("open") && err == nil && s.verified("verify") == "ok", observed
}

func quoteControl() *suites.Control {
	return &suites.Control{Drive: driving(setup{}, driveQuote), Judge: controlled((*story).quoteWorks)}
}

func controlled(works func(*story) (bool, string)) func([]results.Evidence) (bool, string) {
	return func(evidence []results.Evidence) (bool, string) {
		s, err := tell(evidence)
		if err != nil {
			return false, err.Error()
		}
		return works(s)
	}
}

// claim probes a feature with what its control does.
func claim(f features.Feature, defect, want string, try func(context.Context, *bench) error, works func(*story) (bool, string)) suites.Check {
	return suites.Check{
		ID: "claims/" + string(f), Title: "the claimed feature " + string(f) + " is there",
		Covers: []string{"claims/" + string(f)}, Needs: []features.Feature{f}, Reasons: []string{reasonAbsent},
		Drive: func(ctx context.Context, env *scenarios.Env) error { return drive(ctx, env, setup{}, try) },
		Judge: func(t suites.Trace) suites.Finding {
			s, err := tell(t.Evidence)
			if err != nil {
				return suites.Finding{Observed: err.Error()}
			}
			ok, observed := works(s)
			if !ok {
				return s.fail(reasonAbsent, want, observed)
			}
			return s.pass(want, observed)
		},
		Kills: kill(reasonAbsent, defect),
	}
}

var (
	_ = addClaim(claim(features.TPMCache, "tpm.cache-absent", "a stored response comes back from the cache", driveCache, (*story).cacheWorks))
	_ = addClaim(claim(features.TPMQuote, "tpm.quote-absent", "a quote is made and verified", driveQuote, (*story).quoteWorks))
)
