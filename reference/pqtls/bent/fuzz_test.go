package bent

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/assay-bench/assay/reference/defect"
	"golang.org/x/crypto/cryptobyte"
)

// FuzzClientHello holds the parser to this: it never panics, and it errs with an alert.
func FuzzClientHello(f *testing.F) {
	f.Add(helloWith(f, nil), false)
	f.Add(helloWith(f, hello12(tls.CurveP256)), true)
	f.Add(helloWith(f, func(h *clientHello) {
		h.identities, h.binders = []identity{{[]byte("ticket"), 1}}, [][]byte{make([]byte, 32)}
		h.earlyData, h.alpn, h.cookie = true, []string{"echo"}, []byte("cookie")
	}), false)
	f.Add([]byte{1, 0, 0, 0}, false)
	f.Fuzz(func(t *testing.T, raw []byte, lenient bool) {
		h, err := parseClientHello(raw, lax{trailing: lenient, duplicate: lenient})
		var refused *AlertError
		if err != nil && !errors.As(err, &refused) {
			t.Fatalf("error without an alert: %v", err)
		}
		if err == nil && (len(h.random) != 32 || len(h.suites) == 0 || len(h.unbound()) > len(raw)) {
			t.Fatalf("parsed %+v", h)
		}
	})
}

// replay is a connection that reads given bytes and drops what is written.
type replay struct {
	net.Conn
	in *bytes.Reader
}

func (r replay) Read(p []byte) (int, error)       { return r.in.Read(p) }
func (replay) Write(p []byte) (int, error)        { return len(p), nil }
func (replay) Close() error                       { return nil }
func (replay) SetDeadline(time.Time) error        { return nil }
func (replay) SetReadDeadline(time.Time) error    { return nil }
func (replay) SetWriteDeadline(t time.Time) error { return nil }

// FuzzServerFlight gives a client bytes in place of a server: first as records, so that ServerHello is
// reached, then as the messages of an opened flight.
func FuzzServerFlight(f *testing.F) {
	h := &serverHello{random: random(32), session: make([]byte, 32), suite: 0x1301, hasShare: true, group: tls.X25519, share: random(32)}
	f.Add(record(version12, h.marshal13()), false)
	h.random = retryRandom[:]
	f.Add(record(version12, h.marshal13()), true)
	f.Add(bytes.Join([][]byte{
		marshalEncryptedExtensions("echo"), marshalCertificateRequest(),
		marshalCertificate([][]byte{pki().ecdsa.Certificate[0]}, []byte("response")),
		marshalCertificateVerify(tls.ECDSAWithP256AndSHA256, []byte("signature")),
		message(msgFinished, addBytes(make([]byte, 32))),
		newTicket{lifetime: 1, nonce: []byte{0}, ticket: []byte("ticket")}.marshal(),
	}, nil), true)
	f.Add(bytes.Join([][]byte{
		certificate12([][]byte{pki().ecdsa.Certificate[0]}),
		message(msgServerKeyExchange, func(b *cryptobyte.Builder) { b.AddBytes(params12(tls.X25519, random(32))) }),
		message(msgServerHelloDone, func(*cryptobyte.Builder) {}),
	}, nil), false)
	f.Fuzz(func(t *testing.T, data []byte, lenient bool) {
		cfg := clientConfig()
		cfg.TLS12, cfg.AskStaple, cfg.ALPN = true, true, []string{"echo"}
		if lenient {
			cfg.Defects = defect.Of(defect.TLSClientSessionIDUnchecked, defect.TLSClientRetryGroupUnchecked,
				defect.TLSClientShareGroupUnchecked, defect.TLSClientCiphertextLengthUnchecked,
				defect.TLSClientChainUnverified, defect.TLSClientSignatureUnchecked)
		}
		if _, err := Dial(replay{in: bytes.NewReader(data)}, cfg); err == nil && !lenient {
			t.Fatal("connected to garbage")
		}
		for _, run := range []func(*client) error{(*client).readFlight, (*client).flight12} {
			if err := run(opened(cfg, data)); err == nil {
				t.Fatal("a flight of garbage verifies")
			}
		}
		conn := &Conn{rec: opened(cfg, data).rec, fail: func(err error) error { return err },
			keep: func(newTicket) any { return nil }}
		conn.rec.hand, conn.rec.done = nil, true
		_, _ = io.Copy(io.Discard, conn)
	})
}

// opened is a client whose record layer holds the messages of a flight, decrypted.
func opened(cfg ClientConfig, flight []byte) *client {
	c := newClient(replay{in: bytes.NewReader(flight)}, cfg)
	c.suite, c.server = suites[0], &serverHello{random: make([]byte, 32)}
	c.hello = &clientHello{random: make([]byte, 32), alpn: cfg.ALPN, groups: everyGroup}
	c.keys = newSchedule(c.suite, nil)
	c.keys.share(nil, nil)
	c.rec.hand = bytes.Clone(flight)
	return c
}
