package tls

import (
	"slices"

	"github.com/assay-bench/assay/fixtures/features"
	wire "github.com/assay-bench/assay/scenarios/wire/tls"
	"github.com/assay-bench/assay/suites"
)

// bentCase is an ordinary hello with one bend that must be refused.
func bentCase(id, title, clause string, bend func(*wire.Hello), alerts ...string) serverCase {
	return serverCase{
		id: id, title: title, client: wire.Client{StopAtHello: true, Bend: bend}, due: refuse(clause, alerts...),
	}
}

var _ = add(serverCases{cases: []serverCase{
	bentCase("absent", "supported_groups without key_share", "RFC 9846 section 9.2", removing(extKeyShare), "missing_extension"),
}}.check(suites.Check{
	ID: "tls/hello/key-share-present", Title: "supported_groups without key_share is refused",
	Kills: killsIn("tls.no-key-share-retried", reasonAccepted, "absent"),
}))

var _ = add(serverCases{cases: []serverCase{
	bentCase("absent", "key_share without supported_groups", "RFC 9846 section 9.2", removing(extGroups), "missing_extension"),
}}.check(suites.Check{
	ID: "tls/hello/groups-present", Title: "key_share without supported_groups is refused",
	Kills: killsIn("tls.no-groups-accepted", reasonAccepted, "absent"),
}))

var _ = add(serverCases{cases: []serverCase{
	bentCase("absent", "neither signature_algorithms nor a PSK", "RFC 9846 section 9.2",
		removing(extSchemes, extSchemesCert), "missing_extension"),
}}.check(suites.Check{
	ID: "tls/hello/sigalgs-present", Title: "a hello without signature_algorithms and without a PSK is refused",
	Kills: killsIn("tls.no-sigalgs-accepted", reasonAccepted, "absent"),
}))

var _ = add(serverCases{cases: []serverCase{
	bentCase("one-byte", "one byte after the list of shares", "RFC 9846 section 4.3", trailing(1), "decode_error"),
	bentCase("four-bytes", "four bytes after the list of shares", "RFC 9846 section 4.3", trailing(4), "decode_error"),
}}.check(suites.Check{
	ID: "tls/hello/trailing-data", Title: "bytes after the list of shares are refused",
	Kills: killsIn("tls.trailing-data-ignored", reasonAccepted, "one-byte", "four-bytes"),
}))

// trailing adds bytes of zero inside the key_share extension, after its list.
func trailing(n int) func(*wire.Hello) {
	return func(h *wire.Hello) {
		if e, ok := h.Find(extKeyShare); ok {
			e.Data = append(slices.Clone(e.Data), make([]byte, n)...)
		}
	}
}

var _ = add(serverCases{cases: []serverCase{
	bentCase("key-share", "key_share twice, both alike", "RFC 9846 sections 4.3 and 6", func(h *wire.Hello) {
		if e, ok := h.Find(extKeyShare); ok {
			h.Add(wire.Extension{Type: extKeyShare, Data: slices.Clone(e.Data)})
		}
	}, "illegal_parameter", "decode_error"),
}}.check(suites.Check{
	ID: "tls/hello/duplicate-extension", Title: "an extension that stands twice is refused",
	Kills: killsIn("tls.duplicate-extension-ignored", reasonAccepted, "key-share"),
}))

// clauseShareList is why both outcomes conform: the client must not, and the server may check.
const clauseShareList = "RFC 9846 section 4.3.8: a server MAY check"

var _ = add(serverCases{cases: []serverCase{
	{
		id: "duplicate", title: "two shares of one group",
		client: wire.Client{Bend: editingShares(func(s []wire.KeyShare) []wire.KeyShare { return append(s, s[0]) })},
		due:    either(clauseShareList),
	},
	{
		id: "unlisted", title: "a share of a group that supported_groups does not list",
		client: wire.Client{
			Offer: wire.Offer{Groups: []wire.Group{wire.X25519}, Shares: []wire.Group{wire.X25519}},
			Bend: editingShares(func(s []wire.KeyShare) []wire.KeyShare {
				return append(s, wire.KeyShare{Group: wire.P256, Data: basePoint()})
			}),
		},
		due: either(clauseShareList),
	},
	{
		id: "out-of-order", title: "shares in another order than supported_groups", needs: []features.Feature{features.TLSX25519},
		client: wire.Client{Offer: wire.Offer{
			Groups: []wire.Group{wire.X25519MLKEM768, wire.X25519}, Shares: []wire.Group{wire.X25519, wire.X25519MLKEM768},
		}},
		due: either(clauseShareList),
	},
}}.check(suites.Check{
	ID: "tls/hello/share-list-rules", Title: "duplicate, unlisted or unordered shares are served or refused",
	Kills: killsIn("tls.share-list-hangs", reasonSilent, "duplicate", "unlisted", "out-of-order"),
}))

// editingShares is a bend of the list of shares.
func editingShares(f func([]wire.KeyShare) []wire.KeyShare) func(*wire.Hello) {
	return func(h *wire.Hello) {
		if shares, err := h.Shares(); err == nil && len(shares) > 0 {
			h.SetShares(f(shares))
		}
	}
}
