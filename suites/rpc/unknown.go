package rpc

import (
	"github.com/assay-bench/assay/scenarios/wire/rpcframe"
	"github.com/assay-bench/assay/suites"
)

const (
	reasonNoException   = "no-exception"
	reasonNameNotEchoed = "name-not-echoed"
	noSuchMethod        = "Nope"
)

func unknownMethod(tr transport) variant {
	return called(tr.id, "method Nope, "+string(tr.form), tr.form, func(c *rpcframe.Call) { c.Method = noSuchMethod })
}

func unknownService(id string, form rpcframe.Form) variant {
	return called(id, "service Nope, "+string(form), form, func(c *rpcframe.Call) {
		c.Header.StrKeys = map[string]string{"isn": "Nope"}
	})
}

// mustExcept demands an exception with a code and, where name is given, the echoed method name.
func mustExcept(code int32, name string) func(suites.Trace, answer) string {
	return func(_ suites.Trace, a answer) string {
		switch {
		case a.served():
			return reasonServed
		case a.kind != exception:
			return reasonNoException
		case a.fault.Code != code:
			return reasonWrongException
		case name != "" && a.reply.Message.Name != name:
			return reasonNameNotEchoed
		}
		return ""
	}
}

var _ = add(conversation{
	want: "exception 1 that echoes the method's name", variants: forms(unknownMethod), judge: mustExcept(1, noSuchMethod),
}.check(suites.Check{
	ID:      "rpc/wire/unknown-method",
	Title:   "an unknown method is answered by exception 1",
	Covers:  []string{"rpc/wire/unknown-method"},
	Reasons: []string{reasonServed, reasonNoException, reasonWrongException, reasonNameNotEchoed},
	Kills: kills(
		killsIn("rpc.unknown-method-internal", reasonWrongException, "buffered", "framed", "ttheader", "ttheader-framed"),
		killsIn("rpc.unknown-method-closes", reasonNoException, "framed"),
		killsIn("rpc.name-not-echoed", reasonNameNotEchoed, "buffered", "framed", "ttheader", "ttheader-framed"),
	),
}))

var _ = add(conversation{
	want:     "exception 20",
	variants: []variant{unknownService("ttheader", rpcframe.TTHeader), unknownService("ttheader-framed", rpcframe.TTHeaderFramed)},
	judge:    mustExcept(20, ""),
}.check(suites.Check{
	ID:      "rpc/wire/unknown-service",
	Title:   "a service name that nobody registered is answered by exception 20",
	Covers:  []string{"rpc/wire/unknown-service"},
	Reasons: []string{reasonServed, reasonNoException, reasonWrongException},
	Kills:   killsIn("rpc.unknown-service-served", reasonServed, "ttheader", "ttheader-framed"),
}))

var _ = add(conversation{
	want: "an exception, and a call afterwards on the same connection is answered",
	kept: true,
	variants: []variant{
		called("method", "method Nope", rpcframe.Framed, func(c *rpcframe.Call) { c.Method = noSuchMethod }),
		unknownService("service", rpcframe.TTHeaderFramed),
	},
	judge: func(_ suites.Trace, a answer) string {
		if a.kind != exception {
			return reasonNoException
		}
		return ""
	},
}.check(suites.Check{
	ID:      "rpc/wire/unknown-keeps-connection",
	Title:   "the connection goes on serving after an unknown method or service",
	Covers:  []string{"rpc/wire/unknown-keeps-connection"},
	Reasons: []string{reasonNoException},
	Kills: kills(
		killsIn("rpc.unknown-closes-after", reasonNotKept, "method", "service"),
		killsIn("rpc.unknown-method-closes", reasonNoException, "method"),
	),
}))
