package rpc

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/grpc"
	"github.com/assay-bench/assay/scenarios/rpc"
	"github.com/assay-bench/assay/scenarios/wire/h2"
	"github.com/assay-bench/assay/suites"
)

// Reasons of the gRPC checks.
const (
	grpcCallFailed   = "call-failed"     // a call that must succeed did not, or was never answered
	grpcWrongStatus  = "wrong-status"    // the status is not the one that the call demands
	grpcWrongMessage = "wrong-message"   // the status message is not the one that the call demands
	grpcWrongSize    = "wrong-size"      // a message has another size, or reports one
	grpcWrongCount   = "wrong-count"     // fewer or more messages than asked for
	grpcMetadataLost = "metadata-lost"   // metadata that must be echoed is missing or altered
	grpcEarly        = "answered-early"  // an answer came before it was due
	grpcConnLost     = "connection-lost" // the connection did not outlive the call
)

// grpcTrial collects what a judge reads of its calls, and keeps the first objection.
type grpcTrial struct {
	trace    suites.Trace
	want     string
	calls    map[string]grpc.Seen
	cites    []uint64
	observed string
	verdict  *suites.Finding
}

func grpcTrialOf(t suites.Trace, want string) *grpcTrial {
	g := &grpcTrial{trace: t, want: want}
	calls, err := grpc.Calls(t.Evidence)
	if err != nil {
		g.object(grpcCallFailed, "%s", err)
	}
	g.calls = calls
	return g
}

// object keeps the first reason why the case fails.
func (g *grpcTrial) object(reason, format string, args ...any) {
	if g.verdict == nil {
		f := suites.Failing(reason, g.want, fmt.Sprintf(format, args...), g.cites)
		g.verdict = &f
	}
}

// noisy keeps that the case can not be judged.
func (g *grpcTrial) noisy(format string, args ...any) {
	if g.verdict == nil {
		f := suites.TooNoisy(g.want, fmt.Sprintf(format, args...), g.cites)
		g.verdict = &f
	}
}

// finding is the objection, or a pass that cites every call that was read.
func (g *grpcTrial) finding() suites.Finding {
	if g.verdict != nil {
		return *g.verdict
	}
	return suites.Passing(g.want, g.observed, g.cites)
}

// call reads a call; that it was not made is an objection, and then ok is false.
func (g *grpcTrial) call(label string) (c grpc.Seen, ok bool) {
	c, ok = g.calls[label]
	if !ok {
		g.object(grpcCallFailed, "the call %q was not made: what had to come before it failed", label)
		return c, false
	}
	g.cites = joined(g.cites, []uint64{c.Seq})
	g.observed = c.String()
	return c, true
}

// good reads a call that must have status OK.
func (g *grpcTrial) good(label string) (grpc.Seen, bool) {
	c, ok := g.call(label)
	return c, ok && g.status(c, codes.OK)
}

// status objects to another status than want.
func (g *grpcTrial) status(c grpc.Seen, want codes.Code) bool {
	got := codes.Code(c.Code)
	switch {
	case got == want:
		return true
	case got == codes.DeadlineExceeded && g.trace.Noisy(c.Timeout):
		g.noisy("%s", c)
	case want == codes.OK || got == codes.DeadlineExceeded || got == codes.Unavailable:
		g.object(grpcCallFailed, "%s", c)
	default:
		g.object(grpcWrongStatus, "want status %d %s: %s", want, want, c)
	}
	return false
}

// sizes objects unless the messages received carry payloads of just these sizes.
func (g *grpcTrial) sizes(c grpc.Seen, want ...int) {
	if len(c.Received) != len(want) || c.More {
		g.object(grpcWrongCount, "want %d messages: %s", len(want), c)
		return
	}
	for i, m := range c.Received {
		if got := m.Bytes["payload.body"]; got != want[i] {
			g.object(grpcWrongSize, "message %d: a payload of %d bytes, want %d: %s", i+1, got, want[i], c)
			return
		}
	}
}

// servedAfter objects unless the calls after one that was given up were served, on whatever connection:
// a server may close one (RFC 9113 section 6.8).
func (g *grpcTrial) servedAfter() { g.afterwards(grpcCallFailed, func(grpc.Seen, grpc.Seen) {}) }

// kept objects unless they were served on the connection of the call before it, which is assay's own rule.
func (g *grpcTrial) kept() {
	g.afterwards(grpcConnLost, func(before, after grpc.Seen) {
		if after.Connection != before.Connection {
			g.object(grpcConnLost, "afterwards connection %d was in use in place of %d: %s", after.Connection, before.Connection, after)
		}
	})
}

func (g *grpcTrial) afterwards(failed string, look func(before, after grpc.Seen)) {
	before, ok := g.good(grpcBefore)
	if !ok {
		return
	}
	for i := range grpcAfterwards {
		after, ok := g.call(grpcAfter(i))
		switch {
		case !ok:
			return
		case codes.Code(after.Code) == codes.DeadlineExceeded && g.trace.Noisy(after.Timeout):
			g.noisy("%s", after)
		case after.Code != 0:
			g.object(failed, "afterwards %s", after)
		default:
			look(before, after)
		}
	}
}

const (
	grpcBefore = "before"
	// grpcAfterwards good calls in a row show that a connection was kept: a server that closes it
	// because of a call given up does so some time later.
	grpcAfterwards = 5
	grpcAfterPause = 20 * time.Millisecond
)

func grpcAfter(i int) string { return fmt.Sprintf("after-%d", i+1) }

// grpcDriver drives the calls of one case on one connection.
type grpcDriver struct {
	ctx    context.Context
	env    *scenarios.Env
	client *grpc.Client
}

// withGRPC runs f with a client of the endpoint "grpc".
func withGRPC(ctx context.Context, env *scenarios.Env, f func(grpcDriver) error) error {
	c, err := grpc.NewClient(env, "grpc", "main")
	if err != nil {
		return err
	}
	ferr := f(grpcDriver{ctx, env, c})
	if err := c.Close(); ferr == nil && err != nil {
		return fmt.Errorf("close grpc client: %w", err)
	}
	return ferr
}

// grpcDuplex is the shape of FullDuplexCall.
func grpcDuplex() grpc.Shape { return grpc.Shape{Client: true, Server: true} }

// grpcGoodSize is the payload that the good call asks for: an empty answer would prove little.
const grpcGoodSize = 7

// good makes an ordinary call and tells whether it was served: one response of grpcGoodSize bytes.
func (d grpcDriver) good(label string) (bool, error) {
	s := d.client.Open(d.ctx, label, testpb.TestService_FullDuplexCall_FullMethodName, grpcDuplex(), grpc.Options{})
	s.Send(grpcAsk(grpcParameter(grpcGoodSize, 0)))
	s.CloseSend()
	c, err := s.End(new(testpb.StreamingOutputCallResponse))
	return grpcServed(c), err
}

func grpcServed(c grpc.Call) bool {
	return c.Code == 0 && len(c.Received) == 1 && c.Received[0].Bytes["payload.body"] == grpcGoodSize
}

// afterwards makes the good calls that show that the connection was kept.
func (d grpcDriver) afterwards() error {
	for i := range grpcAfterwards {
		if _, err := d.good(grpcAfter(i)); err != nil {
			return err
		}
		pause := time.NewTimer(grpcAfterPause)
		select {
		case <-pause.C:
		case <-d.ctx.Done():
		}
		pause.Stop()
	}
	return nil
}

func grpcParameter(size int32, interval time.Duration) *testpb.ResponseParameters {
	return &testpb.ResponseParameters{Size: size, IntervalUs: int32(interval / time.Microsecond)}
}

func grpcAsk(parameters ...*testpb.ResponseParameters) *testpb.StreamingOutputCallRequest {
	return &testpb.StreamingOutputCallRequest{ResponseParameters: parameters}
}

func grpcPayload(size int) *testpb.Payload { return &testpb.Payload{Body: make([]byte, size)} }

// grpcControl is the positive control: a server that answers all calls alike, or none, fails it.
func grpcControl() *suites.Control {
	const label = "control"
	return &suites.Control{
		Drive: func(ctx context.Context, env *scenarios.Env) error {
			return withGRPC(ctx, env, func(d grpcDriver) error {
				_, err := d.good(label)
				return err
			})
		},
		Judge: func(evidence []results.Evidence) (bool, string) {
			calls, err := grpc.Calls(evidence)
			if err != nil {
				return false, err.Error()
			}
			c, ok := calls[label]
			if !ok {
				return false, "the control was not called"
			}
			return grpcServed(c.Call), c.String()
		},
	}
}

// grpcField reads one field of a small message that was received.
func grpcField[T any](m grpc.Message, field string) (value T) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(m.JSON, &fields) == nil {
		_ = json.Unmarshal(fields[field], &value) // absent: the zero value, as protobuf has it
	}
	return value
}

// grpcExplain renders the evidence of gRPC checks for reports.
func grpcExplain(e results.Evidence) string {
	switch e.Kind {
	case results.Called:
		var c grpc.Call
		if e.Decode(&c) == nil && c.Method != "" {
			return c.String()
		}
	case results.Sent, results.Received:
		var s rpc.Step
		if e.Decode(&s) == nil {
			b, _ := s.Bytes.Whole()
			return fmt.Sprintf("%s, %d bytes\n%s", s.Label, s.Bytes.Len, h2.Describe(b))
		}
	}
	return explain(e)
}
