package tls

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/scenarios"
	prober "github.com/assay-bench/assay/scenarios/tls"
	wire "github.com/assay-bench/assay/scenarios/wire/tls"
	"github.com/assay-bench/assay/suites"
)

// Reasons of pool checks, beside the ones of each check.
const (
	reasonDialFailed = "dial-failed"
	reasonLabOdd     = "lab-answer" // a call of the lab was not answered as its API says
)

// pooled completes a check on the client's pool. The pool is one for all, so that nothing else may run
// beside it.
func pooled(c suites.Check, own ...string) suites.Check {
	c.Needs = append([]features.Feature{features.TLSClient, features.TLSLab}, c.Needs...)
	c.Reasons = append([]string{reasonNoDial, reasonDialFailed, reasonLabOdd}, own...)
	c.Control, c.Explain = clientControl("ecdsa"), explainClient
	if c.Cost.Time == 0 {
		c.Cost.Time = 300 * time.Millisecond
	}
	c.Cost.Exclusive = true
	return c
}

// poolLimits is the body of POST /pool; zeroes are the defaults.
type poolLimits struct {
	MaxIdle           int   `json:"maxIdle,omitempty"`
	MaxAgeMillis      int64 `json:"maxAgeMillis,omitempty"`
	IdleTimeoutMillis int64 `json:"idleTimeoutMillis,omitempty"`
}

// poolCounters is the answer of GET /pool.
type poolCounters struct {
	Handshakes    map[string]int `json:"handshakes"`
	Retries       int            `json:"retries"`
	Fallbacks     int            `json:"fallbacks"`
	Resumed       map[string]int `json:"resumed"`
	Reused        map[string]int `json:"reused"`
	Requests      map[string]int `json:"requests"`
	PolicyRefused int            `json:"policyRefused"`
	Idle          int            `json:"idle"`
	Open          int            `json:"open"`
}

// poolTrap is a fresh pool pointed at a server that echoes, or answers as it is told.
func poolTrap(ctx context.Context, env *scenarios.Env, limits poolLimits, server wire.Server, visit func(*prober.Trap) error) error {
	if err := prober.Lab(ctx, env, "POST", "/pool/reset", nil, nil); err != nil {
		return err
	}
	if err := prober.Lab(ctx, env, "POST", "/pool", limits, nil); err != nil {
		return err
	}
	server.Identity, server.Wait = prober.Authority("ecdsa").Identity(), 2*clientWait
	if server.Answer == nil {
		server.Echo = true
	}
	server.Sessions = wire.NewSessionBook()
	trap, err := prober.Listen(env, "trap", func(int) wire.Server { return server })
	if err != nil {
		return err
	}
	err = visit(trap)
	// the client closes what it kept, so that the trap ends at once
	for _, end := range []func() error{
		func() error { return prober.Lab(ctx, env, "POST", "/pool", poolLimits{}, nil) },
		func() error { return prober.Lab(ctx, env, "POST", "/pool/reset", nil, nil) },
		trap.Close,
	} {
		if eerr := end(); err == nil {
			err = eerr
		}
	}
	return err
}

// through makes one exchange over the pool.
func through(ctx context.Context, env *scenarios.Env, trap *prober.Trap, name string, req prober.DialRequest) error {
	req.Pool = true
	if len(req.Groups) == 0 {
		req.Groups = []string{"X25519MLKEM768", "X25519"}
	}
	_, err := prober.Dial(ctx, env, named(request(trap, name, "ecdsa", req), req.ServerName))
	return err
}

// named overrides the server name where one is given.
func named(req prober.DialRequest, serverName string) prober.DialRequest {
	if serverName != "" {
		req.ServerName = serverName
	}
	return req
}

// seenPool is what a pool check's evidence holds.
type seenPool struct {
	dials []prober.SeenDial
	heard []prober.SeenHeard
	labs  []prober.SeenLab
	cites []uint64
}

func readPool(t suites.Trace) (seenPool, *suites.Finding) {
	broken := func(reason, why string, cites []uint64) (seenPool, *suites.Finding) {
		f := suites.Failing(reason, "every dial succeeds and the lab answers", why, cites)
		return seenPool{}, &f
	}
	var s seenPool
	heard, err := prober.Heards(t.Evidence)
	if err == nil {
		s.heard = heard["trap"]
		s.dials, err = prober.Dials(t.Evidence)
	}
	if err == nil {
		s.labs, err = prober.Labs(t.Evidence)
	}
	if err != nil {
		return broken(reasonNoDial, err.Error(), nil)
	}
	s.cites = citesOf(s.heard)
	for _, l := range s.labs {
		if s.cites = append(s.cites, l.Cites...); l.Broken != "" || l.Status >= 400 {
			return broken(reasonLabOdd, fmt.Sprintf("%s %s: status %d %s", l.Method, l.Path, l.Status, l.Broken), l.Cites)
		}
	}
	for _, d := range s.dials {
		if s.cites = append(s.cites, d.Cites...); !d.Answer.Connected {
			return broken(reasonDialFailed, fmt.Sprintf("dial %s: %s %s %s", d.Name, d.Answer.Error.Code, d.Answer.Error.Text, d.Answer.Broken), d.Cites)
		}
	}
	if len(s.dials) == 0 || len(s.heard) == 0 {
		return broken(reasonNoDial, fmt.Sprintf("%d dials, %d connections", len(s.dials), len(s.heard)), s.cites)
	}
	slices.SortFunc(s.heard, func(a, b prober.SeenHeard) int { return a.N - b.N })
	return s, nil
}
