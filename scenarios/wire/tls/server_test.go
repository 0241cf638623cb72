package tls

import (
	"bytes"
	"crypto"
	"crypto/mldsa"
	"crypto/tls"
	"fmt"
	"slices"
	"testing"
	"time"
)

func dialConfig(kind string, groups ...Group) *tls.Config {
	cfg := &tls.Config{RootCAs: authorities()[kind].roots, ServerName: "server.test", MinVersion: tls.VersionTLS12}
	for _, g := range groups {
		cfg.CurvePreferences = append(cfg.CurvePreferences, tls.CurveID(g))
	}
	return cfg
}

func TestServerCompletesEveryCombination(t *testing.T) {
	seen := 0
	for _, g := range Groups() {
		for _, kind := range kinds {
			for _, suite := range []Suite{AES128SHA256, AES256SHA384} {
				seen++
				t.Run(fmt.Sprintf("%v/%s/%v", g, kind, suite), func(t *testing.T) {
					s := Server{Identity: authorities()[kind].id, Suite: suite, Echo: true, Seed: [32]byte{byte(seen)}}
					heard, d := serve(t, s, dialConfig(kind, g))
					if heard.Ending != Completed || d.err != nil || d.got != "ping" || string(heard.App) != "ping" {
						t.Fatalf("ending %v %q, client %v %q", heard.Ending, heard.Detail, d.err, d.got)
					}
					if d.state.CurveID != tls.CurveID(g) || d.state.CipherSuite != uint16(suite) || heard.Group != g || !heard.FinishedValid {
						t.Errorf("client %v %x, heard %+v", d.state.CurveID, d.state.CipherSuite, heard)
					}
					if h := heard.Hello; len(h.Shares) == 0 || h.Shares[0].Fault != "" || h.Shares[0].Bytes != g.ClientShare() || h.ServerName != "server.test" {
						t.Errorf("hello = %+v", h)
					}
					if heard.Alert != nil || heard.Protected != 2 || heard.First != 0x0301 || !slices.Equal(heard.Records, []uint16{version12}) {
						t.Errorf("alert %v, protected %d, first %x, records %x", heard.Alert, heard.Protected, heard.First, heard.Records)
					}
				})
			}
		}
	}
	if seen == 0 {
		t.Fatal("no combinations")
	}
}

func TestServerAsksAgain(t *testing.T) {
	pairs := map[Group]Group{X25519: P256, P256: X25519, P384: X25519, SecP256r1MLKEM768: X25519MLKEM768,
		SecP384r1MLKEM1024: X25519MLKEM768, MLKEM1024: X25519MLKEM768}
	for g, shared := range pairs {
		s := Server{Identity: authorities()["ecdsa"].id, Groups: []Group{g}, Echo: true}
		cfg := dialConfig("ecdsa", shared, g)
		heard, d := serve(t, s, cfg)
		if heard.Ending != Completed || d.err != nil || heard.Group != g {
			t.Errorf("%v: %v %q, client %v", g, heard.Ending, heard.Detail, d.err)
		}
		if slices.ContainsFunc(heard.Hello.Shares, func(s ShareSeen) bool { return s.Group == g }) {
			continue // crypto/tls shared it at once
		}
		if heard.Second == nil || len(heard.Second.Shares) != 1 || heard.Second.Shares[0].Group != g || !d.state.HelloRetryRequest {
			t.Errorf("%v: second hello %+v", g, heard.Second)
		}
	}
	s := Server{Identity: authorities()["ecdsa"].id, Suite: AES256SHA384, Retry: &RetryPlan{Group: P384, Cookie: []byte{1, 2}}, Echo: true}
	heard, d := serve(t, s, dialConfig("ecdsa", X25519, P384))
	if heard.Ending != Completed || d.err != nil || !slices.Contains(heard.Second.Extensions, uint16(extCookie)) {
		t.Errorf("cookie: %v %q, client %v", heard.Ending, heard.Detail, d.err)
	}
}

// Both roles of the prober together: every group by HelloRetryRequest.
func TestProbersRetry(t *testing.T) {
	seen := 0
	for _, g := range Groups() {
		seen++
		a, b := loopback(t)
		ctx := within(t)
		done := make(chan Heard, 1)
		s := Server{Identity: authorities()["mldsa"].id, Groups: []Group{g}, Echo: true}
		go func() { done <- s.Run(ctx, b) }()
		c := Client{Offer: Offer{Groups: []Group{g}, Shares: []Group{}}, Send: []byte("x"), Want: 1}
		out, heard := c.Run(ctx, a), <-done
		if out.Ending != Completed || heard.Ending != Completed || heard.Second == nil || heard.Second.Shares[0].Fault != "" {
			t.Errorf("%v: client %v %q, server %v %q", g, out.Ending, out.Detail, heard.Ending, heard.Detail)
		}
	}
	if seen == 0 {
		t.Fatal("no groups")
	}
}

func TestServerResumes(t *testing.T) {
	for _, suite := range []Suite{AES128SHA256, AES256SHA384} {
		book := NewSessionBook()
		s := Server{Identity: authorities()["ecdsa"].id, Suite: suite, Tickets: 2, Sessions: book, Echo: true}
		cfg := dialConfig("ecdsa", X25519MLKEM768, P384)
		cfg.ClientSessionCache = tls.NewLRUClientSessionCache(4)
		if heard, d := serve(t, s, cfg); heard.Resumed || d.err != nil {
			t.Fatalf("first: %+v %v", heard, d.err)
		}
		heard, d := serve(t, s, cfg)
		if !heard.Resumed || !d.state.DidResume || heard.Ending != Completed || heard.TicketGroup != X25519MLKEM768 || len(heard.Ticket) != 64 {
			t.Errorf("%v: heard %+v, client %v %v", suite, heard, d.state.DidResume, d.err)
		}
		if h := heard.Hello; h.Tickets != 1 || !bytes.Equal(h.Modes, []byte{1}) || h.Early {
			t.Errorf("%v: hello = %+v", suite, h)
		}
		s.Groups = []Group{P384}
		heard, d = serve(t, s, cfg)
		if !heard.Resumed || !d.state.DidResume || heard.Second == nil || heard.Group != P384 {
			t.Errorf("%v after a retry: %v %q, client %v", suite, heard.Ending, heard.Detail, d.err)
		}
		s.Sessions = nil
		if heard, d = serve(t, s, cfg); heard.Resumed || d.err != nil || heard.Ending != Completed {
			t.Errorf("%v without a book: %+v %v", suite, heard, d.err)
		}
	}
}

func TestServerSeesClientCertificate(t *testing.T) {
	for _, kind := range kinds {
		s := Server{Identity: authorities()["ecdsa"].id, Request: true, Echo: true}
		cfg := dialConfig("ecdsa", X25519)
		if heard, d := serve(t, s, cfg); heard.Ending != Completed || len(heard.Certificates) != 0 || d.err != nil {
			t.Errorf("none: %v %q %v", heard.Ending, heard.Detail, d.err)
		}
		cfg.Certificates = []tls.Certificate{authorities()[kind].certificate(nil)}
		heard, d := serve(t, s, cfg)
		if heard.Ending != Completed || !heard.SignatureValid || len(heard.Certificates) != 2 || heard.Scheme != authorities()[kind].id.Scheme {
			t.Errorf("%s: %v %q, valid %v, client %v", kind, heard.Ending, heard.Detail, heard.SignatureValid, d.err)
		}
	}
}

func TestServerSendsALPNAndStaple(t *testing.T) {
	s := Server{Identity: authorities()["mldsa"].id, ALPN: []string{"nope", "echo"}, Answer: []byte("pong")}
	s.Identity.Staple = bytes.Repeat([]byte{3}, 3508)
	cfg := dialConfig("mldsa", X25519MLKEM768)
	cfg.NextProtos = []string{"h2", "echo"}
	heard, d := serve(t, s, cfg)
	if d.err != nil || d.got != "pong" || d.state.NegotiatedProtocol != "echo" || !bytes.Equal(d.state.OCSPResponse, s.Identity.Staple) {
		t.Errorf("client %v %q %q, heard %v %q", d.err, d.got, d.state.NegotiatedProtocol, heard.Ending, heard.Detail)
	}
}

func pad(_ Group, b []byte) []byte { return append(b, 0) }

func TestServerBends(t *testing.T) {
	random := func(g Group, b []byte) []byte {
		_, kem, _ := g.Parts()
		for i := range min(kem, 1088) {
			b[i] ^= byte(i + 1)
		}
		return b
	}
	cases := []struct {
		name   string
		change func(*Server)
		code   AlertCode // 0: any that cannot be read
	}{
		{"padded share", func(s *Server) { s.Bend.Share = pad }, illegalParameter},
		{"zero", func(s *Server) { s.Bend.Share = func(_ Group, b []byte) []byte { clear(b[1088:]); return b } }, illegalParameter},
		{"random ciphertext", func(s *Server) { s.Bend.Share = random }, 0},
		{"swapped secret", func(s *Server) {
			s.Bend.Secret = func(_ Group, e, k []byte) []byte { return slices.Concat(e, k) }
		}, 0},
		{"unoffered group", func(s *Server) { s.Bend.Group = Kyber768Draft }, illegalParameter},
		{"no share of it", func(s *Server) { s.Bend.Group = P384 }, illegalParameter},
		{"session id", func(s *Server) { s.Bend.SessionID = func(b []byte) []byte { b[0] ^= 1; return b } }, illegalParameter},
		{"suite", func(s *Server) { s.Bend.Suite = 0x1305 }, illegalParameter},
		{"retry to the shared", func(s *Server) { s.Retry = &RetryPlan{Group: X25519MLKEM768} }, illegalParameter},
		{"retry to 0x6399", func(s *Server) { s.Retry = &RetryPlan{Group: Kyber768Draft} }, illegalParameter},
		{"retry twice", func(s *Server) { s.Retry = &RetryPlan{Group: P384, Twice: true} }, unexpectedMsg},
		{"suite after retry", func(s *Server) { s.Retry = &RetryPlan{Group: P384, Suite: AES256SHA384} }, illegalParameter},
		{"scheme", func(s *Server) { s.Bend.Scheme = MLDSA44 }, illegalParameter},
		{"signature", func(s *Server) { s.Bend.Signature = func(b []byte) []byte { return b[1:] } }, decryptError},
		{"context", func(s *Server) {
			s.Bend.Sign = func(k crypto.Signer, b []byte) ([]byte, error) { return k.Sign(nil, b, &mldsa.Options{Context: "x"}) }
		}, decryptError},
		{"finished", func(s *Server) { s.Bend.Finished = func(b []byte) []byte { b[0] ^= 1; return b } }, decryptError},
		{"no certificate", func(s *Server) { s.Bend.NoCertificate = true }, unexpectedMsg},
		{"record version", func(s *Server) { s.Bend.RecordVersion = version13 }, 70},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := Server{Identity: authorities()["mldsa"].id, Echo: true}
			c.change(&s)
			heard, d := serve(t, s, dialConfig("mldsa", X25519MLKEM768, X25519, P384))
			if heard.Ending != Alerted || heard.FinishedValid || heard.Protected != 0 || d.err == nil {
				t.Fatalf("ending %v %q, protected %d, client %v", heard.Ending, heard.Detail, heard.Protected, d.err)
			}
			if c.code != 0 && heard.Alert.Code != c.code || heard.Alert.Unread != (c.code == 0 && heard.Alert.Encrypted) {
				t.Errorf("alert = %+v, client %v", heard.Alert, d.err)
			}
		})
	}
}

func TestServerRefuses(t *testing.T) {
	s := Server{Identity: authorities()["ecdsa"].id, Groups: []Group{P384}}
	heard, d := serve(t, s, dialConfig("ecdsa", X25519))
	if heard.Ending != EOF || heard.Detail == "" || d.err == nil || heard.Group != 0 {
		t.Errorf("no common group: %v %q, client %v", heard.Ending, heard.Detail, d.err)
	}
	cfg := dialConfig("ecdsa", X25519)
	cfg.MaxVersion = tls.VersionTLS12
	if heard, d = serve(t, s, cfg); d.err == nil || len(heard.Hello.Versions) == 0 {
		t.Errorf("TLS 1.2 client: %v %q", heard.Ending, heard.Detail)
	}
}

func TestServerWithTLS12(t *testing.T) {
	cases := []struct {
		name   string
		kind   string
		plan   LegacyPlan
		ending Ending
		code   AlertCode
	}{
		{"sentinel", "ecdsa", LegacyPlan{Sentinel: true, HelloOnly: true}, Alerted, illegalParameter},
		{"whole", "ecdsa", LegacyPlan{}, Answered, 0},
		{"mldsa", "mldsa", LegacyPlan{}, Alerted, illegalParameter},
	}
	for _, c := range cases {
		s := Server{Identity: authorities()[c.kind].id, Legacy: &c.plan}
		heard, d := serve(t, s, dialConfig(c.kind, X25519, P256))
		if heard.Ending != c.ending || d.err == nil {
			t.Errorf("%s: %v %q %+v, client %v", c.name, heard.Ending, heard.Detail, heard.Alert, d.err)
		}
		if c.code != 0 && heard.Alert != nil && heard.Alert.Code != c.code {
			t.Errorf("%s: alert %+v, client %v", c.name, heard.Alert, d.err)
		}
	}
}

// Faults of a client's share, made by the prober's own client.
func TestServerSeesShareFaults(t *testing.T) {
	cases := []struct {
		group Group
		bend  func([]byte) []byte
		want  string
	}{
		{X25519MLKEM768, func(b []byte) []byte { return b[:32] }, "length"},
		{X25519MLKEM768, func(b []byte) []byte { b[1150], b[1151] = 0xff, 0xff; return b }, "coefficient"},
		{X25519MLKEM768, func(b []byte) []byte { clear(b[1184:]); return b }, "zero"},
		{SecP256r1MLKEM768, func(b []byte) []byte { b[0] = 2; return b }, "point"},
		{SecP384r1MLKEM1024, func(b []byte) []byte { b[96] ^= 1; return b }, "point"},
		{P256, func(b []byte) []byte { b[64] ^= 1; return b }, "point"},
		{MLKEM1024, func(b []byte) []byte { b[1534], b[1535] = 0xff, 0xff; return b }, "coefficient"},
		{X25519, func(b []byte) []byte { return append(b, 0) }, "length"},
		{MLKEM1024, func(b []byte) []byte { return b }, ""},
	}
	for _, c := range cases {
		a, b := loopback(t)
		ctx := within(t)
		done := make(chan Heard, 1)
		go func() { done <- (Server{Identity: authorities()["ecdsa"].id}).Run(ctx, b) }()
		client := Client{Offer: offerOf(c.group), Bend: func(h *Hello) { h.EditShare(c.group, c.bend) }}
		out, heard := client.Run(ctx, a), <-done
		if got := heard.Hello.Shares[0]; got.Fault != c.want {
			t.Errorf("%v: fault %q, want %q", c.group, got.Fault, c.want)
		}
		if c.want != "" && (out.Ending != Alerted || out.Alert.Code != illegalParameter) {
			t.Errorf("%v %s: %v %q", c.group, c.want, out.Ending, out.Detail)
		}
	}
}

// The prober's client tells which wrong secret a server used.
func TestClientSeesOtherSecrets(t *testing.T) {
	swap := func(g Group, b []byte) []byte {
		s, _ := shapeOf(g)
		return slices.Concat(b[s.ciphertext():], b[:s.ciphertext()])
	}
	cases := map[string]ServerBend{
		"swapped":       {Secret: func(_ Group, e, k []byte) []byte { return slices.Concat(e, k) }},
		"kem-only":      {Secret: func(_ Group, _, k []byte) []byte { return k }},
		"ecdh-only":     {Secret: func(_ Group, e, _ []byte) []byte { return e }},
		"share-swapped": {Share: swap},
	}
	for name, bend := range cases {
		a, b := loopback(t)
		ctx := within(t)
		done := make(chan Heard, 1)
		go func() { done <- (Server{Identity: authorities()["ecdsa"].id, Bend: bend}).Run(ctx, b) }()
		out, heard := (Client{Offer: offerOf(X25519MLKEM768)}).Run(ctx, a), <-done
		if out.Ending != Unreadable || out.Stage != "server-hello" || heard.FinishedValid {
			t.Errorf("%s: %v %q, server %v", name, out.Ending, out.Detail, heard.Ending)
		}
		for other, fits := range out.Others {
			if fits != (other == name) {
				t.Errorf("server used %s: %s fits %v", name, other, fits)
			}
		}
		if len(out.Others) != 4 {
			t.Errorf("%s: others = %v", name, out.Others)
		}
	}
}

func TestServerReadsPieces(t *testing.T) {
	deliveries := []Delivery{{EmptyFirst: true}, {EmptyFirst: true, Records: []int{0, 1, 0, 5}}, {Segments: 1}}
	for at := 1; at <= 64; at++ {
		deliveries = append(deliveries, Delivery{Records: []int{at}}, Delivery{Segments: at})
	}
	for _, d := range deliveries {
		a, b := loopback(t)
		ctx := within(t)
		done := make(chan Heard, 1)
		go func() { done <- (Server{Identity: authorities()["ecdsa"].id, Echo: true}).Run(ctx, b) }()
		c := Client{Offer: offerOf(X25519), Deliver: d, Send: []byte("x"), Want: 1}
		if out, heard := c.Run(ctx, a), <-done; out.Ending != Completed || heard.Ending != Completed {
			t.Errorf("%+v: client %v %q, server %v %q", d, out.Ending, out.Detail, heard.Ending, heard.Detail)
		}
	}
}

func TestServerWaitIsShort(t *testing.T) {
	_, b := loopback(t)
	began := time.Now()
	heard := Server{Wait: 30 * time.Millisecond}.Run(within(t), b)
	if heard.Ending != Silent || time.Since(began) > 3*time.Second {
		t.Errorf("%v after %v", heard.Ending, time.Since(began))
	}
}
