package rpc

import (
	"github.com/assay-bench/assay/scenarios/wire/behave"
	"github.com/assay-bench/assay/scenarios/wire/rpcframe"
	"github.com/assay-bench/assay/scenarios/wire/ttheader"
	"github.com/assay-bench/assay/suites"
)

const reasonMetaDiffers = "meta-differs" // the handler saw other metadata than was sent

var headerOrder = conversation{
	want: "a reply that reports the same metadata whatever the order of blocks and keys",
	variants: []variant{
		permuted("usual", "blocks 0x11, 0x01, 0x10", ttheader.InfoACL, ttheader.InfoStrings, ttheader.InfoInts),
		permuted("reversed", "blocks 0x10, 0x01, 0x11", ttheader.InfoInts, ttheader.InfoStrings, ttheader.InfoACL),
		permuted("strings-first", "blocks 0x01, 0x11, 0x10", ttheader.InfoStrings, ttheader.InfoACL, ttheader.InfoInts),
	},
	judge: func(_ suites.Trace, a answer) string {
		if !a.served() || a.result.Success == nil || a.result.Success.Report == nil {
			return reasonNoReply
		}
		meta := a.result.Success.Report.Meta
		if meta["isn"] != behave.Service || meta["RPC_PERSIST_k"] != "v" || meta["#9"] != behave.MethodEcho {
			return reasonMetaDiffers
		}
		return ""
	},
}

func permuted(id, title string, blocks ...byte) variant {
	return variant{id, title, rpcframe.TTHeaderFramed, func(token string) ([]byte, error) {
		c := echo(rpcframe.TTHeaderFramed, 7, tagged(token, behave.Op{Kind: behave.Meta}))
		c.Header = persist()
		c.Layout.Blocks = blocks
		if id == "reversed" {
			c.Layout.IntOrder, c.Layout.StrOrder = []uint16{ttheader.KeyMessageType, ttheader.KeyToMethod}, []string{"isn", "RPC_PERSIST_k"}
		}
		return c.Encode()
	}}
}

var _ = add(headerOrder.check(suites.Check{
	ID:      "rpc/wire/header-order-free",
	Title:   "info blocks and keys are accepted in any order",
	Covers:  []string{"rpc/wire/header-order-free"},
	Reasons: []string{reasonNoReply, reasonMetaDiffers},
	Kills: kills(
		killsIn("rpc.info-order-fixed", reasonNoReply, "reversed", "strings-first"),
		killsIn("rpc.info-first-block-only", reasonMetaDiffers, "usual"),
	),
}))
