package tpm

import (
	"context"
	"fmt"

	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/suites"
)

const wantEnvelope = "a response of any size is stored and comes back whole from the cache"

// sizes are the lengths of an OCSP response by ECDSA P-256, by ML-DSA-65, and by ML-DSA-87 with the
// certificate of a delegate.
var sizes = map[string]int{"ecdsa": 264, "mldsa": 3508, "mldsa-delegate": 12000}

var _ = add(suites.Check{
	ID: "tpm/seal/envelope", Title: "responses of any size are stored", Covers: []string{"tpm/seal/envelope"},
	Cases: []suites.Case{
		{ID: "ecdsa", Title: "264 bytes"}, {ID: "mldsa", Title: "3,508 bytes"}, {ID: "mldsa-delegate", Title: "12,000 bytes"},
	},
	Control: openControl(), // a store is what this is about
	Reasons: []string{reasonNotStored, reasonNotServed, reasonAltered},
	Drive: driving(setup{}, func(ctx context.Context, b *bench) error {
		if err := b.store(ctx, "store", entry, b.response(sizes[b.env.Key.Case])); err != nil {
			return err
		}
		return b.gets(ctx, "get")
	}),
	Judge: judging(wantEnvelope, func(_ suites.Trace, s *story) suites.Finding {
		observed := s.tale("store", "get")
		if !s.stored("store") {
			return s.fail(reasonNotStored, "", observed)
		}
		if reason := s.sameAs("get", "store"); reason != "" {
			return s.fail(reason, "", observed)
		}
		return s.pass("", observed)
	}),
	Kills: kill(reasonNotStored, "tpm.envelope-absent"),
})

const (
	reasonNotSealed = "not-sealed" // 128 bytes were refused
	reasonTruncated = "truncated"  // 129 bytes were taken
	wantDirect      = "128 bytes are sealed and come back; 129 give TPM_RC_SIZE"
	maxDirect       = 128 // bytes: MAX_SYM_DATA of TPM 2.0 Library part 2
)

var _ = add(suites.Check{
	ID: "tpm/seal/direct-limit", Title: "what is too long to seal is refused and not cut", Covers: []string{"tpm/seal/direct-limit"},
	Reasons: []string{reasonNotSealed, reasonAltered, reasonTruncated, reasonWrongCode},
	Drive:   func(ctx context.Context, env *scenarios.Env) error { return drive(ctx, env, setup{}, sealBoth) },
	Judge:   judging(wantDirect, judgeDirect),
	Kills:   kill(reasonTruncated, "tpm.truncates-at-128"),
})

// sealBoth seals and unseals 128 bytes, and seals 129.
func sealBoth(ctx context.Context, b *bench) error {
	fitting, err := b.seal(ctx, "seal 128", b.response(maxDirect))
	if err != nil {
		return err
	}
	if len(fitting) > 0 {
		if err := b.unseal(ctx, "unseal 128", fitting); err != nil {
			return err
		}
	}
	beyond, err := b.seal(ctx, "seal 129", b.response(maxDirect+1))
	if err != nil || len(beyond) == 0 {
		return err
	}
	return b.unseal(ctx, "unseal 129", beyond)
}

func judgeDirect(_ suites.Trace, s *story) suites.Finding {
	fits, fitsOK := answer[sealed](s, "seal 128")
	back, backOK := answer[sealed](s, "unseal 128")
	beyond, beyondOK := answer[sealed](s, "seal 129")
	observed := s.tale("seal 128", "unseal 128", "seal 129", "unseal 129")
	switch {
	case !fitsOK || !beyondOK:
		return s.fail(reasonNoSession, "", observed)
	case fits.Error != nil || len(fits.Blob) == 0:
		return s.fail(reasonNotSealed, "", observed)
	case !backOK || back.Error != nil || string(back.Data) != string(s.sealedBy("seal 128")):
		return s.fail(reasonAltered, "", fmt.Sprintf("%d bytes came back; %s", len(back.Data), observed))
	case beyond.Error == nil:
		return s.fail(reasonTruncated, "", observed)
	case beyond.Error.Code != "TPM_RC_SIZE":
		return s.fail(reasonWrongCode, "", observed)
	}
	return s.pass("", observed)
}
