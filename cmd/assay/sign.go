package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/results/seal"
)

const publicSuffix = ".pub"

func (a *app) keysCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "keys", GroupID: "publish", Args: none,
		Short: "make the keys that bundles are signed with, or name them",
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(&cobra.Command{
		Use: "new FILE", Args: exactly(1, "the file of the private keys"),
		Short: "make a pair of keys: FILE, which stays secret, and FILE.pub",
		Long: `new writes an Ed25519 and an ML-DSA-65 key, which nobody but you must read, to FILE,
and both public keys, which verify what they sign, to FILE.pub. It never writes
over a file.`,
		RunE: func(_ *cobra.Command, args []string) error { return a.newKeys(args[0]) },
	}, &cobra.Command{
		Use: "show FILE.pub", Args: exactly(1, "the file of the public keys"),
		Short: "print the fingerprint of a pair of keys, to compare it by another way",
		RunE: func(_ *cobra.Command, args []string) error {
			keys, err := readKeys(args[0])
			if err != nil {
				return err
			}
			fmt.Fprintln(a.out, keys.Fingerprint())
			return nil
		},
	})
	return cmd
}

func (a *app) newKeys(path string) error {
	for _, p := range []string{path, path + publicSuffix} {
		if _, err := os.Lstat(p); !errors.Is(err, fs.ErrNotExist) {
			return usagef("%s is there already: choose another name, keys are not written over", p)
		}
	}
	s, err := seal.NewSigner()
	if err != nil {
		return err
	}
	private, err := s.Marshal()
	if err != nil {
		return err
	}
	public, err := s.Keys().Marshal()
	if err != nil {
		return err
	}
	if err := writeSecret(path, private); err != nil {
		return err
	}
	if err := results.WriteFileAtomic(path+publicSuffix, public); err != nil {
		return err
	}
	fmt.Fprintf(a.out, "%s: keep it secret; %s: give it to everybody, fingerprint %s\n", path, path+publicSuffix, s.Keys().Fingerprint())
	return nil
}

// writeSecret makes a file that only its owner reads, and that was not there.
func writeSecret(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

func readKeys(path string) (seal.Keys, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return seal.Keys{}, usage(err)
	}
	k, err := seal.ParseKeys(raw)
	if err != nil {
		return k, usagef("%s: %w", path, err)
	}
	return k, nil
}

func (a *app) signCommand() *cobra.Command {
	var key string
	cmd := &cobra.Command{
		Use: "sign DIR --key FILE", GroupID: "publish", Args: exactly(1, "the folder of a bundle"),
		Short: "verify a bundle and sign what it says",
		Long: `sign verifies a bundle as assay verify does, and then writes its verdicts and its
figures as in-toto statements (statement.dsse.json, measurement.dsse.json), each signed
with Ed25519 and ML-DSA-65. A signature says who sealed the bundle and that it did not
change since; it does not say that the run was honest.`,
		Example: "  assay keys new ~/.assay/key\n  assay sign assay-out --key ~/.assay/key\n  assay verify assay-out --key ~/.assay/key.pub",
		RunE:    func(_ *cobra.Command, args []string) error { return a.runSign(args[0], key) },
	}
	cmd.Flags().StringVar(&key, "key", "", "file of the private keys, as assay keys new makes it")
	return cmd
}

func (a *app) runSign(dir, key string) error {
	if key == "" {
		return usagef("--key FILE is missing: the private keys to sign with; assay keys new FILE makes a pair")
	}
	raw, err := os.ReadFile(key)
	if err != nil {
		return usage(err)
	}
	s, err := seal.ParseSigner(raw)
	if err != nil {
		return usagef("%s: %w", key, err)
	}
	b, err := verifyBundle(dir, nil)
	if err != nil {
		return err
	}
	if err := s.Sign(b); err != nil {
		return err
	}
	fmt.Fprintf(a.out, "signed: bundle %.12s, by %s\n", b.Digest, s.Keys().Fingerprint())
	return nil
}
