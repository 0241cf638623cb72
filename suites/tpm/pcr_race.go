package tpm

import (
	"context"

	"github.com/google/go-tpm/tpm2"

	scenario "github.com/assay-bench/assay/scenarios/tpm"
	"github.com/assay-bench/assay/suites"
)

// hookRace is the name of what happens between policy and unseal.
const hookRace = "extend PCR 2"

var _ = add(episode{
	want: "a PCR that changes between policy and unseal makes the unseal fail, and nothing is served",
	acts: []act{{
		id: "pcr2", title: "PCR 2 is extended before Unseal", codes: changed(),
		harm: func(_ context.Context, b *bench) error {
			digest := b.digest()
			return b.device.Before(tpm2.TPMCCUnseal, 1, hookRace, func(t *scenario.Direct, _ []byte) error { return t.Extend(2, digest) })
		},
		bit: func(s *story) bool { f, ran := s.ran[hookRace]; return ran && f.Error == "" },
	}},
}.check(suites.Check{
	ID: "tpm/fault/pcr-race", Title: "a PCR change between policy and unseal is noticed", Covers: []string{"tpm/fault/pcr-race"},
	Kills: kill(reasonServed, "tpm.race-served"),
}))
