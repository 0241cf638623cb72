package grpcface

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/rpc/behave"
)

// The metadata that the interop test descriptions ask a server to echo.
const (
	echoInitialKey  = "x-grpc-test-echo-initial"
	echoTrailingKey = "x-grpc-test-echo-trailing-bin"
)

// largeResponse is the response size from which a UnaryCall counts as a large one.
const largeResponse = 1024

// testService is the server half of the gRPC interop test descriptions.
type testService struct {
	testpb.UnimplementedTestServiceServer
	defects defect.Set
	limit   int // bytes of a payload
	large   every
}

// EmptyCall answers an empty message.
func (t *testService) EmptyCall(context.Context, *testpb.Empty) (*testpb.Empty, error) {
	if t.defects.On(defect.GRPCEmptyUnaryFails) {
		return nil, status.Error(codes.Internal, "internal error")
	}
	return new(testpb.Empty), nil
}

// UnimplementedCall is the method of the service that must not be implemented.
func (t *testService) UnimplementedCall(context.Context, *testpb.Empty) (*testpb.Empty, error) {
	if t.defects.On(defect.GRPCUnimplementedCallAnswers) {
		return new(testpb.Empty), nil
	}
	return nil, unimplemented(t.defects)
}

// CacheableUnaryCall is no part of this server.
func (t *testService) CacheableUnaryCall(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	return nil, unimplemented(t.defects)
}

// UnaryCall answers the payload, status and metadata that the request asks for.
func (t *testService) UnaryCall(ctx context.Context, in *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	initial, trailing := t.echoed(ctx)
	if err := errors.Join(grpc.SetHeader(ctx, initial), grpc.SetTrailer(ctx, trailing)); err != nil {
		return nil, err
	}
	if err := t.asked(in.GetResponseStatus()); err != nil {
		return nil, err
	}
	size := in.GetResponseSize()
	if size >= largeResponse && t.defects.On(defect.GRPCSoakFails) && t.large.nth(7) {
		return nil, status.Error(codes.Unavailable, "try again")
	}
	payload, err := t.payload(in.GetResponseType(), size)
	if err != nil {
		return nil, err
	}
	if t.defects.On(defect.GRPCLargeUnaryShort) && size > 0 {
		payload.Body = payload.Body[1:]
	}
	return &testpb.SimpleResponse{Payload: payload}, nil
}

// StreamingOutputCall sends one response for every parameter set.
func (t *testService) StreamingOutputCall(in *testpb.StreamingOutputCallRequest, stream testpb.TestService_StreamingOutputCallServer) error {
	if err := t.asked(in.GetResponseStatus()); err != nil {
		return err
	}
	parameters := in.GetResponseParameters()
	if t.defects.On(defect.GRPCServerStreamingDropsLast) && len(parameters) > 0 {
		parameters = parameters[:len(parameters)-1]
	}
	return t.send(stream, in.GetResponseType(), parameters)
}

// StreamingInputCall answers how many payload bytes came.
func (t *testService) StreamingInputCall(stream testpb.TestService_StreamingInputCallServer) error {
	sum := 0
	for {
		in, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		sum += len(in.GetPayload().GetBody())
	}
	if t.defects.On(defect.GRPCClientStreamingMiscounts) {
		sum++
	}
	return stream.SendAndClose(&testpb.StreamingInputCallResponse{AggregatedPayloadSize: int32(sum)})
}

// FullDuplexCall answers every request before it reads the next one.
func (t *testService) FullDuplexCall(stream testpb.TestService_FullDuplexCallServer) error {
	initial, trailing := t.echoed(stream.Context())
	if err := stream.SetHeader(initial); err != nil {
		return err
	}
	stream.SetTrailer(trailing)
	answer := newLaggard(t.defects.On(defect.GRPCPingPongDropsLast), func(in *testpb.StreamingOutputCallRequest) error {
		return t.send(stream, in.GetResponseType(), in.GetResponseParameters())
	})
	for requests := 0; ; requests++ {
		in, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return t.endDuplex(stream, requests)
		}
		if err != nil {
			return err
		}
		if err := t.asked(in.GetResponseStatus()); err != nil {
			return err
		}
		if err := answer(in); err != nil {
			return err
		}
	}
}

// newLaggard returns answer itself or, for the planted defect GRPCPingPongDropsLast, one that leaves
// out the fourth request: the last of the interop description, and a server cannot know another
// last one before it has to answer.
func newLaggard[T any](planted bool, answer func(T) error) func(T) error {
	if !planted {
		return answer
	}
	n := 0
	return func(in T) error {
		if n++; n%4 == 0 {
			return nil
		}
		return answer(in)
	}
}

func (t *testService) endDuplex(stream testpb.TestService_FullDuplexCallServer, requests int) error {
	if requests == 0 && t.defects.On(defect.GRPCEmptyStreamAnswers) {
		return stream.Send(new(testpb.StreamingOutputCallResponse))
	}
	return nil
}

// maxHalfDuplex bounds the response parameters that HalfDuplexCall keeps until the client is done.
const maxHalfDuplex = 1 << 16

// HalfDuplexCall answers all requests after the last one.
func (t *testService) HalfDuplexCall(stream testpb.TestService_HalfDuplexCallServer) error {
	type wanted struct {
		kind       testpb.PayloadType
		parameters []*testpb.ResponseParameters
	}
	var all []wanted
	for kept := 0; ; {
		in, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if err := t.asked(in.GetResponseStatus()); err != nil {
			return err
		}
		if kept += 1 + len(in.GetResponseParameters()); kept > maxHalfDuplex {
			return status.Errorf(codes.ResourceExhausted, "more than %d responses asked for", maxHalfDuplex)
		}
		all = append(all, wanted{in.GetResponseType(), in.GetResponseParameters()})
	}
	for _, w := range all {
		if err := t.send(stream, w.kind, w.parameters); err != nil {
			return err
		}
	}
	return nil
}

// sender is the sending half of the streams with output.
type sender interface {
	Send(*testpb.StreamingOutputCallResponse) error
	Context() context.Context
}

func (t *testService) send(stream sender, kind testpb.PayloadType, parameters []*testpb.ResponseParameters) error {
	for _, p := range parameters {
		if err := t.interval(stream.Context(), p.GetIntervalUs()); err != nil {
			return err
		}
		payload, err := t.payload(kind, p.GetSize())
		if err != nil {
			return err
		}
		if err := stream.Send(&testpb.StreamingOutputCallResponse{Payload: payload}); err != nil {
			return err
		}
	}
	return nil
}

func (t *testService) interval(ctx context.Context, us int32) error {
	if us <= 0 || t.defects.On(defect.GRPCIgnoresInterval) {
		return nil
	}
	if err := behave.Wait(ctx, time.Duration(us)*time.Microsecond); err != nil {
		return status.FromContextError(err).Err()
	}
	return nil
}

// payload returns size zero bytes. A size over the limit would be the client's lever on memory.
func (t *testService) payload(kind testpb.PayloadType, size int32) (*testpb.Payload, error) {
	switch {
	case size < 0:
		return nil, status.Errorf(codes.InvalidArgument, "response of %d bytes asked for", size)
	case int(size) > t.limit:
		return nil, status.Errorf(codes.ResourceExhausted, "response of %d bytes asked for, the limit is %d", size, t.limit)
	case kind != testpb.PayloadType_COMPRESSABLE:
		return nil, status.Errorf(codes.InvalidArgument, "payload type %d is not supported", kind)
	}
	return &testpb.Payload{Type: kind, Body: make([]byte, size)}, nil
}

// asked returns the status that a request wants as its answer, nil for OK.
func (t *testService) asked(want *testpb.EchoStatus) error {
	if want.GetCode() == 0 {
		return nil
	}
	code, message := codes.Code(want.GetCode()), want.GetMessage()
	if want.GetCode() < 0 || code > codes.Unauthenticated {
		return status.Errorf(codes.InvalidArgument, "status code %d does not exist", want.GetCode())
	}
	if t.defects.On(defect.GRPCStatusCodeLost) {
		code = codes.Unknown
	}
	if t.defects.On(defect.GRPCStatusMessageMangled) {
		message = asciiOnly(message)
	}
	return status.Error(code, message)
}

func asciiOnly(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if s[i] < 0x80 {
			b.WriteByte(s[i])
		} else {
			b.WriteByte('?')
		}
	}
	return b.String()
}

// echoed picks the metadata that goes back in the header and in the trailer.
func (t *testService) echoed(ctx context.Context) (initial, trailing metadata.MD) {
	in, _ := metadata.FromIncomingContext(ctx)
	initial, trailing = metadata.MD{}, metadata.MD{}
	if v := in.Get(echoInitialKey); len(v) > 0 && !t.defects.On(defect.GRPCMetadataInitialLost) {
		initial.Set(echoInitialKey, v...)
	}
	if v := in.Get(echoTrailingKey); len(v) > 0 && !t.defects.On(defect.GRPCMetadataTrailingLost) {
		trailing.Set(echoTrailingKey, v...)
	}
	return initial, trailing
}
