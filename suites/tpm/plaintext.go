package tpm

import (
	"context"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/assay-bench/assay/scenarios"
	scenario "github.com/assay-bench/assay/scenarios/tpm"
	"github.com/assay-bench/assay/suites"
)

const (
	reasonPlaintext = "plaintext" // what must be sealed is in the folder
	wantPlaintext   = "no 16 bytes of a response or of sealed data are in the cache's folder, with the TPM and without it"
)

var _ = add(suites.Check{
	ID: "tpm/seal/no-plaintext", Title: "nothing reaches the disk unsealed", Covers: []string{"tpm/seal/no-plaintext"},
	Cases: []suites.Case{
		{ID: "entry", Title: "in entry mode"}, {ID: "kek", Title: "in KEK mode"}, {ID: "tpm-absent", Title: "the TPM fails during the store"},
	},
	Reasons: []string{reasonPlaintext, reasonNotStored, reasonNoFiles},
	Drive: func(ctx context.Context, env *scenarios.Env) error {
		s := setup{}
		if env.Key.Case == "kek" {
			s.mode = "kek"
		}
		return drive(ctx, env, s, lookForPlaintext)
	},
	Judge: judging(wantPlaintext, judgePlaintext),
	Kills: append(killIn("entry", reasonPlaintext, "tpm.plaintext-copy"), killIn("kek", reasonPlaintext, "tpm.plaintext-copy")...),
})

func lookForPlaintext(ctx context.Context, b *bench) error {
	if b.env.Key.Case == "tpm-absent" {
		if err := b.device.Respond(scenario.Any, tpm2.TPMRCFailure, scenario.Forever); err != nil {
			return err
		}
	}
	response, key := b.response(3508), b.response(32)
	if err := b.store(ctx, "store", entry, response); err != nil {
		return err
	}
	if err := b.gets(ctx, "get"); err != nil {
		return err
	}
	blob, err := b.seal(ctx, "seal", key)
	if err != nil {
		return err
	}
	if err := b.folder.Search("response", "the response that was stored", response); err != nil {
		return err
	}
	if err := b.folder.Search("key", "the 32 bytes that were sealed", key); err != nil {
		return err
	}
	return b.folder.SearchBytes("blob", "the 32 bytes that were sealed, in the blob", blob, key)
}

func judgePlaintext(t suites.Trace, s *story) suites.Finding {
	found := s.searches["response"]
	observed := fmt.Sprintf("%d bytes in %d files; %s", found.Bytes, found.Files, s.tale("store", "get", "seal"))
	for _, name := range []string{"response", "key", "blob"} {
		x, searched := s.searches[name]
		if !searched {
			return s.fail(reasonNoSession, "", observed)
		}
		if x.Found != "" {
			return s.fail(reasonPlaintext, "", x.For+": "+x.Found+"; "+observed)
		}
	}
	if t.Key.Case == "tpm-absent" {
		return s.pass("", observed)
	}
	if !s.stored("store") {
		return s.fail(reasonNotStored, "", observed)
	}
	if found.Files == 0 {
		return s.fail(reasonNoFiles, "", observed)
	}
	return s.pass("", observed)
}
