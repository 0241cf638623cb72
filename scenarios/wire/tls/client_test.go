package tls

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func offerOf(g Group) Offer { return Offer{ServerName: "server.test", Groups: []Group{g}} }

func configOf(kind string, groups ...Group) *tls.Config {
	cfg := &tls.Config{Certificates: []tls.Certificate{authorities()[kind].certificate(nil)}}
	for _, g := range groups {
		cfg.CurvePreferences = append(cfg.CurvePreferences, tls.CurveID(g))
	}
	return cfg
}

func TestClientCompletesEveryCombination(t *testing.T) {
	seen := 0
	for _, g := range Groups() {
		for _, kind := range kinds {
			for _, suite := range []Suite{AES128SHA256, AES256SHA384} {
				seen++
				t.Run(fmt.Sprintf("%v/%s/%v", g, kind, suite), func(t *testing.T) {
					c := Client{Offer: offerOf(g), Send: []byte("ping"), Want: 4, Seed: [32]byte{byte(seen)}}
					c.Offer.Suites = []Suite{suite}
					out, s := probe(t, c, configOf(kind, g))
					if out.Ending != Completed || string(out.App) != "ping" || s.err != nil {
						t.Fatalf("ending %v %q, app %q, server %v", out.Ending, out.Detail, out.App, s.err)
					}
					checkServerSeen(t, out, g, suite)
					if f := out.Flight; !f.SignatureValid || !f.FinishedValid || len(f.Certificates) != 2 || f.Scheme != authorities()[kind].id.Scheme {
						t.Errorf("flight = %+v", f)
					}
				})
			}
		}
	}
	if seen == 0 {
		t.Fatal("no combinations")
	}
}

func checkServerSeen(t *testing.T, out Outcome, g Group, suite Suite) {
	t.Helper()
	s := out.Server
	if s.Group != g || s.Suite != suite || s.Share != g.ServerShare() || s.Version != version13 || !s.SessionID {
		t.Errorf("server = %+v", s)
	}
	_, kem, _ := g.Parts()
	hybrid := kem != 0 && g != MLKEM1024
	if !hybrid {
		if out.Others != nil {
			t.Errorf("others = %v for %v", out.Others, g)
		}
		return
	}
	for _, name := range []string{"swapped", "kem-only", "ecdh-only"} {
		if fits, tried := out.Others[name]; fits || !tried {
			t.Errorf("other secret %s: decrypts %v, tried %v", name, fits, tried)
		}
	}
}

func TestClientFollowsRetry(t *testing.T) {
	seen := 0
	for _, g := range Groups() {
		seen++
		c := Client{Offer: Offer{Groups: []Group{X25519, g}, Shares: []Group{}}, Send: []byte("ping"), Want: 4}
		out, s := probe(t, c, configOf("ecdsa", g))
		if out.Ending != Completed || out.Retry == nil || out.Retry.Group != g || !s.state.HelloRetryRequest {
			t.Errorf("%v: ending %v %q, retry %+v", g, out.Ending, out.Detail, out.Retry)
		}
		c.StopAtRetry = true
		if out, _ := probe(t, c, configOf("ecdsa", g)); out.Ending != Retried || out.Server != nil {
			t.Errorf("%v: stopped at retry: %v", g, out.Ending)
		}
	}
	if seen == 0 {
		t.Fatal("no groups")
	}
}

func TestClientEchoesCookie(t *testing.T) {
	a, b := loopback(t)
	done := make(chan Heard, 1)
	ctx := within(t)
	s := Server{Identity: authorities()["ecdsa"].id, Retry: &RetryPlan{Group: P384, Cookie: []byte("cookie")}, Echo: true}
	go func() { done <- s.Run(ctx, b) }()
	var first, second Hello
	c := Client{Offer: Offer{Groups: []Group{X25519, P384}}, Send: []byte("x"), Want: 1,
		Bend: func(h *Hello) { first = *h }, Second: func(h *Hello) { second = *h }}
	out, heard := c.Run(ctx, a), <-done
	if out.Ending != Completed || heard.Ending != Completed || out.Retry.Cookie != 6 {
		t.Fatalf("client %v %q, server %v %q, retry %+v", out.Ending, out.Detail, heard.Ending, heard.Detail, out.Retry)
	}
	if e, ok := second.Find(extCookie); !ok || string(e.Data) != "\x00\x06cookie" {
		t.Errorf("cookie = %v", e)
	}
	if second.Random != first.Random || !bytes.Equal(second.SessionID, first.SessionID) {
		t.Error("the second hello has another random or session id")
	}
	var before, after []uint16
	for _, e := range first.Extensions {
		before = append(before, e.Type)
	}
	for _, e := range second.Extensions {
		if e.Type != extCookie {
			after = append(after, e.Type)
		}
	}
	if len(before) == 0 || !slices.Equal(before, after) {
		t.Errorf("extensions of the second hello are %d, want the first's in their order: %d", after, before)
	}
	if !slices.Equal(heard.Records, []uint16{version12}) {
		t.Errorf("records = %x", heard.Records)
	}
}

func TestClientStopsAtHello(t *testing.T) {
	c := Client{Offer: offerOf(X25519MLKEM768), StopAtHello: true}
	out, _ := probe(t, c, configOf("ecdsa", X25519MLKEM768))
	if out.Ending != Answered || out.Server == nil || out.Flight != nil {
		t.Errorf("ending = %v, server %v", out.Ending, out.Server)
	}
}

func TestClientSeesALPNAndStaple(t *testing.T) {
	staple := bytes.Repeat([]byte{7}, 300)
	cfg := configOf("mldsa", X25519)
	cfg.Certificates = []tls.Certificate{authorities()["mldsa"].certificate(staple)}
	cfg.NextProtos = []string{"h2", "echo"}
	c := Client{Offer: offerOf(X25519)}
	c.Offer.ALPN, c.Offer.Status = []string{"echo"}, true
	out, s := probe(t, c, cfg)
	if out.Ending != Completed || out.Flight.ALPN != "echo" || !bytes.Equal(out.Flight.Staple, staple) || out.Flight.StapleElsewhere {
		t.Errorf("ending %v %q, flight %+v, server %v", out.Ending, out.Detail, out.Flight, s.err)
	}
}

func TestClientCertificate(t *testing.T) {
	flip := func(_ *Scheme, s *[]byte) { (*s)[10] ^= 1 }
	cases := []struct {
		name string
		id   *Identity
		bend func(*Scheme, *[]byte)
		want Ending
		code AlertCode
	}{
		{"mldsa", new(authorities()["mldsa"].id), nil, Completed, 0},
		{"flipped", new(authorities()["mldsa"].id), flip, Alerted, decryptError},
		{"none", nil, nil, Alerted, 116},
		{"unknown root", new(authorities()["ecdsa"].id), nil, Alerted, 48},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cfg := configOf("mldsa", X25519)
			cfg.ClientAuth, cfg.ClientCAs = tls.RequireAndVerifyClientCert, authorities()["mldsa"].roots
			client := Client{Offer: offerOf(X25519), CertificateVerify: c.bend}
			client.Offer.Identity = c.id
			out, s := probe(t, client, cfg)
			if out.Ending != c.want || !out.Flight.Requested {
				t.Fatalf("ending %v %q, server %v", out.Ending, out.Detail, s.err)
			}
			if c.want == Alerted && (out.Alert.Code != c.code || !out.Alert.Encrypted || out.Stage != "finished") {
				t.Errorf("alert = %+v at %s", out.Alert, out.Stage)
			}
		})
	}
}

func TestClientResumes(t *testing.T) {
	for _, suite := range []Suite{AES128SHA256, AES256SHA384} {
		cfg := configOf("ecdsa", X25519MLKEM768, X25519)
		c := Client{Offer: offerOf(X25519MLKEM768), Send: []byte("ping"), Want: 4, Tickets: 1}
		c.Offer.Suites = []Suite{suite}
		first, _ := probe(t, c, cfg)
		if first.Ending != Completed || len(first.Sessions) == 0 || len(first.Tickets) != len(first.Sessions) {
			t.Fatalf("first: %v %q, %d tickets", first.Ending, first.Detail, len(first.Tickets))
		}
		c.Offer.Session = first.Sessions[0]
		again, s := probe(t, c, cfg)
		if again.Ending != Completed || !again.Resumed || !s.state.DidResume || len(again.Flight.Certificates) != 0 {
			t.Errorf("%v: %v %q resumed %v, server %v %v", suite, again.Ending, again.Detail, again.Resumed, s.state.DidResume, s.err)
		}
		c.Offer.Shares = []Group{}
		retried, s := probe(t, c, cfg)
		if retried.Ending != Completed || !retried.Resumed || retried.Retry == nil || !s.state.DidResume {
			t.Errorf("%v after a retry: %v %q resumed %v", suite, retried.Ending, retried.Detail, retried.Resumed)
		}
		c.Offer.Shares = nil
		c.Bend = func(h *Hello) {
			h.Extensions[len(h.Extensions)-1].Data[len(h.Extensions[len(h.Extensions)-1].Data)-1] = 9
		}
		if bent, _ := probe(t, c, cfg); bent.Ending != Alerted {
			t.Errorf("%v: a bent binder: %v", suite, bent.Ending)
		}
	}
}

func TestClientWithTLS12(t *testing.T) {
	for kind, scheme := range map[string]Scheme{"ecdsa": ECDSAP256, "rsa": RSAPSS256} {
		cfg := configOf(kind, P256)
		cfg.MaxVersion = tls.VersionTLS12
		c := Client{Offer: offerOf(P256)}
		c.Offer.Versions = []uint16{version13, version12}
		out, _ := probe(t, c, cfg)
		if out.Ending != Answered || out.Legacy == nil || out.Legacy.Group != P256 || out.Legacy.Scheme != scheme || len(out.Legacy.Certificates) != 2 {
			t.Errorf("%s: %v %q, legacy %+v", kind, out.Ending, out.Detail, out.Legacy)
		}
		cfg.MaxVersion = 0
		c.Offer.Versions = []uint16{version12}
		if out, _ = probe(t, c, cfg); out.Server == nil || out.Server.Sentinel != "1.2" {
			t.Errorf("%s: sentinel: %v %+v", kind, out.Ending, out.Server)
		}
	}
}

func TestClientAlerts(t *testing.T) {
	hybrid := func(f func([]byte) []byte) func(*Hello) {
		return func(h *Hello) { h.EditShare(X25519MLKEM768, f) }
	}
	cases := []struct {
		name string
		bend func(*Hello)
		code AlertCode
	}{
		{"short share", hybrid(func(b []byte) []byte { return b[:len(b)-1] }), illegalParameter},
		{"coefficient", hybrid(func(b []byte) []byte { b[0], b[1] = 0x01, b[1]&0xf0|0x0d; return b }), illegalParameter},
		{"zero", hybrid(func(b []byte) []byte { clear(b[1184:]); return b }), illegalParameter},
		{"no versions", func(h *Hello) { h.Remove(extVersions) }, handshakeFailure},
		{"trailing", func(h *Hello) { h.Trailing = []byte{1} }, decodeError},
	}
	for _, c := range cases {
		out, _ := probe(t, Client{Offer: offerOf(X25519MLKEM768), Bend: c.bend}, configOf("ecdsa", X25519MLKEM768))
		if out.Ending != Alerted || out.Alert.Code != c.code || out.Alert.Encrypted || out.Stage != "hello" || out.Alert.Level != 2 {
			t.Errorf("%s: %v %q, alert %+v", c.name, out.Ending, out.Detail, out.Alert)
		}
	}
}

func TestClientGoesOnAfterABend(t *testing.T) {
	c := Client{Offer: Offer{Groups: []Group{0x6399, 0x0a0a, X25519MLKEM768, X25519}, Shares: []Group{0x0a0a, Kyber768Draft, X25519MLKEM768}},
		Send: []byte("ping"), Want: 4}
	c.Bend = func(h *Hello) {
		h.Add(Extension{Type: 0x3a3a, Data: []byte{0}})
		h.Random[3] ^= 1
	}
	out, _ := probe(t, c, configOf("ecdsa", X25519MLKEM768))
	if out.Ending != Completed {
		t.Errorf("a changed hello: %v %q", out.Ending, out.Detail)
	}
	c.Offer.Shares = []Group{X25519}
	c.Offer.Groups = []Group{X25519}
	c.Bend = func(h *Hello) { h.EditShare(X25519, func(b []byte) []byte { b[0] ^= 2; return b }) }
	out, _ = probe(t, c, configOf("ecdsa", X25519))
	if out.Ending != Answered || !strings.Contains(out.Detail, "no key") {
		t.Errorf("a changed share: %v %q", out.Ending, out.Detail)
	}
}

func TestClientSharesOneECDHKey(t *testing.T) {
	var shares []KeyShare
	c := Client{Offer: Offer{Groups: []Group{X25519MLKEM768, X25519}, Shares: []Group{X25519MLKEM768, X25519}, SameECDH: true}}
	c.Bend = func(h *Hello) { shares, _ = h.Shares() }
	out, _ := probe(t, c, configOf("ecdsa", X25519MLKEM768))
	if out.Ending != Completed || !bytes.Equal(shares[0].Data[1184:], shares[1].Data) {
		t.Errorf("%v %q", out.Ending, out.Detail)
	}
}

func TestClientDelivery(t *testing.T) {
	deliveries := []Delivery{
		{Segments: 100, Pause: time.Millisecond}, {Records: slices.Repeat([]int{75}, 15)}, {Records: []int{1}, Segments: 1},
		{RecordVersion: version12}, {Records: []int{400, 400}, Segments: 333},
	}
	for at := 1; at <= 64; at++ {
		deliveries = append(deliveries, Delivery{Records: []int{at}})
	}
	for at := 65; at < 1400; at += 149 {
		deliveries = append(deliveries, Delivery{Records: []int{at}})
	}
	for _, d := range deliveries {
		c := Client{Offer: offerOf(X25519MLKEM768), Deliver: d, StopAtHello: true}
		if out, _ := probe(t, c, configOf("ecdsa", X25519MLKEM768)); out.Ending != Answered {
			t.Errorf("%+v: %v %q", d, out.Ending, out.Detail)
		}
	}
}

func TestClientLongHello(t *testing.T) {
	for _, size := range []int{1500, 12 << 10, 20 << 10} {
		var written int
		c := Client{Offer: offerOf(X25519MLKEM768), Send: []byte("x"), Want: 1, Bend: func(h *Hello) { written = len(h.Marshal()) }}
		c.Offer.Size = size
		if out, _ := probe(t, c, configOf("ecdsa", X25519MLKEM768)); out.Ending != Completed || written != size {
			t.Errorf("%d bytes: %v %q, written %d", size, out.Ending, out.Detail, written)
		}
	}
}

// The key log of crypto/tls is the reference for the key schedule, both hashes and resumption included.
func TestKeyLogEqualsCryptoTLS(t *testing.T) {
	for _, suite := range []Suite{AES128SHA256, AES256SHA384} {
		var log bytes.Buffer
		cfg := configOf("ecdsa", X25519MLKEM768)
		cfg.KeyLogWriter = &log
		c := Client{Offer: offerOf(X25519MLKEM768), Tickets: 1}
		c.Offer.Suites = []Suite{suite}
		for range 2 {
			log.Reset()
			out, _ := probe(t, c, cfg)
			want := strings.Split(strings.TrimSpace(log.String()), "\n")
			slices.Sort(want)
			slices.Sort(out.KeyLog)
			if diff := cmp.Diff(want, out.KeyLog); diff != "" || len(want) != 4 {
				t.Fatalf("key log (-crypto/tls +prober):\n%s", diff)
			}
			c.Offer.Session = out.Sessions[0]
		}
	}
}

func TestSameSeedSameHello(t *testing.T) {
	write := func(seed byte) (raw []byte) {
		c := Client{Offer: Offer{Groups: Groups(), Shares: Groups()}, Seed: [32]byte{seed}}
		c.Bend = func(h *Hello) { raw = h.Marshal() }
		_ = c.Run(t.Context(), &canned{})
		return raw
	}
	if !bytes.Equal(write(1), write(1)) || bytes.Equal(write(1), write(2)) {
		t.Error("the hello does not follow the seed")
	}
}
