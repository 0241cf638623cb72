package rpc

import (
	"github.com/assay-bench/assay/scenarios/wire/rpcframe"
	"github.com/assay-bench/assay/suites"
)

const reasonNoReply = "no-reply" // an ordinary reply had to come and did not

func mustReply(_ suites.Trace, a answer) string {
	if !a.served() || a.result.Success == nil || a.result.Success.Body != "hi" {
		return reasonNoReply
	}
	return ""
}

var padding = conversation{
	want: "an ordinary reply", judge: mustReply,
	variants: []variant{
		called("before-blocks", "4 zero bytes before each info block", rpcframe.TTHeaderFramed, func(c *rpcframe.Call) { c.Layout.Between = 4 }),
		called("behind-blocks", "8 zero bytes behind the last info block", rpcframe.TTHeaderFramed, func(c *rpcframe.Call) { c.Layout.Trailing = 8 }),
	},
}

var _ = add(padding.check(suites.Check{
	ID:      "rpc/wire/padding-skipped",
	Title:   "padding anywhere between info blocks is skipped",
	Covers:  []string{"rpc/wire/padding-skipped"},
	Reasons: []string{reasonNoReply},
	Kills:   killsIn("rpc.padding-rejected", reasonNoReply, "before-blocks", "behind-blocks"),
}))
