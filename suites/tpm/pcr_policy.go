package tpm

import (
	"context"

	"github.com/assay-bench/assay/suites"
)

// changed are the words for PCRs that are not those that the entry was sealed under.
func changed() []string { return []string{"TPM_RC_POLICY_FAIL", "TPM_RC_PCR_CHANGED", "pcr_changed"} }

func extending(pcr uint) func(context.Context, *bench) error {
	return func(_ context.Context, b *bench) error { return b.device.Extend(pcr, b.digest()) }
}

var _ = add(episode{
	want: "after a PCR changed the entry is not served, the reason is named, and it can be stored again",
	acts: []act{
		{id: "pcr0", title: "PCR 0 is extended", harm: extending(0), codes: changed()},
		{id: "pcr2", title: "PCR 2 is extended", harm: extending(2), codes: changed()},
	},
}.check(suites.Check{
	ID: "tpm/seal/pcr-policy", Title: "an entry opens only with the sealed PCR values", Covers: []string{"tpm/seal/pcr-policy"},
	Kills: kill(reasonServed, "tpm.policy-absent"),
}))

var _ = add(episode{
	want: "a key in memory is not used after a PCR changed, not even a second time",
	acts: []act{
		{id: "pcr0", title: "PCR 0 is extended", setup: setup{mode: "kek"}, warm: true, harm: extending(0), codes: changed()},
		{id: "pcr2", title: "PCR 2 is extended", setup: setup{mode: "kek"}, warm: true, harm: extending(2), codes: changed()},
	},
}.check(suites.Check{
	ID: "tpm/seal/kek-recheck", Title: "KEK mode reads the PCRs again before each use", Covers: []string{"tpm/seal/kek-recheck"},
	Kills: kill(reasonServed, "tpm.kek-kept"),
}))
