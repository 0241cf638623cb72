package rpc

import (
	"context"
	"encoding/base64"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/grpc"
	"github.com/assay-bench/assay/suites"
)

var _ = add(suites.Check{
	ID:       "rpc/wire/grpc-interop",
	Title:    "the offline cases of the gRPC interop test descriptions",
	Covers:   []string{"rpc/wire/grpc-interop"},
	Needs:    []features.Feature{features.GRPCInterop},
	Cases:    grpcInteropIDs(),
	Control:  grpcControl(),
	Cost:     suites.Cost{Time: 300 * time.Millisecond},
	Reasons:  []string{grpcCallFailed, grpcWrongStatus, grpcWrongMessage, grpcWrongSize, grpcWrongCount, grpcMetadataLost, grpcEarly},
	Drive:    driveGRPCInterop,
	Judge:    judgeGRPCInterop,
	Explain:  grpcExplain,
	Locality: suites.Anywhere,
	Kills: []suites.Kill{
		{Defect: "grpc.empty-unary-fails", Reason: grpcCallFailed, Case: "empty_unary"},
		{Defect: "grpc.large-unary-short", Reason: grpcWrongSize, Case: "large_unary"},
		{Defect: "grpc.client-streaming-miscounts", Reason: grpcWrongSize, Case: "client_streaming"},
		{Defect: "grpc.server-streaming-drops-last", Reason: grpcWrongCount, Case: "server_streaming"},
		{Defect: "grpc.ping-pong-drops-last", Reason: grpcWrongCount, Case: "ping_pong"},
		{Defect: "grpc.empty-stream-answers", Reason: grpcWrongCount, Case: "empty_stream"},
		{Defect: "grpc.ignores-interval", Reason: grpcEarly, Case: "timeout_on_sleeping_server"},
		{Defect: "grpc.status-code-lost", Reason: grpcWrongStatus, Case: "status_code_and_message"},
		{Defect: "grpc.status-message-mangled", Reason: grpcWrongMessage, Case: "special_status_message"},
		{Defect: "grpc.metadata-initial-lost", Reason: grpcMetadataLost, Case: "custom_metadata"},
		{Defect: "grpc.metadata-trailing-lost", Reason: grpcMetadataLost, Case: "custom_metadata"},
		{Defect: "grpc.unimplemented-call-answers", Reason: grpcWrongStatus, Case: "unimplemented_method"},
		{Defect: "grpc.unimplemented-service-answers", Reason: grpcWrongStatus, Case: "unimplemented_service"},
		{Defect: "grpc.soak-fails", Reason: grpcCallFailed, Case: "rpc_soak"},
	},
})

// A cancelled call and its connection: the interop descriptions say nothing of it.
var _ = add(suites.Check{
	ID:     "rpc/wire/cancel-keeps-connection",
	Title:  "a connection outlives a call that was cancelled on it",
	Covers: []string{"rpc/wire/cancel-keeps-connection"},
	Needs:  []features.Feature{features.GRPCInterop},
	Cases: []suites.Case{
		{ID: "cancel_after_begin", Title: "cancelled before the first message"},
		{ID: "cancel_after_first_response", Title: "cancelled in the middle of a stream"},
	},
	Control: grpcControl(),
	Cost:    suites.Cost{Time: 300 * time.Millisecond},
	Reasons: []string{grpcCallFailed, grpcWrongStatus, grpcConnLost},
	Drive:   driveGRPCInterop, // its cases are those of the same names
	Judge: func(t suites.Trace) suites.Finding {
		g := grpcTrialOf(t, "the calls after the cancelled one are served on the connection of the call before it")
		g.kept()
		return g.finding()
	},
	Explain: grpcExplain,
	Kills:   killsIn("grpc.cancel-breaks-connection", grpcConnLost, "cancel_after_begin", "cancel_after_first_response"),
})

// grpcInteropCase is a case of the interop test descriptions; its id is the description's own.
type grpcInteropCase struct {
	id, title string
	want      string
	drive     func(grpcDriver) error
	judge     func(*grpcTrial)
}

// grpcInteropCases lists the cases in the order of the descriptions.
func grpcInteropCases() []grpcInteropCase {
	return []grpcInteropCase{
		{"empty_unary", "an empty request, an empty reply", "EmptyCall is answered with an empty message", driveEmptyUnary, judgeEmptyUnary},
		{"large_unary", "271828 bytes there, 314159 back", "UnaryCall answers a payload of 314159 bytes", driveLargeUnary, judgeLargeUnary},
		{"client_streaming", "four requests, their sizes added", "StreamingInputCall answers 74922 bytes", driveClientStreaming, judgeClientStreaming},
		{"server_streaming", "four responses of the sizes asked for", "StreamingOutputCall sends 31415, 9, 2653 and 58979 bytes", driveServerStreaming, judgeFour},
		{"ping_pong", "each request is answered before the next one", "FullDuplexCall answers 31415, 9, 2653 and 58979 bytes in turn", drivePingPong, judgeFour},
		{"empty_stream", "a stream without a message", "FullDuplexCall ends with OK and sends nothing", driveEmptyStream, judgeEmptyStream},
		{"timeout_on_sleeping_server", "a call's time is over while the server waits", "DEADLINE_EXCEEDED, no answer before it is due, and the connection is kept", driveTimeout, judgeTimeout},
		{"cancel_after_begin", "cancelled before the first message", "CANCELLED, and calls afterwards are served", driveCancelAtOnce, judgeCancelAtOnce},
		{"cancel_after_first_response", "cancelled in the middle of a stream", "one response, CANCELLED, and calls afterwards are served", driveCancelLater, judgeCancelLater},
		{"status_code_and_message", "the status asked for, over unary and stream", "each call ends with the code and message asked for", driveStatus, judgeStatus},
		{"special_status_message", "white space and Unicode in a status message", "the status message comes back unaltered", driveSpecialStatus, judgeSpecialStatus},
		{"custom_metadata", "metadata echoed, over unary and stream", "x-grpc-test-echo-initial is in the header, x-grpc-test-echo-trailing-bin in the trailer", driveMetadata, judgeMetadata},
		{"unimplemented_method", "TestService/UnimplementedCall", "UNIMPLEMENTED", driveUnimplemented(testpb.TestService_UnimplementedCall_FullMethodName), judgeUnimplemented},
		{"unimplemented_service", "UnimplementedService/UnimplementedCall", "UNIMPLEMENTED", driveUnimplemented(testpb.UnimplementedService_UnimplementedCall_FullMethodName), judgeUnimplemented},
		{"rpc_soak", "large calls one after the other", fmt.Sprintf("each of %d large calls succeeds", grpcSoakCalls), driveSoak, judgeSoak},
	}
}

func grpcInteropIDs() (out []suites.Case) {
	for _, k := range grpcInteropCases() {
		out = append(out, suites.Case{ID: k.id, Title: k.title})
	}
	return out
}

func grpcInteropOf(id string) (grpcInteropCase, error) {
	for _, k := range grpcInteropCases() {
		if k.id == id {
			return k, nil
		}
	}
	return grpcInteropCase{}, fmt.Errorf("no interop case %q", id)
}

func driveGRPCInterop(ctx context.Context, env *scenarios.Env) error {
	k, err := grpcInteropOf(env.Key.Case)
	if err != nil {
		return err
	}
	return withGRPC(ctx, env, k.drive)
}

func judgeGRPCInterop(t suites.Trace) suites.Finding {
	k, err := grpcInteropOf(t.Key.Case)
	if err != nil {
		return suites.Finding{Observed: err.Error()}
	}
	g := grpcTrialOf(t, k.want)
	k.judge(g)
	return g.finding()
}

// Sizes of the descriptions, in bytes of payload.
const (
	grpcLargeRequest  = 271828
	grpcLargeResponse = 314159
)

func grpcRequestSizes() []int  { return []int{27182, 8, 1828, 45904} }
func grpcResponseSizes() []int { return []int{31415, 9, 2653, 58979} }

const grpcProbe = "probe"

func driveEmptyUnary(d grpcDriver) error {
	_, err := d.client.Unary(d.ctx, grpcProbe, testpb.TestService_EmptyCall_FullMethodName, new(testpb.Empty), new(testpb.Empty), grpc.Options{})
	return err
}

func judgeEmptyUnary(g *grpcTrial) {
	c, ok := g.good(grpcProbe)
	if !ok {
		return
	}
	if len(c.Received) != 1 || c.Received[0].Size != 0 {
		g.object(grpcWrongSize, "want one empty message: %s", c)
	}
}

func (d grpcDriver) large(label string) (grpc.Call, error) {
	req := &testpb.SimpleRequest{ResponseSize: grpcLargeResponse, Payload: grpcPayload(grpcLargeRequest)}
	return d.unary(label, req, grpc.Options{})
}

func (d grpcDriver) unary(label string, req *testpb.SimpleRequest, o grpc.Options) (grpc.Call, error) {
	return d.client.Unary(d.ctx, label, testpb.TestService_UnaryCall_FullMethodName, req, new(testpb.SimpleResponse), o)
}

func driveLargeUnary(d grpcDriver) error {
	_, err := d.large(grpcProbe)
	return err
}

func judgeLargeUnary(g *grpcTrial) {
	if c, ok := g.good(grpcProbe); ok {
		g.sizes(c, grpcLargeResponse)
	}
}

func driveClientStreaming(d grpcDriver) error {
	s := d.client.Open(d.ctx, grpcProbe, testpb.TestService_StreamingInputCall_FullMethodName, grpc.Shape{Client: true}, grpc.Options{})
	for _, n := range grpcRequestSizes() {
		s.Send(&testpb.StreamingInputCallRequest{Payload: grpcPayload(n)})
	}
	s.CloseSend()
	_, err := s.End(new(testpb.StreamingInputCallResponse))
	return err
}

func judgeClientStreaming(g *grpcTrial) {
	c, ok := g.good(grpcProbe)
	if !ok {
		return
	}
	if len(c.Received) != 1 {
		g.object(grpcWrongCount, "want one message: %s", c)
		return
	}
	sum := 0
	for _, n := range grpcRequestSizes() {
		sum += n
	}
	if got := grpcField[int](c.Received[0], "aggregatedPayloadSize"); got != sum {
		g.object(grpcWrongSize, "aggregated_payload_size is %d, want %d: %s", got, sum, c)
	}
}

func driveServerStreaming(d grpcDriver) error {
	s := d.client.Open(d.ctx, grpcProbe, testpb.TestService_StreamingOutputCall_FullMethodName, grpc.Shape{Server: true}, grpc.Options{})
	var parameters []*testpb.ResponseParameters
	for _, n := range grpcResponseSizes() {
		parameters = append(parameters, grpcParameter(int32(n), 0))
	}
	s.Send(grpcAsk(parameters...))
	s.CloseSend()
	_, err := s.End(new(testpb.StreamingOutputCallResponse))
	return err
}

// judgeFour judges a stream of the four response sizes.
func judgeFour(g *grpcTrial) {
	c, ok := g.call(grpcProbe)
	if !ok {
		return
	}
	// A stream that waited in vain for its next response lacks a response; one that never had any is
	// no stream.
	late := codes.Code(c.Code) == codes.DeadlineExceeded && !g.trace.Noisy(c.Timeout)
	if short := len(c.Received); late && short > 0 && short < len(grpcResponseSizes()) {
		g.object(grpcWrongCount, "want %d messages: %s", len(grpcResponseSizes()), c)
		return
	}
	if g.status(c, codes.OK) {
		g.sizes(c, grpcResponseSizes()...)
	}
}

func drivePingPong(d grpcDriver) error {
	s := d.client.Open(d.ctx, grpcProbe, testpb.TestService_FullDuplexCall_FullMethodName, grpcDuplex(), grpc.Options{Timeout: 2 * time.Second})
	requests := grpcRequestSizes()
	for i, n := range grpcResponseSizes() {
		ask := grpcAsk(grpcParameter(int32(n), 0))
		ask.Payload = grpcPayload(requests[i])
		s.Send(ask)
		if !s.Recv(new(testpb.StreamingOutputCallResponse)) {
			break
		}
	}
	s.CloseSend()
	_, err := s.End(new(testpb.StreamingOutputCallResponse))
	return err
}

func driveEmptyStream(d grpcDriver) error {
	s := d.client.Open(d.ctx, grpcProbe, testpb.TestService_FullDuplexCall_FullMethodName, grpcDuplex(), grpc.Options{})
	s.CloseSend()
	_, err := s.End(new(testpb.StreamingOutputCallResponse))
	return err
}

func judgeEmptyStream(g *grpcTrial) {
	if c, ok := g.good(grpcProbe); ok {
		g.sizes(c)
	}
}

// Times of timeout_on_sleeping_server. The description's own call has a millisecond and asks for no
// response, so that it may be over before the server sees it; the second call asks for a response at
// once and another one after grpcSleep, which must not come within grpcPatience. It is made again where its end raced.
const (
	grpcBlink    = time.Millisecond
	grpcPatience = 300 * time.Millisecond
	grpcSleep    = time.Second
	grpcSleeps   = 3
)

// grpcSleeping names the i-th call that waits.
func grpcSleeping(i int) string {
	if i == 0 {
		return "sleeping"
	}
	return fmt.Sprintf("sleeping %d", i+1)
}

// grpcRaced tells of a call that was ended for its deadline by another one than the client: a proxy whose upstream gave up
// makes a status of its own, and it may come in when the client's time is over and its timer has not run yet.
func grpcRaced(c grpc.Call) bool {
	code := codes.Code(c.Code)
	return c.Timeout > 0 && c.Took >= c.Timeout && len(c.Received) <= 1 && code != codes.OK && code != codes.DeadlineExceeded
}

func driveTimeout(d grpcDriver) error {
	if ok, err := d.good(grpcBefore); err != nil || !ok {
		return err
	}
	blink := d.client.Open(d.ctx, "one-millisecond", testpb.TestService_FullDuplexCall_FullMethodName, grpcDuplex(), grpc.Options{Timeout: grpcBlink})
	blink.Send(&testpb.StreamingOutputCallRequest{Payload: grpcPayload(27182)})
	if _, err := blink.End(new(testpb.StreamingOutputCallResponse)); err != nil {
		return err
	}
	for i := range grpcSleeps {
		sleep := d.client.Open(d.ctx, grpcSleeping(i), testpb.TestService_FullDuplexCall_FullMethodName, grpcDuplex(), grpc.Options{Timeout: grpcPatience})
		sleep.Send(grpcAsk(grpcParameter(9, 0), grpcParameter(9, grpcSleep)))
		c, err := sleep.End(new(testpb.StreamingOutputCallResponse))
		if err != nil {
			return err
		}
		if !grpcRaced(c) {
			break
		}
	}
	return d.afterwards()
}

func judgeTimeout(g *grpcTrial) {
	if _, ok := g.good(grpcBefore); !ok {
		return
	}
	g.timedOut("one-millisecond", 0)
	g.slept()
	g.servedAfter()
}

// slept judges the last of the calls that wait. Where that one raced, too, nobody knows how the client would have ended it.
func (g *grpcTrial) slept() {
	last := 0
	for _, again := g.calls[grpcSleeping(last+1)]; again; _, again = g.calls[grpcSleeping(last+1)] {
		last++
	}
	if c, made := g.calls[grpcSleeping(last)]; made && grpcRaced(c.Call) {
		g.cites = joined(g.cites, []uint64{c.Seq})
		g.noisy("ended by another one when the client's time was over: %s", c)
		return
	}
	g.timedOut(grpcSleeping(last), 1)
}

// timedOut objects unless a call ended with its time, and no more than due responses came before.
func (g *grpcTrial) timedOut(label string, due int) {
	c, ok := g.call(label)
	switch {
	case !ok:
	case len(c.Received) > due && c.Received[due].At >= grpcSleep: // the client itself was too late to give up
		g.noisy("%s", c)
	case len(c.Received) > due || c.Code == uint32(codes.OK):
		g.object(grpcEarly, "want %d responses and then none: %s", due, c)
	case codes.Code(c.Code) != codes.DeadlineExceeded:
		g.object(grpcWrongStatus, "want status 4 DeadlineExceeded: %s", c)
	}
}

func driveCancelAtOnce(d grpcDriver) error {
	if ok, err := d.good(grpcBefore); err != nil || !ok {
		return err
	}
	s := d.client.Open(d.ctx, grpcProbe, testpb.TestService_StreamingInputCall_FullMethodName, grpc.Shape{Client: true}, grpc.Options{
		Metadata: map[string]string{"key1": "value1", "key2": "value2"},
	})
	s.Cancel()
	if _, err := s.End(new(testpb.StreamingInputCallResponse)); err != nil {
		return err
	}
	return d.afterwards()
}

func judgeCancelAtOnce(g *grpcTrial) {
	if _, ok := g.good(grpcBefore); !ok {
		return
	}
	if c, ok := g.call(grpcProbe); ok && g.status(c, codes.Canceled) {
		g.servedAfter()
	}
}

func driveCancelLater(d grpcDriver) error {
	if ok, err := d.good(grpcBefore); err != nil || !ok {
		return err
	}
	s := d.client.Open(d.ctx, grpcProbe, testpb.TestService_FullDuplexCall_FullMethodName, grpcDuplex(), grpc.Options{})
	ask := grpcAsk(grpcParameter(31415, 0))
	ask.Payload = grpcPayload(27182)
	s.Send(ask)
	s.Recv(new(testpb.StreamingOutputCallResponse))
	s.Cancel()
	if _, err := s.End(new(testpb.StreamingOutputCallResponse)); err != nil {
		return err
	}
	return d.afterwards()
}

func judgeCancelLater(g *grpcTrial) {
	if _, ok := g.good(grpcBefore); !ok {
		return
	}
	if c, ok := g.call(grpcProbe); ok && g.status(c, codes.Canceled) {
		g.sizes(c, 31415)
		g.servedAfter()
	}
}

// grpcStatusMessage is the description's message. Its code is 2; a server that loses codes is likely to
// say just that, so the case asks for a second code as well.
const grpcStatusMessage = "test status message"

func grpcStatusCodes() []codes.Code { return []codes.Code{codes.Unknown, codes.Aborted} }

func driveStatus(d grpcDriver) error {
	for _, code := range grpcStatusCodes() {
		echo := &testpb.EchoStatus{Code: int32(code), Message: grpcStatusMessage}
		if _, err := d.unary("unary "+code.String(), &testpb.SimpleRequest{ResponseStatus: echo}, grpc.Options{}); err != nil {
			return err
		}
		s := d.client.Open(d.ctx, "stream "+code.String(), testpb.TestService_FullDuplexCall_FullMethodName, grpcDuplex(), grpc.Options{})
		s.Send(&testpb.StreamingOutputCallRequest{ResponseStatus: echo})
		s.CloseSend()
		if _, err := s.End(new(testpb.StreamingOutputCallResponse)); err != nil {
			return err
		}
	}
	return nil
}

func judgeStatus(g *grpcTrial) {
	for _, code := range grpcStatusCodes() {
		g.statusAndMessage("unary "+code.String(), code, grpcStatusMessage)
		g.statusAndMessage("stream "+code.String(), code, grpcStatusMessage)
	}
}

func (g *grpcTrial) statusAndMessage(label string, code codes.Code, message string) {
	c, ok := g.call(label)
	if ok && g.status(c, code) && c.Message != message {
		g.object(grpcWrongMessage, "want the message %q: %s", message, c)
	}
}

const grpcSpecialMessage = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"

func driveSpecialStatus(d grpcDriver) error {
	echo := &testpb.EchoStatus{Code: int32(codes.Unknown), Message: grpcSpecialMessage}
	_, err := d.unary(grpcProbe, &testpb.SimpleRequest{ResponseStatus: echo}, grpc.Options{})
	return err
}

func judgeSpecialStatus(g *grpcTrial) {
	g.statusAndMessage(grpcProbe, codes.Unknown, grpcSpecialMessage)
}

// The metadata of custom_metadata.
const (
	grpcInitialKey    = "x-grpc-test-echo-initial"
	grpcInitialValue  = "test_initial_metadata_value"
	grpcTrailingKey   = "x-grpc-test-echo-trailing-bin"
	grpcTrailingValue = "\xab\xab\xab"
)

func driveMetadata(d grpcDriver) error {
	o := grpc.Options{Metadata: map[string]string{grpcInitialKey: grpcInitialValue, grpcTrailingKey: grpcTrailingValue}}
	if _, err := d.unary("unary", &testpb.SimpleRequest{ResponseSize: 1, Payload: grpcPayload(1)}, o); err != nil {
		return err
	}
	s := d.client.Open(d.ctx, "stream", testpb.TestService_FullDuplexCall_FullMethodName, grpcDuplex(), o)
	ask := grpcAsk(grpcParameter(1, 0))
	ask.Payload = grpcPayload(1)
	s.Send(ask)
	s.CloseSend()
	_, err := s.End(new(testpb.StreamingOutputCallResponse))
	return err
}

func judgeMetadata(g *grpcTrial) {
	trailing := base64.StdEncoding.EncodeToString([]byte(grpcTrailingValue))
	for _, label := range []string{"unary", "stream"} {
		c, ok := g.good(label)
		if !ok {
			return
		}
		if got := c.Header[grpcInitialKey]; len(got) != 1 || got[0] != grpcInitialValue {
			g.object(grpcMetadataLost, "%s: header %s is %q, want %q", label, grpcInitialKey, got, grpcInitialValue)
		}
		if got := c.Trailer[grpcTrailingKey]; len(got) != 1 || got[0] != trailing {
			g.object(grpcMetadataLost, "%s: trailer %s is %q in base64, want %q", label, grpcTrailingKey, got, trailing)
		}
	}
}

func driveUnimplemented(method string) func(grpcDriver) error {
	return func(d grpcDriver) error {
		_, err := d.client.Unary(d.ctx, grpcProbe, method, new(testpb.Empty), new(testpb.Empty), grpc.Options{})
		return err
	}
}

func judgeUnimplemented(g *grpcTrial) {
	if c, ok := g.call(grpcProbe); ok {
		g.status(c, codes.Unimplemented)
	}
}

// grpcSoakCalls is the number of calls of rpc_soak, twice the description's default; none may fail.
const grpcSoakCalls = 20

func driveSoak(d grpcDriver) error {
	for i := range grpcSoakCalls {
		c, err := d.large(grpcSoakLabel(i))
		if err != nil || codes.Code(c.Code) == codes.DeadlineExceeded { // a mute server needs no second call
			return err
		}
	}
	return nil
}

func grpcSoakLabel(i int) string { return fmt.Sprintf("soak-%d", i+1) }

func judgeSoak(g *grpcTrial) {
	for i := range grpcSoakCalls {
		c, ok := g.good(grpcSoakLabel(i))
		if !ok {
			return
		}
		g.sizes(c, grpcLargeResponse)
	}
}
