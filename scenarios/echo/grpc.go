package echo

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/assay-bench/assay/fixtures/idl/behavepb"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/load"
	"github.com/assay-bench/assay/scenarios/load/arrival"
)

// GRPC is a load.Caller: one echo call of the behave service. It is safe for concurrent use.
type GRPC struct {
	conn   *grpc.ClientConn
	socket arrival.Socket
	client behavepb.BehaveClient
	req    *behavepb.Msg
}

var _ load.Caller = (*GRPC)(nil)

// NewGRPC prepares calls to an address; the connection is made by the first call.
func NewGRPC(addr string, dial scenarios.DialFunc) (*GRPC, error) {
	g := &GRPC{req: &behavepb.Msg{Body: []byte(strings.Repeat("x", BodySize))}}
	conn, err := grpc.NewClient("passthrough:///"+addr,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxReply)),
		grpc.WithContextDialer(g.socket.Dialer(dial)))
	if err != nil {
		return nil, err
	}
	g.conn, g.client = conn, behavepb.NewBehaveClient(conn)
	return g, nil
}

// Age tells how long ago the reply came in, or a later one of the same connection.
func (g *GRPC) Age() time.Duration { return g.socket.Age() }

// Call makes one call and checks the size of what is echoed.
func (g *GRPC) Call(ctx context.Context, _ uint64) error {
	reply, err := g.client.Echo(ctx, g.req)
	switch {
	case status.Code(err) == codes.DeadlineExceeded:
		return fmt.Errorf("%w: %w", context.DeadlineExceeded, err)
	case err != nil:
		return err
	case len(reply.GetBody()) != BodySize:
		return fmt.Errorf("echoed %d of %d bytes", len(reply.GetBody()), BodySize)
	}
	return nil
}

// Close ends the connection.
func (g *GRPC) Close() error { return g.conn.Close() }
