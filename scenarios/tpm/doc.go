// Package tpm owns a TPM 2.0 device that a target is told to use: a unix socket in front of a simulator
// in this process, or of swtpm as a child. It records what is asked of the device, makes it misbehave on
// demand, and drives the target's HTTP API of a sealed cache and of quotes beside it. It has no opinion
// on what the target does, and never records what may be a secret: payloads of commands stay out.
package tpm

import (
	"strings"

	"github.com/assay-bench/assay/results"
)

// The kinds of evidence of this package, beside those of the frame.
const (
	Commanded results.Kind = "tpm-command" // Command: the target sent a command
	Marked    results.Kind = "tpm-mark"    // Mark: what the device has counted up to here
	Faulted   results.Kind = "tpm-fault"   // Fault: the harness did something to the device
	Looked    results.Kind = "tpm-look"    // Look: what the harness reads from the device itself
	Called    results.Kind = "tpm-call"    // Call: a call of the target's HTTP API
	Responded results.Kind = "ocsp-answer" // Answered: the harness's responder was asked
	Searched  results.Kind = "tpm-search"  // Search: the cache's folder was looked through
	Meddled   results.Kind = "tpm-files"   // Meddling: the harness changed files of the cache's folder
	Tried     results.Kind = "tpm-trials"  // Trials: many small calls in a row
	Forged    results.Kind = "tpm-forgery" // Forgery: an attestation that the harness had signed
)

// Missing is the error where no TPM can be had. Each line says what was looked for and why it is not there.
type Missing struct{ Tried []string }

func (m *Missing) Error() string { return "no TPM: " + strings.Join(m.Tried, "; ") }

// Here says why this host has no TPM for the harness, or nothing.
func Here() string {
	var tried []string
	if simulatorBuilt {
		return ""
	}
	tried = append(tried, noSimulator)
	if _, err := findSwtpm(); err != nil {
		return (&Missing{append(tried, err.Error())}).Error()
	}
	return ""
}

// noSimulator is said where the program has no simulator in it.
const noSimulator = "no simulator: this program was built without cgo"
