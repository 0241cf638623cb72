package tpm

import (
	"context"

	"github.com/assay-bench/assay/suites"
)

const reasonNotOpened = "not-opened" // an entry did not open after a reboot

func reset(_ context.Context, b *bench) error { return b.device.Reset() }

// restart closes the session, resets the TPM and opens a session on the same folder.
func restart(ctx context.Context, b *bench) error {
	if err := b.close(ctx, "close for reboot"); err != nil {
		return err
	}
	if err := b.device.Reset(); err != nil {
		return err
	}
	return b.open(ctx, "open again")
}

var _ = add(episode{
	want: "after a reset with the same PCRs the entry opens", noted: reasonNotOpened,
	acts: []act{
		{id: "same-session", title: "the TPM is reset under an open session", harm: reset, expect: serves, keep: true},
		{id: "new-session", title: "the session is closed and opened again", harm: restart, expect: serves, keep: true},
	},
}.check(suites.Check{
	ID: "tpm/seal/reboot-survives", Title: "the cache survives a reboot", Covers: []string{"tpm/seal/reboot-survives"},
	Reasons: []string{reasonNotOpened},
	Kills:   kill(reasonNotOpened, "tpm.srk-random"),
}))
