package rpc

import (
	"bytes"
	"regexp"

	"github.com/assay-bench/assay/scenarios/wire/behave"
	"github.com/assay-bench/assay/scenarios/wire/rpcframe"
	"github.com/assay-bench/assay/suites"
)

const (
	reasonMessageType = "wrong-message-type"
	reasonWrongFault  = "wrong-fault"
	reasonLeaked      = "leaked"
)

// doing is an ordinary call with operations.
func doing(id, title string, form rpcframe.Form, ops func(token string) []behave.Op) variant {
	return variant{id, title, form, func(token string) ([]byte, error) {
		return echo(form, 7, tagged(token, ops(token)...)).Encode()
	}}
}

func failing(kind behave.Kind) func(transport) variant {
	return func(tr transport) variant {
		return doing(tr.id, string(tr.form), tr.form, func(token string) []behave.Op {
			return []behave.Op{{Kind: kind, Code: ptr(int32(7)), Text: ptr(marker(token))}}
		})
	}
}

var _ = add(conversation{
	want:     "a message of type 2 whose result carries the declared exception",
	variants: forms(failing(behave.Throw)),
	judge: func(_ suites.Trace, a answer) string {
		switch {
		case a.kind == exception:
			return reasonMessageType
		case !a.served():
			return reasonNoReply
		case a.result.Fault == nil || a.result.Fault.Code != 7:
			return reasonWrongFault
		}
		return ""
	},
}.check(suites.Check{
	ID:      "rpc/wire/declared-exception",
	Title:   "a declared exception travels in a reply, not as an exception message",
	Covers:  []string{"rpc/wire/declared-exception"},
	Reasons: []string{reasonMessageType, reasonNoReply, reasonWrongFault},
	Kills:   killsIn("rpc.declared-as-exception", reasonMessageType, "buffered", "framed", "ttheader", "ttheader-framed"),
}))

var _ = add(conversation{
	want: "exception 6", variants: forms(failing(behave.Error)), judge: mustExcept(6, ""),
}.check(suites.Check{
	ID:      "rpc/wire/undeclared-error",
	Title:   "any other handler error is answered by exception 6",
	Covers:  []string{"rpc/wire/undeclared-error"},
	Reasons: []string{reasonServed, reasonNoException, reasonWrongException},
	Kills:   killsIn("rpc.undeclared-type-zero", reasonWrongException, "buffered", "framed", "ttheader", "ttheader-framed"),
}))

var _ = add(conversation{
	want: "exception 6, and a call afterwards on the same connection is answered", kept: true,
	variants: forms(failing(behave.Error)), judge: mustExcept(6, ""),
}.check(suites.Check{
	ID:      "rpc/wire/error-keeps-connection",
	Title:   "the connection goes on serving after a handler error",
	Covers:  []string{"rpc/wire/error-keeps-connection"},
	Reasons: []string{reasonServed, reasonNoException, reasonWrongException},
	Kills: kills(
		killsIn("rpc.error-closes", reasonNotKept, "buffered", "framed", "ttheader", "ttheader-framed"),
		killsIn("rpc.undeclared-type-zero", reasonWrongException, "framed"),
	),
}))

// stackTraces are texts that only a stack trace or a file name brings, in the usual languages.
var stackTraces = regexp.MustCompile(`goroutine \d+ \[|panic\(|runtime\.|Traceback \(most recent|File "[^"]+", line \d+|\bat [\w.$<>]+\(|` +
	`[\w/\\.-]+\.(?:go|py|java|kt|rs|cs|cpp|cc|c|js|ts|rb|php|ex|scala):\d+|/[\w./-]+\.(?:go|py|java|kt|rs|cs|cpp|cc|js|ts|rb|php)\b`)

var _ = add(conversation{
	want: "exception 6 without the panic's text, a stack or a file name", variants: forms(failing(behave.Panic)),
	judge: func(t suites.Trace, a answer) string {
		if a.x != nil && leaks(a.x.Received, a.x.Sent) {
			return reasonLeaked
		}
		return mustExcept(6, "")(t, a)
	},
}.check(suites.Check{
	ID:      "rpc/wire/no-panic-leak",
	Title:   "a panic's text and stack stay with the server",
	Covers:  []string{"rpc/wire/no-panic-leak"},
	Reasons: []string{reasonLeaked, reasonServed, reasonNoException, reasonWrongException},
	Kills: kills(
		killsIn("rpc.panic-leaks", reasonLeaked, "buffered", "framed", "ttheader", "ttheader-framed"),
		killsIn("rpc.undeclared-type-zero", reasonWrongException, "buffered"),
		killsIn("rpc.panic-kills", reasonNoException, "buffered"),
	),
}))

// leaks tells whether an answer repeats the marker that was sent as the panic's text, or shows a stack.
func leaks(received, sent []byte) bool {
	if at := bytes.Index(sent, []byte("assay-marker-")); at >= 0 {
		const length = len("assay-marker-") + 8 // with the run's own part of the token
		if bytes.Contains(received, sent[at:min(at+length, len(sent))]) {
			return true
		}
	}
	return stackTraces.Match(received)
}

var _ = add(conversation{
	want: "an exception, and a call afterwards on the same connection is answered", kept: true,
	variants: forms(failing(behave.Panic)), judge: mustExcept(6, ""),
}.check(suites.Check{
	ID:      "rpc/resilience/panic-contained",
	Title:   "a handler's panic fails one call only",
	Covers:  []string{"rpc/resilience/panic-contained"},
	Reasons: []string{reasonServed, reasonNoException, reasonWrongException},
	Kills: kills(
		killsIn("rpc.panic-kills", reasonNoException, "buffered", "framed", "ttheader", "ttheader-framed"),
		killsIn("rpc.error-closes", reasonNotKept, "framed"),
		killsIn("rpc.undeclared-type-zero", reasonWrongException, "framed"),
	),
}))
