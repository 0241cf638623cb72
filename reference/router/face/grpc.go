package face

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/assay-bench/assay/fixtures/idl/routerpb"
	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/router"
	"github.com/assay-bench/assay/reference/router/span"
	"github.com/assay-bench/assay/reference/router/table"
)

// rpc is the gRPC face: the same operations as the HTTP API, translated.
type rpc struct {
	routerpb.UnimplementedRouterServer
	face *Face
}

func (f *Face) newRPC() *grpc.Server {
	s := grpc.NewServer(
		grpc.MaxRecvMsgSize(maxBody), grpc.MaxConcurrentStreams(1000), grpc.ConnectionTimeout(headerTimeout),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
		grpc.WaitForHandlers(true),
	)
	if !f.cfg.Defects.On(defect.RouterGRPCAbsent) {
		routerpb.RegisterRouterServer(s, &rpc{face: f})
	}
	return s
}

// rpcCodes of the kinds of refusals.
var rpcCodes = map[router.Kind]codes.Code{
	router.Bad: codes.InvalidArgument, router.Unknown: codes.NotFound, router.Conflict: codes.FailedPrecondition,
	router.TooLarge: codes.ResourceExhausted, router.Refused: codes.PermissionDenied,
	router.Busy: codes.ResourceExhausted, router.Unserved: codes.FailedPrecondition, router.Failed: codes.Unavailable,
}

// rpcError says what an error of the router means to a gRPC client.
func rpcError(err error) error {
	if p, ok := errors.AsType[*problem](err); ok {
		return status.Error(codes.InvalidArgument, p.Detail)
	}
	e, ok := errors.AsType[*router.Error](err)
	if !ok {
		return status.Error(codes.Internal, err.Error())
	}
	s := status.New(rpcCodes[e.Kind], err.Error())
	if e.Reason == "" {
		return s.Err()
	}
	detailed, err := s.WithDetails(&errdetails.ErrorInfo{Reason: e.Reason, Domain: "assay.router"})
	if err != nil {
		return s.Err()
	}
	return detailed.Err()
}

func (s *rpc) router(name string) (*router.Router, error) {
	service, err := s.face.service()
	if err != nil {
		return nil, err
	}
	return service.Router(name)
}

// carrier reads the trace of a gRPC client.
type carrier metadata.MD

func (c carrier) Get(key string) string {
	if v := metadata.MD(c).Get(key); len(v) > 0 {
		return v[0]
	}
	return ""
}
func (c carrier) Set(key, value string) { metadata.MD(c).Set(key, value) }
func (c carrier) Keys() []string {
	keys := make([]string, 0, len(c))
	for k := range c {
		keys = append(keys, k)
	}
	return keys
}

func traced(ctx context.Context) context.Context {
	md, _ := metadata.FromIncomingContext(ctx)
	return span.Propagator.Extract(ctx, carrier(md))
}

var rowsNames = map[routerpb.Rows]string{routerpb.Rows_ROWS_CENTROID: "centroid", routerpb.Rows_ROWS_EXAMPLES: "examples"}

func (s *rpc) SetPolicy(_ context.Context, q *routerpb.SetPolicyRequest) (*routerpb.PoliciesSet, error) {
	r, err := s.router(q.Router)
	if err != nil {
		return nil, rpcError(err)
	}
	id, err := name("policy", q.Policy)
	if err != nil {
		return nil, rpcError(err)
	}
	p := router.Policy{Examples: q.Examples, Rows: rowsNames[q.Rows], Backends: q.Backends}
	if q.Weight != 0 {
		p.Weight = &q.Weight
	}
	for _, v := range q.Vectors {
		p.Vectors = append(p.Vectors, widened(v.GetValues()))
	}
	set, err := r.SetPolicies(map[string]router.Policy{id: p})
	if err != nil {
		return nil, rpcError(err)
	}
	return &routerpb.PoliciesSet{Version: set.Version, Digest: set.Digest, Rows: int64(set.Rows)}, nil
}

func widened(v []float32) []float64 {
	w := make([]float64, len(v))
	for i, x := range v {
		w[i] = float64(x)
	}
	return w
}

func (s *rpc) RemovePolicy(_ context.Context, q *routerpb.PolicyName) (*routerpb.Removed, error) {
	r, err := s.router(q.Router)
	if err != nil {
		return nil, rpcError(err)
	}
	version, err := r.RemovePolicy(q.Policy)
	if err != nil {
		return nil, rpcError(err)
	}
	return &routerpb.Removed{Version: version}, nil
}

func (s *rpc) ListPolicies(_ context.Context, q *routerpb.RouterName) (*routerpb.PolicyList, error) {
	r, err := s.router(q.Router)
	if err != nil {
		return nil, rpcError(err)
	}
	list := &routerpb.PolicyList{}
	for _, p := range r.Policies() {
		list.Policies = append(list.Policies, &routerpb.PolicySummary{
			Policy: p.Policy, Rows: int64(p.Rows), Weight: p.Weight, Backends: p.Backends,
		})
	}
	return list, nil
}

func (s *rpc) GetPolicy(_ context.Context, q *routerpb.PolicyName) (*routerpb.PolicyState, error) {
	r, err := s.router(q.Router)
	if err != nil {
		return nil, rpcError(err)
	}
	p, err := r.Policy(q.Policy)
	if err != nil {
		return nil, rpcError(err)
	}
	state := &routerpb.PolicyState{Policy: p.Policy, Weight: p.Weight, Backends: p.Backends}
	for _, row := range p.Rows {
		state.Rows = append(state.Rows, &routerpb.RowState{
			Row: row.Row, Vector: &routerpb.Vector{Values: row.Vector}, Trained: &routerpb.Vector{Values: row.Trained}, Degrees: row.Degrees,
		})
	}
	return state, nil
}

var engineNames = map[routerpb.Engine]string{
	routerpb.Engine_ENGINE_AUTO: router.Auto, routerpb.Engine_ENGINE_PUREGO: router.PureGo,
	routerpb.Engine_ENGINE_ONNXRUNTIME: router.ONNXRuntime,
}

func (s *rpc) Embed(_ context.Context, q *routerpb.EmbedRequest) (*routerpb.Embedded, error) {
	r, err := s.router(q.Router)
	if err != nil {
		return nil, rpcError(err)
	}
	if len(q.Texts) == 0 || len(q.Texts) > maxTexts {
		return nil, rpcError(bad("%d texts, want 1 to %d", len(q.Texts), maxTexts))
	}
	e, err := r.Embed(q.Texts, engineNames[q.Engine])
	if err != nil {
		return nil, rpcError(err)
	}
	a := &routerpb.Embedded{Model: modelRef(e.Model)}
	for _, one := range e.Embeddings {
		a.Embeddings = append(a.Embeddings, &routerpb.Embedding{Vector: one.Vector, Features: int64(one.Features)})
	}
	return a, nil
}

func modelRef(m router.ModelRef) *routerpb.ModelRef {
	return &routerpb.ModelRef{Name: m.Name, Digest: m.Digest, Engine: m.Engine, Variant: m.Variant}
}

var objectives = map[routerpb.Objective]string{
	routerpb.Objective_OBJECTIVE_COST: "cost", routerpb.Objective_OBJECTIVE_LATENCY: "latency",
	routerpb.Objective_OBJECTIVE_PRIORITY: "priority",
}

func (s *rpc) Decide(ctx context.Context, q *routerpb.DecideRequest) (*routerpb.Decision, error) {
	r, err := s.router(q.Router)
	if err != nil {
		return nil, rpcError(err)
	}
	ask := router.DecideRequest{Objective: objectives[q.Objective], Key: q.Key, Engine: engineNames[q.Engine], Explain: q.Explain}
	switch in := q.Input.(type) {
	case *routerpb.DecideRequest_Text:
		ask.Text = &in.Text
	case *routerpb.DecideRequest_Vector:
		ask.Vector = widened(in.Vector.GetValues())
	}
	if q.At != "" {
		if ask.At, err = time.Parse(time.RFC3339, q.At); err != nil {
			return nil, rpcError(bad("at is %.64q, want a time such as 2026-01-31T12:00:00Z", q.At))
		}
	}
	d, err := r.Decide(traced(ctx), ask)
	if err != nil {
		return nil, rpcError(err)
	}
	return decisionPB(d), nil
}

func (s *rpc) DecideStream(stream grpc.BidiStreamingServer[routerpb.DecideRequest, routerpb.Decision]) error {
	for {
		q, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		d, err := s.Decide(stream.Context(), q)
		if err != nil {
			return err
		}
		if err := stream.Send(d); err != nil {
			return err
		}
	}
}

func decisionPB(d router.Decision) *routerpb.Decision {
	p := &routerpb.Decision{
		Decision: d.Decision, At: d.At.Format(time.RFC3339Nano), Policy: d.Policy, Abstained: d.Abstained,
		Reason: string(d.Reason), Second: d.Second, Backend: d.Backend, TopCosine: float64(d.TopCosine),
		Threshold: thresholdPB(d.Threshold), Margin: d.Margin, MinMargin: d.MinMargin, Version: d.Version,
		VersionDigest: d.VersionDigest, Model: modelRef(d.Model), Cached: d.Cached, Trace: d.Trace, Vector: d.Vector,
	}
	for _, v := range d.Votes {
		p.Votes = append(p.Votes, &routerpb.Vote{Policy: v.Policy, Sum: v.Sum, Weight: v.Weight})
	}
	for _, n := range d.Neighbours {
		p.Neighbours = append(p.Neighbours, &routerpb.Neighbour{Row: n.Row, Policy: n.Policy, Cosine: float64(n.Cosine), Weight: n.Weight})
	}
	return p
}

func thresholdPB(t table.Threshold) *routerpb.Threshold {
	return &routerpb.Threshold{Value: t.Value, Split: t.Split, Quantile: t.Quantile, N: int64(t.N), Digest: t.Digest}
}

func (s *rpc) Explain(_ context.Context, q *routerpb.DecisionName) (*routerpb.Decision, error) {
	r, err := s.router(q.Router)
	if err != nil {
		return nil, rpcError(err)
	}
	d, err := r.Explain(q.Decision)
	if err != nil {
		return nil, rpcError(err)
	}
	return decisionPB(d), nil
}

var outcomes = map[routerpb.Outcome]string{
	routerpb.Outcome_OUTCOME_CONFIRMED: router.Confirmed, routerpb.Outcome_OUTCOME_REJECTED: router.Rejected,
}

func (s *rpc) Feedback(_ context.Context, q *routerpb.FeedbackBatch) (*routerpb.FeedbackAnswer, error) {
	r, err := s.router(q.Router)
	if err != nil {
		return nil, rpcError(err)
	}
	if len(q.Events) == 0 || len(q.Events) > maxTexts {
		return nil, rpcError(bad("%d events, want 1 to %d", len(q.Events), maxTexts))
	}
	events := make([]router.FeedbackEvent, len(q.Events))
	for i, e := range q.Events {
		events[i] = router.FeedbackEvent{Decision: e.Decision, Outcome: outcomes[e.Outcome], Policy: e.Policy, Source: e.Source}
	}
	a, err := r.Feedback(events)
	if err != nil {
		return nil, rpcError(err)
	}
	p := &routerpb.FeedbackAnswer{VersionBefore: a.VersionBefore, Version: a.Version, RolledBack: a.RolledBack, Guard: &routerpb.Guard{
		N: int64(a.Guard.N), Correct: int64(a.Guard.Correct), Accuracy: a.Guard.Accuracy, Best: a.Guard.Best, Version: a.Guard.Version,
	}}
	for _, x := range a.Results {
		p.Results = append(p.Results, &routerpb.FeedbackResult{
			Seq: x.Seq, Applied: x.Applied, Reason: x.Reason, Row: x.Row, MovedDegrees: x.MovedDegrees, DriftDegrees: x.DriftDegrees,
		})
	}
	return p, nil
}

func (s *rpc) Rollback(_ context.Context, q *routerpb.RollbackRequest) (*routerpb.RouterState, error) {
	r, err := s.router(q.Router)
	if err != nil {
		return nil, rpcError(err)
	}
	state, err := r.Rollback(q.Version)
	if err != nil {
		return nil, rpcError(err)
	}
	return statePB(state), nil
}

func (s *rpc) State(_ context.Context, q *routerpb.RouterName) (*routerpb.RouterState, error) {
	r, err := s.router(q.Router)
	if err != nil {
		return nil, rpcError(err)
	}
	return statePB(r.State()), nil
}

func statePB(s router.State) *routerpb.RouterState {
	return &routerpb.RouterState{
		Router: s.Router, Version: s.Version, Digest: s.Digest, Policies: int64(s.Policies), Rows: int64(s.Rows),
		Threshold: thresholdPB(s.Threshold), Model: modelRef(s.Model),
	}
}
