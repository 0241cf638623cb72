package truth

import (
	"context"
	"fmt"
	"net/url"

	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/load"
	"github.com/assay-bench/assay/scenarios/load/proto"
)

// urls are where a user would send the load of each protocol.
func urls(e Endpoints) map[Protocol]string {
	return map[Protocol]string{
		TCP:  "tcp://" + e.TCP,
		HTTP: "http://" + e.HTTP + "/",
		GRPC: "grpc://" + e.GRPC + "/assay.Truth/Echo",
	}
}

const muxConns = 4 // connections of multiplexed clients

// open connects the client that a load over this protocol has: with so many workers, or with as many as a rate
// needs when workers is 0.
func open(ctx context.Context, dial scenarios.DialFunc, e Endpoints, p Protocol, workers int, rate float64) (*proto.Session, load.Via, error) {
	u, err := url.Parse(urls(e)[p])
	if err != nil {
		return nil, nil, fmt.Errorf("truth client: %w", err)
	}
	c := proto.Config{URL: u, Size: FrameSize, InFlight: ample(rate), Dial: dial}
	if p != HTTP {
		c.Conns = muxConns
	}
	s, err := proto.Open(ctx, c)
	if err != nil {
		return nil, nil, fmt.Errorf("truth client: %w", err)
	}
	if workers > 0 {
		return s, &load.Pool{Callers: s.Users(workers)}, nil
	}
	return s, s.Via, nil
}

// ample returns workers for the longest freeze and half as many again.
func ample(rate float64) int { return max(256, int(rate*float64(freezeTime)/1e9*1.5)) }
