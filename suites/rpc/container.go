package rpc

import (
	"context"
	"fmt"
	"time"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/host"
	"github.com/assay-bench/assay/scenarios/wire/rpcframe"
	"github.com/assay-bench/assay/scenarios/wire/thrift"
	"github.com/assay-bench/assay/suites"
)

const reasonMemoryGrew = "memory-grew"

// impossible are calls with a container whose count can not fit into the bytes that remain.
var impossible = []variant{
	withArgs("list-of-structs", "a declared list of 0x7fffffff structs", rpcframe.Framed, func(token string) []byte {
		return msgArgs(token, func(w *thrift.Writer) {
			w.Field(thrift.List, 3)
			w.List(thrift.Object, 0x7fffffff)
		})
	}),
	withArgs("list-of-numbers", "a declared list of 0x7fffffff numbers inside a declared struct", rpcframe.Framed, func(token string) []byte {
		return msgArgs(token, func(w *thrift.Writer) {
			w.Field(thrift.Object, 5)
			w.Field(thrift.List, 2)
			w.List(thrift.I64, 0x7fffffff)
			w.Stop()
		})
	}),
	withArgs("undeclared-map", "a map of 0x7fffffff entries in a field that the IDL does not declare", rpcframe.Framed, func(token string) []byte {
		return msgArgs(token, func(w *thrift.Writer) {
			w.Field(thrift.Map, 98)
			w.Map(thrift.I32, thrift.I32, 0x7fffffff)
		})
	}),
}

var _ = add(suites.Check{
	ID:       "rpc/wire/container-bound",
	Title:    "a container whose count can not fit is refused before memory is taken for it",
	Covers:   []string{"rpc/wire/container-bound"},
	Needs:    []features.Feature{features.RPCBehave},
	Cases:    casesOf(impossible),
	Control:  controlFor(impossible),
	Cost:     suites.Cost{Time: 200 * time.Millisecond, Exclusive: true},
	Locality: suites.SameHost,
	Drive:    driving(impossible, driveWithMemory),
	Judge:    judgeContainer,
	Explain:  explain,
	Reasons:  []string{reasonServed, reasonNoException, reasonWrongException, reasonMemoryGrew, reasonMemoryUnknown},
	Kills: kills(
		killsIn("rpc.container-unbounded", reasonMemoryGrew, "list-of-structs", "list-of-numbers"),
		killsIn("rpc.container-closes-served", reasonServed, "list-of-numbers", "undeclared-map"),
	),
})

// driveWithMemory sends a variant and watches what it costs the target's process.
func driveWithMemory(ctx context.Context, env *scenarios.Env, v variant, b []byte) error {
	peak, err := host.WatchPeak(env)
	if err != nil {
		return err
	}
	if err := asking(refusalTime)(ctx, env, v, b); err != nil {
		return err
	}
	return peak.Record()
}

func judgeContainer(t suites.Trace) suites.Finding {
	const want = "exception 7, and less than 1 MiB of memory taken"
	v, err := variantOf(impossible, t.Key.Case)
	if err != nil {
		return suites.Finding{Observed: err.Error()}
	}
	a := answerOf(exchangesOf(t), "probe", v.form)
	grown, seq, ok := host.Growth(t.Evidence)
	cites := joined(a.cites(), []uint64{seq})
	observed := fmt.Sprintf("%s; peak resident memory grew by %d KiB", a, grown>>10)
	if reason := mustExcept(7, "")(t, a); reason != "" {
		return suites.Failing(reason, want, observed, a.cites())
	}
	switch {
	case !ok:
		return suites.Failing(reasonMemoryUnknown, want, "the memory of the target's process could not be read", a.cites())
	case grown >= maxGrowth:
		return suites.Failing(reasonMemoryGrew, want, observed, cites)
	}
	return suites.Passing(want, observed, cites)
}
