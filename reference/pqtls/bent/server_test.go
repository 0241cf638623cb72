package bent

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/assay-bench/assay/reference/defect"
	"golang.org/x/crypto/cryptobyte"
)

// hush is how long a server that hangs must be silent.
const hush = 50 * time.Millisecond

// helloWith is a hello with shares of X25519MLKEM768 and X25519, bent.
func helloWith(t testing.TB, bend func(*clientHello)) []byte {
	t.Helper()
	h := &clientHello{
		random: random(32), session: random(32), suites: []uint16{0x1301, 0x1302}, serverName: "server.test",
		schemes: offeredSchemes, versions: []uint16{version13}, modes: []byte{1},
		groups: []tls.CurveID{tls.X25519MLKEM768, tls.SecP256r1MLKEM768, tls.X25519, tls.CurveP256},
	}
	addShares(t, h, tls.X25519MLKEM768, tls.X25519)
	if bend != nil {
		bend(h)
	}
	h.marshal()
	return h.raw
}

func addShares(t testing.TB, h *clientHello, ids ...tls.CurveID) {
	t.Helper()
	for _, id := range ids {
		g, _ := groupOf(id)
		key, err := g.generate()
		if err != nil {
			t.Fatal(err)
		}
		h.shares = append(h.shares, share{id, g.join(key.parts[0], key.parts[1])})
	}
}

// edit replaces the extension of a type by any number of it.
func edit(t testing.TB, hello []byte, typ uint16, change func(data []byte) [][]byte) []byte {
	t.Helper()
	at := 4 + 2 + 32
	at += 1 + int(hello[at])
	at += 2 + int(binary.BigEndian.Uint16(hello[at:]))
	at += 1 + int(hello[at])
	head := slices.Clone(hello[4:at])
	var block []byte
	found := false
	rest := cryptobyte.String(hello[at+2:])
	for !rest.Empty() {
		var kind uint16
		var data cryptobyte.String
		if !rest.ReadUint16(&kind) || !rest.ReadUint16LengthPrefixed(&data) {
			t.Fatal("hello does not parse")
		}
		all := [][]byte{data}
		if kind == typ {
			all, found = change(data), true
		}
		for _, data := range all {
			block = binary.BigEndian.AppendUint16(block, kind)
			block = binary.BigEndian.AppendUint16(block, uint16(len(data)))
			block = append(block, data...)
		}
	}
	if !found {
		t.Fatalf("no extension %d to edit", typ)
	}
	return message(msgClientHello, func(b *cryptobyte.Builder) {
		b.AddBytes(head)
		b.AddUint16LengthPrefixed(addBytes(block))
	})
}

func cut([]byte) [][]byte { return nil }

// firstAnswer sends a hello and names what comes back first.
func firstAnswer(t testing.TB, conn net.Conn, hello []byte) string {
	t.Helper()
	rec := newRecords(conn, 0x0301)
	rec.queue(typeHandshake, hello)
	return answer(t, conn, rec)
}

func answer(t testing.TB, conn net.Conn, rec *records) string {
	t.Helper()
	if err := rec.flush(); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	read := make(chan struct{})
	go func() {
		select {
		case <-conn.(watched).hung:
			_ = conn.SetReadDeadline(time.Now().Add(hush))
		case <-read:
		}
	}()
	msg, err := rec.message()
	close(read)
	var wait net.Error
	var refused *AlertError
	switch {
	case errors.As(err, &wait) && wait.Timeout():
		return "silent"
	case errors.Is(err, io.EOF):
		return "closed"
	case errors.As(err, &refused) && !refused.Sent:
		return AlertName(refused.Code)
	case err != nil:
		t.Fatal(err)
	}
	h, err := parseServerHello(msg)
	if err != nil {
		t.Fatal(err)
	}
	name := "hello"
	if h.retry() {
		name = "retry"
	}
	if h.selected == 0 {
		return "tls12 " + ending(h.random)
	}
	if h.group == groupKyberDraft {
		return name + " kyber"
	}
	return name + " " + h.group.String()
}

func ending(random []byte) string {
	if string(random[24:]) == sentinel12 {
		return "marked"
	}
	return "unmarked"
}

// await waits for the end of a server whose error is of no interest.
func await[T any](done <-chan T) { <-done }

// asked serves a hello with the defects planted and names the first answer.
func asked(t testing.TB, set defect.Set, hello []byte) string {
	t.Helper()
	cfg := serverConfig()
	cfg.Defects = set
	return askedOf(t, cfg, hello)
}

func askedOf(t testing.TB, cfg ServerConfig, hello []byte) string {
	t.Helper()
	near, done := start(t, cfg)
	got := firstAnswer(t, near, hello)
	_ = near.Close()
	await(done)
	return got
}

// dialed names the end of a handshake with a bent client and one exchange.
func dialed(t testing.TB, set defect.Set, bendServer func(*ServerConfig), bendClient func(*ClientConfig)) (State, string) {
	t.Helper()
	server, client := serverConfig(), clientConfig()
	server.Defects = set
	if bendServer != nil {
		bendServer(&server)
	}
	if bendClient != nil {
		bendClient(&client)
	}
	near, done := start(t, server)
	established, err := Dial(near, client)
	if err == nil {
		_, err = established.Write([]byte("x"))
	}
	if err == nil {
		_, err = io.ReadFull(established, make([]byte, 1))
	}
	if err != nil {
		_ = near.Close()
		await(done)
		var refused *AlertError
		if errors.As(err, &refused) {
			return State{}, AlertName(refused.Code)
		}
		return State{}, err.Error()
	}
	_ = established.Close()
	await(done)
	return established.State(), "connected"
}

// withShare is a hello that offers one group and one share of it.
func withShare(t testing.TB, id tls.CurveID, bend func(data []byte) []byte) []byte {
	return helloWith(t, func(h *clientHello) {
		h.groups, h.shares = []tls.CurveID{id}, nil
		addShares(t, h, id)
		h.shares[0].data = bend(h.shares[0].data)
	})
}

func cutBy1(d []byte) []byte { return d[:len(d)-1] }

func hybridAnswer(t testing.TB, set defect.Set) string {
	_, got := dialed(t, set, nil, nil)
	return got
}

// serverCase observes the server with defects planted: an outcome without and one with.
type serverCase struct {
	observe      func(t testing.TB, set defect.Set) string
	right, wrong string
}

func hello(bend func(*clientHello)) func(testing.TB, defect.Set) string {
	return func(t testing.TB, set defect.Set) string { return asked(t, set, helloWith(t, bend)) }
}

func shared(id tls.CurveID, bend func([]byte) []byte) func(testing.TB, defect.Set) string {
	return func(t testing.TB, set defect.Set) string { return asked(t, set, withShare(t, id, bend)) }
}

func edited(typ uint16, change func([]byte) [][]byte) func(testing.TB, defect.Set) string {
	return func(t testing.TB, set defect.Set) string {
		return asked(t, set, edit(t, helloWith(t, nil), typ, change))
	}
}

// second sends a hello without shares, then one bent after the retry.
func second(bend func(testing.TB, *clientHello)) func(testing.TB, defect.Set) string {
	return func(t testing.TB, set defect.Set) string {
		cfg := serverConfig()
		cfg.Defects = set
		near, _ := start(t, cfg)
		rec := newRecords(near, 0x0301)
		raw := helloWith(t, func(h *clientHello) { h.shares = nil })
		rec.queue(typeHandshake, raw)
		if got := answer(t, near, rec); got != "retry X25519MLKEM768" {
			t.Fatalf("first answer %s", got)
		}
		h, err := parseClientHello(raw, lax{})
		if err != nil {
			t.Fatal(err)
		}
		bend(t, h)
		h.marshal()
		rec.queue(typeHandshake, h.raw)
		return answer(t, near, rec)
	}
}

// recorded sends a hello in records of the test's making.
func recorded(records func(hello []byte) []byte) func(testing.TB, defect.Set) string {
	return func(t testing.TB, set defect.Set) string {
		cfg := serverConfig()
		cfg.Defects = set
		near, _ := start(t, cfg)
		rec := newRecords(near, version12)
		rec.pending = records(helloWith(t, nil))
		return answer(t, near, rec)
	}
}

func record(version uint16, content []byte) []byte {
	head := []byte{typeHandshake, byte(version >> 8), byte(version), byte(len(content) >> 8), byte(len(content))}
	return append(head, content...)
}

func coefficient(d []byte) []byte { d[0], d[1] = 0x01, d[1]&0xf0|0x0d; return d }

func hello12(groups ...tls.CurveID) func(h *clientHello) {
	return func(h *clientHello) {
		h.versions, h.shares, h.groups = []uint16{version12}, nil, groups
		h.suites = slices.Concat(suitesECDSA, suitesRSA)
	}
}

const cutShare, retryHybrid, helloHybrid, helloX25519 = "illegal_parameter", "retry X25519MLKEM768", "hello X25519MLKEM768", "hello X25519"

var serverCases = map[defect.Name]serverCase{
	defect.TLSHybridFlightCorrupt: {hybridAnswer, "connected", "decrypt_error"},
	defect.TLSServerShareSwapped:  {hybridAnswer, "connected", "bad_record_mac"},
	defect.TLSServerSharePadded:   {hybridAnswer, "connected", "illegal_parameter"},
	defect.TLSSecretSwapped:       {hybridAnswer, "connected", "bad_record_mac"},
	defect.TLSSecretKemOnly:       {hybridAnswer, "connected", "bad_record_mac"},
	defect.TLSKemKeyUnchecked:     {shared(tls.X25519MLKEM768, coefficient), "illegal_parameter", helloHybrid},
	defect.TLSShareLengthUnchecked: {
		shared(tls.X25519MLKEM768, func(d []byte) []byte { return d[:1] }), "illegal_parameter", helloHybrid},
	defect.TLSShareWrongAlert: {shared(tls.X25519MLKEM768, cutBy1), "illegal_parameter", "decode_error"},
	defect.TLSShareCloses:     {shared(tls.X25519MLKEM768, cutBy1), "illegal_parameter", "closed"},
	defect.TLSShareHangs:      {shared(tls.X25519MLKEM768, cutBy1), "illegal_parameter", "silent"},
	defect.TLSPointUnchecked: {
		shared(tls.SecP256r1MLKEM768, func(d []byte) []byte { d[0] = 2; return d }), "illegal_parameter", "hello SecP256r1MLKEM768"},
	defect.TLSZeroSecretAccepted: {
		shared(tls.X25519MLKEM768, func(d []byte) []byte { clear(d[len(d)-32:]); return d }), "illegal_parameter", helloHybrid},
	defect.TLSClassicalShareLengthUnchecked: {
		shared(tls.X25519, func([]byte) []byte { return random(1216) }), "illegal_parameter", helloX25519},
	defect.TLSUnknownGroupFatal: {
		hello(func(h *clientHello) { h.groups = append([]tls.CurveID{0x1a1a}, h.groups...) }), helloHybrid, "illegal_parameter"},
	defect.TLSKyberDraftSelected: {
		hello(func(h *clientHello) {
			h.groups = []tls.CurveID{groupKyberDraft, tls.X25519}
			h.shares[0] = share{groupKyberDraft, random(1216)}
		}), helloX25519, "hello kyber"},
	defect.TLSFallbackUnoffered: {
		hello(func(h *clientHello) {
			h.groups, h.shares = []tls.CurveID{groupKyberDraft}, []share{{groupKyberDraft, random(1216)}}
		}), "handshake_failure", helloX25519},
	defect.TLSClassicalPreferred: {
		hello(func(h *clientHello) { h.shares = h.shares[1:] }), retryHybrid, helloX25519},
	defect.TLSSharedEcdhHangs: {
		hello(func(h *clientHello) { copy(h.shares[0].data[1184:], h.shares[1].data) }), helloHybrid, "silent"},
	defect.TLSTls12Hybrid:       {hello(hello12(tls.X25519MLKEM768)), "handshake_failure", "tls12 marked"},
	defect.TLSPaddedFlight:      {flightBytes, "0", "256"},
	defect.TLSNoKeyShareRetried: {edited(extKeyShare, cut), "missing_extension", retryHybrid},
	defect.TLSNoGroupsAccepted:  {edited(extGroups, cut), "missing_extension", helloHybrid},
	defect.TLSNoSigalgsAccepted: {edited(extSignatures, cut), "missing_extension", helloHybrid},
	defect.TLSEmptySharesFatal: {
		hello(func(h *clientHello) { h.shares = nil }), retryHybrid, "illegal_parameter"},
	defect.TLSSecondShareUnchecked: {
		second(func(t testing.TB, h *clientHello) { addShares(t, h, tls.X25519) }), "illegal_parameter", helloHybrid},
	defect.TLSEmptyShareWrongAlert: {
		hello(func(h *clientHello) { h.shares[0].data = nil }), "decode_error", "illegal_parameter"},
	defect.TLSTrailingDataIgnored: {
		edited(extKeyShare, func(d []byte) [][]byte { return [][]byte{append(slices.Clone(d), 0)} }), "decode_error", helloHybrid},
	defect.TLSDuplicateExtensionIgnored: {
		edited(extKeyShare, func(d []byte) [][]byte { return [][]byte{d, d} }), "illegal_parameter", helloHybrid},
	defect.TLSShareListHangs: {
		hello(func(h *clientHello) { slices.Reverse(h.shares) }), helloHybrid, "silent"},
	defect.TLSNoDowngradeSentinel: {hello(hello12(tls.CurveP256)), "tls12 marked", "tls12 unmarked"},
	defect.TLSRecordVersionStrict: {
		recorded(func(h []byte) []byte { return record(0x0301, h) }), helloHybrid, "protocol_version"},
	defect.TLSRecordVersionOdd: {answerVersion, "0x0303", "0x0304"},
	defect.TLSFragmentsRefused: {
		recorded(func(h []byte) []byte { return append(record(version12, h[:1]), record(version12, h[1:])...) }),
		helloHybrid, "decode_error"},
	defect.TLSLongHelloRefused: {
		hello(func(h *clientHello) { h.cookie = random(12_000) }), helloHybrid, "decode_error"},
	defect.TLSEmptyRecordHangs: {
		recorded(func(h []byte) []byte { return append(record(version12, nil), record(version12, h)...) }),
		"unexpected_message", "silent"},
	defect.TLSMutualSignatureUnchecked: {wrongClientKey, "decrypt_error", "connected"},
	defect.TLSCertificateAlwaysMldsa:   {classicalClient, "connected", "illegal_parameter"},
	defect.TLSNoCertificateHangs: {
		func(t testing.TB, set defect.Set) string {
			cfg := serverConfig()
			cfg.Certificates, cfg.Defects = cfg.Certificates[1:], set
			return askedOf(t, cfg, helloWith(t, func(h *clientHello) { h.schemes = []tls.SignatureScheme{tls.MLDSA65} }))
		}, "handshake_failure", "silent"},
	defect.TLSMldsaInTLS12: {
		func(t testing.TB, set defect.Set) string {
			cfg := serverConfig()
			cfg.Certificates, cfg.Defects = cfg.Certificates[:1], set
			return askedOf(t, cfg, helloWith(t, hello12(tls.CurveP256)))
		}, "handshake_failure", "tls12 marked"},
	defect.TLSPskWithoutDhe: {resumed, "resumed", "missing_extension"},
	defect.TLSStapleUnasked: {hybridAnswer, "connected", "unsupported_extension"},
}

// flightBytes is what the defects add to the bytes of a server's flight: four padded records.
func flightBytes(t testing.TB, set defect.Set) string {
	count := func(set defect.Set) int {
		cfg := serverConfig()
		cfg.Certificates, cfg.Defects = cfg.Certificates[2:], set // signatures of RSA have one length
		near, _ := start(t, cfg)
		counted := &counter{Conn: near}
		if _, err := Dial(counted, ClientConfig{ServerName: "server.test", Roots: pki().roots, Deadline: patience}); err != nil {
			t.Fatal(err)
		}
		return counted.n
	}
	return fmt.Sprint(count(set) - count(defect.Set{}))
}

type counter struct {
	net.Conn
	n int
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.n += n
	return n, err
}

// answerVersion is the version of the record that a ServerHello comes in.
func answerVersion(t testing.TB, set defect.Set) string {
	cfg := serverConfig()
	cfg.Defects = set
	near, _ := start(t, cfg)
	rec := newRecords(near, 0x0301)
	rec.queue(typeHandshake, helloWith(t, nil))
	if got := answer(t, near, rec); got != helloHybrid {
		t.Fatal(got)
	}
	return fmt.Sprintf("0x%04x", rec.seen)
}

func wrongClientKey(t testing.TB, set defect.Set) string {
	cert := pki().client
	cert.PrivateKey = pki().mldsa.PrivateKey
	_, got := dialed(t, set, func(s *ServerConfig) { s.RequireClientCert = true }, func(c *ClientConfig) { c.Certificate = &cert })
	return got
}

// classicalClient offers no ML-DSA, and refuses a CertificateVerify with it.
func classicalClient(t testing.TB, set defect.Set) string {
	cfg := serverConfig()
	cfg.Defects = set
	near, _ := start(t, cfg)
	conn := newClient(near, clientConfig())
	conn.schemes = []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}
	_, err := conn.dial()
	if err == nil {
		return "connected"
	}
	return AlertName(alertOf(err))
}

func resumed(t testing.TB, set defect.Set) string {
	near, _ := start(t, serverConfig())
	first, err := Dial(near, clientConfig())
	if err != nil {
		t.Fatal(err)
	}
	echoed(t, first, 1)
	state, got := dialed(t, set, nil, func(c *ClientConfig) { c.Session = first.Session() })
	if state.Resumed {
		return "resumed"
	}
	return got
}

func TestServerDefects(t *testing.T) {
	ran := 0
	for _, e := range defect.Catalogue() {
		if !Needs(defect.Of(e.Name)) {
			continue
		}
		ran++
		t.Run(string(e.Name), func(t *testing.T) {
			t.Parallel()
			c, known := serverCases[e.Name]
			if !known {
				t.Fatal("no case shows this defect")
			}
			if got := c.observe(t, defect.Set{}); got != c.right {
				t.Errorf("without the defect: %s, want %s", got, c.right)
			}
			if got := c.observe(t, defect.Of(e.Name)); got != c.wrong {
				t.Errorf("with the defect: %s, want %s", got, c.wrong)
			}
		})
	}
	if ran == 0 || ran != len(serverCases) || ran != len(serverDefects) {
		t.Fatalf("%d defects in the catalogue, %d cases, %d claimed", ran, len(serverCases), len(serverDefects))
	}
}

// TestServerAlerts has the rest of the malformed hellos: what a server without defects answers.
func TestServerAlerts(t *testing.T) {
	swap := func(n int) func(d []byte) []byte {
		return func(d []byte) []byte { return slices.Concat(d[n:], d[:n]) }
	}
	last := func(d []byte) []byte { d[64] ^= 1; return d }
	order8 := []byte("\xe0\xeb\x7a\x7c\x3b\x41\xb8\xae\x16\x56\xe3\xfa\xf1\x9f\xc4\x6a\xda\x09\x8d\xeb\x9c\x32\xb1\xfd\x86\x62\x05\x16\x5f\x49\xb8\x00")
	for name, c := range map[string]serverCase{
		"padded":          {shared(tls.X25519MLKEM768, func(d []byte) []byte { return append(d, 0) }), cutShare, ""},
		"ML-KEM part":     {shared(tls.X25519MLKEM768, func(d []byte) []byte { return d[:1184] }), cutShare, ""},
		"X25519 part":     {shared(tls.X25519MLKEM768, func(d []byte) []byte { return d[1184:] }), cutShare, ""},
		"order 8":         {shared(tls.X25519MLKEM768, func(d []byte) []byte { copy(d[1184:], order8); return d }), cutShare, ""},
		"order 8 alone":   {shared(tls.X25519, func([]byte) []byte { return order8 }), cutShare, ""},
		"off curve":       {shared(tls.SecP256r1MLKEM768, last), cutShare, ""},
		"swapped P-256":   {shared(tls.SecP256r1MLKEM768, swap(65)), cutShare, ""},
		"coefficient":     {shared(tls.MLKEM1024, coefficient), cutShare, ""},
		"second: none":    {second(func(testing.TB, *clientHello) {}), cutShare, ""},
		"second: two":     {second(func(t testing.TB, h *clientHello) { addShares(t, h, tls.X25519MLKEM768, tls.X25519) }), cutShare, ""},
		"second: right":   {second(func(t testing.TB, h *clientHello) { addShares(t, h, tls.X25519MLKEM768) }), helloHybrid, ""},
		"unlisted":        {hello(func(h *clientHello) { h.groups = h.groups[:3]; h.shares = append(h.shares, share{0x2a2a, []byte{0}}) }), helloHybrid, ""},
		"duplicate share": {hello(func(h *clientHello) { h.shares = append(h.shares, h.shares[0]) }), helloHybrid, ""},
		"no suite":        {hello(func(h *clientHello) { h.suites = []uint16{0x1303} }), "handshake_failure", ""},
		"ML-DSA alone":    {hello(func(h *clientHello) { h.schemes = []tls.SignatureScheme{tls.MLDSA65} }), helloHybrid, ""},
		"Kyber alone":     {hello(func(h *clientHello) { h.groups = []tls.CurveID{groupKyberDraft}; h.shares = nil }), "handshake_failure", ""},
		"fallback":        {hello(func(h *clientHello) { hello12(tls.CurveP256)(h); h.suites = append(h.suites, suiteFallback) }), "inappropriate_fallback", ""},
		"20 records": {recorded(func(h []byte) []byte {
			var out []byte
			for piece := range slices.Chunk(h, 75) {
				out = append(out, record(version12, piece)...)
			}
			return out
		}), helloHybrid, ""},
		"garbage":      {recorded(func([]byte) []byte { return []byte("GET / HTTP/1.1\r\n\r\n") }), "unexpected_message", ""},
		"long record":  {recorded(func([]byte) []byte { return []byte{typeHandshake, 3, 1, 0xff, 0xff} }), "record_overflow", ""},
		"long message": {recorded(func([]byte) []byte { return record(version12, []byte{1, 0xff, 0, 0}) }), "decode_error", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.observe(t, defect.Set{}); got != c.right {
				t.Errorf("%s, want %s", got, c.right)
			}
		})
	}
}

// TestTLS12Details reads the planted oddities of the first flight of TLS 1.2.
func TestTLS12Details(t *testing.T) {
	for _, c := range []struct {
		set    defect.Set
		certs  []tls.Certificate
		groups []tls.CurveID
		want   []byte // of ServerKeyExchange: its first bytes
		scheme tls.SignatureScheme
	}{
		{defect.Set{}, ecdsaOnly(), []tls.CurveID{tls.CurveP256}, []byte{3, 0, 0x17, 65}, tls.ECDSAWithP256AndSHA256},
		{defect.Of(defect.TLSTls12Hybrid), ecdsaOnly(), []tls.CurveID{tls.X25519MLKEM768}, []byte{3, 0x11, 0xec, 32}, tls.ECDSAWithP256AndSHA256},
		{defect.Of(defect.TLSMldsaInTLS12), []tls.Certificate{pki().mldsa}, []tls.CurveID{tls.X25519}, []byte{3, 0, 0x1d, 32}, tls.MLDSA65},
	} {
		cfg := serverConfig()
		cfg.Certificates, cfg.Defects = c.certs, c.set
		near, _ := start(t, cfg)
		rec := newRecords(near, 0x0301)
		if err := rec.send(typeHandshake, helloWith(t, hello12(c.groups...))); err != nil {
			t.Fatal(err)
		}
		var exchange []byte
		for _, typ := range []byte{msgServerHello, msgCertificate, msgServerKeyExchange, msgServerHelloDone} {
			msg, err := rec.message()
			if err != nil || msg[0] != typ {
				t.Fatalf("message %v, error %v, want type %d", msg, err, typ)
			}
			if typ == msgServerKeyExchange {
				exchange = msg[4:]
			}
		}
		at := 4 + int(exchange[3])
		if !bytes.HasPrefix(exchange, c.want) || binary.BigEndian.Uint16(exchange[at:]) != uint16(c.scheme) {
			t.Errorf("ServerKeyExchange % x ... % x", exchange[:4], exchange[at:at+2])
		}
	}
}

func ecdsaOnly() []tls.Certificate { return []tls.Certificate{pki().ecdsa} }
