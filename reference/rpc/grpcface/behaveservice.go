package grpcface

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/assay-bench/assay/fixtures/idl/behavepb"
	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/rpc/behave"
	"github.com/assay-bench/assay/reference/rpc/wire"
)

// behaveService maps behave.proto to the operations and their errors to statuses.
type behaveService struct {
	behavepb.UnimplementedBehaveServer
	defects defect.Set
	service *behave.Service
	echoes  every
}

// Echo runs the operations and answers tag and body.
func (b *behaveService) Echo(ctx context.Context, in *behavepb.Msg) (*behavepb.Msg, error) {
	if b.defects.On(defect.GRPCLosesCalls) && b.echoes.nth(50) {
		<-ctx.Done()
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	report, err := b.service.Run(ctx, callOf(ctx, in))
	if err != nil {
		return nil, statusOf(err)
	}
	return reply(in, report), nil
}

// Stream answers every message of the client: STREAM sends `times` replies, `millis` apart; without
// such an operation there is one reply.
func (b *behaveService) Stream(stream behavepb.Behave_StreamServer) error {
	for {
		in, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := b.answer(stream, in); err != nil {
			return statusOf(err)
		}
	}
}

func (b *behaveService) answer(stream behavepb.Behave_StreamServer, in *behavepb.Msg) error {
	ctx := stream.Context()
	call := callOf(ctx, in)
	b.service.Count(call)
	var report *wire.Report
	streamed := false
	for i := range call.Ops {
		op := &call.Ops[i]
		if op.Kind != wire.KindStream {
			if err := b.service.Step(ctx, call, op, &report); err != nil {
				return err
			}
			continue
		}
		streamed = true
		if err := repeat(ctx, op, func() error { return stream.Send(reply(in, report)) }); err != nil {
			return err
		}
	}
	if streamed {
		return nil
	}
	return stream.Send(reply(in, report))
}

// repeat calls send op.Times times with op.Millis between two.
func repeat(ctx context.Context, op *wire.Op, send func() error) error {
	for i := range op.Times {
		if i > 0 {
			if err := behave.Wait(ctx, time.Duration(min(op.Millis, 600_000))*time.Millisecond); err != nil {
				return err
			}
		}
		if err := send(); err != nil {
			return err
		}
	}
	return nil
}

func callOf(ctx context.Context, in *behavepb.Msg) behave.Call {
	ops := make([]wire.Op, 0, len(in.GetOps()))
	for _, o := range in.GetOps() { // `then` and `addresses` belong to FORWARD, which is not served
		ops = append(ops, wire.Op{Kind: wire.Kind(o.GetKind()), Millis: o.GetMillis(), Code: o.GetCode(), Text: o.GetText(), Times: o.GetTimes()})
	}
	return behave.Call{Tag: []byte(in.GetTag()), Ops: ops, Meta: func() map[string]string { return metadataOf(ctx) }}
}

// metadataOf lists the incoming metadata; several values of a key are joined with commas, as
// RFC 9110 section 5.3 joins fields.
func metadataOf(ctx context.Context) map[string]string {
	in, _ := metadata.FromIncomingContext(ctx)
	meta := make(map[string]string, len(in))
	for k, v := range in {
		meta[k] = strings.ToValidUTF8(strings.Join(v, ","), "?") // protobuf strings must be UTF-8
	}
	return meta
}

func reply(in *behavepb.Msg, report *wire.Report) *behavepb.Msg {
	out := &behavepb.Msg{Tag: in.GetTag(), Body: in.GetBody()}
	if report != nil {
		out.Report = &behavepb.Report{Count: report.Count, Meta: report.Meta}
	}
	return out
}

// statusOf maps an error of the operations to a status; anything unexpected has a fixed text.
func statusOf(err error) error {
	var thrown *behave.Thrown
	var failed *behave.Failed
	var notServed *behave.NotServed
	switch {
	case errors.As(err, &thrown):
		return faultStatus(thrown)
	case errors.As(err, &failed):
		return status.Error(failedCode(failed.Code), failed.Text)
	case errors.As(err, &notServed):
		return status.Error(codes.Unimplemented, notServed.Error())
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return status.FromContextError(err).Err()
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Error(codes.Internal, "internal error")
}

func faultStatus(t *behave.Thrown) error {
	plain := status.New(codes.FailedPrecondition, t.Reason)
	detailed, err := plain.WithDetails(&behavepb.Fault{Code: t.Code, Reason: t.Reason})
	if err != nil { // a reason that is not UTF-8 cannot be a detail
		return plain.Err()
	}
	return detailed.Err()
}

// failedCode accepts the codes that gRPC defines for errors, and INTERNAL in place of others.
func failedCode(code int32) codes.Code {
	if code < 1 || code > int32(codes.Unauthenticated) {
		return codes.Internal
	}
	return codes.Code(code)
}
