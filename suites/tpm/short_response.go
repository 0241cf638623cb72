package tpm

import (
	"context"

	"github.com/google/go-tpm/tpm2"

	scenario "github.com/assay-bench/assay/scenarios/tpm"
	"github.com/assay-bench/assay/suites"
)

// shortened is a case in which the TPM's answers are cut to so many bytes.
func shortened(id, title string, command tpm2.TPMCC, keep int) act {
	return act{id: id, title: title, once: true, harm: func(_ context.Context, b *bench) error {
		return b.device.Truncate(command, keep, scenario.Forever)
	}}
}

var _ = add(episode{
	want: "an answer that is cut off is an error with a name, nothing is served for it, and the target goes on",
	acts: []act{
		shortened("empty", "Unseal is answered with nothing", tpm2.TPMCCUnseal, 0),
		shortened("header-cut", "Unseal's answer ends within its header", tpm2.TPMCCUnseal, 4),
		shortened("header-only", "Unseal's answer ends after its header", tpm2.TPMCCUnseal, 10),
		shortened("body-cut", "Unseal's answer ends within its data", tpm2.TPMCCUnseal, 24),
		shortened("all-cut", "every answer lacks the end of its header", scenario.Any, 9),
	},
}.check(suites.Check{
	ID: "tpm/fault/short-response", Title: "truncated and empty answers of the TPM are errors", Covers: []string{"tpm/fault/short-response"},
	Kills: kill(reasonServed, "tpm.short-response-served"),
}))
