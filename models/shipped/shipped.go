// Package shipped holds the signed manifest of the models that the repository ships, and the public keys that
// it is verified with. It holds no model.
//
// The private keys exist only while `go generate ./models/shipped` runs: whoever trusts this binary trusts
// the keys in it, and there is nothing to steal. A publisher of other models keeps keys of his own.
package shipped

//go:generate go run ./sign

import (
	_ "embed"
	"encoding/json"
	"sync"

	"github.com/assay-bench/assay/models/manifest"
)

//go:embed manifest.json
var file []byte

//go:embed keys.json
var keys []byte

// File returns the signed manifest. It is shared: read only.
func File() []byte { return file }

// Keys returns the public keys.
func Keys() (manifest.Keys, error) {
	var k manifest.Keys
	err := json.Unmarshal(keys, &k)
	return k, err
}

// Manifest returns what the manifest lists, once verified. It is shared: read only.
func Manifest() (*manifest.Manifest, error) { return open() }

var open = sync.OnceValues(func() (*manifest.Manifest, error) {
	k, err := Keys()
	if err != nil {
		return nil, err
	}
	return manifest.Open(file, k)
})
