package results

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Source names the witness of a piece of evidence.
type Source string

// The witnesses.
const (
	FromScenario Source = "scenario"
	FromTarget   Source = "target"
	FromUpstream Source = "upstream"
	FromPeer     Source = "peer"
	FromFault    Source = "fault"
	FromHost     Source = "host"
	FromTPM      Source = "tpm"
)

// Kind says what was observed; it fixes the shape of Evidence.Data.
type Kind string

// The kinds of the frame. Suites may define further ones for what their scenarios measure.
const (
	Started   Kind = "started"   // a target process or connection began
	Ready     Kind = "ready"     // the target answered its readiness condition
	Claimed   Kind = "claimed"   // features and limits that the target claims
	Dialed    Kind = "dialed"    // a connection was made, or was refused
	Sent      Kind = "sent"      // bytes written
	Received  Kind = "received"  // bytes read
	Closed    Kind = "closed"    // the peer ended the connection
	Silent    Kind = "silent"    // a wait ended without a byte
	Called    Kind = "called"    // one RPC seen from the client: status, messages, metadata
	Injected  Kind = "injected"  // a fault with interval, magnitude asked and observed
	Reverted  Kind = "reverted"  // a fault was undone
	Residue   Kind = "residue"   // what a fault left behind
	Measured  Kind = "measured"  // a measurement
	Exited    Kind = "exited"    // a process ended
	Stalled   Kind = "stalled"   // the longest stall of the harness itself
	Attempted Kind = "attempted" // a new attempt at a case begins; earlier evidence of it is void
	Errored   Kind = "errored"   // the harness failed; never a verdict on the target
	Ended     Kind = "ended"     // a case was driven to its end
)

// Evidence is one observed fact, never an opinion.
type Evidence struct {
	Seq    uint64          `json:"seq"`
	At     time.Duration   `json:"at"` // nanoseconds on the monotonic clock since the run began
	Source Source          `json:"source"`
	Check  string          `json:"check"`
	Case   string          `json:"case,omitempty"`
	Under  string          `json:"under,omitempty"`
	Kind   Kind            `json:"kind"`
	Data   json.RawMessage `json:"data,omitempty"`
}

// Key names what a verdict is about.
type Key struct{ Check, Case, Under string }

// Key returns the case that the evidence was recorded for.
func (e Evidence) Key() Key { return Key{e.Check, e.Case, e.Under} }

func (k Key) String() string {
	s := k.Check
	if k.Case != "" {
		s += "#" + k.Case
	}
	if k.Under != "" {
		s += " under " + k.Under
	}
	return s
}

// Compare orders keys by check, case and fault.
func (k Key) Compare(o Key) int {
	if c := strings.Compare(k.Check, o.Check); c != 0 {
		return c
	}
	if c := strings.Compare(k.Case, o.Case); c != 0 {
		return c
	}
	return strings.Compare(k.Under, o.Under)
}

// Decode reads the evidence's data into v.
func (e Evidence) Decode(v any) error {
	if err := json.Unmarshal(e.Data, v); err != nil {
		return fmt.Errorf("evidence %d (%s): %w", e.Seq, e.Kind, err)
	}
	return nil
}

// Bytes is recorded traffic. Up to MaxWhole bytes are kept whole; of more, the length, the SHA-256
// and both ends.
type Bytes struct {
	Len    int    `json:"len"`
	Hex    string `json:"hex,omitempty"`
	SHA256 string `json:"sha256,omitempty"`
	Head   string `json:"head,omitempty"`
	Tail   string `json:"tail,omitempty"`
}

const (
	// MaxWhole is the number of bytes that Bytes keeps whole.
	MaxWhole = 64 << 10
	maxEnd   = 4 << 10
)

// BytesOf records b, redacting secrets in it.
func BytesOf(b []byte) Bytes {
	b = redactBytes(b)
	if len(b) <= MaxWhole {
		return Bytes{Len: len(b), Hex: hex.EncodeToString(b)}
	}
	sum := sha256.Sum256(b)
	return Bytes{
		Len:    len(b),
		SHA256: hex.EncodeToString(sum[:]),
		Head:   hex.EncodeToString(b[:maxEnd]),
		Tail:   hex.EncodeToString(b[len(b)-maxEnd:]),
	}
}

// Whole returns the bytes and whether all of them are there; otherwise the head.
func (b Bytes) Whole() ([]byte, bool) {
	if b.Head != "" {
		head, _ := hex.DecodeString(b.Head)
		return head, false
	}
	whole, err := hex.DecodeString(b.Hex)
	return whole, err == nil && len(whole) == b.Len
}

// Marshal writes v as assay writes all JSON: struct order, no HTML escaping, no trailing newline.
func Marshal(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// MarshalIndent is Marshal for files that people read, with a trailing newline.
func MarshalIndent(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}
