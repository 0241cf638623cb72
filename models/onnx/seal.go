package onnx

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// sealKey is the metadata key of the digest that binds a model's metadata to its graph and tensors.
const sealKey = "assay.digest"

// ErrEdited is wrapped where a model is not what its seal says, or has none.
var ErrEdited = errors.New("model was edited after its export")

// ErrVersion is wrapped where a model's metadata is not what its user needs.
var ErrVersion = errors.New("model of another version")

// Seal writes the SHA-256 of the whole model into its metadata, so that an edited value, weight or node is
// found. It guards against mix-ups; against an adversary the signed manifest does (package manifest).
func Seal(m *Model) error {
	d, err := digest(m)
	if err != nil {
		return err
	}
	if m.Metadata == nil {
		m.Metadata = map[string]string{}
	}
	m.Metadata[sealKey] = d
	return nil
}

// CheckSeal returns nil if the model is what Seal saw. Errors wrap ErrEdited.
func CheckSeal(m *Model) error {
	d, err := digest(m)
	if err != nil {
		return err
	}
	if got := m.Metadata[sealKey]; got != d {
		return fmt.Errorf("%w: %s is %.16q, the content's digest %.16q", ErrEdited, sealKey, got, d)
	}
	return nil
}

// digest is the SHA-256 of the model without its seal, as Marshal writes it.
func digest(m *Model) (string, error) {
	bare := *m
	bare.Metadata = maps.Clone(m.Metadata)
	delete(bare.Metadata, sealKey)
	b, err := Marshal(&bare)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}

// CheckMetadata compares the metadata with what is wanted: hash, tokenizer, idf table and number of buckets
// of whoever makes the features, say. Errors wrap ErrVersion and name the first key that differs.
func (m *Model) CheckMetadata(want map[string]string) error {
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if got, there := m.Metadata[k]; !there || got != want[k] {
			return fmt.Errorf("%w: metadata %q is %q, want %q", ErrVersion, k, got, want[k])
		}
	}
	return nil
}
