package rpc

import (
	"github.com/assay-bench/assay/scenarios/wire/rpcframe"
	"github.com/assay-bench/assay/suites"
)

var infoID = refusal{
	codes: []int32{7}, closing: true,
	variants: []variant{
		called("id-55", "info block 0x55", rpcframe.TTHeaderFramed, func(c *rpcframe.Call) { c.Layout.RawInfo = []byte{0x55, 0, 1, 'x'} }),
	},
}

var _ = add(infoID.check(suites.Check{
	ID:     "rpc/wire/info-id-unknown",
	Title:  "an unknown info block is an error",
	Covers: []string{"rpc/wire/info-id-unknown"},
	Kills:  killsIn("rpc.info-id-skipped", reasonServed, "id-55"),
}))
