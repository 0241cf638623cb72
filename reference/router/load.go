package router

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json/v2"
	"errors"
	"fmt"
	"os"

	"github.com/assay-bench/assay/models/bag"
	"github.com/assay-bench/assay/models/encode"
	"github.com/assay-bench/assay/models/engine"
	"github.com/assay-bench/assay/models/manifest"
	"github.com/assay-bench/assay/models/modelfile"
	"github.com/assay-bench/assay/models/ngram"
	"github.com/assay-bench/assay/models/onnx"
	"github.com/assay-bench/assay/models/shipped"
	"github.com/assay-bench/assay/models/static"
	"github.com/assay-bench/assay/models/transformer"
	"github.com/assay-bench/assay/reference/defect"
)

// embedded is the default model of a service: the static token table.
func embedded() (encode.Encoder, ModelInfo, error) {
	m, err := static.Load()
	if err != nil {
		return nil, ModelInfo{}, err
	}
	listed, err := shipped.Manifest()
	if err != nil {
		return nil, ModelInfo{}, err
	}
	if _, ok := listed.Find(m.Identity().Digest); !ok {
		return nil, ModelInfo{}, fmt.Errorf("%w: %s", manifest.ErrNotListed, m.Identity().Digest)
	}
	return m, describe("", "static", m, static.File()), nil
}

func describe(name, format string, e encode.Encoder, file []byte) ModelInfo {
	id := e.Identity()
	if name == "" {
		name = id.Name
	}
	return ModelInfo{Name: name, Digest: id.Digest, Format: format, Dimension: id.Dimensions, Bytes: int64(len(file))}
}

// fromFile is the default model that a file holds, if the built-in manifest lists it.
func (s *Service) fromFile(path string) (encode.Encoder, ModelInfo, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, ModelInfo{}, err
	}
	if !info.Mode().IsRegular() || info.Size() > modelfile.MaxBytes {
		return nil, ModelInfo{}, fmt.Errorf("%s: want a regular file of at most %d bytes", path, modelfile.MaxBytes)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		return nil, ModelInfo{}, err
	}
	listed, err := shipped.Manifest()
	if err != nil {
		return nil, ModelInfo{}, err
	}
	sum := sha256.Sum256(file)
	entry, ok := listed.Find(hex.EncodeToString(sum[:]))
	if !ok {
		return nil, ModelInfo{}, fmt.Errorf("%s: %w: SHA-256 %x; `assay models pull` fetches the one that is", path, manifest.ErrNotListed, sum)
	}
	e, format, err := s.decodeModel(file)
	if err != nil {
		return nil, ModelInfo{}, fmt.Errorf("%s: %w", path, err)
	}
	return e, describe(entry.Name, format, e, file), nil
}

// Load takes a model that a trusted publisher has listed in a signed manifest. Models in use are not touched.
func (s *Service) Load(name string, file, signed []byte) (ModelInfo, error) {
	listed, err := s.manifest(signed, name)
	if err != nil {
		return ModelInfo{}, err
	}
	if err := listed.Check(name, file); err != nil && !s.cfg.Defects.On(defect.RouterModelUnlisted) {
		return ModelInfo{}, refuse(Refused, "digest-unlisted", "%v", err)
	}
	e, format, err := s.decodeModel(file)
	if err != nil && s.cfg.Defects.On(defect.RouterModelBadTaken) {
		e, format, err = s.builtin.encoder, "damaged", nil
	}
	if isRefusal(err) {
		return ModelInfo{}, err
	}
	if err != nil {
		return ModelInfo{}, refuse(Refused, whyNot(err), "model %s: %v", name, err)
	}
	s.mu.Lock()
	full := len(s.models) >= maxModels
	s.mu.Unlock()
	if full {
		return ModelInfo{}, refuse(Conflict, "models", "%d models are loaded", maxModels)
	}
	m, err := s.adopt(describe(name, format, e, file), e)
	if err != nil {
		return ModelInfo{}, refuse(Refused, whyNot(err), "%v", err)
	}
	return m.info, nil
}

// manifest verifies a manifest with one of the trusted publishers' keys.
func (s *Service) manifest(signed []byte, name string) (*manifest.Manifest, error) {
	if len(signed) == 0 {
		return nil, refuse(Refused, "manifest-missing", "model %s: no signed manifest", name)
	}
	if s.cfg.Defects.On(defect.RouterManifestUnsigned) {
		return unverified(signed)
	}
	s.mu.Lock()
	keys := s.publishers()
	s.mu.Unlock()
	why, err := "manifest-signature", error(manifest.ErrSignature)
	for _, of := range keys {
		var m *manifest.Manifest
		if m, err = manifest.Open(signed, of); err == nil {
			return m, nil
		}
		if errors.Is(err, manifest.ErrFormat) {
			why = "manifest-format"
		}
	}
	return nil, refuse(Refused, why, "manifest: %v: no trusted publisher signed it", err)
}

// unverified is a planted defect: it reads the payload and asks no key.
func unverified(signed []byte) (*manifest.Manifest, error) {
	var envelope struct {
		Payload []byte `json:"payload"`
	}
	var m manifest.Manifest
	if err := json.Unmarshal(signed, &envelope); err != nil {
		return nil, refuse(Refused, "manifest-format", "manifest: %v", err)
	}
	if err := json.Unmarshal(envelope.Payload, &m); err != nil {
		return nil, refuse(Refused, "manifest-format", "manifest: %v", err)
	}
	return &m, nil
}

// errFeatures says that a graph's metadata names a maker of features that the router does not have.
var errFeatures = errors.New("no maker of features for this graph")

// decodeModel reads a file of one of the known formats.
func (s *Service) decodeModel(file []byte) (encode.Encoder, string, error) {
	if bytes.HasPrefix(file, []byte("assaymdl")) {
		m, err := static.Decode(file)
		if err == nil {
			return m, "static", nil
		}
		if errors.Is(err, modelfile.ErrMismatch) {
			return nil, "", err
		}
		trained, err := ngram.Decode(file) // it says itself what it is if it is neither
		return trained, "ngram", err
	}
	if transformer.Recognise(file) {
		if s.library == nil {
			return nil, "", refuse(Conflict, "engine", "a sentence transformer needs engine %s: %s", ONNXRuntime, s.why)
		}
		m, err := transformer.Open(file, s.library)
		return m, "transformer", err
	}
	graph, err := onnx.Parse(file)
	if err != nil {
		return nil, "", err
	}
	if _, err := bag.Import(graph); err != nil {
		return nil, "", err
	}
	return nil, "", errFeatures
}

// whyNot is the word for what is wrong with a model.
func whyNot(err error) string {
	switch {
	case errors.Is(err, onnx.ErrTooLarge):
		return "oversized"
	case errors.Is(err, modelfile.ErrMismatch), errors.Is(err, transformer.ErrSignature), errors.Is(err, onnx.ErrEdited), errors.Is(err, onnx.ErrVersion), errors.Is(err, errFeatures):
		return "metadata"
	case errors.Is(err, engine.ErrShape), errors.Is(err, engine.ErrNotFinite):
		return "shape"
	}
	return "format"
}
