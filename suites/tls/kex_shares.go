package tls

import (
	"fmt"
	"slices"
	"strings"

	"github.com/assay-bench/assay/fixtures/features"
	wire "github.com/assay-bench/assay/scenarios/wire/tls"
	"github.com/assay-bench/assay/suites"
)

// The clauses that the checks on malformed shares cite.
const (
	clauseClientShare  = "draft-ietf-tls-ecdhe-mlkem, Client share"
	clausePureShare    = "draft-ietf-tls-mlkem, client share; FIPS 203 section 7.2"
	clauseSharedSecret = "draft-ietf-tls-ecdhe-mlkem, Shared secret; RFC 9846 section 7.4.2"
	clausePoint        = "draft-ietf-tls-ecdhe-mlkem, Client share; RFC 9846 section 4.3.8.2"
)

// firstInvalid is q of ML-KEM: coefficients are below it. lastValue is the largest that 12 bits hold.
const (
	firstInvalid = 3329
	lastValue    = 4095
)

// shareCase is a malformed share of a group that must be refused by illegal_parameter.
func shareCase(g pqGroup, name, title, clause string, f func([]byte) []byte) serverCase {
	return serverCase{
		id: g.id + "-" + name, title: g.group.String() + ", " + title, needs: []features.Feature{g.feature},
		group: g.group, client: bent(g.group, f), due: refuse(clause, "illegal_parameter"),
	}
}

// keyCases are the malformed encapsulation keys of a group.
func keyCases(g pqGroup) []serverCase {
	ecdhLen, kemLen, _ := g.group.Parts()
	clause := clauseClientShare + "; FIPS 203 section 7.2"
	if ecdhLen == 0 {
		clause = clausePureShare
	}
	of := func(name, title string, f func([]byte) []byte) serverCase {
		return shareCase(g, name, title, clause, f)
	}
	out := []serverCase{
		of("truncated", "a share that is one byte short", truncated),
		of("padded", "a share with one byte too many", padded),
	}
	if g.group == wire.X25519MLKEM768 {
		out = append(out, of("one-byte", "a share of one byte", firstByte))
	}
	if ecdhLen > 0 {
		out = append(out,
			of("kem-part-only", fmt.Sprintf("the ML-KEM part alone (%d bytes)", kemLen), kemPart(g.group)),
			of("ecdh-part-only", fmt.Sprintf("the ECDH part alone (%d bytes)", ecdhLen), ecdhPart(g.group)))
	}
	last := (kemLen-32)*2/3 - 1
	for _, i := range []int{0, last / 2, last} {
		for _, v := range []uint16{firstInvalid, lastValue} {
			if v == lastValue && g.group != wire.X25519MLKEM768 && i != last {
				continue // the whole matrix once, its edges for the other groups
			}
			out = append(out, of(fmt.Sprintf("coefficient-%d-%d", i, v), fmt.Sprintf("coefficient %d is %d", i, v), coefficient(g.group, i, v)))
		}
	}
	return out
}

func encapsulationKeyCases() (out []serverCase) {
	for _, g := range pqGroups() {
		out = append(out, keyCases(g)...)
	}
	return out
}

var _ = add(serverCases{cases: encapsulationKeyCases()}.check(suites.Check{
	ID:    "tls/kex/encapsulation-key-checked",
	Title: "a share of the wrong length, or with a coefficient that ML-KEM does not have, is refused",
	Kills: kills(
		killsIn("tls.share-length-unchecked", reasonAccepted, "x25519mlkem768-truncated", "x25519mlkem768-padded",
			"x25519mlkem768-one-byte", "x25519mlkem768-kem-part-only", "x25519mlkem768-ecdh-part-only", "secp256r1mlkem768-truncated",
			"secp256r1mlkem768-padded", "secp384r1mlkem1024-truncated", "secp384r1mlkem1024-padded"),
		killsIn("tls.kem-key-unchecked", reasonAccepted, coefficientCases("x25519mlkem768", "secp256r1mlkem768", "secp384r1mlkem1024")...),
		killsIn("tls.share-wrong-alert", reasonWrongAlert, "x25519mlkem768-truncated", "x25519mlkem768-coefficient-0-3329",
			"secp256r1mlkem768-kem-part-only", "secp384r1mlkem1024-kem-part-only"),
		killsIn("tls.share-closes", reasonNoAlert, "x25519mlkem768-padded", "secp256r1mlkem768-ecdh-part-only", "secp384r1mlkem1024-ecdh-part-only"),
		killsIn("tls.share-hangs", reasonSilent, "x25519mlkem768-padded", "secp256r1mlkem768-truncated"),
	),
}))

// coefficientCases names the cases on coefficients of groups.
func coefficientCases(groups ...string) (out []string) {
	for _, k := range encapsulationKeyCases() {
		for _, g := range groups {
			if strings.HasPrefix(k.id, g+"-coefficient-") {
				out = append(out, k.id)
			}
		}
	}
	return out
}

// pointCases are the invalid ECDH parts.
func pointCases() (out []serverCase) {
	for _, g := range hybrids() {
		out = append(out, shareCase(g, "parts-swapped", "its parts in the wrong order", clausePoint, swapped(g.group)))
		if g.group == wire.X25519MLKEM768 {
			continue // every 32 bytes are a point of X25519
		}
		out = append(out,
			shareCase(g, "prefix-02", "a point marked as compressed at its full length", clausePoint, replacingECDH(g.group, compressedPrefix)),
			shareCase(g, "off-curve", "a point off the curve", clausePoint, replacingECDH(g.group, offCurve)))
	}
	return out
}

var _ = add(serverCases{cases: pointCases()}.check(suites.Check{
	ID: "tls/kex/classical-part-valid", Title: "the ECDH part of a hybrid share is validated",
	Kills: killsIn("tls.point-unchecked", reasonAccepted, "secp256r1mlkem768-prefix-02", "secp256r1mlkem768-off-curve"),
}))

// zeroCases make the X25519 result all zero, in the hybrid and alone.
func zeroCases() (out []serverCase) {
	points := []struct {
		name, title string
		f           func([]byte) []byte
	}{{"zero", "the zero point", zeroPoint}, {"order-8", "a point of order 8", lowOrder}}
	hybrid := pqGroups()[0]
	for _, p := range points {
		k := shareCase(hybrid, p.name, p.title, clauseSharedSecret, replacingECDH(hybrid.group, p.f))
		out = append(out, k)
	}
	for _, p := range points {
		out = append(out, serverCase{
			id: "x25519-" + p.name, title: "X25519, " + p.title, needs: []features.Feature{features.TLSX25519}, lacking: wire.X25519,
			client: bent(wire.X25519, p.f), due: refuse("RFC 9846 section 7.4.2", "illegal_parameter"),
		})
	}
	return out
}

var _ = add(serverCases{cases: zeroCases()}.check(suites.Check{
	ID: "tls/kex/zero-secret-refused", Title: "an X25519 result of all zeros ends the handshake",
	Kills: killsIn("tls.zero-secret-accepted", reasonAccepted, "x25519mlkem768-zero", "x25519mlkem768-order-8"),
}))

const clauseShareFits = "RFC 9846 sections 6 and 4.3.8"

var _ = add(serverCases{cases: []serverCase{
	{
		id: "x25519", title: "X25519 with a share of 1,216 bytes", lacking: wire.X25519,
		client: bent(wire.X25519, stretched(wire.X25519MLKEM768.ClientShare())), due: refuse(clauseShareFits, "illegal_parameter"),
	},
	{
		id: "p256", title: "P-256 with a share of 1,249 bytes", lacking: wire.P256,
		client: bent(wire.P256, stretched(wire.SecP256r1MLKEM768.ClientShare())), due: refuse(clauseShareFits, "illegal_parameter"),
	},
}}.check(suites.Check{
	ID: "tls/kex/share-matches-group", Title: "a classical group with a share of a hybrid's size is refused",
	Kills: killsIn("tls.classical-share-length-unchecked", reasonAccepted, "x25519"),
}))

// emptyShareCases are shares whose key_exchange has no bytes.
func emptyShareCases() (out []serverCase) {
	const clause = "RFC 9846 section 6, on key_exchange of section 4.3.8"
	for _, g := range pqGroups() {
		k := shareCase(g, "empty", "a share without bytes", clause, emptied)
		k.due = refuse(clause, "decode_error")
		out = append(out, k)
	}
	return slices.Concat(out, []serverCase{{
		id: "x25519-empty", title: "X25519, a share without bytes", lacking: wire.X25519, client: bent(wire.X25519, emptied),
		due: refuse(clause, "decode_error"),
	}})
}

var _ = add(serverCases{cases: emptyShareCases()}.check(suites.Check{
	ID: "tls/hello/share-data-nonempty", Title: "a key_exchange of zero bytes is a syntax error",
	Kills: killsIn("tls.empty-share-wrong-alert", reasonWrongAlert, "x25519mlkem768-empty"),
}))
