package router

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"

	"github.com/assay-bench/assay/models/manifest"
	"github.com/assay-bench/assay/models/shipped"
)

// maxModels bounds the loaded models.
const maxModels = 16

// Models lists the loaded models and the engine.
func (s *Service) Models() ModelList {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := ModelList{Models: []ModelInfo{}, Engine: s.engine(Auto), Publishers: []string{}}
	for _, digest := range slices.Sorted(maps.Keys(s.models)) {
		list.Models = append(list.Models, s.models[digest].info)
	}
	for _, keys := range s.publishers() {
		sum := sha256.Sum256(keys.Ed25519)
		list.Publishers = append(list.Publishers, hex.EncodeToString(sum[:]))
	}
	return list
}

// publishers are the keys that a manifest may be signed with; the caller holds the lock.
func (s *Service) publishers() []manifest.Keys {
	keys := slices.Clone(s.trusted)
	if own, err := shipped.Keys(); err == nil { // else the default model was refused
		keys = append(keys, own)
	}
	return keys
}

// Trust sets the public keys of the publishers whose manifests are taken beside the built-in one.
func (s *Service) Trust(keys [][]byte) error {
	if len(keys) > 16 {
		return bad("%d keys, at most 16", len(keys))
	}
	trusted := make([]manifest.Keys, len(keys))
	for i, key := range keys {
		if len(key) != ed25519.PublicKeySize {
			return bad("key %d has %d bytes, want %d", i, len(key), ed25519.PublicKeySize)
		}
		trusted[i].Ed25519 = slices.Clone(key)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trusted = trusted
	return nil
}

// Routers returns the routers, default first and the others by name.
func (s *Service) Routers() []*Router {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*Router
	for _, name := range slices.Sorted(maps.Keys(s.routers)) {
		r := s.routers[name]
		switch {
		case r.live.Load() == nil: // it is being made
		case name == Default:
			list = slices.Insert(list, 0, r)
		default:
			list = append(list, r)
		}
	}
	return list
}
