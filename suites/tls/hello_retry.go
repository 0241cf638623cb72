package tls

import (
	"github.com/assay-bench/assay/fixtures/features"
	wire "github.com/assay-bench/assay/scenarios/wire/tls"
	"github.com/assay-bench/assay/suites"
)

// unshared offers groups and an empty list of shares.
func unshared(groups ...wire.Group) wire.Offer {
	return wire.Offer{Groups: groups, Shares: []wire.Group{}}
}

// retriedTo demands that a HelloRetryRequest named one of the offered groups before the service.
func retriedTo(groups ...wire.Group) func(wire.Outcome) (string, string) {
	return func(o wire.Outcome) (string, string) {
		want := "a HelloRetryRequest before it, for a group that was offered"
		if o.Retry == nil {
			return reasonNotRetried, want
		}
		for _, g := range groups {
			if o.Retry.Group == g && o.Server != nil && o.Server.Group == g {
				return "", want
			}
		}
		return reasonWrongGroup, want
	}
}

const clauseEmptyShares = "RFC 9846 sections 4.3.8 and 4.2.4"

var _ = add(serverCases{cases: []serverCase{
	{
		id: "hybrid", title: "X25519MLKEM768 without a share", needs: []features.Feature{features.TLSX25519}, group: wire.X25519MLKEM768,
		client: wire.Client{Offer: unshared(wire.X25519MLKEM768)}, app: true,
		due: due{serve: true, clause: clauseEmptyShares, also: retriedTo(wire.X25519MLKEM768)},
	},
	{
		id: "classical", title: "X25519, P-256 and P-384 without a share",
		client: wire.Client{Offer: unshared(classicalGroups()...)}, app: true,
		due: due{serve: true, clause: clauseEmptyShares, also: retriedTo(classicalGroups()...)},
	},
}, extra: []string{reasonNotRetried}}.check(suites.Check{
	ID: "tls/hello/empty-shares-retry", Title: "an empty list of shares gets a HelloRetryRequest, and the second hello is served",
	Kills: killsIn("tls.empty-shares-fatal", reasonRefused, "hybrid", "classical"),
}))

// clauseSecond: the sections bind the client; of the server they demand no check.
const clauseSecond = "assay TLS rules, on RFC 9846 sections 4.2.2 and 4.3.8"

// secondCase is a malformed hello after a HelloRetryRequest.
func secondCase(id, title string, second func(*wire.Hello), alerts ...string) serverCase {
	d := refuse(clauseSecond, alerts...)
	d.retried = true
	return serverCase{
		id: id, title: title, due: d,
		client: wire.Client{Offer: unshared(classicalGroups()...), Second: second},
	}
}

// otherShare is a well-formed share of the offered group that was not asked for.
func otherShare(asked wire.Group) wire.KeyShare {
	if asked == wire.P256 {
		point := make([]byte, 32)
		point[0] = 9 // the base point of X25519, RFC 7748 section 4.1
		return wire.KeyShare{Group: wire.X25519, Data: point}
	}
	return wire.KeyShare{Group: wire.P256, Data: basePoint()}
}

var _ = add(serverCases{cases: []serverCase{
	secondCase("none", "a second hello without a share", func(h *wire.Hello) { h.SetShares(nil) },
		"illegal_parameter", "unexpected_message"),
	secondCase("other-group", "a second hello with another group's share",
		editingShares(func(s []wire.KeyShare) []wire.KeyShare { return []wire.KeyShare{otherShare(s[0].Group)} }), "illegal_parameter"),
	secondCase("two", "a second hello with two shares, the asked one first",
		editingShares(func(s []wire.KeyShare) []wire.KeyShare { return []wire.KeyShare{s[0], otherShare(s[0].Group)} }), "illegal_parameter"),
}}.check(suites.Check{
	ID: "tls/hello/second-share-exact", Title: "the hello after a retry must hold one share, of the group that was asked for",
	Kills: killsIn("tls.second-share-unchecked", reasonAccepted, "none", "other-group", "two"),
}))
