package rpc

import (
	"fmt"
	"time"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/scenarios/host"
	"github.com/assay-bench/assay/scenarios/wire/rpcframe"
	"github.com/assay-bench/assay/suites"
)

const (
	reasonNotClosed     = "not-closed"
	reasonMemoryUnknown = "memory-unknown"
)

// maxGrowth is what refusing a frame may cost the target in memory.
const maxGrowth = 1 << 20

var lengthLimits = []variant{
	edited("length-1-gib", "LENGTH 0x3fffffff", rpcframe.TTHeaderFramed, set32(0, 0x3fffffff)),
	edited("length-4-gib", "LENGTH 0xffffffff", rpcframe.TTHeaderFramed, set32(0, 0xffffffff)),
	edited("inner-2-gib", "inner frame length 0x7fffffff", rpcframe.TTHeaderFramed, inner(set32(0, 0x7fffffff))),
	edited("framed-2-gib", "frame length 0x7fffffff", rpcframe.Framed, set32(0, 0x7fffffff)),
}

var _ = add(suites.Check{
	ID:       "rpc/wire/length-limit",
	Title:    "a length above the limit is refused before anything is allocated for it",
	Covers:   []string{"rpc/wire/length-limit"},
	Needs:    []features.Feature{features.RPCBehave},
	Cases:    casesOf(lengthLimits),
	Control:  controlFor(lengthLimits),
	Cost:     suites.Cost{Time: 200 * time.Millisecond, Exclusive: true},
	Locality: suites.SameHost,
	Drive:    driving(lengthLimits, driveWithMemory),
	Judge:    judgeLengthLimit,
	Explain:  explain,
	Reasons:  []string{reasonNotClosed, reasonAnswered, reasonMemoryGrew, reasonMemoryUnknown},
	Kills: kills(
		killsIn("rpc.no-length-limit", reasonNotClosed, "length-1-gib", "framed-2-gib"),
		killsIn("rpc.length-ignored", reasonAnswered, "inner-2-gib", "framed-2-gib"),
		killsIn("rpc.prealloc-length", reasonMemoryGrew, "length-1-gib", "length-4-gib"),
	),
})

func judgeLengthLimit(t suites.Trace) suites.Finding {
	// a server that waits for the claimed bytes ends at its read deadline: that is not a refusal
	bound := min(refusalWait, t.Claims.Limits.ReadDeadline()/2)
	want := fmt.Sprintf("the connection closed within %s, and less than 1 MiB of memory taken", bound)
	v, err := variantOf(lengthLimits, t.Key.Case)
	if err != nil {
		return suites.Failing(reasonMemoryUnknown, want, err.Error(), nil)
	}
	a := answerOf(exchangesOf(t), "probe", v.form)
	grown, seq, ok := host.Growth(t.Evidence)
	cites := a.cites()
	if ok {
		cites = joined(cites, []uint64{seq})
	}
	observed := fmt.Sprintf("%s; peak resident memory grew by %d KiB", a, grown>>10)
	switch {
	case a.served(), a.kind == garbled:
		return suites.Failing(reasonAnswered, want, observed, cites)
	case !a.closedByPeer() && t.Noisy(refusalWait):
		return suites.TooNoisy(want, observed, cites)
	case !a.closedByPeer():
		return suites.Failing(reasonNotClosed, want, observed, cites)
	case t.Within(a.x.Ending, 0, bound) == suites.TooLate:
		return suites.Failing(reasonNotClosed, want, observed, cites)
	case t.Within(a.x.Ending, 0, bound) == suites.Unsure && a.x.Ending > bound:
		return suites.TooNoisy(want, observed, cites)
	case !ok:
		return suites.Failing(reasonMemoryUnknown, want, "the memory of the target's process could not be read", cites)
	case grown >= maxGrowth:
		return suites.Failing(reasonMemoryGrew, want, observed, cites)
	}
	return suites.Passing(want, observed, cites)
}
