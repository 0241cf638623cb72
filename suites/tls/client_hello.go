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

// needsShare lets a case be judged only where the client shared, or did not share, a group.
func needsShare(g wire.Group, shared bool) func(wire.Heard) string {
	return func(h wire.Heard) string {
		has := slices.ContainsFunc(h.Hello.Shares, func(s wire.ShareSeen) bool { return s.Group == g })
		switch {
		case shared && !has:
			return "the client sends no share of " + g.String()
		case !shared && has:
			return "the client sends a share of " + g.String()
		case !shared && !slices.Contains(h.Hello.Groups, g):
			return "the client does not offer " + g.String()
		}
		return ""
	}
}

// sized gives a share of n bytes, whatever the group: one that no client could take for its own.
func sized(n int) func(wire.Group, []byte) []byte {
	return func(wire.Group, []byte) []byte {
		b := make([]byte, n)
		b[0] = 4 // an uncompressed point, as far as the first byte tells
		return b
	}
}

var (
	_ = add(trapRow{
		clause: "RFC 9846 section 4.3.8",
		cases: []trapCase{
			{id: "already-shared", title: "a retry asks for the group that was shared", accept: []string{illegalParameter},
				server: wire.Server{Groups: []wire.Group{wire.X25519}, Retry: &wire.RetryPlan{Group: wire.X25519}}, fits: needsShare(wire.X25519, true)},
			{id: "unoffered", title: "a retry asks for the obsolete group 0x6399", accept: []string{illegalParameter},
				server: wire.Server{Groups: []wire.Group{wire.X25519}, Retry: &wire.RetryPlan{Group: wire.Kyber768Draft}}},
		},
	}.check(suites.Check{
		ID: "tls/hello/retry-group-valid", Title: "a client refuses a retry to a group that it did not offer or has shared",
		Covers: []string{"tls/hello/retry-group-valid"},
		Kills:  killsIn("tlsclient.retry-group-unchecked", reasonWentOn, "already-shared"),
	}))

	_ = add(trapRow{
		clause: "RFC 9846 section 4.2.4",
		cases: []trapCase{{id: "second-retry", title: "two HelloRetryRequests", accept: []string{unexpectedMessage},
			server: wire.Server{Groups: []wire.Group{wire.P384}, Retry: &wire.RetryPlan{Group: wire.P384, Twice: true}}, fits: needsShare(wire.P384, false)}},
	}.check(suites.Check{
		ID: "tls/hello/retry-once", Title: "a client refuses a second HelloRetryRequest",
		Covers: []string{"tls/hello/retry-once"},
		Kills:  killsIn("tlsclient.second-retry-followed", reasonWentOn, "second-retry"),
	}))

	_ = add(trapRow{
		clause: "RFC 9846 section 4.3.8",
		cases: []trapCase{
			{id: "unoffered", title: "ServerHello names the obsolete group 0x6399", accept: []string{illegalParameter},
				server: wire.Server{Groups: []wire.Group{wire.X25519}, Bend: wire.ServerBend{Group: wire.Kyber768Draft}}},
			{id: "not-shared", title: "ServerHello names an offered group of which no share was sent", accept: []string{illegalParameter},
				server: wire.Server{Groups: []wire.Group{wire.X25519}, Bend: wire.ServerBend{Group: wire.P384, Share: sized(97)}}, fits: needsShare(wire.P384, false)},
			{id: "other-than-retry", title: "ServerHello names another group than the HelloRetryRequest", accept: []string{illegalParameter},
				server: wire.Server{Groups: []wire.Group{wire.P384}, Retry: &wire.RetryPlan{Group: wire.P384}, Bend: wire.ServerBend{Group: wire.X25519, Share: sized(32)}},
				fits:   needsShare(wire.P384, false)},
		},
	}.check(suites.Check{
		ID: "tls/hello/server-group-valid", Title: "a client refuses a group that it sent no share of",
		Covers: []string{"tls/hello/server-group-valid"},
		Kills:  killsIn("tlsclient.server-group-unchecked", reasonWentOn, "unoffered", "not-shared"),
	}))

	_ = add(trapRow{
		clause: "RFC 9846 section 4.2.3",
		cases: []trapCase{{id: "wrong-echo", title: "the echo differs in one bit", accept: []string{illegalParameter},
			server: wire.Server{Bend: wire.ServerBend{SessionID: otherSession}}}},
	}.check(suites.Check{
		ID: "tls/hello/session-id-echo", Title: "a client refuses a wrong legacy_session_id_echo",
		Covers: []string{"tls/hello/session-id-echo"},
		Kills:  killsIn("tlsclient.session-id-unchecked", reasonWentOn, "wrong-echo"),
	}))

	_ = add(trapRow{
		clause: "RFC 9846 sections 4.2.3 and 4.2.4",
		cases: []trapCase{
			{id: "unoffered", title: "TLS_AES_128_CCM_8_SHA256, which was not offered", accept: []string{illegalParameter},
				server: wire.Server{Bend: wire.ServerBend{Suite: 0x1305}}, fits: lacksSuite(0x1305)},
			{id: "changed-after-retry", title: "another suite than the HelloRetryRequest's", accept: []string{illegalParameter},
				server: wire.Server{
					Suite: wire.AES128SHA256, Groups: []wire.Group{wire.P384},
					Retry: &wire.RetryPlan{Group: wire.P384, Suite: wire.AES256SHA384},
				}, fits: needsShare(wire.P384, false)},
		},
	}.check(suites.Check{
		ID: "tls/hello/suite-offered", Title: "a client refuses a suite that it did not offer, or that changed after a retry",
		Covers: []string{"tls/hello/suite-offered"},
		Kills:  killsIn("tlsclient.suite-unchecked", reasonWentOn, "unoffered", "changed-after-retry"),
	}))

	_ = add(trapRow{
		clause: "RFC 9846 section 4.2.3",
		cases: []trapCase{{id: "marked", title: "a TLS 1.2 ServerHello with the sentinel", accept: []string{illegalParameter},
			server: wire.Server{Legacy: &wire.LegacyPlan{Sentinel: true}}, dial: prober.DialRequest{MinVersion: "1.2"}, fits: offersTLS12}},
	}.check(suites.Check{
		ID: "tls/hello/downgrade-sentinel-by-client", Title: "a client of both versions refuses a TLS 1.2 that is marked as a downgrade",
		Covers: []string{"tls/hello/downgrade-sentinel"},
		Kills:  killsIn("tlsclient.sentinel-ignored", reasonWentOn, "marked"),
	}))

	_ = add(clientRecordVersion())
)

func otherSession(echo []byte) []byte {
	if len(echo) == 0 {
		return make([]byte, 32) // the client sent none: any echo is wrong
	}
	out := append([]byte(nil), echo...)
	out[0] ^= 1
	return out
}

func lacksSuite(s wire.Suite) func(wire.Heard) string {
	return func(h wire.Heard) string {
		if slices.Contains(h.Hello.Suites, s) {
			return fmt.Sprintf("the client offers suite %#04x", uint16(s))
		}
		return ""
	}
}

func offersTLS12(h wire.Heard) string {
	if !slices.Contains(h.Hello.Versions, 0x0303) {
		return "the client does not offer TLS 1.2"
	}
	return ""
}

// Reasons of clientRecordVersion.
const (
	reasonFirstVersion = "first-record-version"
	reasonLaterVersion = "later-record-version"
)

func clientRecordVersion() suites.Check {
	const want = "the first hello in a record of version 0x0301 or 0x0303, all later records 0x0303 (RFC 9846 section 5.1)"
	return suites.Check{
		ID: "tls/hello/record-version-of-client", Title: "a client's records carry the versions of the RFC",
		Covers: []string{"tls/hello/record-version"}, Needs: []features.Feature{features.TLSClient},
		Control: clientControl(""), Cost: suites.Cost{Time: 100 * time.Millisecond}, Explain: explainClient,
		Reasons: []string{reasonNoDial, reasonFirstVersion, reasonLaterVersion},
		Drive: func(ctx context.Context, env *scenarios.Env) error {
			return springTrap(ctx, env, trapCase{server: wire.Server{Echo: true}})
		},
		Judge: func(t suites.Trace) suites.Finding {
			heard, err := prober.Heards(t.Evidence)
			if err != nil {
				return suites.Failing(reasonNoDial, want, err.Error(), nil)
			}
			hs := heard["trap"]
			best, said := furthest(hs)
			observed := fmt.Sprintf("first %#04x, later %#04x", best.First, best.Records)
			switch cites := citesOf(hs); {
			case !said || len(best.Records) == 0:
				return suites.Failing(reasonNoDial, want, describeHeard(hs), cites)
			case best.First != 0x0301 && best.First != 0x0303:
				return suites.Failing(reasonFirstVersion, want, observed, cites)
			case slices.ContainsFunc(best.Records, func(v uint16) bool { return v != 0x0303 }):
				return suites.Failing(reasonLaterVersion, want, observed, cites)
			default:
				return suites.Passing(want, observed, cites)
			}
		},
		Kills: killsIn("tlsclient.record-version-odd", reasonLaterVersion, ""),
	}
}
