package sandbox

import (
	"errors"
	"fmt"
)

// The steps of admission, in their order. StepVersion is checked together with the signature.
const (
	StepSize        = "size"
	StepSignature   = "signature"
	StepVersion     = "version"
	StepStructure   = "structure"
	StepValidation  = "validation"
	StepRewrite     = "rewrite"
	StepCompile     = "compile"
	StepInstantiate = "instantiate"
	StepCanary      = "canary"
)

var (
	// ErrUnknown means that the tenant, the module or the function does not exist.
	ErrUnknown = errors.New("unknown")
	// ErrArguments means that the arguments of a call do not fit the function.
	ErrArguments = errors.New("arguments do not fit")
	// ErrTenant means that a tenant cannot be set: its tier, its keys, or one too many.
	ErrTenant = errors.New("tenant not taken")
	// ErrClosed means that the sandbox, or the version that served the call, was closed.
	ErrClosed = errors.New("closed")
)

// Refusal is an upload that was not taken. The version that served before serves on.
type Refusal struct {
	Step   string
	Reason string
}

func (r *Refusal) Error() string { return "refused at " + r.Step + ": " + r.Reason }

func refuse(step, format string, args ...any) *Refusal {
	return &Refusal{Step: step, Reason: fmt.Sprintf(format, args...)}
}

// Busy means that the tenant runs as many instances as its tier allows.
type Busy struct {
	Tenant  string
	Running int
}

func (b *Busy) Error() string {
	return fmt.Sprintf("tenant %s: %d instances run already", b.Tenant, b.Running)
}

// Trap is a call that the guest or a quota ended. Class is one of the Class constants, Text the first line
// of the reason, Instance the instance that was discarded (for ClassGuest: the one that answered).
type Trap struct {
	Class    string
	Text     string
	Instance string

	Fuel      int64 // units that the call used
	CPUMicros int64 // thread CPU time that the call used
}

func (t *Trap) Error() string { return t.Class + ": " + t.Text }
