package router

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/assay-bench/assay/fixtures/idl/routerpb"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
)

// CalledGRPC is the kind of evidence of a call of the gRPC API: GRPCCall.
const CalledGRPC results.Kind = "router-grpc"

// GRPCCall is the evidence of a call of the gRPC API. What both faces say has the HTTP face's shape.
type GRPCCall struct {
	Name     string    `json:"name"`
	Method   string    `json:"method"`
	Code     string    `json:"code"` // of gRPC, OK on success
	Message  string    `json:"message,omitempty"`
	Decision *Decision `json:"decision,omitempty"`
}

// grpcWait is how long a call may take beyond what the target says of its answers.
const grpcWait = 1 * time.Second

// GRPC calls the gRPC API of a router and records each call.
type GRPC struct {
	env    *scenarios.Env
	conn   *grpc.ClientConn
	client routerpb.RouterClient
	router string
}

// NewGRPC returns a client for a router of the target. Close it. That nobody listens shows with the first call.
func NewGRPC(env *scenarios.Env, router string) (*GRPC, error) {
	conn, err := grpc.NewClient("passthrough:///"+env.Endpoints[GRPCEndpoint],
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return env.Dial(ctx, "tcp", addr) }))
	if err != nil {
		return nil, fmt.Errorf("router over gRPC: %w", err)
	}
	return &GRPC{env, conn, routerpb.NewRouterClient(conn), router}, nil
}

// Close ends the connection.
func (g *GRPC) Close() error { return g.conn.Close() }

// SetPolicy learns a policy from examples; ok tells whether the target says so.
func (g *GRPC) SetPolicy(ctx context.Context, name, policy string, examples []string) (ok bool, err error) {
	within, cancel := context.WithTimeout(ctx, grpcWait+g.env.Claims.Limits.Answer())
	defer cancel()
	_, err = g.client.SetPolicy(within, &routerpb.SetPolicyRequest{Router: g.router, Policy: policy, Examples: examples})
	return err == nil, g.note(ctx, GRPCCall{Name: name, Method: "SetPolicy"}, err)
}

// Decide decides a text, with its vector.
func (g *GRPC) Decide(ctx context.Context, name, text string) error {
	within, cancel := context.WithTimeout(ctx, grpcWait+g.env.Claims.Limits.Answer())
	defer cancel()
	c := GRPCCall{Name: name, Method: "Decide"}
	d, err := g.client.Decide(within, &routerpb.DecideRequest{Router: g.router, Input: &routerpb.DecideRequest_Text{Text: text}, Explain: true})
	if err == nil {
		c.Decision = decided(d)
	}
	return g.note(ctx, c, err)
}

// note records a call. What the target answers is no error of the harness.
func (g *GRPC) note(ctx context.Context, c GRPCCall, err error) error {
	if errors.Is(err, scenarios.ErrNotAllowed) {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	c.Code = status.Code(err).String()
	if err != nil && status.Code(err) != codes.OK {
		c.Message = clip(status.Convert(err).Message())
	}
	return g.env.Record(CalledGRPC, c)
}

// decided gives a decision of the gRPC face the shape of the HTTP face.
func decided(d *routerpb.Decision) *Decision {
	out := &Decision{
		Decision: d.GetDecision(), Policy: clip(d.GetPolicy()), Abstained: d.GetAbstained(), Reason: clip(d.GetReason()), Second: clip(d.GetSecond()),
		TopCosine: d.GetTopCosine(), Margin: d.GetMargin(), Version: d.GetVersion(), VersionDigest: clip(d.GetVersionDigest()),
		Model: ModelRef{clip(d.GetModel().GetName()), clip(d.GetModel().GetDigest()), clip(d.GetModel().GetEngine()), clip(d.GetModel().GetVariant())},
	}
	for _, v := range d.GetVotes()[:min(len(d.GetVotes()), 64)] {
		out.Votes = append(out.Votes, Vote{clip(v.GetPolicy()), v.GetSum(), v.GetWeight()})
	}
	for _, n := range d.GetNeighbours()[:min(len(d.GetNeighbours()), 64)] {
		out.Neighbours = append(out.Neighbours, Neighbour{clip(n.GetRow()), clip(n.GetPolicy()), n.GetCosine(), n.GetWeight()})
	}
	for _, x := range d.GetVector()[:min(len(d.GetVector()), 2*Dimension)] {
		out.Vector = append(out.Vector, float64(x))
	}
	return out
}
