package tpm

import (
	"context"

	"github.com/assay-bench/assay/suites"
)

// rollBack copies the folder, stores a newer response and brings the copy back.
func rollBack(ctx context.Context, b *bench) error {
	older, err := b.folder.Snapshot()
	if err != nil {
		return err
	}
	if err := b.store(ctx, "newer", entry, b.response(264)); err != nil {
		return err
	}
	return b.folder.Restore("older copy", older)
}

var _ = add(episode{
	want: "files of an older generation are not served, and that is named",
	acts: []act{
		{id: "entry", title: "in entry mode", harm: rollBack, codes: []string{"entry_rolled_back", "entry_tampered"}},
		{id: "kek", title: "in KEK mode", setup: setup{mode: "kek"}, harm: rollBack, codes: []string{"entry_rolled_back", "entry_tampered"}},
	},
}.check(suites.Check{
	ID: "tpm/seal/rollback-detected", Title: "an older generation of the cache is refused", Covers: []string{"tpm/seal/rollback-detected"},
	Kills: kill(reasonServed, "tpm.rollback-unchecked"),
}))
