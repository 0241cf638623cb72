package tls

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	prober "github.com/assay-bench/assay/scenarios/tls"
	wire "github.com/assay-bench/assay/scenarios/wire/tls"
	"github.com/assay-bench/assay/suites"
)

const (
	illegalParameter  = "illegal_parameter"
	decryptError      = "decrypt_error"
	unexpectedMessage = "unexpected_message"
	protocolVersion   = "protocol_version"
)

// hybridServer negotiates X25519MLKEM768 alone and sends its share as bent.
func hybridServer(bend func(wire.Group, []byte) []byte) wire.Server {
	return wire.Server{Groups: []wire.Group{wire.X25519MLKEM768}, Bend: wire.ServerBend{Share: bend}}
}

// x25519Server negotiates X25519 alone.
func x25519Server(bend func(wire.Group, []byte) []byte) wire.Server {
	return wire.Server{Groups: []wire.Group{wire.X25519}, Bend: wire.ServerBend{Share: bend}}
}

const kemCiphertext = 1088 // bytes of an ML-KEM-768 ciphertext, which leads the share of X25519MLKEM768

// order8 is a point of order 8 on Curve25519: any scalar multiple by a clamped key is zero.
func order8() []byte {
	return []byte{
		0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a,
		0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
	}
}

func shareShort(_ wire.Group, b []byte) []byte { return b[:len(b)-1] }
func shareLong(_ wire.Group, b []byte) []byte  { return append(b[:len(b):len(b)], 0) }

// ecdhPart replaces the last 32 bytes, which are X25519's in X25519MLKEM768 and all of it in X25519.
func serverECDH(point []byte) func(wire.Group, []byte) []byte {
	return func(_ wire.Group, b []byte) []byte { return append(b[:len(b)-32:len(b)-32], point...) }
}

// randomCiphertext keeps the X25519 part and replaces the ciphertext by bytes that no encapsulation made.
func randomCiphertext(_ wire.Group, b []byte) []byte {
	out, r := append([]byte(nil), b...), rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(out[:min(kemCiphertext, len(out))]) // it never fails
	return out
}

var (
	_ = add(trapRow{
		clause: "draft-ietf-tls-ecdhe-mlkem, Server share",
		cases: []trapCase{
			{id: "truncated", title: "one byte short", server: hybridServer(shareShort), accept: []string{illegalParameter}},
			{id: "padded", title: "one byte long", server: hybridServer(shareLong), accept: []string{illegalParameter}},
			{id: "ciphertext-only", title: "without its X25519 part", accept: []string{illegalParameter},
				server: hybridServer(func(_ wire.Group, b []byte) []byte { return b[:kemCiphertext] })},
		},
	}.check(suites.Check{
		ID: "tls/kex/ciphertext-length-checked", Title: "a client refuses a hybrid share of the wrong length",
		Covers: []string{"tls/kex/ciphertext-length-checked"}, Needs: []features.Feature{features.TLSClientPQ},
		Kills: kills(
			killsIn("tlsclient.ciphertext-length-unchecked", reasonWentOn, "truncated", "padded", "ciphertext-only"),
			killsIn("tlsclient.alerts-dropped", reasonClientMute, "truncated"),
			killsIn("tlsclient.wrong-alert", reasonClientOdd, "truncated"),
		),
	}))

	_ = add(trapRow{
		clause: "RFC 9846 section 7.4.2 and draft-ietf-tls-ecdhe-mlkem, Shared secret",
		cases: []trapCase{
			{id: "x25519-zero", title: "a zero X25519 share", server: x25519Server(serverECDH(make([]byte, 32))), accept: []string{illegalParameter}},
			{id: "x25519-order-8", title: "an X25519 share of order 8", server: x25519Server(serverECDH(order8())), accept: []string{illegalParameter}},
			{id: "hybrid-zero", title: "a zero X25519 part in the hybrid", server: hybridServer(serverECDH(make([]byte, 32))), accept: []string{illegalParameter}},
			{id: "hybrid-order-8", title: "an X25519 part of order 8 in the hybrid", server: hybridServer(serverECDH(order8())), accept: []string{illegalParameter}},
		},
	}.check(suites.Check{
		ID: "tls/kex/zero-secret-refused-by-client", Title: "a client refuses an all-zero X25519 result",
		Covers: []string{"tls/kex/zero-secret-refused"}, Needs: []features.Feature{features.TLSClientPQ},
		Kills: killsIn("tlsclient.zero-secret-accepted", reasonWentOn, "x25519-zero", "x25519-order-8", "hybrid-zero", "hybrid-order-8"),
	}))

	_ = add(trapRow{
		clause: "FIPS 203 section 6.3: implicit rejection gives another secret, so that nothing decrypts",
		cases: []trapCase{
			{id: "random-ciphertext", title: "a ciphertext that was not made for its key", server: hybridServer(randomCiphertext)},
		},
	}.check(suites.Check{
		ID: "tls/kex/implicit-rejection", Title: "a random ciphertext gives no connection",
		Covers: []string{"tls/kex/implicit-rejection"}, Needs: []features.Feature{features.TLSClientPQ},
		Kills: killsIn("tlsclient.implicit-rejection-ignored", reasonWentOn, "random-ciphertext"),
	}))

	_ = add(trapRow{
		clause: "RFC 9846 sections 6 and 4.3.8",
		cases: []trapCase{{id: "x25519-hybrid-size", title: "X25519 with a share of 1,120 bytes", accept: []string{illegalParameter},
			server: x25519Server(func(_ wire.Group, b []byte) []byte { return append(make([]byte, kemCiphertext), b...) })}},
	}.check(suites.Check{
		ID: "tls/kex/share-matches-group-by-client", Title: "a client refuses a classical group with a hybrid's share",
		Covers: []string{"tls/kex/share-matches-group"},
		Kills:  killsIn("tlsclient.share-group-unchecked", reasonWentOn, "x25519-hybrid-size"),
	}))

	_ = add(clientShareLayout())
)

// Reasons of clientShareLayout.
const (
	reasonBadShare    = "malformed-share"
	reasonNoHybrid    = "no-hybrid-share"
	reasonRetryFailed = "not-completed"
)

// clientShareLayout looks at the shares that a client sends, at once and when it is asked for another group.
func clientShareLayout() suites.Check {
	retries := map[string]wire.Group{
		"retry-secp256r1mlkem768": wire.SecP256r1MLKEM768, "retry-secp384r1mlkem1024": wire.SecP384r1MLKEM1024, "retry-mlkem1024": wire.MLKEM1024,
	}
	return suites.Check{
		ID: "tls/kex/client-share-layout", Title: "a client's shares have the size, order and values of their group",
		Covers: []string{"tls/kex/client-share-layout"}, Needs: []features.Feature{features.TLSClient, features.TLSClientPQ},
		Cases: []suites.Case{
			{ID: "first-hello", Title: "X25519MLKEM768 in the first hello"},
			{ID: "retry-secp256r1mlkem768", Title: "SecP256r1MLKEM768 when it is asked for", Needs: []features.Feature{features.TLSLab}},
			{ID: "retry-secp384r1mlkem1024", Title: "SecP384r1MLKEM1024 when it is asked for", Needs: []features.Feature{features.TLSLab}},
			{ID: "retry-mlkem1024", Title: "MLKEM1024 when it is asked for", Needs: []features.Feature{features.TLSLab}},
		},
		Cost: suites.Cost{Time: 100 * time.Millisecond}, Explain: explainClient,
		Reasons: []string{reasonNoDial, reasonBadShare, reasonNoHybrid, reasonRetryFailed},
		Drive: func(ctx context.Context, env *scenarios.Env) error {
			k := trapCase{server: wire.Server{Echo: true}}
			if g := retries[env.Key.Case]; g != 0 {
				k.server.Retry, k.server.Groups = &wire.RetryPlan{Group: g}, []wire.Group{g}
				k.dial.Groups = []string{"X25519MLKEM768", g.String()}
			}
			return springTrap(ctx, env, k)
		},
		Judge: func(t suites.Trace) suites.Finding { return judgeClientShares(t, retries[t.Key.Case]) },
		Kills: kills(
			killsIn("tlsclient.share-swapped", reasonBadShare, "first-hello"),
			killsIn("tlsclient.share-padded", reasonBadShare, "first-hello"),
			killsIn("tlsclient.share-coefficient", reasonBadShare, "first-hello"),
		),
	}
}

func judgeClientShares(t suites.Trace, retry wire.Group) suites.Finding {
	want := "shares of the right length, with coefficients below 3,329 and points on their curve (draft-ietf-tls-ecdhe-mlkem, Client share)"
	heard, err := prober.Heards(t.Evidence)
	if err != nil {
		return suites.Failing(reasonNoDial, want, err.Error(), nil)
	}
	hs := heard["trap"]
	cites := citesOf(hs)
	best, said := furthest(hs)
	if !said {
		return suites.Failing(reasonNoDial, want, describeHeard(hs), cites)
	}
	asked, shares := wire.X25519MLKEM768, append([]wire.ShareSeen(nil), best.Hello.Shares...)
	if best.Second != nil {
		shares = append(shares, best.Second.Shares...)
	}
	if retry != 0 {
		asked = retry
	}
	observed, found := "", false
	for _, s := range shares {
		if s.Fault != "" {
			return suites.Failing(reasonBadShare, want, fmt.Sprintf("the share of %s, %d bytes, is malformed: %s", s.Group, s.Bytes, s.Fault), cites)
		}
		found = found || s.Group == asked
		observed += fmt.Sprintf("%s %d bytes, ", s.Group, s.Bytes)
	}
	observed += describeOne(best)
	switch {
	case !found && retry == 0 && slices.Contains(best.Hello.Groups, asked): // no share is demanded of a group that is offered
		return suites.Finding{
			Status: results.Inconclusive, Reason: reasonNoHybrid, Expected: "a share of " + asked.String(), Observed: observed, Cites: cites,
		}
	case !found:
		return suites.Failing(reasonNoHybrid, "a share of "+asked.String(), observed, cites)
	case !best.FinishedValid:
		return suites.Failing(reasonRetryFailed, "the handshake completes with "+asked.String(), observed, cites)
	}
	return suites.Passing(want, observed, cites)
}

// failClosed: a client that demands post-quantum groups never talks to a server that has none.
var _ = add(suites.Check{
	ID: "tls/kex/fail-closed-by-client", Title: "require-pq never connects to a classical server",
	Covers: []string{"tls/kex/fail-closed"}, Needs: []features.Feature{features.TLSClient, features.TLSLab},
	Control: clientControl(""), Cost: suites.Cost{Time: 100 * time.Millisecond}, Explain: explainClient,
	Reasons: []string{reasonWentOn, reasonNoDial, reasonSaidConnected},
	Drive: func(ctx context.Context, env *scenarios.Env) error {
		return springTrap(ctx, env, trapCase{
			server: wire.Server{Groups: []wire.Group{wire.X25519}, Echo: true},
			dial:   prober.DialRequest{Policy: "require-pq", Groups: groupsOfDial()},
		})
	},
	Judge: judgeClosed,
	Kills: killsIn("pool.policy-ignored", reasonWentOn, ""),
})

const reasonSaidConnected = "said-connected" // the client reports a connection that there was not

// judgeClosed demands that the server saw no byte of application data and that the client says so too.
func judgeClosed(t suites.Trace) suites.Finding {
	const want = "no byte of application data reaches a server without a post-quantum group, and the dial fails"
	heard, err := prober.Heards(t.Evidence)
	if err != nil {
		return suites.Failing(reasonNoDial, want, err.Error(), nil)
	}
	dials, err := prober.Dials(t.Evidence)
	if err != nil || len(dials) == 0 {
		return suites.Failing(reasonNoDial, want, fmt.Sprintf("%d dials (%v)", len(dials), err), nil)
	}
	hs, d := heard["trap"], dials[len(dials)-1]
	cites := append(citesOf(hs), d.Cites...)
	observed := fmt.Sprintf("%s; the client says connected %v, error %q", describeHeard(hs), d.Answer.Connected, d.Answer.Error.Code)
	switch _, said := furthest(hs); {
	case !said:
		return suites.Failing(reasonNoDial, want, observed, cites)
	case anyApp(hs):
		return suites.Failing(reasonWentOn, want, observed, cites)
	case d.Answer.Connected || d.Answer.Error.Code == "":
		return suites.Failing(reasonSaidConnected, want, observed, cites)
	}
	return suites.Passing(want, observed, cites)
}

func anyApp(hs []prober.SeenHeard) bool {
	for _, h := range hs {
		if len(h.Heard.App) > 0 {
			return true
		}
	}
	return false
}
