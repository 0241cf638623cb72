package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/results/seal"
	"github.com/assay-bench/assay/suites/gate"
)

func (a *app) verifyCommand() *cobra.Command {
	var unsigned bool
	var key string
	cmd := &cobra.Command{
		Use: "verify DIR --key FILE.pub", GroupID: "publish", Args: exactly(1, "the folder of a bundle"),
		Short: "recompute a bundle: digests, signatures, verdicts, reports",
		Long: `verify recomputes all that a bundle says, and stops at the first thing that differs:
digests of all files, both signatures on its statements, the plan, the verdicts from
the evidence, the figures from the histograms, the statements and the reports.`,
		RunE: func(_ *cobra.Command, args []string) error {
			switch {
			case unsigned == (key != ""):
				return usagef("say whose signatures to expect, --key FILE.pub, or --unsigned to verify all the rest")
			case unsigned:
				return a.runVerify(args[0], nil)
			}
			keys, err := readKeys(key)
			if err != nil {
				return err
			}
			return a.runVerify(args[0], &keys)
		},
	}
	cmd.Flags().BoolVar(&unsigned, "unsigned", false, "verify everything but signatures")
	cmd.Flags().StringVar(&key, "key", "", "file of the public keys that the bundle must be signed with")
	return cmd
}

func (a *app) runVerify(dir string, keys *seal.Keys) error {
	b, err := verifyBundle(dir, keys)
	if err != nil {
		return err
	}
	signed := "signatures were not checked"
	if keys != nil {
		signed = fmt.Sprintf("signed by %s", keys.Fingerprint())
	}
	fmt.Fprintf(a.out, "verified: %d verdicts recomputed from %d pieces of evidence, bundle %.12s; %s\n",
		len(b.Verdicts.Verdicts), len(b.Evidence), b.Digest, signed)
	return nil
}

// verifyBundle stops at the first mismatch and names it: manifest, signatures, evidence, verdicts, statements, views.
// Without keys signatures are not looked at.
func verifyBundle(dir string, keys *seal.Keys) (*results.Bundle, error) {
	suite, err := newSuite()
	if err != nil {
		return nil, err
	}
	if !exists(filepath.Join(dir, results.RunFile)) {
		return nil, usage(fmt.Errorf("%s: %w here: it has no %s", dir, results.ErrNoBundle, results.RunFile))
	}
	mismatch := func(err error) error {
		if errors.Is(err, results.ErrVersion) {
			return usage(err)
		}
		return coded{results.ExitFail, err}
	}
	manifest, err := seal.Check(dir)
	if err != nil {
		return nil, mismatch(err)
	}
	signed, err := signaturesOf(dir, keys)
	if err != nil {
		return nil, mismatch(err)
	}
	b, err := results.Open(dir)
	if err != nil {
		return nil, mismatch(err)
	}
	if b.Verdicts == nil {
		return nil, mismatch(fmt.Errorf("%s has no verdicts", dir))
	}
	judge := rulesOf(suite, b)
	if b.Run.Suite.Digest != judge.Digest() {
		return nil, usagef("%s was judged by suite %s (%.12s), this program has %s (%.12s): verify it with the program that wrote it",
			dir, b.Run.Suite.Version, b.Run.Suite.Digest, aboutTool().Version, judge.Digest())
	}
	for _, step := range []func() error{
		func() error { return sameSeal(manifest, b) },
		func() error { return judge.CheckPlan(b.Run, b.Evidence) },
		func() error { return sameVerdicts(*b.Verdicts, judge.Verdicts(b.Run, b.Evidence)) },
		func() error { return gate.CheckProfiles(dir, b.Evidence) },
		func() error { return signed.Check(b, keys != nil) },
		func() error { return sameViews(b) },
		func() error { return sameProof(suite, b) },
	} {
		if err := step(); err != nil {
			return nil, mismatch(err)
		}
	}
	return b, nil
}

func signaturesOf(dir string, keys *seal.Keys) (seal.Signed, error) {
	if keys == nil {
		return seal.Unverified(dir)
	}
	return keys.Signatures(dir)
}
