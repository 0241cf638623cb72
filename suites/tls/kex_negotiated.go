package tls

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	drive "github.com/assay-bench/assay/scenarios/tls"
	wire "github.com/assay-bench/assay/scenarios/wire/tls"
	"github.com/assay-bench/assay/suites"
)

const (
	reasonWrongEcho   = "wrong-echo"   // the application data that came back is not what was sent
	reasonWrongLength = "wrong-length" // the server's share has another length than its group's
	reasonUnusable    = "unusable"     // of the right length, but its parts give no working keys
)

// exchanged is the kind of evidence of application data that was sent to be echoed.
const exchanged results.Kind = "exchange"

// exchange is its data.
type exchange struct {
	Sent []byte `json:"sent"`
	Want int    `json:"want"`
}

// groupCheck is a check that completes a handshake with each group, offered alone.
func groupCheck(c suites.Check, groups []pqGroup, judge func(pqGroup, suites.Trace) suites.Finding) suites.Check {
	c.Covers, c.Needs, c.Explain = append(c.Covers, c.ID), append(c.Needs, features.TLSServer), explain
	c.Cost = suites.Cost{Time: 100 * time.Millisecond}
	for _, g := range groups {
		c.Cases = append(c.Cases, suites.Case{ID: g.id, Title: g.group.String(), Needs: []features.Feature{g.feature}})
	}
	c.Drive = func(ctx context.Context, env *scenarios.Env) error {
		g, ok := groupNamed(env.Key.Case)
		if !ok {
			return fmt.Errorf("no case %q", env.Key.Case)
		}
		return driveGroup(ctx, env, g.group)
	}
	c.Judge = func(t suites.Trace) suites.Finding {
		g, ok := groupNamed(t.Key.Case)
		if !ok {
			return missing("a case that exists", t.Key.Case)
		}
		return judge(g, t)
	}
	return c
}

func groupNamed(id string) (pqGroup, bool) {
	for _, g := range pqGroups() {
		if g.id == id {
			return g, true
		}
	}
	return pqGroup{}, false
}

// driveGroup completes a handshake with one group and exchanges what application data the target takes.
func driveGroup(ctx context.Context, env *scenarios.Env, g wire.Group) error {
	c := wire.Client{Offer: alone(g), Wait: answerWait(env.Claims)}
	c.Send, c.Want = drive.App(env)
	if err := env.Record(exchanged, exchange{c.Send, c.Want}); err != nil {
		return err
	}
	_, err := drive.Probe(ctx, env, endpoint, "probe", c)
	return err
}

var _ = add(groupCheck(suites.Check{
	ID: "tls/kex/hybrid-negotiated", Title: "a handshake with a post-quantum group completes and serves",
	Reasons: reasonsOf(serviceReasons(), []string{reasonWrongLength, reasonWrongEcho}),
	Kills: kills(
		killsIn("tls.hybrid-flight-corrupt", reasonFlight, "x25519mlkem768", "secp256r1mlkem768", "secp384r1mlkem1024"),
		killsIn("tls.echo-altered", reasonWrongEcho, "x25519mlkem768", "mlkem1024"),
	),
}, pqGroups(), judgeNegotiated))

func judgeNegotiated(g pqGroup, t suites.Trace) suites.Finding {
	want := fmt.Sprintf("a ServerHello with %s and a share of %d bytes, a Finished that verifies, and application data served: %s",
		g.group, g.group.ServerShare(), "draft-ietf-tls-ecdhe-mlkem, Client share and Server share")
	h, ok := seen(t, "probe")
	if !ok {
		return missing(want, "probe")
	}
	o := h.Outcome
	reason := served(o, g.group)
	switch {
	case reason != "":
	case o.Server == nil || o.Server.Share != g.group.ServerShare():
		reason = reasonWrongLength
	case o.Flight == nil || !o.Flight.FinishedValid:
		reason = reasonFlight
	case !echoed(t, o):
		reason = reasonWrongEcho
	}
	return judged(t, reason, want, describe(o), h.Cites)
}

// echoed tells whether the target answered as much as was waited for, and, where it claims to echo, just
// what was sent.
func echoed(t suites.Trace, o wire.Outcome) bool {
	for _, e := range t.Evidence {
		var x exchange
		if e.Kind != exchanged || e.Decode(&x) != nil {
			continue
		}
		if t.Claims.TLS != nil && t.Claims.TLS.App == "echo" {
			return bytes.Equal(o.App, x.Sent)
		}
		return len(o.App) >= x.Want
	}
	return false
}

var _ = add(groupCheck(suites.Check{
	ID: "tls/kex/server-share-layout", Title: "a hybrid server share has its exact length, and its parts in order",
	Reasons: reasonsOf(serviceReasons(), []string{reasonWrongLength, reasonUnusable}),
	Kills: kills(
		killsIn("tls.server-share-padded", reasonWrongLength, "x25519mlkem768", "secp256r1mlkem768", "secp384r1mlkem1024"),
		killsIn("tls.server-share-swapped", reasonUnusable, "x25519mlkem768", "secp256r1mlkem768", "secp384r1mlkem1024"),
	),
}, hybrids(), judgeServerLayout))

func judgeServerLayout(g pqGroup, t suites.Trace) suites.Finding {
	want := fmt.Sprintf("a share of %d bytes whose parts, in the order of the client's, give working keys: %s",
		g.group.ServerShare(), "draft-ietf-tls-ecdhe-mlkem, Server share")
	h, ok := seen(t, "probe")
	if !ok {
		return missing(want, "probe")
	}
	o := h.Outcome
	reason := served(o, g.group)
	switch {
	case o.Server == nil || reason == reasonWrongGroup:
	case o.Server.Share != g.group.ServerShare():
		reason = reasonWrongLength
	case o.Flight != nil && o.Flight.FinishedValid: // what follows is not about the share
		reason = ""
	case reason != reasonSilent:
		reason = reasonUnusable
	}
	return judged(t, reason, want, describe(o), h.Cites)
}

// The wrong secrets that a flight may turn out to be protected under, as wire.Outcome names them.
const (
	secretSwapped  = "swapped"
	secretKEMOnly  = "kem-only"
	secretECDHOnly = "ecdh-only"
	secretOther    = "other-secret"
)

var _ = add(groupCheck(suites.Check{
	ID: "tls/kex/secret-order", Title: "the parts of a hybrid's secret are concatenated in the order of its shares",
	Reasons: reasonsOf(serviceReasons(), []string{secretSwapped, secretKEMOnly, secretECDHOnly, secretOther}),
	Kills: kills(
		killsIn("tls.secret-swapped", secretSwapped, "x25519mlkem768", "secp256r1mlkem768", "secp384r1mlkem1024"),
		killsIn("tls.secret-kem-only", secretKEMOnly, "x25519mlkem768", "secp256r1mlkem768", "secp384r1mlkem1024"),
	),
}, hybrids(), judgeSecret))

func judgeSecret(g pqGroup, t suites.Trace) suites.Finding {
	want := "a flight that decrypts under the secret parts in the order of the shares, and under no other order: " +
		"draft-ietf-tls-ecdhe-mlkem, Shared secret"
	h, ok := seen(t, "probe")
	if !ok {
		return missing(want, "probe")
	}
	o := h.Outcome
	reason := served(o, g.group)
	switch {
	case reason == reasonWrongGroup:
	case o.Ending == wire.Unreadable:
		reason = otherSecret(o.Others)
	case o.Flight != nil && o.Flight.FinishedValid:
		reason = ""
		if otherSecret(o.Others) != secretOther { // it can not decrypt under two keys
			reason = otherSecret(o.Others)
		}
	}
	return judged(t, reason, want, describe(o), h.Cites)
}

// otherSecret names the wrong secret under which a flight decrypts.
func otherSecret(others map[string]bool) string {
	for _, name := range []string{secretSwapped, secretKEMOnly, secretECDHOnly} {
		if others[name] {
			return name
		}
	}
	return secretOther
}
