package tpm

import (
	"context"

	"github.com/assay-bench/assay/suites"
)

var _ = add(episode{
	want: "after the TPM became another one the entry is refused by name, and stored again it is served",
	acts: []act{{
		id: "manufacture-reset", title: "the TPM is manufactured anew", once: true,
		codes: []string{"TPM_RC_INTEGRITY", "entry_rolled_back"},
		harm:  func(_ context.Context, b *bench) error { return b.device.Wipe() },
	}},
}.check(suites.Check{
	ID: "tpm/fault/wiped", Title: "the cache is rebuilt on a wiped TPM", Covers: []string{"tpm/fault/wiped"},
	Kills: kill(reasonNotRebuilt, "tpm.wiped-gives-up"),
}))
