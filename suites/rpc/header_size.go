package rpc

import (
	"encoding/binary"
	"time"

	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/wire/rpcframe"
	"github.com/assay-bench/assay/suites"
)

var headerSize = refusal{
	codes: []int32{7}, closing: true, ends: true,
	// a server may read the claimed header first, until its read deadline
	wait: func(env *scenarios.Env, v variant) time.Duration {
		if v.id == "beyond-frame" || v.id == "overflowing" {
			return env.Claims.Limits.ReadDeadline() + refusalWait
		}
		return refusalWait
	},
	variants: []variant{
		called("zero", "header size 0", rpcframe.TTHeaderFramed, func(c *rpcframe.Call) { c.Layout.Words = ptr(uint16(0)) }),
		{"empty", "header size 0 and no header at all", rpcframe.TTHeaderFramed, headless},
		called("beyond-frame", "header size 0x0101 words in a shorter frame", rpcframe.TTHeaderFramed, func(c *rpcframe.Call) { c.Layout.Words = ptr(uint16(0x101)) }),
		called("overflowing", "header size 0x4001 words, which overflows 16-bit arithmetic", rpcframe.TTHeaderFramed, func(c *rpcframe.Call) { c.Layout.Words = ptr(uint16(0x4001)) }),
	},
}

// headless is a frame of header size 0 whose payload follows the size at once.
func headless(token string) ([]byte, error) {
	payload, err := echo(rpcframe.Framed, 7, tagged(token)).Encode()
	if err != nil {
		return nil, err
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(10+len(payload)))
	b = binary.BigEndian.AppendUint16(b, 0x1000)
	b = binary.BigEndian.AppendUint16(b, 0) // flags
	b = binary.BigEndian.AppendUint32(b, 7) // sequence id
	b = binary.BigEndian.AppendUint16(b, 0) // header size
	return append(b, payload...), nil
}

var _ = add(headerSize.check(suites.Check{
	ID:     "rpc/wire/header-size-nonzero",
	Title:  "header size 0, and a header larger than the frame, are refused",
	Covers: []string{"rpc/wire/header-size-nonzero"},
	Kills: kills(
		killsIn("rpc.header-size-zero-served", reasonServed, "empty"),
		killsIn("rpc.header-size-hangs", reasonNotRefused, "zero", "beyond-frame", "overflowing"),
	),
}))
