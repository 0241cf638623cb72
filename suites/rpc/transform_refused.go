package rpc

import (
	"github.com/assay-bench/assay/scenarios/wire/rpcframe"
	"github.com/assay-bench/assay/suites"
)

var transformRefused = refusal{
	codes: []int32{8}, closing: true,
	variants: []variant{
		called("claimed", "one transform claimed", rpcframe.TTHeaderFramed, func(c *rpcframe.Call) { c.Layout.Transforms = ptr(byte(1)) }),
		called("zlib", "transform 1 (zlib) named", rpcframe.TTHeaderFramed, func(c *rpcframe.Call) { c.Header.Transforms = []byte{1} }),
	},
}

var _ = add(transformRefused.check(suites.Check{
	ID:     "rpc/wire/transform-refused",
	Title:  "a transformed payload is refused, not read as plain",
	Covers: []string{"rpc/wire/transform-refused"},
	Kills:  killsIn("rpc.transform-ignored", reasonServed, "zlib"),
}))
