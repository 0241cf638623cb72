package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/load"
	"github.com/assay-bench/assay/scenarios/load/proto"
)

// The models of the engine that are measured.
const (
	closed = "closed" // users that wait for their replies, as k6's do
	open   = "open"   // every arrival due at once: the pacer never waits, so only its work counts
)

// play is the child: it makes the calls of "URL,MODEL,CALLS" with the engine and nothing else.
func play(ctx context.Context, what string, users int) error {
	parts := strings.Split(what, ",")
	if len(parts) != 3 {
		return fmt.Errorf("-child %q", what)
	}
	calls, err := strconv.Atoi(parts[2])
	if err != nil {
		return err
	}
	session, err := openSession(ctx, parts[0], users)
	if err != nil {
		return err
	}
	defer session.Close()
	opt := load.Options{Timeout: time.Minute, HostLimit: 1}
	var r *load.Result
	if parts[1] == closed {
		r, err = load.RunClosed(ctx, load.Closed{Duration: time.Hour, Requests: int64(calls)}, &load.Pool{Callers: session.Users(users)}, opt)
	} else {
		// one arrival each nanosecond: the schedule is over before the first reply
		r, err = load.Run(ctx, load.Schedule{Kind: load.Const, Rate: 1e9, Duration: time.Duration(calls)}, session.Via, opt)
	}
	if err != nil {
		return err
	}
	if r.Counts.OK != int64(calls) {
		return fmt.Errorf("%d of %d calls ok: %+v %v", r.Counts.OK, calls, r.Counts, r.Errors)
	}
	return nil
}

func openSession(ctx context.Context, url string, users int) (*proto.Session, error) {
	if url == "" {
		idle := func(n int) []load.Caller {
			all := make([]load.Caller, n)
			for i := range all {
				all[i] = nothing{}
			}
			return all
		}
		return &proto.Session{Via: &load.Pool{Callers: idle(1)}, Users: idle}, nil
	}
	u, err := proto.ParseURL(url)
	if err != nil {
		return nil, err
	}
	return proto.Open(ctx, proto.Config{URL: u, Conns: users, InFlight: users, Dial: scenarios.NewDialer(nil, 0).DialContext})
}

// nothing is a call that does nothing.
type nothing struct{}

func (nothing) Call(context.Context, uint64) error { return nil }
