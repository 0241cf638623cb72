package rpc

import (
	"time"

	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/wire/rpcframe"
	"github.com/assay-bench/assay/suites"
)

const unframedLong = "unframed-length-plus-50"

var lengthConsistent = refusal{
	codes: []int32{7}, closing: true, ends: true,
	// the one frame whose end is not in sight is ended by the read deadline
	wait: func(env *scenarios.Env, v variant) time.Duration {
		if v.id == unframedLong {
			return env.Claims.Limits.ReadDeadline() + refusalWait
		}
		return refusalWait
	},
	variants: []variant{
		edited("length-plus-50", "LENGTH 50 too large, which the inner frame length shows", rpcframe.TTHeaderFramed, add32(0, 50)),
		edited("length-minus-1", "LENGTH 1 too small", rpcframe.TTHeaderFramed, add32(0, -1)),
		edited("length-10", "LENGTH of a frame without header and payload", rpcframe.TTHeaderFramed, set32(0, 10)),
		edited("inner-plus-100", "inner frame length 100 too large", rpcframe.TTHeaderFramed, inner(add32(0, 100))),
		edited("inner-minus-1", "inner frame length 1 too small", rpcframe.TTHeaderFramed, inner(add32(0, -1))),
		edited("inner-left-over", "a byte left over behind the message, inside all lengths", rpcframe.TTHeaderFramed, behind("\x00", atStart, atPayload)),
		edited(unframedLong, "LENGTH 50 too large and nothing following", rpcframe.TTHeader, add32(0, 50)),
		edited("unframed-left-over", "a byte left over behind the message, inside LENGTH", rpcframe.TTHeader, behind("\x00", atStart)),
		edited("framed-minus-1", "frame length 1 too small", rpcframe.Framed, add32(0, -1)),
		edited("framed-left-over", "a byte left over behind the message, inside the frame", rpcframe.Framed, behind("\x00", atStart)),
	},
}

var _ = add(lengthConsistent.check(suites.Check{
	ID:     "rpc/wire/length-consistent",
	Title:  "a frame whose lengths disagree is refused",
	Covers: []string{"rpc/wire/length-consistent"},
	Cost:   suites.Cost{Time: 2 * time.Second},
	Kills: kills(
		killsIn("rpc.length-ignored", reasonServed, "length-plus-50", "length-minus-1", "inner-plus-100", "inner-minus-1", "framed-minus-1"),
		killsIn("rpc.trailing-bytes-ignored", reasonServed, "inner-left-over", "unframed-left-over", "framed-left-over"),
		killsIn("rpc.length-mismatch-hangs", reasonNotRefused, "length-10", "inner-minus-1"),
		killsIn("rpc.no-read-deadline", reasonNotRefused, unframedLong),
	),
}))
