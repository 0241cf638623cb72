package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/assay-bench/assay/reference/pqtls/bent"
)

// Code says why a dial failed. Codes of a refused OCSP response are those of package ocsp.
type Code string

// The codes.
const (
	DialFailed    Code = "dial_failed" // no TCP connection, or a request that can not be dialled
	Deadline      Code = "deadline"
	Alert         Code = "alert"          // the peer sent one; the text has its name
	Protocol      Code = "protocol"       // the peer broke the protocol or left
	Verify        Code = "verify"         // the peer's chain or name
	PolicyRefused Code = "policy_refused" // the policy forbids every class in reach
	StapleMissing Code = "staple_missing"
	Exchange      Code = "exchange" // after the handshake
)

// Error is the error of a dial.
type Error struct {
	Code Code
	Text string
}

// Error names code and text.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Text }

func fail(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Text: fmt.Sprintf(format, args...)}
}

// classify turns the error of a handshake or an exchange into one with a code; other is the code of
// what is none of the known kinds.
func classify(err error, other Code) *Error {
	if own, ok := errors.AsType[*Error](err); ok {
		return own
	}
	if name, ok := remoteAlert(err); ok {
		return fail(Alert, "the peer sent the alert %s", name)
	}
	if late(err) {
		return fail(Deadline, "%v", err)
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fail(Verify, "%v", err)
	}
	if own, ok := errors.AsType[*bent.AlertError](err); ok && aboutChain(own.Code) {
		return fail(Verify, "%v", err)
	}
	return fail(other, "%v", err)
}

func late(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || errors.Is(err, os.ErrDeadlineExceeded)
}

// aboutChain tells the alerts that are sent for a certificate (RFC 9846 section 6.2).
func aboutChain(code uint8) bool { return code >= 42 && code <= 46 || code == 48 }

// remoteAlert returns the name of the alert that the peer sent, as in RFC 9846 section 6.
func remoteAlert(err error) (string, bool) {
	if own, ok := errors.AsType[*bent.AlertError](err); ok {
		return bent.AlertName(own.Code), !own.Sent
	}
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || op.Op != "remote error" || op.Err == nil {
		return "", false
	}
	for code := range 256 { // crypto/tls gives the alert as text only
		if tls.AlertError(code).Error() == op.Err.Error() {
			return bent.AlertName(uint8(code)), true
		}
	}
	return op.Err.Error(), true
}
