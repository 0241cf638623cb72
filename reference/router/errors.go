package router

import (
	"errors"
	"fmt"
)

// Kind says what sort of refusal an Error is.
type Kind uint8

// The kinds of refusals.
const (
	Bad      Kind = iota // the request can not be meant
	Unknown              // no such thing
	Conflict             // the state does not allow it
	TooLarge             // over Limit
	Refused              // a model that is not taken
	Busy                 // as many are at work as there may be
	Unserved             // no backend takes it
	Failed               // a backend failed
)

// Error is a refusal of the router. What was before it is kept.
type Error struct {
	Kind   Kind
	Reason string // one word of a closed set an operation; may be empty
	Limit  int    // of a TooLarge
	Detail string
}

func (e *Error) Error() string { return e.Detail }

func refuse(k Kind, reason, format string, args ...any) *Error {
	return &Error{Kind: k, Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

func bad(format string, args ...any) *Error { return refuse(Bad, "", format, args...) }
func unknown(what, name string) *Error      { return refuse(Unknown, "", "no %s %.64q", what, name) }
func tooLarge(limit int, format string, args ...any) *Error {
	e := refuse(TooLarge, "", format, args...)
	e.Limit = limit
	return e
}

// isRefusal reports whether an error is the client's to mend.
func isRefusal(err error) bool {
	_, ok := errors.AsType[*Error](err)
	return ok
}
