package rpc

import (
	"github.com/assay-bench/assay/scenarios/wire/rpcframe"
	"github.com/assay-bench/assay/suites"
)

var headerSize = refusal{
	closing: true, ends: true,
	variants: []variant{
		called("zero", "header size 0", rpcframe.TTHeaderFramed, func(c *rpcframe.Call) { c.Layout.Words = ptr(uint16(0)) }),
		called("beyond-frame", "header size 0x0101 words in a shorter frame", rpcframe.TTHeaderFramed, func(c *rpcframe.Call) { c.Layout.Words = ptr(uint16(0x101)) }),
		called("overflowing", "header size 0x4001 words, which overflows 16-bit arithmetic", rpcframe.TTHeaderFramed, func(c *rpcframe.Call) { c.Layout.Words = ptr(uint16(0x4001)) }),
	},
}

var _ = add(headerSize.check(suites.Check{
	ID:     "rpc/wire/header-size-nonzero",
	Title:  "header size 0, and a header larger than the frame, are refused",
	Covers: []string{"rpc/wire/header-size-nonzero"},
	Kills: kills(
		killsIn("rpc.header-size-zero-served", reasonServed, "zero"),
		killsIn("rpc.header-size-hangs", reasonNotRefused, "zero", "beyond-frame", "overflowing"),
	),
}))
