package rpc

import (
	"context"
	"fmt"
	"time"

	"github.com/assay-bench/assay/chaos"
	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/rpc"
	"github.com/assay-bench/assay/scenarios/wire/behave"
	"github.com/assay-bench/assay/scenarios/wire/rpcframe"
	"github.com/assay-bench/assay/suites"
)

// slowCall is how long the first of two pipelined calls takes.
const slowCall = 120 * time.Millisecond

// pipelineWait leaves room for the faults under which the check must hold.
const pipelineWait = 3 * time.Second

var pipelines = []variant{
	pipelined("framed", rpcframe.Framed),
	pipelined("ttheader-framed", rpcframe.TTHeaderFramed),
}

func pipelined(id string, form rpcframe.Form) variant {
	return variant{id, "a slow and a fast call in one segment, " + string(form), form, func(token string) ([]byte, error) {
		slow, err := echo(form, 11, tagged(token, behave.Op{Kind: behave.Delay, Millis: ptr(slowCall.Milliseconds())})).Encode()
		if err != nil {
			return nil, err
		}
		fast, err := echo(form, 12, tagged(token)).Encode()
		return append(slow, fast...), err
	}}
}

var _ = add(suites.Check{
	ID:       "rpc/wire/pipelining-order",
	Title:    "pipelined calls are all answered, in the order of the requests",
	Covers:   []string{"rpc/wire/pipelining-order"},
	Needs:    []features.Feature{features.RPCBehave},
	Cases:    casesOf(pipelines),
	Control:  controlFor(pipelines),
	Under:    []chaos.Spec{{Name: "net/delay", Magnitude: 0.12}, {Name: "proc/pause", Magnitude: 0.4}},
	Cost:     suites.Cost{Time: 500 * time.Millisecond},
	Drive:    driving(pipelines, drivePipeline),
	Endpoint: "rpc",
	Probe:    probeEcho,
	Judge:    judgePipeline,
	Explain:  explain,
	Reasons:  []string{"out-of-order", "lost", reasonGarbled},
	Kills: kills(
		killsIn("rpc.pipelining-reversed", "out-of-order", "framed", "ttheader-framed"),
		killsIn("rpc.pipelining-drops-second", "lost", "framed", "ttheader-framed"),
		[]suites.Kill{
			{Defect: "rpc.drops-after-stall", Reason: "lost", Case: "framed", Under: "proc/pause=0.4"},
			{Defect: "rpc.impatient", Reason: "lost", Case: "framed", Under: "net/delay=0.12"},
			{Defect: "rpc.impatient", Reason: "lost", Case: "ttheader-framed", Under: "net/delay=0.12"},
		},
	),
})

func drivePipeline(ctx context.Context, env *scenarios.Env, v variant, b []byte) error {
	c, err := rpc.Dial(ctx, env, "rpc", "probe")
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Send("probe", b); err != nil {
		return err
	}
	return c.Await(ctx, pipelineWait, wholeFrames(v.form, 2))
}

// probeEcho is one ordinary call and its answer, for the witness of a fault.
func probeEcho(ctx context.Context, env *scenarios.Env, addr string) (time.Duration, error) {
	conn, err := env.Dial(ctx, "tcp", addr)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if d, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(d); err != nil {
			return 0, err
		}
	}
	b, err := goodCall(rpcframe.Framed)
	if err != nil {
		return 0, err
	}
	began := env.Clock.Now()
	if _, err := conn.Write(b); err != nil {
		return 0, err
	}
	whole, buf := wholeFrames(rpcframe.Framed, 1), make([]byte, 0, 4096)
	for !whole(buf) || len(buf) == 0 {
		n, err := conn.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err != nil || len(buf) == cap(buf) {
			return 0, fmt.Errorf("no answer in %d bytes: %w", len(buf), err)
		}
	}
	return env.Elapsed(began), nil
}

func judgePipeline(t suites.Trace) suites.Finding {
	const want = "two replies, sequence ids 11 and 12 in this order"
	v, err := variantOf(pipelines, t.Key.Case)
	if err != nil {
		return suites.Finding{Observed: err.Error()}
	}
	x := exchangesOf(t)["probe"]
	if x == nil {
		a := answerOf(exchangesOf(t), "probe", v.form)
		return suites.Failing("lost", want, a.String(), a.cites())
	}
	var seqs []int32
	rest := x.Received
	for len(rest) > 0 {
		n, err := rpcframe.Split(v.form, rest)
		if err != nil {
			return suites.Failing(reasonGarbled, want, err.Error(), x.Cites)
		}
		if n == 0 {
			break
		}
		a := answer{form: v.form}.decode(rest[:n], 0)
		switch a.kind {
		case replied:
		case exception: // the call got no reply
			return suites.Failing("lost", want, a.String(), x.Cites)
		default:
			return suites.Failing(reasonGarbled, want, a.String(), x.Cites)
		}
		seqs = append(seqs, a.reply.Message.Seq)
		rest = rest[n:]
	}
	observed := fmt.Sprintf("replies with sequence ids %v", seqs)
	if x.Closed != "" {
		observed += ", then the connection closed (" + x.Closed + ")"
	}
	switch {
	case len(seqs) < 2 && x.Closed == "" && t.Noisy(pipelineWait):
		return suites.TooNoisy(want, observed, x.Cites)
	case len(seqs) < 2:
		return suites.Failing("lost", want, observed, x.Cites)
	case len(seqs) > 2 || seqs[0] != 11 || seqs[1] != 12:
		return suites.Failing("out-of-order", want, observed, x.Cites)
	}
	return suites.Passing(want, observed, x.Cites)
}
