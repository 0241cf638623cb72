package tpm

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/go-tpm/tpm2"

	scenario "github.com/assay-bench/assay/scenarios/tpm"
	"github.com/assay-bench/assay/suites"
)

const reasonRetried = "retried" // TPM_RC_LOCKOUT was followed by more commands

// maxLocked is how many commands a call may send into a lockout: the one that learns of it and one more.
const maxLocked = 2

var _ = add(episode{
	want: "a lockout is named, at most one command follows it, and the cache works when it is over",
	acts: []act{
		{
			id: "real", title: "wrong passwords lock the TPM out", expect: either, codes: []string{"TPM_RC_LOCKOUT"},
			harm: func(_ context.Context, b *bench) error { return b.device.LockOut() },
			end:  func(_ context.Context, b *bench) error { return b.device.Unlock() },
		},
		{
			id: "injected", title: "every command is answered with TPM_RC_LOCKOUT", codes: []string{"TPM_RC_LOCKOUT"}, once: true,
			harm: func(_ context.Context, b *bench) error {
				return b.device.Respond(scenario.Any, tpm2.TPMRCLockout, scenario.Forever)
			},
		},
	},
	extra: func(_ suites.Trace, _ *story, _ act, sent map[string]int) (reason, observed string) {
		locked := 0
		for key, n := range sent {
			if name, code, _ := strings.Cut(key, " "); code == "TPM_RC_LOCKOUT" && name != "FlushContext" {
				locked += n
			}
		}
		if locked > maxLocked {
			return reasonRetried, fmt.Sprintf("%d commands were answered with TPM_RC_LOCKOUT", locked)
		}
		return "", ""
	},
}.check(suites.Check{
	ID: "tpm/fault/lockout", Title: "a lockout is named and not hammered", Covers: []string{"tpm/fault/lockout"},
	Reasons: []string{reasonRetried},
	Kills:   killIn("injected", reasonRetried, "tpm.lockout-retried"),
}))
