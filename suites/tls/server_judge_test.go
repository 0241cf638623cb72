package tls

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/assay-bench/assay/results"
	drive "github.com/assay-bench/assay/scenarios/tls"
	wire "github.com/assay-bench/assay/scenarios/wire/tls"
	"github.com/assay-bench/assay/suites"
)

// item makes one piece of evidence.
func item(t testing.TB, seq uint64, from results.Source, kind results.Kind, data any) results.Evidence {
	t.Helper()
	raw, err := json.Marshal(data)
	if err != nil {
		t.Fatal(err)
	}
	return results.Evidence{Seq: seq, Source: from, Kind: kind, Data: raw}
}

func shook(t testing.TB, seq uint64, name string, o wire.Outcome) results.Evidence {
	t.Helper()
	return item(t, seq, results.FromScenario, drive.Handshaken, drive.Handshake{Name: name, Outcome: o, Wall: time.Unix(1e9, 0)})
}

// verdict judges a case of a check on hand-made evidence; named reasons must be in the check's set.
func verdict(t testing.TB, id, kase string, stall time.Duration, evidence ...results.Evidence) suites.Finding {
	t.Helper()
	c, ok := suite(t).Check(id)
	if !ok {
		t.Fatalf("no check %s", id)
	}
	f := c.Judge(suites.Trace{
		Key: results.Key{Check: id, Case: kase}, Evidence: evidence, Claims: claimed(), Stall: stall,
	})
	if f.Reason != "" && f.Reason != suites.ReasonHostNoise && !slices.Contains(c.Reasons, f.Reason) {
		t.Errorf("%s#%s: reason %q is not in the check's set %v", id, kase, f.Reason, c.Reasons)
	}
	return f
}

func alerted(name string) wire.Outcome {
	code, _ := wire.AlertNamed(name)
	return wire.Outcome{Ending: wire.Alerted, Alert: &wire.Alert{Level: 2, Code: code, Name: name}, Stage: "hello"}
}

func answeredWith(g wire.Group, ending wire.Ending) wire.Outcome {
	return wire.Outcome{Ending: ending, Server: &wire.ServerSeen{Version: 0x0304, Group: g, Share: g.ServerShare()}}
}

func done(g wire.Group) wire.Outcome {
	o := answeredWith(g, wire.Completed)
	o.Flight = &wire.FlightSeen{FinishedValid: true, SignatureValid: true}
	return o
}

// legacyWith is a first flight of TLS 1.2 whose ServerKeyExchange names a group.
func legacyWith(g wire.Group, ending wire.Ending) wire.Outcome {
	return wire.Outcome{
		Ending: ending, Alert: alerted("internal_error").Alert,
		Server: &wire.ServerSeen{Version: version12}, Legacy: &wire.LegacySeen{Group: g},
	}
}

func changed(o wire.Outcome, f func(*wire.Outcome)) wire.Outcome {
	f(&o)
	return o
}

// judgeRow is an outcome of the handshake "probe" and what is said of it.
type judgeRow struct {
	name, check, kase string
	outcome           wire.Outcome
	reason            string // empty: pass
}

func frameRows() []judgeRow {
	const refused, beside = "tls/kex/encapsulation-key-checked", "tls/kex/unknown-group-ignored"
	const cut, may, second = "x25519mlkem768-truncated", "tls/hello/share-list-rules", "tls/hello/second-share-exact"
	hybrid := wire.X25519MLKEM768
	retried := func(o wire.Outcome) wire.Outcome {
		o.Retry = &wire.RetrySeen{Group: wire.X25519}
		return o
	}
	return []judgeRow{
		{"the named alert", refused, cut, alerted("illegal_parameter"), ""},
		{"another alert", refused, cut, alerted("decode_error"), reasonWrongAlert},
		{"an alert that can not be read", refused, cut, wire.Outcome{Ending: wire.Alerted, Alert: &wire.Alert{Encrypted: true, Unread: true}}, reasonWrongAlert},
		{"a ServerHello", refused, cut, answeredWith(hybrid, wire.Answered), reasonAccepted},
		{"a ServerHello, then an alert", refused, cut, changed(alerted("illegal_parameter"), func(o *wire.Outcome) { o.Server = &wire.ServerSeen{Group: hybrid} }), reasonAccepted},
		{"a retry", refused, cut, wire.Outcome{Ending: wire.Retried, Retry: &wire.RetrySeen{Group: hybrid}}, reasonAccepted},
		{"a close", refused, cut, wire.Outcome{Ending: wire.EOF}, reasonNoAlert},
		{"a close_notify", refused, cut, wire.Outcome{Ending: wire.EOF, Alert: &wire.Alert{Name: "close_notify"}}, reasonNoAlert},
		{"a reset", refused, cut, wire.Outcome{Ending: wire.Reset}, reasonNoAlert},
		{"no connection", refused, cut, wire.Outcome{Ending: wire.Refused}, reasonNoAlert},
		{"silence", refused, cut, wire.Outcome{Ending: wire.Silent}, reasonSilent},
		{"garbage", refused, cut, wire.Outcome{Ending: wire.Garbled}, reasonGarbled},

		{"X25519 is served", beside, "grease-beside", answeredWith(wire.X25519, wire.Answered), ""},
		{"another group is served", beside, "grease-beside", answeredWith(wire.Kyber768Draft, wire.Answered), reasonWrongGroup},
		{"it is refused", beside, "grease-beside", alerted("illegal_parameter"), reasonRefused},
		{"it is closed", beside, "grease-beside", wire.Outcome{Ending: wire.EOF}, reasonRefused},
		{"silence where service is due", beside, "grease-beside", wire.Outcome{Ending: wire.Silent}, reasonSilent},
		{"one of two alerts", beside, "grease-alone", alerted("insufficient_security"), ""},
		{"neither of two alerts", beside, "grease-alone", alerted("illegal_parameter"), reasonWrongAlert},

		{"served where both conform", may, "duplicate", done(hybrid), ""},
		{"begun where both conform", may, "duplicate", answeredWith(hybrid, wire.Answered), ""},
		{"refused where both conform", may, "duplicate", alerted("illegal_parameter"), ""},
		{"silent where both conform", may, "duplicate", wire.Outcome{Ending: wire.Silent}, reasonSilent},
		{"closed where both conform", may, "duplicate", wire.Outcome{Ending: wire.EOF}, ""},
		{"corrupt where both conform", may, "duplicate", answeredWith(hybrid, wire.WrongFinished), reasonFlight},
		{"garbled where both conform", may, "duplicate", wire.Outcome{Ending: wire.Garbled}, reasonGarbled},

		{"no retry first", second, "two", alerted("illegal_parameter"), reasonNotRetried},
		{"a retry, then the alert", second, "two", retried(alerted("illegal_parameter")), ""},
		{"a retry, then service", second, "two", retried(done(wire.X25519)), reasonAccepted},
		{"a retry, then a retry", second, "none", retried(wire.Outcome{Ending: wire.Retried}), reasonAccepted},

		{"a whole handshake is due", "tls/hello/fragmented", "12-kib", answeredWith(hybrid, wire.Answered), reasonGarbled},
		{"no retry, but service", "tls/hello/empty-shares-retry", "hybrid", done(hybrid), reasonNotRetried},
		{"a retry for another group", "tls/hello/empty-shares-retry", "hybrid", retried(done(hybrid)), reasonWrongGroup},
		{"TLS 1.2 with a classical group", "tls/kex/not-in-tls12", "beside-x25519", legacyWith(wire.P256, wire.Answered), ""},
		{"TLS 1.2 with the hybrid", "tls/kex/not-in-tls12", "beside-x25519", legacyWith(hybrid, wire.Answered), reasonWrongGroup},
		{"TLS 1.2 with the hybrid, then an alert", "tls/kex/not-in-tls12", "beside-x25519", legacyWith(hybrid, wire.Alerted), reasonWrongGroup},
		{"TLS 1.2 refused", "tls/kex/not-in-tls12", "beside-x25519", alerted("handshake_failure"), ""},
		{"odd records", "tls/hello/record-version", "hello-0301", changed(done(wire.X25519), func(o *wire.Outcome) { o.Records = []uint16{0x0303, 0x0304} }), reasonOddVersion},
		{"good records", "tls/hello/record-version", "hello-0301", changed(done(wire.X25519), func(o *wire.Outcome) { o.Records = []uint16{0x0303} }), ""},
		{"TLS 1.2 without the mark", "tls/hello/downgrade-sentinel", "server", wire.Outcome{Ending: wire.Answered, Server: &wire.ServerSeen{Version: 0x0303}, Legacy: &wire.LegacySeen{}}, reasonNoSentinel},
		{"TLS 1.2 with the mark of 1.1", "tls/hello/downgrade-sentinel", "server", wire.Outcome{Ending: wire.Answered, Server: &wire.ServerSeen{Version: 0x0303, Sentinel: "1.1"}}, reasonNoSentinel},
		{"any alert", "tls/auth/tls12-peer-refused", "tls12", alerted("protocol_version"), ""},
		{"TLS 1.2 served", "tls/auth/tls12-peer-refused", "tls12", wire.Outcome{Ending: wire.Answered, Legacy: &wire.LegacySeen{}}, reasonAccepted},
	}
}

func ownRows() []judgeRow {
	hybrid := wire.X25519MLKEM768
	const order, layout, mutualID = "tls/kex/secret-order", "tls/kex/server-share-layout", "tls/auth/mldsa-mutual"
	others := func(ending wire.Ending, names ...string) wire.Outcome {
		return changed(answeredWith(hybrid, ending), func(o *wire.Outcome) {
			o.Others = map[string]bool{}
			for _, n := range names {
				o.Others[n] = true
			}
		})
	}
	after := func(o wire.Outcome) wire.Outcome { // the client's certificate was read
		o.Server, o.Flight = &wire.ServerSeen{Group: hybrid}, &wire.FlightSeen{FinishedValid: true, Requested: true}
		return o
	}
	return []judgeRow{
		{"the right order", order, "x25519mlkem768", done(hybrid), ""},
		{"swapped", order, "x25519mlkem768", others(wire.Unreadable, "swapped"), secretSwapped},
		{"ML-KEM alone", order, "x25519mlkem768", others(wire.Unreadable, "kem-only"), secretKEMOnly},
		{"ECDH alone", order, "x25519mlkem768", others(wire.Unreadable, "ecdh-only"), secretECDHOnly},
		{"some other secret", order, "x25519mlkem768", others(wire.Unreadable), secretOther},
		{"another group", order, "x25519mlkem768", done(wire.X25519), reasonWrongGroup},
		{"an alert in place of a flight", order, "x25519mlkem768", alerted("internal_error"), reasonRefused},

		{"one byte too many", layout, "x25519mlkem768", changed(answeredWith(hybrid, wire.Garbled), func(o *wire.Outcome) { o.Server.Share++ }), reasonWrongLength},
		{"the right length, no keys", layout, "x25519mlkem768", answeredWith(hybrid, wire.Unreadable), reasonUnusable},
		{"silence after the share", layout, "x25519mlkem768", answeredWith(hybrid, wire.Silent), reasonSilent},
		{"good keys, a later fault", layout, "x25519mlkem768", changed(done(hybrid), func(o *wire.Outcome) { o.Ending = wire.Reset }), ""},
		{"no share at all", layout, "x25519mlkem768", alerted("handshake_failure"), reasonRefused},

		{"a retry for the hybrid", "tls/kex/hybrid-preferred", "", wire.Outcome{Ending: wire.Retried, Retry: &wire.RetrySeen{Group: hybrid}}, ""},
		{"a retry for a group nobody offered", "tls/kex/hybrid-preferred", "", wire.Outcome{Ending: wire.Retried, Retry: &wire.RetrySeen{Group: wire.P384}}, reasonWrongGroup},
		{"X25519 taken", "tls/kex/hybrid-preferred", "", answeredWith(wire.X25519, wire.Answered), reasonClassical},

		{"asked and served", mutualID, "right", changed(done(hybrid), func(o *wire.Outcome) { o.Flight.Requested = true }), ""},
		{"served unasked", mutualID, "right", done(hybrid), reasonNotAsked},
		{"the right certificate refused", mutualID, "right", after(alerted("unknown_ca")), reasonRefused},
		{"no certificate refused", mutualID, "none", after(alerted("certificate_required")), ""},
		{"no certificate, closed", mutualID, "none", after(wire.Outcome{Ending: wire.EOF}), reasonNoAlert},
		{"no certificate served", mutualID, "none", done(hybrid), reasonAccepted},
		{"a wrong signature, a wrong alert", mutualID, "wrong-key", after(alerted("bad_certificate")), reasonWrongAlert},
		{"a wrong signature refused", mutualID, "wrong-key", after(alerted("decrypt_error")), ""},
		{"never came to the certificate", mutualID, "wrong-key", alerted("decrypt_error"), reasonRefused},

		{"no chain is read", "tls/auth/mldsa-chain", "", done(hybrid), reasonWrongCertificate},
		{"refused for want of a certificate", "tls/auth/no-usable-certificate", "", alerted("handshake_failure"), ""},
		{"another alert for want of one", "tls/auth/no-usable-certificate", "", alerted("internal_error"), reasonWrongAlert},
		{"a chain for the client to refuse", "tls/auth/no-usable-certificate", "", changed(done(wire.X25519), func(o *wire.Outcome) {
			o.Flight.Certificates, o.Flight.Scheme = [][]byte{{1}}, wire.ECDSAP256
		}), ""},
		{"no response where it is asked for", "tls/ocsp/staple-sent", "asked", done(hybrid), reasonNoStaple},
		{"a response in another entry", "tls/ocsp/staple-sent", "asked", changed(done(hybrid), func(o *wire.Outcome) { o.Flight.StapleElsewhere = true }), reasonStaplePlace},
		{"no response where it is not", "tls/ocsp/staple-sent", "not-asked", done(hybrid), ""},
		{"a response that nobody asked for", "tls/ocsp/staple-sent", "not-asked", changed(done(hybrid), func(o *wire.Outcome) { o.Flight.Staple = []byte{1} }), reasonUnasked},
	}
}

func TestServerJudges(t *testing.T) {
	rows := append(frameRows(), ownRows()...)
	if len(rows) == 0 {
		t.Fatal("no rows: this test proves nothing")
	}
	for _, r := range rows {
		f := verdict(t, r.check, r.kase, 0, shook(t, 7, "probe", r.outcome))
		if f.Reason != r.reason || (r.reason == "") != (f.Status == results.Pass) {
			t.Errorf("%s: %s#%s is %s %q, want %q: %s", r.name, r.check, r.kase, f.Status, f.Reason, r.reason, f.Observed)
		}
		if !slices.Equal(f.Cites, []uint64{7}) {
			t.Errorf("%s: cites %v", r.name, f.Cites)
		}
	}
}

func TestSilenceOfANoisyHost(t *testing.T) {
	silent := shook(t, 1, "probe", wire.Outcome{Ending: wire.Silent})
	for _, p := range [][2]string{
		{"tls/kex/encapsulation-key-checked", "x25519mlkem768-padded"}, {"tls/hello/share-list-rules", "duplicate"},
		{"tls/kex/hybrid-negotiated", "mlkem1024"}, {"claims/tls.server", ""},
	} {
		if f := verdict(t, p[0], p[1], time.Second, silent); f.Status != results.Inconclusive || f.Reason != suites.ReasonHostNoise {
			t.Errorf("%s#%s on a noisy host is %s %s", p[0], p[1], f.Status, f.Reason)
		}
		if f := verdict(t, p[0], p[1], 0, silent); f.Status != results.Fail {
			t.Errorf("%s#%s on a quiet host is %s %s", p[0], p[1], f.Status, f.Reason)
		}
	}
}

func TestEchoIsCompared(t *testing.T) {
	probe := func(app string) results.Evidence {
		return shook(t, 2, "probe", changed(done(wire.MLKEM1024), func(o *wire.Outcome) { o.App = []byte(app) }))
	}
	sent := item(t, 1, results.FromScenario, exchanged, exchange{[]byte("assay"), 5})
	for app, reason := range map[string]string{"assay": "", "assaz": reasonWrongEcho, "": reasonWrongEcho} {
		if f := verdict(t, "tls/kex/hybrid-negotiated", "mlkem1024", 0, sent, probe(app)); f.Reason != reason {
			t.Errorf("an echo of %q is %s %q, want %q", app, f.Status, f.Reason, reason)
		}
	}
}

func TestResumptionJudges(t *testing.T) {
	ticket := func(seq uint64, name string) results.Evidence {
		return shook(t, seq, name, changed(done(wire.X25519), func(o *wire.Outcome) { o.Tickets = []wire.TicketSeen{{Bytes: 9}} }))
	}
	took := func(g wire.Group) wire.Outcome {
		return changed(done(g), func(o *wire.Outcome) { o.Resumed, o.Server.PSK = true, true })
	}
	const class, kept = "tls/resume/class-bound", "tls/resume/dhe-kept"
	noShare := changed(took(wire.X25519), func(o *wire.Outcome) { o.Server.Share, o.Server.Group, o.Ending = 0, 0, wire.Answered })
	for _, r := range []judgeRow{
		{"full handshake across classes", class, "hybrid-under-classical", done(wire.X25519), ""},
		{"resumed across classes", class, "hybrid-under-classical", took(wire.X25519), reasonResumed},
		{"resumed in its class", class, "hybrid", took(wire.X25519MLKEM768), ""},
		{"not resumed in its class", class, "hybrid", done(wire.X25519MLKEM768), reasonUnresumed},
		{"refused", class, "hybrid", alerted("decrypt_error"), reasonRefused},
		{"a share", kept, "classical", took(wire.X25519), ""},
		{"no share", kept, "classical", noShare, reasonWithoutShare},
		{"a short share", kept, "classical", changed(took(wire.X25519), func(o *wire.Outcome) { o.Server.Share-- }), reasonWrongLength},
		{"not resumed", kept, "classical", done(wire.X25519), reasonUnresumed},
	} {
		f := verdict(t, r.check, r.kase, 0, ticket(1, "probe-ticket"), shook(t, 2, "probe", r.outcome))
		if f.Reason != r.reason {
			t.Errorf("%s: %s %q, want %q", r.name, f.Status, f.Reason, r.reason)
		}
	}
	// a server may decline a ticket: RFC 9846 section 4.3.9 says nothing of that
	if f := verdict(t, kept, "hybrid", 0, ticket(1, "probe-ticket"), shook(t, 2, "probe", done(wire.X25519MLKEM768))); f.Status != results.Inconclusive {
		t.Errorf("not resumed: %s %q", f.Status, f.Reason)
	}
	if f := verdict(t, kept, "classical", 0, ticket(1, "probe-ticket"), shook(t, 2, "probe", took(wire.P384))); f.Status != results.Pass {
		t.Errorf("resumed with P-384: %s %q", f.Status, f.Reason)
	}
	if f := verdict(t, class, "hybrid", 0, shook(t, 1, "probe-ticket", done(wire.X25519MLKEM768))); f.Reason != reasonTicketless {
		t.Errorf("without a ticket: %s %q", f.Status, f.Reason)
	}
	for down, reason := range map[int]string{1480: "", 1482: "", 1483: reasonBytes, 1477: reasonBytes} {
		f := verdict(t, "tls/resume/bytes-exact", "", 0, ticket(1, "classical-ticket"), ticket(2, "hybrid-ticket"),
			shook(t, 3, "classical", changed(took(wire.X25519), func(o *wire.Outcome) { o.Down = 392 })),
			shook(t, 4, "hybrid", changed(took(wire.X25519MLKEM768), func(o *wire.Outcome) { o.Down = down })))
		if f.Reason != reason {
			t.Errorf("%d bytes: %s %q, want %q", down, f.Status, f.Reason, reason)
		}
	}
}

func TestBytesAreCompared(t *testing.T) {
	rounds := func(probe int, bend func(*wire.Outcome)) []results.Evidence {
		var out []results.Evidence
		for i := range byteRounds {
			n := string(rune('0' + i))
			base := changed(done(wire.X25519), func(o *wire.Outcome) { o.Down = 1184 + i%3 })
			other := changed(done(wire.X25519MLKEM768), func(o *wire.Outcome) { o.Down = probe + i%2 })
			if bend != nil && i == 1 {
				bend(&other)
			}
			out = append(out, shook(t, uint64(2*i+1), "base-"+n, base), shook(t, uint64(2*i+2), "probe-"+n, other))
		}
		return out
	}
	for _, r := range []struct {
		probe  int
		bend   func(*wire.Outcome)
		reason string
	}{
		{1184 + 1088, nil, ""}, {1184 + 1090, nil, ""}, {1184 + 1091, nil, reasonBytes}, {1184 + 1085, nil, reasonBytes},
		{2272, func(o *wire.Outcome) { o.Flight.Padding = 64 }, reasonPadded},
		{2272, func(o *wire.Outcome) { o.Ending = wire.EOF }, reasonRefused},
	} {
		if f := verdict(t, "tls/kex/bytes-exact", "x25519mlkem768", 0, rounds(r.probe, r.bend)...); f.Reason != r.reason {
			t.Errorf("%d bytes: %s %q, want %q: %s", r.probe, f.Status, f.Reason, r.reason, f.Observed)
		}
	}
	half := rounds(2272, nil)[:3]
	if f := verdict(t, "tls/kex/bytes-exact", "x25519mlkem768", 0, half...); f.Reason != reasonGarbled {
		t.Errorf("half of the evidence: %s %q", f.Status, f.Reason)
	}
}

// TestBytesOfARightAreNotCounted: the groups that a server names in EncryptedExtensions and the length of its
// tickets are its own affair.
func TestBytesOfARightAreNotCounted(t *testing.T) {
	ticket := func(seq uint64, name string) results.Evidence {
		return shook(t, seq, name, changed(done(wire.X25519), func(o *wire.Outcome) { o.Tickets = []wire.TicketSeen{{Bytes: 9}} }))
	}
	took := func(g wire.Group, down, parameters, padding int) wire.Outcome {
		return changed(done(g), func(o *wire.Outcome) {
			o.Resumed, o.Server.PSK, o.Down, o.Flight.Parameters, o.Flight.Padding = true, true, down, parameters, padding
			o.Tickets = []wire.TicketSeen{{Bytes: 200 + parameters}}
		})
	}
	for _, r := range []struct {
		classical, hybrid wire.Outcome
		reason            string
	}{
		{took(wire.X25519, 600+36, 18, 0), took(wire.X25519MLKEM768, 600+1088, 0, 0), ""},
		{took(wire.P256, 600+33, 0, 0), took(wire.X25519MLKEM768, 600+1088, 0, 0), ""},
		{took(wire.X25519, 600, 0, 0), took(wire.X25519MLKEM768, 600+1091, 0, 0), reasonBytes},
		{took(wire.X25519, 664, 0, 64), took(wire.X25519MLKEM768, 664+1088, 0, 64), reasonPadded},
	} {
		f := verdict(t, "tls/resume/bytes-exact", "", 0, ticket(1, "classical-ticket"), ticket(2, "hybrid-ticket"),
			shook(t, 3, "classical", r.classical), shook(t, 4, "hybrid", r.hybrid))
		if f.Reason != r.reason {
			t.Errorf("%s: %q, want %q", f.Observed, f.Reason, r.reason)
		}
	}
}

// TestGroupThatAServerLacks: where a well-formed share gets "no common group", the malformed one may get it too.
func TestGroupThatAServerLacks(t *testing.T) {
	lacks, has := alerted("handshake_failure"), answeredWith(wire.X25519, wire.Answered)
	for _, r := range []struct {
		name         string
		group, probe wire.Outcome
		reason       string
	}{
		{"lacking, and it says so", lacks, lacks, ""},
		{"lacking, and it looks first", lacks, alerted("illegal_parameter"), ""},
		{"lacking, and another alert", lacks, alerted("internal_error"), reasonWrongAlert},
		{"lacking, and served", lacks, has, reasonAccepted},
		{"there, and it says so", has, alerted("illegal_parameter"), ""},
		{"there, and it claims not", has, lacks, reasonWrongAlert},
	} {
		f := verdict(t, "tls/kex/share-matches-group", "x25519", 0, shook(t, 1, "group", r.group), shook(t, 2, "probe", r.probe))
		if f.Reason != r.reason || !slices.Equal(f.Cites, []uint64{2, 1}) {
			t.Errorf("%s: %s %q, cites %v", r.name, f.Status, f.Reason, f.Cites)
		}
	}
}

// TestClientThatATrapDoesNotFit: what a client need not offer leaves nothing to judge, and is no pass.
func TestClientThatATrapDoesNotFit(t *testing.T) {
	said := func(groups []wire.Group, shares ...wire.Group) results.Evidence {
		hello := &wire.HelloSeen{Groups: groups}
		for _, g := range shares {
			hello.Shares = append(hello.Shares, wire.ShareSeen{Group: g, Bytes: g.ClientShare()})
		}
		return item(t, 1, results.FromPeer, drive.Overheard, drive.Heard{Name: "trap", Heard: wire.Heard{
			Hello: hello, Stage: "hello", Ending: wire.EOF, FinishedValid: false,
		}})
	}
	hybrid := []wire.Group{wire.X25519MLKEM768}
	for _, r := range []struct {
		check, kase, reason string
		said                results.Evidence
		status              results.Status
	}{
		{"tls/kex/zero-secret-refused-by-client", "x25519-zero", reasonBelowTrap, said(hybrid, hybrid...), results.Inconclusive},
		{"tls/kex/zero-secret-refused-by-client", "hybrid-zero", reasonEarlyEnd, said(hybrid, hybrid...), results.Fail},
		{"tls/kex/client-share-layout", "first-hello", reasonNoHybrid, said(append(classicalGroups(), hybrid...), wire.X25519), results.Inconclusive},
		{"tls/kex/client-share-layout", "first-hello", reasonNoHybrid, said(classicalGroups(), wire.X25519), results.Fail},
	} {
		if f := verdict(t, r.check, r.kase, 0, r.said); f.Status != r.status || f.Reason != r.reason {
			t.Errorf("%s#%s: %s %q, want %s %q: %s", r.check, r.kase, f.Status, f.Reason, r.status, r.reason, f.Observed)
		}
	}
}

func TestRefreshIsSeen(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	with := func(at time.Time) wire.Outcome {
		staple := drive.Authority(drive.ECDSA).Staple(drive.StaplePlan{ProducedAt: at})
		return changed(done(wire.X25519), func(o *wire.Outcome) { o.Flight.Staple = staple })
	}
	const id = "tls/ocsp/refresh"
	old, young := with(now), with(now.Add(time.Minute))
	for _, r := range []struct {
		name          string
		before, after wire.Outcome
		reason        string
	}{
		{"a newer response", old, young, ""},
		{"the same response", old, old, reasonNotRefreshed},
		{"an older response", young, old, reasonOlder},
		{"no response afterwards", old, done(wire.X25519), reasonNoStaple},
		{"no response at all", done(wire.X25519), young, reasonNoStaple},
		{"what is no response", old, changed(young, func(o *wire.Outcome) { o.Flight = &wire.FlightSeen{Staple: []byte{1}} }), reasonGarbled},
	} {
		f := verdict(t, id, "", 0, shook(t, 1, "before", r.before), shook(t, 2, "after-0", r.after))
		if f.Reason != r.reason {
			t.Errorf("%s: %s %q, want %q: %s", r.name, f.Status, f.Reason, r.reason, f.Observed)
		}
	}
	broken := item(t, 3, results.FromScenario, drive.LabCalled, drive.LabCall{Method: "POST", Path: "/ocsp/refresh", Broken: "status 500"})
	if f := verdict(t, id, "", 0, shook(t, 1, "before", old), broken, shook(t, 2, "after-0", old)); f.Reason != reasonNoRefresh {
		t.Errorf("a lab that refuses: %s %q", f.Status, f.Reason)
	}
}

func TestCostsAreCompared(t *testing.T) {
	costs := func(n int, ratio func(i int) float64) Costs {
		c := Costs{Base: "a", Other: "b", Block: 2}
		for i := range n {
			c.Pairs = append(c.Pairs, CostPair{Base: time.Millisecond, Other: time.Duration(ratio(i) * float64(time.Millisecond))})
		}
		return c
	}
	flat := func(r float64) func(int) float64 { return func(int) float64 { return r } }
	for _, r := range []struct {
		name   string
		costs  Costs
		status results.Status
		reason string
	}{
		{"below the bound", costs(cpuPairs, flat(1.3)), results.Pass, ""},
		{"at the bound", costs(cpuPairs, flat(1.45)), results.Pass, ""},
		{"above the bound", costs(cpuPairs, flat(1.5)), results.Fail, reasonCostly},
		{"a few wild pairs", costs(cpuPairs, func(i int) float64 { return 1.3 + 20*float64(i%8/7) }), results.Pass, ""},
		{"undecided", costs(cpuPairs, func(i int) float64 { return 1.2 + 0.5*float64(i%2) }), results.Inconclusive, suites.ReasonHostNoise},
		{"too few", costs(cpuLeast-1, flat(1.3)), results.Inconclusive, suites.ReasonHostNoise},
		{"a clock that stands still", costs(cpuPairs, flat(0)), results.Inconclusive, suites.ReasonHostNoise},
		{"a failed handshake", Costs{Failed: "refused"}, results.Fail, reasonNotMeasured},
	} {
		f := verdict(t, "tls/kex/cpu-ratio", "", 0, item(t, 1, results.FromHost, results.Measured, r.costs))
		if f.Status != r.status || f.Reason != r.reason {
			t.Errorf("%s: %s %q, want %s %q: %s", r.name, f.Status, f.Reason, r.status, r.reason, f.Observed)
		}
	}
}

// TestMedianInterval compares with the ranks of published tables for the sign test at 95 %.
func TestMedianInterval(t *testing.T) {
	for n, rank := range map[int]int{6: 1, 10: 2, 20: 6, 24: 7, 40: 14} {
		var values []float64
		for i := range n {
			values = append(values, float64(i+1))
		}
		low, high := medianInterval(values)
		if low != float64(rank) || high != float64(n+1-rank) {
			t.Errorf("of %d values: %g to %g, want rank %d from each end", n, low, high, rank)
		}
	}
	for n := range 6 { // too few for any interval
		if low, high := medianInterval(make([]float64, n)); !math.IsInf(low, -1) || !math.IsInf(high, 1) {
			t.Errorf("of %d values: %g to %g", n, low, high)
		}
	}
}

// TestBends checks the malformed shares against the sizes that the group has.
func TestBends(t *testing.T) {
	for _, g := range pqGroups() {
		ecdhLen, kemLen, kemFirst := g.group.Parts()
		share := make([]byte, ecdhLen+kemLen)
		for i := range share {
			share[i] = byte(i)
		}
		fresh := func() []byte { return slices.Clone(share) }
		for name, c := range map[string]struct{ got, want int }{
			"truncated": {len(truncated(fresh())), len(share) - 1}, "padded": {len(padded(fresh())), len(share) + 1},
			"kem": {len(kemPart(g.group)(fresh())), kemLen}, "ecdh": {len(ecdhPart(g.group)(fresh())), ecdhLen},
			"swapped": {len(swapped(g.group)(fresh())), len(share)},
		} {
			if c.got != c.want {
				t.Errorf("%s %s: %d bytes, want %d", g.id, name, c.got, c.want)
			}
		}
		at := 0
		if !kemFirst {
			at = ecdhLen
		}
		b := coefficient(g.group, 1, 0xabc)(fresh())
		if got := uint16(b[at+1]>>4) | uint16(b[at+2])<<4; got != 0xabc || b[at] != share[at] || b[at+1]&0xf != share[at+1]&0xf {
			t.Errorf("%s: coefficient 1 is %#x", g.id, got)
		}
		b = coefficient(g.group, 0, 0xabc)(fresh())
		if got := uint16(b[at]) | uint16(b[at+1]&0xf)<<8; got != 0xabc || b[at+1]&0xf0 != share[at+1]&0xf0 {
			t.Errorf("%s: coefficient 0 is %#x", g.id, got)
		}
		for _, short := range [][]byte{nil, {1}} { // a bend of what is no share must not panic
			for _, f := range []func([]byte) []byte{
				truncated, padded, firstByte, emptied, kemPart(g.group), ecdhPart(g.group), swapped(g.group), coefficient(g.group, 767, 1),
				replacingECDH(g.group, offCurve), replacingECDH(g.group, compressedPrefix), stretched(9),
			} {
				_ = f(slices.Clone(short))
			}
		}
	}
}

// FuzzCertificatesOf reads what a lab answers.
func FuzzCertificatesOf(f *testing.F) {
	f.Add("")
	f.Add(drive.Authority(drive.ECDSA).Roots())
	f.Add("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n")
	f.Add("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
	f.Fuzz(func(t *testing.T, text string) {
		chain := certificatesOf(text)
		if len(chain) > maxIssued {
			t.Errorf("%d certificates", len(chain))
		}
		_, _ = leafIsMLDSA(chain)
	})
}

// TestExplainTellsWhatWasProtected: a report shows what the prober read in records that it can not decrypt.
func TestExplainTellsWhatWasProtected(t *testing.T) {
	o := done(wire.X25519)
	o.Flight.Messages, o.KeyLog = []uint8{8, 20}, []string{"CLIENT_HANDSHAKE_TRAFFIC_SECRET 00 11"}
	text := explain(shook(t, 1, "probe", o))
	heard := item(t, 2, results.FromPeer, drive.Overheard, drive.Heard{Name: "trap", Heard: wire.Heard{
		Hello: &wire.HelloSeen{}, Stage: "server-hello", Ending: wire.Alerted,
		Alert: &wire.Alert{Level: 2, Code: 47, Name: "illegal_parameter"},
	}})
	for text, want := range map[string][]string{
		text:           {"EncryptedExtensions Finished", "Finished valid true", "key log: CLIENT_HANDSHAKE"},
		explain(heard): {"trap", "alert illegal_parameter (47)"},
	} {
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("%q does not tell %q", text, w)
			}
		}
	}
}
