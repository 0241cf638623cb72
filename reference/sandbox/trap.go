package sandbox

import (
	"errors"
	"strings"

	"github.com/tetratelabs/wazero/sys"

	"github.com/assay-bench/assay/reference/defect"
)

// The classes of a trap.
const (
	ClassMemory      = "memory-bounds"
	ClassUnreachable = "unreachable"
	ClassDivide      = "divide-by-zero"
	ClassOverflow    = "integer-overflow"
	ClassConversion  = "bad-conversion"
	ClassSignature   = "signature"
	ClassTable       = "table-access"
	ClassStack       = "stack"
	ClassHostError   = "host-error"
	ClassDeadline    = "deadline"
	ClassFuel        = "fuel"
	ClassQuota       = "memory-quota"
	ClassGuest       = "guest-error" // the buffer ABI's error bit: the guest says no, nothing is broken
	ClassInternal    = "internal"
)

// wasmErrors are the texts of wazero, which has no error values for them.
var wasmErrors = [...]struct{ text, class string }{
	{"wasm error: out of bounds memory access", ClassMemory},
	{"wasm error: unreachable", ClassUnreachable},
	{"wasm error: integer divide by zero", ClassDivide},
	{"wasm error: integer overflow", ClassOverflow},
	{"wasm error: invalid conversion to integer", ClassConversion},
	{"wasm error: indirect call type mismatch", ClassSignature},
	{"wasm error: invalid table access", ClassTable},
	{"wasm error: null reference", ClassTable},
	{"wasm error: stack overflow", ClassStack},
	{"stack overflow", ClassStack}, // the compiler's
}

// classify names the class of a call's error by its cause or the first line of its text. exited tells a
// guest that ended itself with code 0.
func (i *instance) classify(err error) (class, text string, exited bool) {
	text, _, _ = strings.Cut(err.Error(), "\n")
	text = clip(strings.TrimSuffix(text, " (recovered by wazero)"))
	if s, ok := errors.AsType[*stop](err); ok {
		return i.bent(s.class), s.text, false
	}
	if exit, ok := errors.AsType[*sys.ExitError](err); ok {
		switch exit.ExitCode() {
		case 0:
			return "", "", true
		case sys.ExitCodeDeadlineExceeded, sys.ExitCodeContextCanceled:
			return i.bent(ClassDeadline), text, false
		}
		return i.bent(ClassHostError), text, false
	}
	class = ClassHostError
	for _, w := range wasmErrors {
		if strings.HasPrefix(text, w.text) {
			class = w.class
			break
		}
	}
	if class == ClassUnreachable {
		class, text = i.unreachable(text)
	}
	return i.bent(class), text, false
}

// unreachable tells the rewriter's own traps from the guest's by the globals that they leave behind.
func (i *instance) unreachable(text string) (string, string) {
	switch {
	case int64(i.meter.fuel.Get()) < 0:
		return ClassFuel, "fuel exhausted"
	case i.depth != nil && int32(i.depth.Get()) > MaxCallDepth:
		return ClassStack, "call depth over the limit"
	}
	return ClassUnreachable, text
}

// bent applies planted defects to a class.
func (i *instance) bent(class string) string {
	switch {
	case i.version.defects().On(defect.SandboxTrapsAsInternal):
		return ClassInternal
	case i.version.defects().On(defect.SandboxFuelAsUnreachable) && class == ClassFuel:
		return ClassUnreachable
	}
	return class
}
