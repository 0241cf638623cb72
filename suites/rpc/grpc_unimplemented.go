package rpc

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/rpc"
	"github.com/assay-bench/assay/scenarios/wire/h2"
	"github.com/assay-bench/assay/suites"
)

// Reasons that only the look at the frames can give.
const (
	grpcUnanswered  = "unanswered"         // the call got no END_STREAM and the connection stayed open
	grpcClosed      = "closed"             // the connection ended before the call did
	grpcMalformed   = "malformed"          // what came is no HTTP/2
	grpcHTTPStatus  = "wrong-http-status"  // :status is not 200
	grpcContentType = "wrong-content-type" // not application/grpc
	grpcNoStatus    = "no-status"          // the stream ended without grpc-status
	grpcOutOfRange  = "code-out-of-range"  // grpc-status is none of 0 to 16
)

// The calls are made frame by frame, because grpc-go's client shows its caller a code of its own where
// the wire has none, or an HTTP status in its place.
var _ = add(suites.Check{
	ID:     "rpc/wire/grpc-unimplemented",
	Title:  "an unknown method or service is status 12 in the trailers",
	Covers: []string{"rpc/wire/grpc-unimplemented"},
	Needs:  []features.Feature{features.GRPCInterop},
	Cases: []suites.Case{
		{ID: "unknown-method", Title: "of a known service"},
		{ID: "unknown-service", Title: "and any method"},
	},
	Cost: suites.Cost{Time: 100 * time.Millisecond},
	Reasons: []string{
		grpcCallFailed, grpcWrongStatus, grpcUnanswered, grpcClosed, grpcMalformed, grpcHTTPStatus, grpcContentType, grpcNoStatus, grpcOutOfRange,
	},
	Drive:   driveGRPCUnimplemented,
	Judge:   judgeGRPCUnimplemented,
	Explain: grpcExplain,
	Kills: []suites.Kill{
		{Defect: "grpc.unknown-as-cancelled", Reason: grpcWrongStatus, Case: "unknown-method"},
		{Defect: "grpc.unknown-as-cancelled", Reason: grpcWrongStatus, Case: "unknown-service"},
		{Defect: "grpc.unknown-as-internal", Reason: grpcWrongStatus, Case: "unknown-method"},
		{Defect: "grpc.unknown-as-internal", Reason: grpcWrongStatus, Case: "unknown-service"},
	},
})

// The streams of the one connection.
const (
	grpcControlStream = 1
	grpcProbeStream   = 3
)

// Bounds of the raw calls: the wait for the end of one, and the bytes of all answers together, which
// have no content.
const (
	grpcRawWait = 2 * time.Second
	grpcRawMost = 32 << 10
)

func grpcUnknownPath(kase string) string {
	if kase == "unknown-service" {
		return "/assay.testing.NoSuchService/EmptyCall"
	}
	return "/grpc.testing.TestService/NoSuchCall"
}

func driveGRPCUnimplemented(ctx context.Context, env *scenarios.Env) error {
	c, err := rpc.Dial(ctx, env, "grpc", "raw")
	if err != nil {
		return err
	}
	defer c.Close()
	raw := &grpcRaw{conn: c, env: env}
	hello := h2.AppendSettings([]byte(h2.Preface))
	// UnaryCall without fields asks for an empty payload, which every interop server answers.
	if err := raw.call(ctx, "control", hello, grpcControlStream, testpb.TestService_UnaryCall_FullMethodName); err != nil {
		return err
	}
	return raw.call(ctx, grpcProbe, nil, grpcProbeStream, grpcUnknownPath(env.Key.Case))
}

// grpcRaw is a connection whose frames the check writes itself.
type grpcRaw struct {
	conn   *rpc.Conn
	env    *scenarios.Env
	got    []byte // all that the server sent so far
	frames int    // of got, that are acknowledged
}

// call sends head, acknowledgements that are due, and a call, and waits for its end.
func (r *grpcRaw) call(ctx context.Context, label string, head []byte, stream uint32, path string) error {
	if a, err := h2.ReadAnswer(r.got); err == nil {
		head = h2.Acks(head, a.Frames[r.frames:])
		r.frames = len(a.Frames)
	}
	b := h2.Call{Stream: stream, Authority: r.env.Endpoints["grpc"], Path: path}.AppendTo(head)
	if err := r.conn.Send(label, b); err != nil {
		return err
	}
	before := r.got
	return r.conn.Await(ctx, grpcRawWait, func(b []byte) bool {
		r.got = append(before[:len(before):len(before)], b...)
		a, err := h2.ReadAnswer(r.got)
		return err != nil || a.Streams[stream].Over() || len(r.got) > grpcRawMost
	})
}

func judgeGRPCUnimplemented(t suites.Trace) suites.Finding {
	const want = "HTTP status 200, content type application/grpc, grpc-status 12"
	w := grpcWireOf(t)
	if reason, why := w.ended(grpcControlStream); reason != "" {
		if reason != grpcMalformed {
			reason = grpcCallFailed
		}
		return w.failing(reason, want, "the control: "+why)
	}
	control := w.answer.Streams[grpcControlStream]
	switch reason, why := grpcWrongOnWire(control, 0); {
	case reason == grpcWrongStatus:
		return w.failing(grpcCallFailed, want, "the control: "+why)
	case reason != "":
		return w.failing(reason, want, "the control: "+why)
	}
	if ms, err := h2.Messages(control.Data); err != nil || len(ms) != 1 {
		return w.failing(grpcCallFailed, want, fmt.Sprintf("the control: %d messages (%v)", len(ms), err))
	}
	if reason, why := w.ended(grpcProbeStream); reason != "" {
		return w.failing(reason, want, why)
	}
	if reason, why := grpcWrongOnWire(w.answer.Streams[grpcProbeStream], 12); reason != "" {
		return w.failing(reason, want, why)
	}
	return suites.Passing(want, "just that", w.cites)
}

// grpcWire is what a raw connection carried.
type grpcWire struct {
	trace   suites.Trace
	answer  h2.Answer
	err     error  // why it is no HTTP/2
	closed  string // how the server ended the connection, or refused it
	cites   []uint64
	started bool
}

// grpcWireOf puts together all that the server sent, in order: one HPACK state runs through it.
func grpcWireOf(t suites.Trace) *grpcWire {
	w := &grpcWire{trace: t}
	var all []byte
	for _, e := range t.Evidence {
		var s rpc.Step
		switch e.Kind {
		case results.Dialed, results.Sent, results.Received, results.Closed, results.Silent:
			if err := e.Decode(&s); err != nil {
				w.err = err
				return w
			}
		default:
			continue
		}
		w.cites = append(w.cites, e.Seq)
		switch e.Kind {
		case results.Dialed:
			w.started = s.How == "ok"
			if !w.started {
				w.closed = s.How
			}
		case results.Received:
			b, whole := s.Bytes.Whole()
			if all = append(all, b...); !whole || s.More || len(all) > grpcRawMost {
				w.err = fmt.Errorf("more than %d bytes for calls without content", grpcRawMost)
				return w
			}
		case results.Closed:
			w.closed = s.How
		}
	}
	w.answer, w.err = h2.ReadAnswer(all)
	return w
}

// ended tells why a stream did not come to its end, or nothing.
func (w *grpcWire) ended(stream uint32) (reason, why string) {
	s := w.answer.Streams[stream]
	switch {
	case s.Over():
		return "", ""
	case w.err != nil:
		return grpcMalformed, w.err.Error()
	case !w.started:
		return grpcClosed, "no connection was made: " + w.closed
	case w.closed != "":
		return grpcClosed, "the connection ended (" + w.closed + ") before the call did"
	}
	return grpcUnanswered, "the call did not end within " + grpcRawWait.String()
}

func (w *grpcWire) failing(reason, want, why string) suites.Finding {
	waited := reason == grpcUnanswered || reason == grpcCallFailed && w.closed == ""
	if waited && w.started && w.trace.Noisy(grpcRawWait) {
		return suites.TooNoisy(want, why, w.cites)
	}
	return suites.Failing(reason, want, why, w.cites)
}

// grpcWrongOnWire tells why an answer that came to its end is not a gRPC answer of the status, or
// nothing ("gRPC over HTTP/2", Responses).
func grpcWrongOnWire(s *h2.Stream, want int) (reason, why string) {
	if http, _ := s.Get(":status"); http != "200" && s.Blocks > 0 {
		return grpcHTTPStatus, fmt.Sprintf(":status is %q", http)
	}
	if ct, _ := s.Get("content-type"); !grpcMediaType(ct) && s.Blocks > 0 {
		return grpcContentType, fmt.Sprintf("content-type is %q", ct)
	}
	text, ok := s.Status()
	if !ok {
		return grpcNoStatus, "the stream ended" + grpcResetNote(s) + " without grpc-status"
	}
	code, err := strconv.Atoi(text)
	switch {
	case err != nil || code < 0 || code > 16:
		return grpcOutOfRange, fmt.Sprintf("grpc-status is %q", text)
	case code != want:
		return grpcWrongStatus, fmt.Sprintf("grpc-status is %d", code)
	}
	return "", ""
}

// grpcMediaType tells whether a content type is application/grpc, perhaps with a codec or parameters.
func grpcMediaType(s string) bool {
	rest, ok := strings.CutPrefix(strings.ToLower(s), "application/grpc")
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';' || rest[0] == ' ')
}

func grpcResetNote(s *h2.Stream) string {
	if s.Reset == nil {
		return ""
	}
	return " (RST_STREAM " + h2.ErrorName(*s.Reset) + ")"
}
