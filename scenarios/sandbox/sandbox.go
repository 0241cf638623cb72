// Package sandbox drives a WebAssembly sandbox: by assay's HTTP API of tenants, modules and calls, and by
// the command run-wasm, which is all that a plain runtime needs. Whatever the target does is evidence; an
// error is the harness's own.
package sandbox

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/assay-bench/assay/results"
)

// The endpoints of a sandbox.
const (
	Endpoint      = "sandbox"       // the HTTP API
	ProxyEndpoint = "sandbox-proxy" // the data plane of the proxy
)

// The kinds of evidence of this package.
const (
	Ran      results.Kind = "ran"            // Execution: the command run-wasm ran
	Called   results.Kind = "sandbox"        // Call: a call of the HTTP API
	Tried    results.Kind = "sandbox-series" // Series: many calls in a row, or at once
	Examined results.Kind = "sandbox-folder" // Folder: the folder of compiled modules
	Damaged  results.Kind = "sandbox-damage" // Damage: a file of that folder was altered
)

const (
	maxText     = 512      // of an error's text
	maxRecorded = 64 << 10 // of a request or an answer, in evidence
)

// Digest stands for the bytes of a module in evidence.
type Digest struct {
	Len    int    `json:"len"`
	SHA256 string `json:"sha256"`
}

// DigestOf is the length of b and its SHA-256 in hex.
func DigestOf(b []byte) Digest {
	sum := sha256.Sum256(b)
	return Digest{len(b), hex.EncodeToString(sum[:])}
}

// clip bounds a text and keeps what JSON keeps, so that evidence reads back as it was written.
func clip(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxText)], "\uFFFD") }

// clipped stands for JSON that is too long for evidence.
func clipped(raw []byte) []byte {
	if len(raw) <= maxRecorded {
		return raw
	}
	return fmt.Appendf(nil, `{"clipped":%d}`, len(raw))
}
