package target

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
)

const (
	attemptTime   = time.Second // of one probe: a dial into a full backlog hangs
	maxProbeBytes = 64 << 10    // of an answer to a probe, head and body each
)

// DialFunc connects to an address that the run is allowed to reach.
type DialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// TCPReady holds when the address accepts a connection.
func TCPReady(dial DialFunc, addr string) ReadyProbe {
	return bounded(func(ctx context.Context) error {
		conn, err := dial(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// HTTPReady holds when GET answers a status of 200 to 299. Redirects are not followed: they could
// lead anywhere.
func HTTPReady(dial DialFunc, url string) ReadyProbe {
	client := &http.Client{
		Transport: &http.Transport{
			DialContext:            dial,
			DisableKeepAlives:      true, // each attempt says whether a new client is served
			MaxResponseHeaderBytes: maxProbeBytes,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return bounded(func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer closeAll(resp.Body)
		if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxProbeBytes)); err != nil {
			return fmt.Errorf("GET %s: body: %w", url, err)
		}
		if resp.StatusCode < 200 || resp.StatusCode > 299 {
			return fmt.Errorf("GET %s: %.100q", url, resp.Status)
		}
		return nil
	})
}

// healthReady holds when the gRPC health service says that the server as a whole is SERVING.
func healthReady(dial DialFunc, addr string) ReadyProbe {
	return bounded(func(ctx context.Context) error {
		conn, err := grpc.NewClient("passthrough:///"+addr,
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithNoProxy(),
			grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return dial(ctx, "tcp", addr) }),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxProbeBytes)),
		)
		if err != nil {
			return err
		}
		defer closeAll(conn)
		resp, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
		if err != nil {
			return err
		}
		if resp.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
			return fmt.Errorf("gRPC health of %s: %s", addr, resp.GetStatus())
		}
		return nil
	})
}

// bounded gives each attempt its own time limit, so that one that hangs is not the last.
func bounded(attempt ReadyProbe) ReadyProbe {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, attemptTime)
		defer cancel()
		return attempt(ctx)
	}
}
