package rpc

import (
	"time"

	"github.com/assay-bench/assay/scenarios/wire/behave"
	"github.com/assay-bench/assay/scenarios/wire/rpcframe"
	"github.com/assay-bench/assay/suites"
)

// nestingTime is how long the refusal of a nested struct may take.
const nestingTime = 100 * time.Millisecond

const reasonSlow = "slow"

var _ = add(conversation{
	want: "up to 60 levels served; 70 levels answered by exception 7 within 100 ms",
	variants: []variant{
		withArgs("within", "50 levels in a field that the IDL does not declare", rpcframe.Framed, func(token string) []byte {
			return msgArgs(token, nested(50))
		}),
		withArgs("undeclared", "70 levels in a field that the IDL does not declare", rpcframe.Framed, func(token string) []byte {
			return msgArgs(token, nested(70))
		}),
		withArgs("declared", "70 levels of a struct that the IDL declares", rpcframe.Framed, func(token string) []byte {
			return behave.Args(behave.Msg{Tag: &token, Body: "hi", Node: nodes(70)})
		}),
		withArgs("ttheader", "70 levels, TTHeader", rpcframe.TTHeaderFramed, func(token string) []byte {
			return msgArgs(token, nested(70))
		}),
	},
	judge: func(t suites.Trace, a answer) string {
		if t.Key.Case == "within" {
			return mustReply(t, a)
		}
		if reason := mustExcept(7, "")(t, a); reason != "" {
			return reason
		}
		if a.x.Answer-t.Stall > nestingTime {
			return reasonSlow
		}
		return ""
	},
}.check(suites.Check{
	ID:      "rpc/wire/nesting-bound",
	Title:   "nesting is bounded",
	Covers:  []string{"rpc/wire/nesting-bound"},
	Reasons: []string{reasonNoReply, reasonServed, reasonNoException, reasonWrongException, reasonSlow},
	Kills: kills(
		killsIn("rpc.nesting-unbounded", reasonServed, "undeclared", "declared", "ttheader"),
		killsIn("rpc.nesting-strict", reasonNoReply, "within"),
	),
}))
