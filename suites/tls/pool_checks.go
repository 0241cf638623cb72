package tls

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/assay-bench/assay/scenarios"
	prober "github.com/assay-bench/assay/scenarios/tls"
	wire "github.com/assay-bench/assay/scenarios/wire/tls"
	"github.com/assay-bench/assay/suites"
)

// Reasons of the pool checks.
const (
	reasonShared      = "shared"          // two different buckets shared a connection
	reasonNotReused   = "not-reused"      // the same bucket did not
	reasonEarlyBytes  = "request-bytes"   // the request went out before the class was checked
	reasonReusedBad   = "reused-broken"   // a connection with unread data was used again
	reasonOverLimit   = "over-limit"      // more connections were kept than the limits allow
	reasonCountersOff = "counters-differ" // the pool's counters are not what the server saw
)

// varied lists, by case, how the second dial differs from the first.
func varied(id string) prober.DialRequest {
	switch id {
	case "alpn":
		return prober.DialRequest{ALPN: []string{"http/1.1"}}
	case "server-name":
		return prober.DialRequest{ServerName: "localhost"}
	case "policy":
		return prober.DialRequest{Policy: "require-pq"}
	case "class":
		return prober.DialRequest{Groups: []string{"X25519"}}
	}
	return prober.DialRequest{}
}

var _ = add(pooled(suites.Check{
	ID: "tls/pool/key-complete", Title: "connections are shared only inside a bucket",
	Covers: []string{"tls/pool/key-complete"},
	Cases: []suites.Case{
		{ID: "same", Title: "the same dial twice shares one"}, {ID: "alpn", Title: "another ALPN list"},
		{ID: "server-name", Title: "another server name"}, {ID: "policy", Title: "another policy"}, {ID: "class", Title: "another group class"},
	},
	Drive: func(ctx context.Context, env *scenarios.Env) error {
		return poolTrap(ctx, env, poolLimits{}, wire.Server{ALPN: []string{"h2", "http/1.1"}}, func(trap *prober.Trap) error {
			first := prober.DialRequest{ALPN: []string{"h2"}, Policy: "any"}
			second := varied(env.Key.Case)
			if len(second.ALPN) == 0 {
				second.ALPN = first.ALPN
			}
			if err := through(ctx, env, trap, "first", first); err != nil {
				return err
			}
			return through(ctx, env, trap, "second", second)
		})
	},
	Judge: func(t suites.Trace) suites.Finding {
		s, failed := readPool(t)
		if failed != nil {
			return *failed
		}
		want, wanted := "the second request opens a connection of its own", 2
		if t.Key.Case == "same" {
			want, wanted = "the second request goes over the first connection", 1
		}
		observed := fmt.Sprintf("the server saw %d connections", len(s.heard))
		switch {
		case len(s.heard) < wanted:
			return suites.Failing(reasonShared, want, observed, s.cites)
		case len(s.heard) > wanted:
			return suites.Failing(reasonNotReused, want, observed, s.cites)
		}
		return suites.Passing(want, observed, s.cites)
	},
	Kills: kills(
		killsIn("pool.key-without-alpn", reasonShared, "alpn"),
		killsIn("pool.key-without-sni", reasonShared, "server-name"),
		killsIn("pool.key-without-policy", reasonShared, "policy"),
	),
}, reasonShared, reasonNotReused))

var _ = add(suites.Check{
	ID: "tls/pool/policy-checked", Title: "the class is checked before the first byte of a request",
	Covers: []string{"tls/pool/policy-checked"}, Needs: poolNeeds(),
	Control: clientControl("ecdsa"), Explain: explainClient,
	Cost:    suites.Cost{Time: 200 * time.Millisecond},
	Reasons: []string{reasonEarlyBytes, reasonNoDial, reasonSaidConnected, reasonWentOn},
	Drive: func(ctx context.Context, env *scenarios.Env) error {
		return springTrap(ctx, env, trapCase{
			server: wire.Server{Groups: []wire.Group{wire.X25519}, Echo: true},
			dial:   prober.DialRequest{Policy: "require-pq", Groups: groupsOfDial(), Pool: true},
		})
	},
	Judge: func(t suites.Trace) suites.Finding {
		f := judgeClosed(t)
		if f.Reason == reasonWentOn { // the same observation, under this check's name for it
			f.Reason = reasonEarlyBytes
		}
		return f
	},
	Kills: killsIn("pool.policy-checked-late", reasonEarlyBytes, ""),
})

var _ = add(pooled(suites.Check{
	ID: "tls/pool/no-reuse-after-error", Title: "a connection with unread data is not used again",
	Covers: []string{"tls/pool/no-reuse-after-error"},
	Drive: func(ctx context.Context, env *scenarios.Env) error {
		// the client sends five bytes and reads as many: four stay unread
		return poolTrap(ctx, env, poolLimits{}, wire.Server{Answer: []byte("assay too")}, func(trap *prober.Trap) error {
			if err := through(ctx, env, trap, "first", prober.DialRequest{}); err != nil {
				return err
			}
			return through(ctx, env, trap, "second", prober.DialRequest{})
		})
	},
	Judge: func(t suites.Trace) suites.Finding {
		const want = "the second request opens a connection of its own"
		s, failed := readPool(t)
		if failed != nil && failed.Reason != reasonDialFailed {
			return *failed
		}
		if failed != nil { // the unread bytes were taken for the answer, or nothing came
			return suites.Failing(reasonReusedBad, want, failed.Observed, failed.Cites)
		}
		observed := fmt.Sprintf("the server saw %d connections", len(s.heard))
		if len(s.heard) != 2 {
			return suites.Failing(reasonReusedBad, want, observed, s.cites)
		}
		return suites.Passing(want, observed, s.cites)
	},
	Kills: killsIn("pool.reuses-broken", reasonReusedBad, ""),
}, reasonReusedBad))

const crowd = 4 // dials at once

var _ = add(pooled(suites.Check{
	ID: "tls/pool/bounded", Title: "limits on idle connections and age hold",
	Covers: []string{"tls/pool/bounded"},
	Cases:  []suites.Case{{ID: "idle", Title: "at most one idle connection"}, {ID: "age", Title: "no connection beyond its age"}},
	Cost:   suites.Cost{Time: 500 * time.Millisecond},
	Drive: func(ctx context.Context, env *scenarios.Env) error {
		if env.Key.Case == "age" {
			return poolTrap(ctx, env, poolLimits{MaxAgeMillis: 50}, wire.Server{}, func(trap *prober.Trap) error {
				if err := through(ctx, env, trap, "first", prober.DialRequest{}); err != nil {
					return err
				}
				if err := pause(ctx, 120*time.Millisecond); err != nil { // the age that the limit is about
					return err
				}
				return through(ctx, env, trap, "second", prober.DialRequest{})
			})
		}
		return poolTrap(ctx, env, poolLimits{MaxIdle: 1}, wire.Server{}, func(trap *prober.Trap) error {
			if err := atOnce(ctx, env, trap); err != nil {
				return err
			}
			if err := env.Record(poolOpened, trap.Accepted()); err != nil {
				return err
			}
			return prober.Lab(ctx, env, "GET", "/pool", nil, &poolCounters{})
		})
	},
	Judge: judgeBounded,
	Kills: killsIn("pool.unbounded", reasonOverLimit, "age", "idle"),
}, reasonOverLimit))

// poolOpened is evidence of how many connections a pool had opened at one moment.
const poolOpened = "pool-opened"

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func atOnce(ctx context.Context, env *scenarios.Env, trap *prober.Trap) error {
	var all sync.WaitGroup
	errs := make([]error, crowd)
	for i := range crowd {
		all.Go(func() { errs[i] = through(ctx, env, trap, fmt.Sprintf("crowd-%d", i), prober.DialRequest{}) })
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// judgeBounded compares what the server saw with what the pool may keep.
func judgeBounded(t suites.Trace) suites.Finding {
	s, failed := readPool(t)
	if failed != nil {
		return *failed
	}
	if t.Key.Case == "age" {
		const want = "the second request, after the age limit, opens a connection of its own"
		if observed := fmt.Sprintf("the server saw %d connections", len(s.heard)); len(s.heard) != 2 {
			return suites.Failing(reasonOverLimit, want, observed, s.cites)
		}
		return suites.Passing(want, "the server saw 2 connections", s.cites)
	}
	const want = "of the connections that were open at once, one is kept"
	opened := 0
	for _, e := range t.Evidence {
		if e.Kind == poolOpened {
			if err := e.Decode(&opened); err != nil {
				return suites.Failing(reasonLabOdd, want, err.Error(), nil)
			}
		}
	}
	kept, err := s.counters()
	if err != nil {
		return suites.Failing(reasonLabOdd, want, err.Error(), s.cites)
	}
	observed := fmt.Sprintf("%d requests at once opened %d connections; the pool keeps %d, %d are open", crowd, opened, kept.Idle, kept.Open)
	switch {
	case opened < 2:
		return suites.TooNoisy(want, observed+": never two at once", s.cites)
	case kept.Idle > 1 || kept.Open > 1:
		return suites.Failing(reasonOverLimit, want, observed, s.cites)
	}
	return suites.Passing(want, observed, s.cites)
}

// counters are what the pool said last of itself.
func (s seenPool) counters() (c poolCounters, err error) {
	err = errors.New("GET /pool is not in the evidence")
	for _, l := range s.labs {
		if l.Method == "GET" && l.Path == "/pool" {
			c = poolCounters{}
			err = json.Unmarshal(l.Answer, &c)
		}
	}
	return c, err
}

var _ = add(pooled(suites.Check{
	ID: "tls/pool/counters-true", Title: "the pool's counters are what the server saw",
	Covers: []string{"tls/pool/counters-true"},
	Drive: func(ctx context.Context, env *scenarios.Env) error {
		return poolTrap(ctx, env, poolLimits{}, wire.Server{Tickets: 2}, func(trap *prober.Trap) error {
			for i, req := range []prober.DialRequest{
				{}, {}, {Groups: []string{"X25519"}}, {Policy: "require-pq"}, {Groups: []string{"X25519"}, ALPN: []string{"h2"}},
			} {
				if err := through(ctx, env, trap, fmt.Sprintf("dial-%d", i), req); err != nil {
					return err
				}
			}
			var counters poolCounters
			return prober.Lab(ctx, env, "GET", "/pool", nil, &counters)
		})
	},
	Judge: judgeCounters,
	Kills: killsIn("pool.counters-drift", reasonCountersOff, ""),
}, reasonCountersOff))

func judgeCounters(t suites.Trace) suites.Finding {
	const want = "handshakes by group, retries and requests as the server counted them"
	s, failed := readPool(t)
	if failed != nil {
		return *failed
	}
	said, err := s.counters()
	if err != nil {
		return suites.Failing(reasonLabOdd, want, err.Error(), s.cites)
	}
	seen, retries := map[string]int{}, 0
	for _, h := range s.heard {
		if h.Heard.FinishedValid {
			seen[h.Heard.Group.String()]++
		}
		if h.Heard.Second != nil {
			retries++
		}
	}
	requests := said.Requests["pq"] + said.Requests["classical"]
	observed := fmt.Sprintf("the pool says %v, %d retries, %d requests; the server saw %v, %d retries, %d requests", said.Handshakes, said.Retries, requests, seen, retries, len(s.dials))
	for _, g := range wire.Groups() {
		if said.Handshakes[g.String()] != seen[g.String()] {
			return suites.Failing(reasonCountersOff, want, observed, s.cites)
		}
	}
	if said.Retries != retries || requests != len(s.dials) {
		return suites.Failing(reasonCountersOff, want, observed, s.cites)
	}
	return suites.Passing(want, observed, s.cites)
}
