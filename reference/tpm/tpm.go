// Package tpm puts a TPM 2.0 to use: it seals OCSP responses and ML-DSA seeds under PCR values, detects
// that sealed files were rolled back, and quotes PCRs. It never waits for a TPM beyond a deadline, and
// a TPM that fails costs the cache, not the service.
//
// The threat is somebody who can change the files, or who has them on another machine or after another
// boot chain. Somebody with the TPM itself and its owner authorisation, which is empty here, can deny
// service. What is cached is signed by its responder and verified by who receives it.
package tpm
