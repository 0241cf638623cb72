package rpc

import (
	"context"
	"fmt"
	"time"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/rpc"
	"github.com/assay-bench/assay/scenarios/wire/rpcframe"
	"github.com/assay-bench/assay/suites"
)

// deadlineTolerance is how far from the read deadline the close may be.
const deadlineTolerance = 500 * time.Millisecond

var stopped = []variant{
	{"none", "no byte at all", rpcframe.Framed, firstBytes(0)},
	{"four-bytes", "4 bytes, then silence", rpcframe.Framed, firstBytes(4)},
	{"twenty-bytes", "20 bytes of a call, then silence", rpcframe.Framed, firstBytes(20)},
}

func firstBytes(n int) func(string) ([]byte, error) {
	return func(string) ([]byte, error) {
		b, err := goodCall(rpcframe.Framed)
		if err != nil {
			return nil, err
		}
		return b[:n], nil
	}
}

var _ = add(suites.Check{
	ID:      "rpc/wire/read-deadline",
	Title:   "one read deadline from accept ends a connection that stops sending",
	Covers:  []string{"rpc/wire/read-deadline"},
	Needs:   []features.Feature{features.RPCBehave},
	Cases:   casesOf(stopped),
	Control: controlFor(stopped),
	Cost:    suites.Cost{Time: 5 * time.Second},
	Drive:   driving(stopped, driveDeadline),
	Judge:   judgeDeadline,
	Explain: explain,
	Reasons: []string{reasonAnswered, reasonNotClosed, "early", "late"},
	Kills: kills(
		killsIn("rpc.no-read-deadline", reasonNotClosed, "none", "four-bytes", "twenty-bytes"),
		killsIn("rpc.deadline-from-first-byte", reasonNotClosed, "none"),
		killsIn("rpc.deadline-early", "early", "none", "four-bytes", "twenty-bytes"),
		killsIn("rpc.deadline-late", "late", "none", "twenty-bytes"),
	),
})

func driveDeadline(ctx context.Context, env *scenarios.Env, _ variant, b []byte) error {
	c, err := rpc.Dial(ctx, env, "rpc", "probe")
	if err != nil {
		return err
	}
	defer c.Close()
	c.Begin("probe")
	if len(b) > 0 {
		if err := c.Send("probe", b); err != nil {
			return err
		}
	}
	return c.Await(ctx, 3*env.Claims.Limits.ReadDeadline()+2*deadlineTolerance, nil)
}

func judgeDeadline(t suites.Trace) suites.Finding {
	limit := t.Claims.Limits.ReadDeadline()
	want := fmt.Sprintf("the connection closed %s after it was made, give or take %s", limit, deadlineTolerance)
	a := answerOf(exchangesOf(t), "probe", rpcframe.Framed)
	switch {
	case a.x == nil || a.kind == refused:
		return suites.Failing(reasonNotClosed, want, a.String(), a.cites())
	case a.kind == replied, a.kind == garbled:
		return suites.Failing(reasonAnswered, want, a.String(), a.cites())
	case !a.closedByPeer():
		return suites.Failing(reasonNotClosed, want, a.String(), a.cites())
	}
	switch t.Within(a.x.Ending, limit-deadlineTolerance, limit+deadlineTolerance) {
	case suites.TooEarly:
		return suites.Failing("early", want, a.String(), a.cites())
	case suites.TooLate:
		return suites.Failing("late", want, a.String(), a.cites())
	case suites.Unsure:
		return suites.TooNoisy(want, fmt.Sprintf("%s, while the harness itself stalled for %s", a, t.Stall), a.cites())
	}
	return suites.Passing(want, a.String(), a.cites())
}
