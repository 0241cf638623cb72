package pqtls

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/assay-bench/assay/reference/pqtls/pki"
)

// editable is a ClientHello whose extensions can be changed.
type editable struct {
	head []byte // version, random, session id, suites, compression
	exts []extension
}

type extension struct {
	id   uint16
	data []byte
}

// captured returns the hello that crypto/tls sends with cfg.
func captured(t testing.TB, cfg *tls.Config) *editable {
	t.Helper()
	c := &capture{}
	if err := tls.Client(c, cfg).Handshake(); err == nil {
		t.Fatal("a handshake with nobody succeeds")
	}
	return parsed(t, c.sent.Bytes()[recordHeader+messageHeader:])
}

func parsed(t testing.TB, body []byte) *editable {
	t.Helper()
	at := 34
	at += 1 + int(body[at])
	at += 2 + int(binary.BigEndian.Uint16(body[at:]))
	at += 1 + int(body[at])
	h := &editable{head: body[:at]}
	for rest := body[at+2:]; len(rest) > 0; {
		n := int(binary.BigEndian.Uint16(rest[2:]))
		h.exts = append(h.exts, extension{binary.BigEndian.Uint16(rest), rest[4 : 4+n]})
		rest = rest[4+n:]
	}
	if len(h.exts) == 0 {
		t.Fatal("a hello without extensions")
	}
	return h
}

func (h *editable) remove(id uint16) {
	h.exts = slices.DeleteFunc(h.exts, func(e extension) bool { return e.id == id })
}

func (h *editable) set(id uint16, data ...byte) {
	i := slices.IndexFunc(h.exts, func(e extension) bool { return e.id == id })
	if i < 0 {
		h.exts = append(h.exts, extension{id, data})
		return
	}
	h.exts[i].data = data
}

func (h *editable) get(id uint16) []byte {
	i := slices.IndexFunc(h.exts, func(e extension) bool { return e.id == id })
	return slices.Clone(h.exts[i].data)
}

// share sets key_share to a list of shares.
func (h *editable) share(shares ...[]byte) {
	h.set(extKeyShare, prefixed(2, bytes.Join(shares, nil))...)
}

func keyShare(group tls.CurveID, data []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(group)), prefixed(2, data)...)
}

// shareOf returns the data of a share of the hello.
func (h *editable) shareOf(group tls.CurveID) []byte {
	for list := h.get(extKeyShare)[2:]; len(list) > 0; {
		n := int(binary.BigEndian.Uint16(list[2:]))
		if tls.CurveID(binary.BigEndian.Uint16(list)) == group {
			return list[4 : 4+n]
		}
		list = list[4+n:]
	}
	return nil
}

func prefixed(octets int, data []byte) []byte {
	var length [4]byte
	binary.BigEndian.PutUint32(length[:], uint32(len(data)))
	return append(length[4-octets:len(length):len(length)], data...)
}

func groupList(groups ...uint16) []byte {
	var list []byte
	for _, g := range groups {
		list = binary.BigEndian.AppendUint16(list, g)
	}
	return prefixed(2, list)
}

// record returns the hello in one record, of the version of a first hello.
func (h *editable) record() []byte { return h.recordOf(1) }

func (h *editable) recordOf(minor byte) []byte {
	var exts []byte
	for _, e := range h.exts {
		exts = append(binary.BigEndian.AppendUint16(exts, e.id), prefixed(2, e.data)...)
	}
	message := append([]byte{typeClientHello}, prefixed(3, slices.Concat(h.head, prefixed(2, exts)))...)
	return append([]byte{recordHandshake, 3, minor}, prefixed(2, message)...)
}

// capture is a connection to nobody.
type capture struct {
	net.Conn
	sent bytes.Buffer
}

func (c *capture) Write(p []byte) (int, error) { return c.sent.Write(p) }
func (*capture) Read([]byte) (int, error)      { return 0, io.EOF }
func (*capture) Close() error                  { return nil }

// answer is the first record that comes back, besides change_cipher_spec.
type answer struct {
	typ   byte
	minor byte // of the record version
	alert byte
	body  []byte
}

func readAnswer(t testing.TB, conn io.Reader) (answer, error) {
	t.Helper()
	for {
		header := make([]byte, recordHeader)
		if _, err := io.ReadFull(conn, header); err != nil {
			return answer{}, err
		}
		body := make([]byte, binary.BigEndian.Uint16(header[3:]))
		if _, err := io.ReadFull(conn, body); err != nil {
			return answer{}, err
		}
		if header[0] == 20 {
			continue
		}
		a := answer{typ: header[0], minor: header[2], body: body}
		if a.typ == recordAlert && len(body) == 2 {
			a.alert = body[1]
		}
		return a, nil
	}
}

// send writes a hello and returns the answer.
func (r *rig) send(t testing.TB, h *editable) answer {
	t.Helper()
	conn := r.tcp(t)
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write(h.record()); err != nil {
		t.Fatal(err)
	}
	a, err := readAnswer(t, conn)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	return a
}

// flightLength returns the bytes that the server sends after a hello and its end.
func flightLength(t testing.TB, r *rig, edit func(*editable)) int {
	t.Helper()
	h := captured(t, r.clientConfig())
	if edit != nil {
		edit(h)
	}
	conn := r.tcp(t)
	if _, err := conn.Write(h.record()); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	flight, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return len(flight)
}

// alone starts crypto/tls without the wrapper, to see which corrections it needs.
func alone(t testing.TB, cfg *tls.Config) *rig {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
			_ = tls.Server(conn, cfg).Handshake()
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close() })
	return &rig{Server: &Server{listener: l}}
}

const (
	illegalParameter = 47
	decodeError      = 50
	internalError    = 80
	serverHello      = 0 // no alert at all
)

func helloCases() []struct {
	name  string
	edit  func(*editable)
	want  byte // of the server
	plain byte // of crypto/tls alone: differs where the wrapper corrects it
} {
	const missing, failure = alertMissingExtension, alertHandshakeFailure
	hybrid := uint16(tls.X25519MLKEM768)
	mauled := func(f func(share []byte) []byte) func(*editable) {
		return func(h *editable) {
			h.share(keyShare(tls.X25519MLKEM768, f(slices.Clone(h.shareOf(tls.X25519MLKEM768)))))
		}
	}
	return []struct {
		name  string
		edit  func(*editable)
		want  byte
		plain byte
	}{
		{"unchanged", func(*editable) {}, serverHello, serverHello},
		{"no key_share", func(h *editable) { h.remove(extKeyShare) }, missing, serverHello},
		{"no supported_groups", func(h *editable) { h.remove(extSupportedGroups) }, missing, failure},
		{"neither", func(h *editable) { h.remove(extSupportedGroups); h.remove(extKeyShare) }, missing, failure},
		{"no signature_algorithms", func(h *editable) { h.remove(extSignatureAlgorithms) }, missing, missing},
		{"no signature_algorithms, retry", func(h *editable) {
			h.share(keyShare(tls.X25519, h.shareOf(tls.X25519)))
			h.remove(extSignatureAlgorithms)
		}, missing, serverHello},
		{"empty share", mauled(func([]byte) []byte { return nil }), decodeError, decodeError},
		{"trailing byte", func(h *editable) { h.set(extKeyShare, append(h.get(extKeyShare), 0)...) }, decodeError, decodeError},
		{"duplicate", func(h *editable) { h.exts = append(h.exts, extension{extKeyShare, h.get(extKeyShare)}) }, decodeError, decodeError},
		{"empty list", func(h *editable) { h.share() }, serverHello, serverHello},
		{"truncated share", mauled(func(s []byte) []byte { return s[1:] }), illegalParameter, illegalParameter},
		{"padded share", mauled(func(s []byte) []byte { return append(s, 0) }), illegalParameter, illegalParameter},
		{"coefficient", mauled(func(s []byte) []byte { s[0], s[1] = 0x01, s[1]|0x0d; return s }), illegalParameter, illegalParameter},
		{"zero point", mauled(func(s []byte) []byte { return append(s[:1184], make([]byte, 32)...) }), illegalParameter, illegalParameter},
		{"swapped parts", mauled(func(s []byte) []byte { return slices.Concat(s[1184:], s[:1184]) }), illegalParameter, illegalParameter},
		{"classical share of hybrid length", func(h *editable) {
			h.set(extSupportedGroups, groupList(uint16(tls.X25519))...)
			h.share(keyShare(tls.X25519, make([]byte, 1216)))
		}, illegalParameter, illegalParameter},
		{"unknown groups", func(h *editable) {
			h.set(extSupportedGroups, groupList(0x6399, 0x0a0a)...)
			h.share(keyShare(0x6399, []byte{1}))
		}, failure, failure},
		{"TLS 1.2 with a group of 1.3", func(h *editable) {
			h.set(extSupportedVersions, 2, 3, 3)
			h.set(extSupportedGroups, groupList(hybrid)...)
		}, failure, failure},
		{"mldsa65 alone", func(h *editable) { h.set(extSignatureAlgorithms, groupList(0x0905)...) }, serverHello, serverHello},
		{"no common scheme", func(h *editable) { h.set(extSignatureAlgorithms, groupList(0x0a0a)...) }, failure, failure},
	}
}

func TestHellosAreAnsweredRight(t *testing.T) {
	r := start(t, nil)
	plain := alone(t, r.Server.tls)
	cases := helloCases()
	for _, c := range cases {
		h := captured(t, r.clientConfig())
		c.edit(h)
		got := r.send(t, h)
		if got.alert != c.want || (got.typ == recordAlert) != (c.want != serverHello) {
			t.Errorf("%s: record type %d, alert %d (%s), want %d", c.name, got.typ, got.alert, alertName(got.alert), c.want)
		}
		if got.minor != 3 {
			t.Errorf("%s: record version 0x030%d", c.name, got.minor)
		}
		if got := plain.send(t, h); got.alert != c.plain {
			t.Errorf("%s: crypto/tls alone sends %d (%s), want %d: is the correction still needed?", c.name, got.alert, alertName(got.alert), c.plain)
		}
	}
	if len(cases) == 0 {
		t.Error("no case ran")
	}
}

func TestHellosWithoutFittingCertificate(t *testing.T) {
	classical, only := start(t, onlyKind(pki.ECDSA)), start(t, onlyKind(pki.MLDSA))
	h := captured(t, classical.clientConfig())
	h.set(extSignatureAlgorithms, groupList(0x0905)...)
	if got := classical.send(t, h); got.alert != alertHandshakeFailure {
		t.Errorf("mldsa65 alone at a classical server: alert %d", got.alert)
	}
	old := only.clientConfig()
	old.MaxVersion = tls.VersionTLS12
	h = captured(t, old)
	if got := only.send(t, h); got.alert != alertHandshakeFailure || got.minor != 3 {
		t.Errorf("TLS 1.2 at an ML-DSA server: alert %d in a record 0x030%d", got.alert, got.minor)
	}
	if got := alone(t, only.Server.tls).send(t, h); got.alert != internalError {
		t.Errorf("crypto/tls alone sends %d: is the correction still needed?", got.alert)
	}
	if !soon(func() bool { return only.Stats().Failed["handshake_failure"] == 1 }) {
		t.Errorf("counted %+v", only.Stats())
	}
}

func TestSecondHello(t *testing.T) {
	cases := map[string]struct {
		edit func(h *editable, hybrid, x25519 []byte)
		want byte
	}{
		"none":        {func(h *editable, _, _ []byte) { h.share() }, illegalParameter},
		"absent":      {func(h *editable, _, _ []byte) { h.remove(extKeyShare) }, illegalParameter},
		"other group": {func(h *editable, _, x []byte) { h.share(keyShare(tls.X25519, x)) }, illegalParameter},
		"two": {func(h *editable, m, x []byte) {
			h.share(keyShare(tls.X25519MLKEM768, m), keyShare(tls.X25519, x))
		}, illegalParameter},
		"right": {func(h *editable, m, _ []byte) { h.share(keyShare(tls.X25519MLKEM768, m)) }, serverHello},
	}
	r := start(t, nil)
	for name, c := range cases {
		h := captured(t, r.clientConfig())
		hybrid, x25519 := slices.Clone(h.shareOf(tls.X25519MLKEM768)), slices.Clone(h.shareOf(tls.X25519))
		h.share(keyShare(tls.X25519, x25519))
		conn := r.tcp(t)
		if _, err := conn.Write(h.record()); err != nil {
			t.Fatal(err)
		}
		if retry, err := readAnswer(t, conn); err != nil || retry.typ != recordHandshake {
			t.Fatalf("%s: no retry: %+v, %v", name, retry, err)
		}
		c.edit(h, hybrid, x25519)
		if _, err := conn.Write(h.recordOf(3)); err != nil {
			t.Fatal(err)
		}
		if got, err := readAnswer(t, conn); err != nil || got.alert != c.want || got.minor != 3 {
			t.Errorf("%s: %+v, %v, want alert %d", name, got, err, c.want)
		}
	}
	if len(cases) == 0 {
		t.Error("no case ran")
	}
}

// splitting is a connection whose first record goes out in records of other sizes.
type splitting struct {
	net.Conn
	split func(message []byte) [][]byte
	done  bool
}

func (s *splitting) Write(p []byte) (int, error) {
	if s.done {
		return s.Conn.Write(p)
	}
	s.done = true
	for _, fragment := range s.split(p[recordHeader:]) {
		if _, err := s.Conn.Write(append([]byte{recordHandshake, 3, 1}, prefixed(2, fragment)...)); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

func TestFragmentedHellos(t *testing.T) {
	cases := map[string]func(m []byte) [][]byte{
		"two":            func(m []byte) [][]byte { return [][]byte{m[:300], m[300:]} },
		"first of 1":     func(m []byte) [][]byte { return [][]byte{m[:1], m[1:]} },
		"records of 75":  func(m []byte) [][]byte { return slices.Collect(slices.Chunk(m, 75)) },
		"records of one": func(m []byte) [][]byte { return slices.Collect(slices.Chunk(m, 1)) },
	}
	r := start(t, nil)
	for name, split := range cases {
		conn := tls.Client(&splitting{Conn: r.tcp(t), split: split}, r.clientConfig())
		if err := conn.Handshake(); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := exchange(t, conn, name); err != nil || conn.ConnectionState().CurveID != tls.X25519MLKEM768 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(cases) == 0 {
		t.Error("no case ran")
	}
	h := captured(t, r.clientConfig())
	h.set(21, make([]byte, 12<<10)...) // padding
	if got := r.send(t, h); got.typ != recordHandshake {
		t.Errorf("a hello of 12 KB: %+v", got)
	}
}

func TestHostileClients(t *testing.T) {
	r := start(t, func(c *Config) { c.HandshakeDeadline = 2 * time.Second })
	hello := captured(t, r.clientConfig()).record()
	cases := map[string][]byte{
		"nothing":       nil,
		"half hello":    hello[:len(hello)/2],
		"half header":   hello[:3],
		"http":          []byte("GET / HTTP/1.1\r\nHost: server.test\r\n\r\n"),
		"zeros":         make([]byte, 4096),
		"huge record":   {recordHandshake, 3, 1, 0xff, 0xff},
		"huge hello":    append([]byte{recordHandshake, 3, 1, 0x40, 0, typeClientHello, 0xff, 0xff, 0xff}, make([]byte, 1<<14-4)...),
		"empty records": bytes.Repeat([]byte{recordHandshake, 3, 1, 0, 0}, 100),
		"alert":         {recordAlert, 3, 1, 0, 2, 2, 40},
	}
	var clients sync.WaitGroup
	for name, sent := range cases {
		conn := r.tcp(t)
		if _, err := conn.Write(sent); err != nil {
			t.Fatal(err)
		}
		clients.Go(func() {
			_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
			if _, err := io.Copy(io.Discard, conn); isTimeout(err) {
				t.Errorf("%s: the connection stays open", name)
			}
		})
	}
	clients.Wait()
	for r.open() > 0 {
		time.Sleep(time.Millisecond) // the end of a connection has no event to wait for
	}
	total := int64(0)
	for _, n := range r.Stats().Failed {
		total += n
	}
	if total != int64(len(cases)) {
		t.Errorf("%d connections, counted %+v", len(cases), r.Stats().Failed)
	}
	r.mustConnect(t, r.clientConfig())
}

func isTimeout(err error) bool {
	n, ok := errors.AsType[net.Error](err)
	return ok && n.Timeout()
}

// A thousand hellos with a few bytes changed leave nothing behind.
func TestFuzzedHellosLeaveNothing(t *testing.T) {
	r := start(t, func(c *Config) { c.Certificates = c.Certificates[1:2] }) // cheap signatures
	r.mustConnect(t, r.clientConfig())
	hello := captured(t, r.clientConfig()).record()
	random := rand.New(rand.NewPCG(1, 2))
	before := runtime.NumGoroutine()
	for i := range 1000 {
		bent := slices.Clone(hello)
		for range 1 + random.IntN(4) {
			bent[recordHeader+random.IntN(len(bent)-recordHeader)] = byte(random.Uint32())
		}
		conn, err := net.Dial("tcp", r.Addr().String())
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		if _, err := conn.Write(bent); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		if err := conn.Close(); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
	}
	for end := time.Now().Add(10 * time.Second); r.open() > 0 || runtime.NumGoroutine() > before; {
		if time.Now().After(end) {
			t.Fatalf("%d connections open, %d goroutines, %d before", r.open(), runtime.NumGoroutine(), before)
		}
		time.Sleep(5 * time.Millisecond) // goroutines end without an event to wait for
	}
	r.mustConnect(t, r.clientConfig())
}

// FuzzHelloConn: whatever comes is handed on byte by byte, unless it is answered.
func FuzzHelloConn(f *testing.F) {
	hello := captured(f, &tls.Config{ServerName: "server.test"})
	f.Add(hello.record())
	f.Add(append(hello.record(), "more"...))
	hello.remove(extKeyShare)
	f.Add(hello.record())
	f.Add([]byte{recordHandshake, 3, 1, 0, 1, 1, recordHandshake, 3, 1})
	f.Fuzz(func(t *testing.T, stream []byte) {
		fake := &stub{in: bytes.NewReader(stream)}
		c := &helloConn{Conn: fake}
		got, err := io.ReadAll(c)
		if c.refused {
			if _, ok := errors.AsType[refusal](err); !ok || fake.out.Len() != recordHeader+2 {
				t.Errorf("refused with %v and %x", err, fake.out.Bytes())
			}
			return
		}
		if err != nil || !bytes.Equal(got, stream) || fake.out.Len() != 0 {
			t.Errorf("handed on %d of %d bytes, %v", len(got), len(stream), err)
		}
	})
}

type stub struct {
	net.Conn
	in  *bytes.Reader
	out bytes.Buffer
}

func (s *stub) Read(p []byte) (int, error)  { return s.in.Read(p) }
func (s *stub) Write(p []byte) (int, error) { return s.out.Write(p) }

func FuzzParseHello(f *testing.F) {
	h := captured(f, &tls.Config{ServerName: "server.test"})
	f.Add(h.record()[recordHeader+messageHeader:])
	f.Add([]byte{3, 3})
	f.Fuzz(func(t *testing.T, body []byte) {
		h, err := parseHello(body)
		if err == nil && len(h.groups)*2 > len(body) {
			t.Errorf("%d groups in %d bytes", len(h.groups), len(body))
		}
	})
}
