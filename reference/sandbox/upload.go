package sandbox

import (
	"crypto/ed25519"
	"crypto/mldsa"
	"time"

	"github.com/assay-bench/assay/reference/sandbox/rewrite"
)

// WazeroVersion is the version of the runtime that the engine is built on. It names the cache folder.
const WazeroVersion = "v1.12.0"

// Caps on the structure of a module and on calls, for every tier.
const (
	MaxModuleBytes  = 8 << 20
	MaxFunctions    = 10_000
	MaxLocals       = 10_000 // of one function
	MaxDataBytes    = 4 << 20
	MaxTableEntries = 10_000 // of all tables together
	MaxGlobals      = 1_000
	MaxCallDepth    = 1_024
	MaxReentry      = 32 // host and guest calling each other
	MaxTenants      = 64
	MaxModules      = 64 // of one tenant
	MaxInputBytes   = 16 << 20

	// ChunkBytes is the size of the pieces that Stream hands to a guest.
	ChunkBytes = 64 << 10
)

// Tier is a tenant's size.
type Tier string

// The tiers, smallest first.
const (
	Free       Tier = "free"
	Pro        Tier = "pro"
	Enterprise Tier = "enterprise"
)

// Quota is what a tier allows.
type Quota struct {
	CPU       time.Duration // thread CPU time of one call
	Fuel      int64         // units of one call: the reproducible cap
	Pages     uint32        // of 64 KiB, in one instance
	Instances int           // that run at the same time
	Prompt    time.Duration // thread CPU time a second that waits for no slot; see slots
}

// Quota of the tier; ok is false for a tier that does not exist.
func (t Tier) Quota() (q Quota, ok bool) {
	switch t {
	case Free:
		q = Quota{CPU: 50 * time.Millisecond, Pages: 16, Instances: 1, Prompt: 5 * time.Millisecond}
	case Pro:
		q = Quota{CPU: 200 * time.Millisecond, Pages: 64, Instances: 3, Prompt: 50 * time.Millisecond}
	case Enterprise:
		q = Quota{CPU: time.Second, Pages: 256, Instances: 10, Prompt: time.Second}
	default:
		return Quota{}, false
	}
	q.Fuel = q.CPU.Milliseconds() * fuelPerMilli
	return q, true
}

// ABI is how a module is called.
type ABI string

// The ABIs. A proxy module is admitted for the data plane and cannot be invoked.
const (
	Plain  ABI = "plain"  // numbers in, numbers out
	Buffer ABI = "buffer" // (ptr, len) in, ptr<<32 | len out
	Proxy  ABI = "proxy"  // Proxy-Wasm
)

// Engine is how a module is executed.
type Engine string

// The engines of wazero.
const (
	Compiler    Engine = "compiler"
	Interpreter Engine = "interpreter"
)

// Tenant is a customer: its size and the keys that must all sign its modules. A nil key is not asked for.
type Tenant struct {
	Tier    Tier
	Ed25519 ed25519.PublicKey
	MLDSA65 *mldsa.PublicKey
}

// Signature is an export that a module must have; types are "i32", "i64", "f32", "f64".
type Signature struct {
	Name    string   `json:"name"`
	Params  []string `json:"params"`
	Results []string `json:"results"`
}

// Signatures are those over SignedBytes, one for each key of the tenant.
type Signatures struct {
	Ed25519 []byte
	MLDSA65 []byte
}

// Canary is a call that must give these results before a version is published. With the buffer ABI Args
// has one element, the input, and Results one, the output.
type Canary struct {
	Function string   `json:"function"`
	Args     []string `json:"args"`
	Results  []string `json:"results"`
}

// Upload is one version of a module. Zero ABI and Engine are Plain and Compiler.
type Upload struct {
	Wasm       []byte
	Version    uint64
	ABI        ABI
	Engine     Engine
	Exports    []Signature
	Signatures Signatures
	Canary     *Canary
}

// Published is the answer to an accepted upload.
type Published struct {
	Version           uint64 `json:"version"`
	Digest            string `json:"digest"` // hex SHA-256 of the module as sent
	FuelSites         int    `json:"fuelSites"`
	CompiledFromCache bool   `json:"compiledFromCache"`
}

// Admitted is a module that passed every step up to the rewrite.
type Admitted struct {
	Wasm   []byte // rewritten
	Info   rewrite.Info
	Digest string // hex SHA-256 of the module as sent
	Quota  Quota

	commit func()
}

// Commit records the version as the tenant's newest under that name: later ones must be greater.
func (a *Admitted) Commit() {
	if a.commit != nil {
		a.commit()
	}
}

// Call is one invocation. Args are decimal numbers by the function's types; Input is for the buffer ABI.
type Call struct {
	Function string
	Args     []string
	Input    []byte
}

// Answer is what a call gave and what it cost.
type Answer struct {
	Results     []string `json:"results"`
	Output      []byte   `json:"output"`
	Version     uint64   `json:"version"`
	Instance    string   `json:"instance"`
	Fuel        int64    `json:"fuel"`
	CPUMicros   int64    `json:"cpuMicros"`
	MemoryPages uint32   `json:"memoryPages"`
	Pooled      bool     `json:"pooled"` // the instance had served before, or waited in the pool
}
