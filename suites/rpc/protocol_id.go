package rpc

import (
	"fmt"

	"github.com/assay-bench/assay/scenarios/wire/rpcframe"
	"github.com/assay-bench/assay/suites"
)

var protocolID = refusal{codes: []int32{9}, closing: true, variants: protocolIDs(0x02, 0x03, 0x7f)}

func protocolIDs(ids ...byte) (out []variant) {
	for _, id := range ids {
		out = append(out, called(fmt.Sprintf("id-%02x", id), fmt.Sprintf("protocol id 0x%02x", id), rpcframe.TTHeaderFramed,
			func(c *rpcframe.Call) { c.Header.ProtocolID = id }))
	}
	return out
}

var _ = add(protocolID.check(suites.Check{
	ID:     "rpc/wire/protocol-id-known",
	Title:  "protocol ids that are unknown or have no codec are refused",
	Covers: []string{"rpc/wire/protocol-id-known"},
	Kills:  killsIn("rpc.protocol-id-ignored", reasonServed, "id-02", "id-03", "id-7f"),
}))
