package tls

import (
	"context"
	"slices"
	"time"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/scenarios"
	drive "github.com/assay-bench/assay/scenarios/tls"
	wire "github.com/assay-bench/assay/scenarios/wire/tls"
	"github.com/assay-bench/assay/suites"
)

const clauseUnknown = "RFC 9846 section 9.3"

// grease is one of the values that RFC 8701 reserves for no group at all.
const grease wire.Group = 0x2a2a

// unknownCases list groups that nobody may negotiate, beside the classical ones and alone.
func unknownCases() (out []serverCase) {
	for _, u := range []struct {
		name, title string
		group       wire.Group
	}{
		{"grease", "a GREASE group", grease},
		{"kyber768-draft", "the obsolete group 0x6399", wire.Kyber768Draft},
		{"kyberp256-draft", "the obsolete group 0x639A", wire.KyberP256Draft},
	} {
		all := append([]wire.Group{u.group}, classicalGroups()...)
		beside := begin(clauseUnknown, 0)
		beside.also = classicalGroup
		out = append(out,
			serverCase{
				id: u.name + "-beside", title: u.title + " before X25519, P-256 and P-384, with shares of all",
				client: wire.Client{Offer: wire.Offer{Groups: all, Shares: all}, StopAtHello: true}, due: beside,
			},
			serverCase{
				id: u.name + "-alone", title: u.title + " alone", client: wire.Client{Offer: alone(u.group), StopAtHello: true},
				due: refuse(clauseUnknown+", section 4.2.1", noCommonGroup()...),
			})
	}
	return out
}

// classicalGroup demands one of the groups that were offered and can be known.
func classicalGroup(o wire.Outcome) (string, string) {
	const want = "one of X25519, P-256 and P-384 chosen"
	if o.Server == nil || !slices.Contains(classicalGroups(), o.Server.Group) {
		return reasonWrongGroup, want
	}
	return "", want
}

var _ = add(serverCases{cases: unknownCases()}.check(suites.Check{
	ID: "tls/kex/unknown-group-ignored", Title: "unknown groups, the obsolete Kyber drafts among them, are skipped",
	Kills: kills(
		killsIn("tls.unknown-group-fatal", reasonRefused, "grease-beside", "kyber768-draft-beside", "kyberp256-draft-beside"),
		killsIn("tls.kyber-draft-selected", reasonWrongGroup, "kyber768-draft-beside"),
		killsIn("tls.kyber-draft-selected", reasonAccepted, "kyber768-draft-alone"),
		killsIn("tls.fallback-unoffered", reasonAccepted, "grease-alone", "kyberp256-draft-alone"),
	),
}))

// failClosedCases are hellos without a group that a classical server has.
func failClosedCases() []serverCase {
	all := wire.Offer{Shares: []wire.Group{wire.X25519MLKEM768}}
	for _, g := range pqGroups() {
		all.Groups = append(all.Groups, g.group)
	}
	of := func(id, title string, o wire.Offer) serverCase {
		return serverCase{
			id: id, title: title, client: wire.Client{Offer: o, StopAtHello: true},
			due: refuse("RFC 9846 section 4.2.1", noCommonGroup()...),
		}
	}
	return []serverCase{
		of("x25519mlkem768", "X25519MLKEM768 alone", alone(wire.X25519MLKEM768)),
		of("secp256r1mlkem768", "SecP256r1MLKEM768 alone", alone(wire.SecP256r1MLKEM768)),
		of("all-post-quantum", "every post-quantum group", all),
	}
}

var _ = add(serverCases{endpoint: endpointClassical, cases: failClosedCases()}.check(suites.Check{
	ID: "tls/kex/fail-closed", Title: "a client without classical groups never connects to a server without others",
	Needs: []features.Feature{features.TLSClassical},
	Kills: killsIn("tls.fallback-unoffered", reasonAccepted, "x25519mlkem768", "secp256r1mlkem768", "all-post-quantum"),
}))

const reasonClassical = "classical-preferred" // post-quantum protection was lost by the server's policy

var _ = add(suites.Check{
	ID: "tls/kex/hybrid-preferred", Title: "a server that is shared only X25519 asks for the hybrid that both support",
	Covers: []string{"tls/kex/hybrid-preferred"}, Needs: []features.Feature{features.TLSServer, features.TLSX25519},
	Control: completing(endpoint, fixedOffer(alone(wire.X25519MLKEM768))),
	Cost:    suites.Cost{Time: 100 * time.Millisecond}, Explain: explain,
	Reasons: reasonsOf(serviceReasons(), []string{reasonClassical}),
	Drive: func(ctx context.Context, env *scenarios.Env) error {
		_, err := drive.Probe(ctx, env, endpoint, "probe", wire.Client{
			Offer:       wire.Offer{Groups: []wire.Group{wire.X25519MLKEM768, wire.X25519}, Shares: []wire.Group{wire.X25519}},
			StopAtHello: true, Wait: answerWait(env.Claims),
		})
		return err
	},
	Judge: judgePreferred,
	Kills: []suites.Kill{{Defect: "tls.classical-preferred", Reason: reasonClassical}},
})

func judgePreferred(t suites.Trace) suites.Finding {
	const want = "a HelloRetryRequest for X25519MLKEM768: assay TLS rules"
	h, ok := seen(t, "probe")
	if !ok {
		return missing(want, "probe")
	}
	o := h.Outcome
	reason := served(o, 0)
	switch {
	case o.Retry != nil && o.Retry.Group == wire.X25519MLKEM768:
		reason = ""
	case o.Retry != nil:
		reason = reasonWrongGroup
	case o.Server != nil && o.Server.Group == wire.X25519:
		reason = reasonClassical
	case reason == "":
		reason = reasonGarbled
	}
	return judged(t, reason, want, describe(o), h.Cites)
}

var sharedECDH = wire.Offer{
	Groups:   []wire.Group{wire.X25519MLKEM768, wire.X25519},
	Shares:   []wire.Group{wire.X25519MLKEM768, wire.X25519},
	SameECDH: true,
}

var _ = add(serverCases{cases: []serverCase{{
	id: "x25519mlkem768", title: "X25519MLKEM768 and X25519", needs: []features.Feature{features.TLSX25519},
	group: wire.X25519MLKEM768, client: wire.Client{Offer: sharedECDH},
	due: either("draft-ietf-tls-hybrid-design section 3.2"),
}}}.check(suites.Check{
	ID: "tls/kex/shared-ecdh-reuse", Title: "the hybrid's ECDH share may be the classical share's too",
	Kills: killsIn("tls.shared-ecdh-hangs", reasonSilent, "x25519mlkem768"),
}))

// legacy is a hello of TLS 1.2 alone.
func legacy(groups ...wire.Group) wire.Client {
	return wire.Client{
		Offer: wire.Offer{Versions: []uint16{version12}, Groups: groups, Shares: []wire.Group{}},
		Bend:  removing(extKeyShare),
	}
}

const clauseNotLegacy = "draft-ietf-tls-ecdhe-mlkem: the groups are for TLS 1.3 alone"

var _ = add(serverCases{cases: []serverCase{
	{
		id: "alone", title: "TLS 1.2 with X25519MLKEM768 alone", needs: []features.Feature{features.TLSX25519},
		group: wire.X25519MLKEM768, client: legacy(wire.X25519MLKEM768),
		due: refuse(clauseNotLegacy), // which names no alert
	},
	{
		id: "beside-x25519", title: "TLS 1.2 with X25519MLKEM768 before X25519, P-256 and P-384", needs: []features.Feature{features.TLSX25519, features.TLSTLS12},
		group: wire.X25519MLKEM768,
		// The groups of TLS 1.2 limit the curve of the certificate too (RFC 8422 section 5.1): all are named.
		client: legacy(append([]wire.Group{wire.X25519MLKEM768}, classicalGroups()...)...),
		due:    due{either: true, clause: clauseNotLegacy, also: legacyGroup},
	},
}, extra: []string{reasonWrongGroup}}.check(suites.Check{
	ID: "tls/kex/not-in-tls12", Title: "a group of TLS 1.3 is not chosen in TLS 1.2",
	Kills: kills(
		killsIn("tls.tls12-hybrid", reasonAccepted, "alone"),
		killsIn("tls.tls12-hybrid", reasonWrongGroup, "beside-x25519"),
	),
}))

// legacyGroup demands a group of the ServerKeyExchange, which names none where the key exchange is static.
func legacyGroup(o wire.Outcome) (string, string) {
	const want = "no group but X25519, P-256 and P-384 in ServerKeyExchange"
	if o.Legacy != nil && o.Legacy.Group != 0 && !slices.Contains(classicalGroups(), o.Legacy.Group) {
		return reasonWrongGroup, want
	}
	return "", want
}
