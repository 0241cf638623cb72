package tls

import (
	"slices"
	"time"

	"github.com/assay-bench/assay/fixtures/features"
	wire "github.com/assay-bench/assay/scenarios/wire/tls"
	"github.com/assay-bench/assay/suites"
)

const reasonOddVersion = "odd-version" // a record of the server carries another version than 0x0303

// recordsOfTLS12 demands 0x0303 in the header of every record of the server.
func recordsOfTLS12(o wire.Outcome) (string, string) {
	const want = "0x0303 in the header of every record of the server"
	if len(o.Records) != 1 || o.Records[0] != version12 {
		return reasonOddVersion, want
	}
	return "", want
}

func recordCase(id, title string, version uint16) serverCase {
	return serverCase{
		id: id, title: title, client: wire.Client{Deliver: wire.Delivery{RecordVersion: version}}, app: true,
		due: due{serve: true, clause: "RFC 9846 section 5.1", also: recordsOfTLS12},
	}
}

var _ = add(serverCases{
	cases: []serverCase{
		recordCase("hello-0301", "the first hello in a record of version 0x0301", 0x0301),
		recordCase("hello-0303", "the first hello in a record of version 0x0303", version12),
	},
	control: func(c wire.Client) wire.Client { // 0x0301 is what the first case is about
		c.Deliver.RecordVersion = version12
		return c
	},
	extra: []string{reasonOddVersion},
}.check(suites.Check{
	ID: "tls/hello/record-version", Title: "the first hello is taken at either record version, and the server's records carry 0x0303",
	Kills: kills(
		killsIn("tls.record-version-strict", reasonRefused, "hello-0301"),
		killsIn("tls.record-version-odd", reasonOddVersion, "hello-0301", "hello-0303"),
	),
}))

// helloSize is what hellos are padded to, so that pieces come out as their cases say.
const helloSize = 1500

// fragmentCase is a hello for X25519MLKEM768 in an odd shape.
func fragmentCase(id, title string, size int, d wire.Delivery) serverCase {
	o := alone(wire.X25519MLKEM768)
	o.Size = size
	return serverCase{
		id: id, title: title, needs: []features.Feature{features.TLSX25519}, group: wire.X25519MLKEM768,
		client: wire.Client{Offer: o, Deliver: d}, due: serve("RFC 9846 section 5.1 and appendix C.3", wire.X25519MLKEM768),
	}
}

var _ = add(serverCases{cases: []serverCase{
	fragmentCase("two-segments", "two segments 200 ms apart", helloSize, wire.Delivery{Segments: helloSize/2 + 10, Pause: 200 * time.Millisecond}),
	fragmentCase("small-segments", "segments of 100 bytes 5 ms apart", helloSize, wire.Delivery{Segments: 100, Pause: 5 * time.Millisecond}),
	fragmentCase("two-records", "two records", helloSize, wire.Delivery{Records: []int{helloSize / 2}}),
	fragmentCase("one-byte-record", "a first record of one byte", helloSize, wire.Delivery{Records: []int{1}}),
	fragmentCase("many-records", "20 records of 75 bytes", helloSize, wire.Delivery{Records: slices.Repeat([]int{75}, 19)}),
	fragmentCase("12-kib", "a hello of 12,288 bytes", 12<<10, wire.Delivery{}),
}}.check(suites.Check{
	ID: "tls/hello/fragmented", Title: "a hello split over records or segments, or a long one, is accepted",
	Cost: suites.Cost{Time: 400 * time.Millisecond},
	Kills: kills(
		killsIn("tls.fragments-refused", reasonRefused, "two-records", "one-byte-record", "many-records"),
		killsIn("tls.long-hello-refused", reasonRefused, "12-kib"),
	),
}))

var _ = add(serverCases{cases: []serverCase{{
	id: "first", title: "an empty handshake record before the hello",
	client: wire.Client{Deliver: wire.Delivery{EmptyFirst: true}}, due: either("RFC 9846 section 5.1"),
}}}.check(suites.Check{
	ID: "tls/hello/zero-length-record", Title: "an empty handshake record is skipped or refused",
	Kills: killsIn("tls.empty-record-hangs", reasonSilent, "first"),
}))

const reasonNoSentinel = "no-sentinel"

var _ = add(serverCases{cases: []serverCase{{
	id: "server", title: "a hello of TLS 1.2 to a server of TLS 1.3", client: legacy(classicalGroups()...),
	due: due{serve: true, begin: true, clause: "RFC 9846 section 4.2.3", also: func(o wire.Outcome) (string, string) {
		const want = "44 4F 57 4E 47 52 44 01 at the end of its random"
		if o.Server == nil || o.Server.Sentinel != "1.2" {
			return reasonNoSentinel, want
		}
		return "", want
	}},
}}, extra: []string{reasonNoSentinel}}.check(suites.Check{
	ID: "tls/hello/downgrade-sentinel", Title: "a server of TLS 1.3 marks its ServerHello of TLS 1.2",
	Needs: []features.Feature{features.TLSTLS12},
	Kills: killsIn("tls.no-downgrade-sentinel", reasonNoSentinel, "server"),
}))
