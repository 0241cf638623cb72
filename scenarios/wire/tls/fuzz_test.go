package tls

import (
	"bytes"
	"context"
	"testing"
	"time"
)

func FuzzParseHello(f *testing.F) {
	f.Add(sampleHello(f).Marshal())
	f.Add([]byte{1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHello(b)
		if err != nil {
			return
		}
		_ = seeHello(h, len(b))
		again, err := ParseHello(h.Marshal())
		if err != nil {
			t.Fatalf("a hello that was read is not read again: %v", err)
		}
		if !bytes.Equal(h.Marshal(), again.Marshal()) {
			t.Error("the second reading differs")
		}
		var shares []KeyShare
		if shares, err = h.Shares(); err == nil && len(shares) > 0 {
			h.SetShares(shares)
			if got, err := h.Shares(); err != nil || len(got) != len(shares) {
				t.Errorf("shares: %d of %d, %v", len(got), len(shares), err)
			}
		}
	})
}

// sealedFlight puts fuzzed messages under keys and gives the link that reads them.
func sealedFlight(t *testing.T, a algorithms, b []byte) *link {
	t.Helper()
	secret := make([]byte, a.size)
	out, err := newHalf(a, secret)
	if err != nil {
		t.Fatal(err)
	}
	in, err := newHalf(a, secret)
	if err != nil {
		t.Fatal(err)
	}
	writer := &link{out: out, version: version12}
	half := len(b) / 2
	raw := append(writer.frame(recordHandshake, b[:half]), writer.frame(recordHandshake, b[half:])...)
	l, release := newLink(context.Background(), &canned{in: raw}, time.Second)
	t.Cleanup(release)
	l.in = in
	return l
}

// flightSeed is a flight with one message of each kind.
func flightSeed() []byte {
	var b []byte
	b = append(b, message(msgEncryptedExtensions, appendVec16(nil, extension(nil, extALPN, protocols([]string{"h2"}))))...)
	b = append(b, certificateRequest()...)
	b = append(b, certificateMessage(nil, [][]byte{{1, 2, 3}}, []byte{4})...)
	b = append(b, verifyMessage(MLDSA65, []byte{5})...)
	return append(b, message(msgFinished, make([]byte, 32))...)
}

func ticketSeed() []byte {
	body := appendVec16(appendVec8(make([]byte, 8), []byte{1}), []byte("ticket"))
	return append(message(msgTicket, appendVec16(body, nil)), message(msgKeyUpdate, []byte{0})...)
}

func FuzzServerFlight(f *testing.F) {
	f.Add(flightSeed())
	f.Add(ticketSeed())
	a, _ := algorithmsOf(AES128SHA256)
	f.Fuzz(func(t *testing.T, b []byte) {
		r := newClientRun(Client{}, sealedFlight(t, a, b))
		r.algo, r.serverHS = a, make([]byte, a.size)
		if err := r.readFlight(); err == nil {
			t.Error("a flight without the secret was taken")
		}
		r = newClientRun(Client{}, sealedFlight(t, a, b))
		r.algo, r.master = a, make([]byte, a.size)
		if err := r.drain(time.Second); err == nil {
			t.Error("the end of the connection was not seen")
		}
		m := message(msgServerHello, b)
		if h, err := parseServerHello(m); err == nil {
			_, _, _ = h.share()
			_, _, _ = h.version(), h.group(), h.sentinel()
		}
		_ = (&LegacySeen{}).message(message(msgServerKeyExchange, b))
		_ = (&LegacySeen{}).message(message(msgCertificate, b))
	})
}

func FuzzClientFlight(f *testing.F) {
	f.Add(flightSeed()[4+9:])
	f.Add(append(certificateMessage(nil, nil, nil), message(msgFinished, make([]byte, 32))...))
	a, _ := algorithmsOf(AES128SHA256)
	f.Fuzz(func(t *testing.T, b []byte) {
		r := &serverRun{l: sealedFlight(t, a, b), algo: a, clientHS: make([]byte, a.size)}
		if err := r.awaitClient(); err == nil {
			t.Error("a flight without the secret was taken")
		}
	})
}

// Whatever a peer says from the first byte on, both roles end, and within their bounds.
func FuzzRecords(f *testing.F) {
	f.Add(plainRecord(recordHandshake, version12, message(msgServerHello, make([]byte, 40))))
	f.Add([]byte{21, 3, 3, 0, 2, 2, 40})
	f.Add(plainRecord(recordHandshake, 0x0301, sampleHello(f).Marshal()))
	id := authorities()["ed25519"].id
	f.Fuzz(func(t *testing.T, b []byte) {
		out := Client{Offer: offerOf(X25519)}.Run(t.Context(), &canned{in: bytes.Clone(b)})
		if out.Ending == Completed || out.Ending == "" || out.Down > maxRead {
			t.Errorf("client: %v after %d bytes", out.Ending, out.Down)
		}
		heard := Server{Identity: id}.Run(t.Context(), &canned{in: bytes.Clone(b)})
		if heard.Ending == Completed || heard.Ending == "" || heard.Up > maxRead {
			t.Errorf("server: %v after %d bytes", heard.Ending, heard.Up)
		}
	})
}

func FuzzDescribe(f *testing.F) {
	f.Add(plainRecord(recordHandshake, version12, flightSeed()), logServerHandshake+" 00 "+"00")
	f.Add(plainRecord(recordHandshake, 0x0301, sampleHello(f).Marshal()), "")
	f.Fuzz(func(t *testing.T, b []byte, log string) {
		if text := Describe(FromServer, b, []string{log}); len(text) > 1<<20 {
			t.Errorf("%d bytes of text for %d", len(text), len(b))
		}
	})
}
