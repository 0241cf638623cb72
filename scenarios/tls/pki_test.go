package tls_test

import (
	"crypto/ecdsa"
	stdtls "crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/assay-bench/assay/scenarios/tls"
	wire "github.com/assay-bench/assay/scenarios/wire/tls"
)

// certificate is an identity in the form of crypto/tls.
func certificate(id wire.Identity) stdtls.Certificate {
	return stdtls.Certificate{Certificate: id.Chain, PrivateKey: id.Signer, OCSPStaple: id.Staple}
}

func pool(t testing.TB, pem string) *x509.CertPool {
	t.Helper()
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM([]byte(pem)) {
		t.Fatal("no roots")
	}
	return p
}

// handshake lets crypto/tls be both ends, over loopback, and returns the client's error.
func handshake(t testing.TB, server, client *stdtls.Config) (stdtls.ConnectionState, error) {
	t.Helper()
	addr := serve(t, func(c net.Conn) {
		defer func() { _ = c.Close() }()
		s := stdtls.Server(c, server)
		if s.Handshake() == nil {
			_, _ = s.Write([]byte("x"))
		}
	})
	conn, err := stdtls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", addr, client)
	if err != nil {
		return stdtls.ConnectionState{}, err
	}
	defer func() { _ = conn.Close() }()
	_, err = conn.Read(make([]byte, 1)) // TLS 1.3 tells a client of its refused certificate only now
	return conn.ConnectionState(), err
}

func TestIdentities(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name    string
		options []tls.Option
		wrong   string // in the client's error
		chain   int    // of VerifiedChain
	}{
		{name: "plain", chain: 3},
		{name: "stapled", options: []tls.Option{tls.Stapled(tls.StaplePlan{})}, chain: 3},
		{name: "with the root", options: []tls.Option{tls.WithRoot()}, chain: 3},
		{name: "unknown root", options: []tls.Option{tls.UnknownRoot()}, wrong: "unknown authority"},
		{name: "unknown root, sent", options: []tls.Option{tls.UnknownRoot(), tls.WithRoot()}, wrong: "unknown authority"},
		{name: "no intermediate", options: []tls.Option{tls.NoIntermediate()}, wrong: "unknown authority"},
		{name: "expired", options: []tls.Option{tls.Expired()}, wrong: "expired"},
		{name: "other names", options: []tls.Option{tls.Names("other.test")}, wrong: "other.test"},
		{name: "client use", options: []tls.Option{tls.ClientUse()}, wrong: "incompatible key usage"},
	}
	seen := 0
	for _, kind := range []string{tls.MLDSA, tls.ECDSA, tls.RSA} {
		p := tls.Authority(kind)
		for _, c := range cases {
			seen++
			id := p.Identity(c.options...)
			_, err := handshake(t, &stdtls.Config{Certificates: []stdtls.Certificate{certificate(id)}},
				&stdtls.Config{RootCAs: pool(t, p.Roots()), ServerName: "server.test"})
			n, verr := tls.VerifiedChain(id.Chain, p.Roots(), "server.test", time.Now())
			if c.wrong == "" {
				if err != nil || verr != nil || n != c.chain {
					t.Errorf("%s %s: %v; %d, %v", kind, c.name, err, n, verr)
				}
				continue
			}
			if err == nil || !strings.Contains(err.Error(), c.wrong) || verr == nil || !strings.Contains(verr.Error(), c.wrong) {
				t.Errorf("%s %s: %v; %v, want …%s…", kind, c.name, err, verr, c.wrong)
			}
		}
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
}

func TestIdentityKeys(t *testing.T) {
	t.Parallel()
	seen := 0
	for _, kind := range []string{tls.MLDSA, tls.ECDSA, tls.RSA} {
		seen++
		p := tls.Authority(kind)
		if p != tls.Authority(kind) {
			t.Errorf("%s: a second authority", kind)
		}
		leaf := parse(t, p.Identity().Chain[0])
		if wrong := parse(t, p.Identity(tls.OtherKey()).Chain[0]); !wrong.Equal(leaf) {
			t.Errorf("%s: another key came with another certificate", kind)
		}
		raw, err := x509.MarshalPKIXPublicKey(p.Identity(tls.OtherKey()).Signer.Public())
		if err != nil || string(raw) == string(leaf.RawSubjectPublicKeyInfo) {
			t.Errorf("%s: the other key is the certificate's: %v", kind, err)
		}
		for _, name := range []string{"server.test", "localhost", "127.0.0.1", "::1"} {
			if err := leaf.VerifyHostname(name); err != nil {
				t.Errorf("%s: %v", kind, err)
			}
		}
		client := p.Identity(tls.ClientUse())
		_, err = handshake(t,
			&stdtls.Config{Certificates: []stdtls.Certificate{certificate(p.Identity())}, ClientAuth: stdtls.RequireAndVerifyClientCert, ClientCAs: pool(t, p.Roots())},
			&stdtls.Config{Certificates: []stdtls.Certificate{certificate(client)}, RootCAs: pool(t, p.Roots()), ServerName: "localhost"})
		if err != nil {
			t.Errorf("%s: client certificate: %v", kind, err)
		}
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
	if got := strings.Count(tls.RootsPEM(tls.MLDSA, tls.ECDSA), "BEGIN CERTIFICATE"); got != 2 {
		t.Errorf("%d roots, want 2", got)
	}
}

func TestUnknownAuthorityPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("an authority of an unknown kind")
		}
	}()
	tls.Authority("dsa")
}

func parse(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestVerifiedChainRefuses(t *testing.T) {
	p := tls.Authority(tls.ECDSA)
	id := p.Identity()
	now := time.Now()
	cases := []struct {
		name  string
		certs [][]byte
		roots string
		host  string
		at    time.Time
	}{
		{"no time", id.Chain, p.Roots(), "", time.Time{}},
		{"no certificates", nil, p.Roots(), "", now},
		{"too many", make([][]byte, 17), p.Roots(), "", now},
		{"no roots", id.Chain, "", "", now},
		{"garbage leaf", [][]byte{{1}}, p.Roots(), "", now},
		{"garbage intermediate", [][]byte{id.Chain[0], {1}}, p.Roots(), "", now},
		{"other roots", id.Chain, tls.Authority(tls.MLDSA).Roots(), "", now},
		{"other name", id.Chain, p.Roots(), "x.test", now},
		{"later", id.Chain, p.Roots(), "", now.Add(48 * time.Hour)},
	}
	for _, c := range cases {
		if n, err := tls.VerifiedChain(c.certs, c.roots, c.host, c.at); err == nil || n != 0 {
			t.Errorf("%s: %d, %v", c.name, n, err)
		}
	}
	for _, host := range []string{"", "127.0.0.1", "::1"} {
		if n, err := tls.VerifiedChain(id.Chain, p.Roots(), host, now); err != nil || n != 3 {
			t.Errorf("%q: %d, %v", host, n, err)
		}
	}
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
}

type stapleCase struct {
	name string
	plan tls.StaplePlan
	code string // of the fault; empty: good
}

func stapleCases(now time.Time) []stapleCase {
	return []stapleCase{
		{"good", tls.StaplePlan{}, ""},
		{"no next update", tls.StaplePlan{NoNextUpdate: true}, ""},
		{"delegate", tls.StaplePlan{Delegate: tls.DelegateEKU}, ""},
		{"revoked", tls.StaplePlan{Status: tls.StapleRevoked}, "revoked"},
		{"unknown", tls.StaplePlan{Status: tls.StapleUnknown}, "unknown"},
		{"serial", tls.StaplePlan{Serial: big.NewInt(5)}, "serial"},
		{"name hash", tls.StaplePlan{NameHash: make([]byte, 20)}, "issuer"},
		{"key hash", tls.StaplePlan{KeyHash: make([]byte, 20)}, "issuer"},
		{"flipped", tls.StaplePlan{FlipSignature: true}, "signature"},
		{"stranger", tls.StaplePlan{OtherSigner: true}, "signature"},
		{"delegate without use", tls.StaplePlan{Delegate: tls.DelegateNoEKU}, "delegate"},
		{"delegate of another issuer", tls.StaplePlan{Delegate: tls.DelegateOtherIssuer}, "delegate"},
		{"old", tls.StaplePlan{ThisUpdate: now.Add(-3 * time.Hour), NextUpdate: now.Add(-time.Minute)}, "window"},
		{"early", tls.StaplePlan{ThisUpdate: now.Add(time.Hour), NextUpdate: now.Add(2 * time.Hour)}, "window"},
		{"garbage", tls.StaplePlan{Garbage: true}, "garbage"},
	}
}

func TestStaples(t *testing.T) {
	t.Parallel()
	now := time.Now()
	seen := 0
	for kind, algorithm := range map[string]string{tls.MLDSA: "ML-DSA-65", tls.ECDSA: "ECDSA-SHA256", tls.RSA: "RSA-SHA256"} {
		p := tls.Authority(kind)
		leaf := p.Identity().Chain[0]
		serial, err := tls.Serial(leaf)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range stapleCases(now) {
			seen++
			der := p.Staple(c.plan)
			err := tls.CheckStaple(der, leaf, p.Intermediate(), now)
			var fault *tls.StapleFault
			if errors.As(err, &fault) != (c.code != "") || fault != nil && fault.Code != c.code {
				t.Errorf("%s %s: %v, want code %q", kind, c.name, err, c.code)
			}
			s, err := tls.ParseStaple(der)
			if c.plan.Garbage {
				if err == nil {
					t.Errorf("%s: garbage was parsed: %+v", kind, s)
				}
				continue
			}
			status, want := tls.StapleGood, serial
			if c.plan.Status != "" {
				status = c.plan.Status
			}
			if c.plan.Serial != nil {
				want = c.plan.Serial.Text(16)
			}
			delegates := 0
			if c.plan.Delegate != tls.DelegateNone {
				delegates = 1
			}
			if err != nil || s.Status != status || s.Serial != want || s.Algorithm != algorithm || s.Bytes != len(der) ||
				s.Responses != 1 || s.Delegates != delegates || s.NextUpdate.IsZero() != c.plan.NoNextUpdate || s.ThisUpdate.IsZero() || s.ProducedAt.IsZero() {
				t.Errorf("%s %s = %+v, %v", kind, c.name, s, err)
			}
		}
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
}

// Another library reads the ECDSA and RSA responses as they are meant.
func TestStaplesElsewhere(t *testing.T) {
	t.Parallel()
	now := time.Now()
	statuses := map[tls.StapleStatus]int{"": ocsp.Good, tls.StapleGood: ocsp.Good, tls.StapleRevoked: ocsp.Revoked, tls.StapleUnknown: ocsp.Unknown}
	seen := 0
	for _, kind := range []string{tls.ECDSA, tls.RSA} {
		p := tls.Authority(kind)
		issuer := parse(t, p.Intermediate())
		for _, c := range stapleCases(now) {
			seen++
			r, err := ocsp.ParseResponse(p.Staple(c.plan), issuer)
			switch c.code {
			case "garbage", "signature", "delegate":
				if err == nil && c.plan.Delegate != tls.DelegateNoEKU { // which that library leaves to its caller
					t.Errorf("%s %s: taken", kind, c.name)
				}
				continue
			}
			if err != nil || r.Status != statuses[c.plan.Status] {
				t.Errorf("%s %s = %+v, %v", kind, c.name, r, err)
			}
		}
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
	good, err := ocsp.ParseResponse(tls.Authority(tls.MLDSA).Staple(tls.StaplePlan{}), nil)
	if err != nil || good.Status != ocsp.Good {
		t.Errorf("ML-DSA = %+v, %v", good, err)
	}
}

// What another library makes is read here as it is meant.
func TestStaplesOfOthers(t *testing.T) {
	p := tls.Authority(tls.ECDSA)
	id := p.Identity()
	template := ocsp.Response{Status: ocsp.Good, SerialNumber: parse(t, id.Chain[0]).SerialNumber,
		ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour)}
	issuer := parse(t, p.Intermediate())
	key, ok := id.Signer.(*ecdsa.PrivateKey)
	if !ok {
		t.Fatalf("key %T", id.Signer)
	}
	der, err := ocsp.CreateResponse(issuer, issuer, template, key) // the leaf's key: the signature does not fit
	if err != nil {
		t.Fatal(err)
	}
	var fault *tls.StapleFault
	if err := tls.CheckStaple(der, id.Chain[0], p.Intermediate(), time.Now()); !errors.As(err, &fault) || fault.Code != "signature" {
		t.Errorf("wrong key: %v", err)
	}
	if s, err := tls.ParseStaple(der); err != nil || s.Status != tls.StapleGood {
		t.Errorf("staple = %+v, %v", s, err)
	}
}

// OpenSSL, which knows ECDSA, verifies a good response and refuses a flipped one.
func TestStapleByOpenSSL(t *testing.T) {
	t.Parallel()
	openssl(t)
	dir, p := t.TempDir(), tls.Authority(tls.ECDSA)
	id := p.Identity()
	file := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	asPEM := func(der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}) }
	roots, issuer, leaf := file("root.pem", []byte(p.Roots())), file("issuer.pem", asPEM(p.Intermediate())), file("leaf.pem", asPEM(id.Chain[0]))
	seen := 0
	for name, plan := range map[string]tls.StaplePlan{"good": {}, "delegate": {Delegate: tls.DelegateEKU}, "flipped": {FlipSignature: true}, "no-use": {Delegate: tls.DelegateNoEKU}} {
		seen++
		out, err := exec.Command("openssl", "ocsp", "-respin", file(name, p.Staple(plan)), "-CAfile", roots, "-verify_other", issuer,
			"-issuer", issuer, "-cert", leaf, "-no_nonce").CombinedOutput()
		text := string(out)
		good := strings.Contains(text, "Response verify OK") && strings.Contains(text, "leaf.pem: good")
		if good != (name == "good" || name == "delegate") {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
}

// openssl skips, loudly, where the program is missing.
func openssl(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("openssl is not installed")
		}
		t.Skip("openssl is not installed: what it verifies is not tested")
	}
}

func TestStapleOfCertificate(t *testing.T) {
	p := tls.Authority(tls.MLDSA)
	id := p.Identity(tls.Names("x.test"), tls.Stapled(tls.StaplePlan{}))
	if err := tls.CheckStaple(id.Staple, id.Chain[0], id.Chain[1], time.Now()); err != nil {
		t.Error(err)
	}
	if err := tls.CheckStaple(id.Staple, p.Identity().Chain[0], id.Chain[1], time.Now()); err == nil {
		t.Error("the staple speaks for another leaf")
	}
	for _, broken := range [][3][]byte{{id.Staple, {1}, id.Chain[1]}, {id.Staple, id.Chain[0], {1}}, {nil, id.Chain[0], id.Chain[1]}} {
		var fault *tls.StapleFault
		if err := tls.CheckStaple(broken[0], broken[1], broken[2], time.Now()); !errors.As(err, &fault) {
			t.Errorf("%v", err)
		}
	}
	if _, err := tls.Serial([]byte{1}); err == nil {
		t.Error("the serial of garbage")
	}
}

// Whatever the bytes, a response is parsed or refused, and one that is refused is never good.
func FuzzParseStaple(f *testing.F) {
	p := tls.Authority(tls.ECDSA)
	leaf, now := p.Identity().Chain[0], time.Now()
	seeds := 0
	for _, c := range stapleCases(now) {
		seeds++
		f.Add(p.Staple(c.plan))
	}
	if seeds == 0 {
		f.Fatal("no seeds")
	}
	f.Add([]byte{0x30, 0x03, 0x0a, 0x01, 0x06})
	f.Fuzz(func(t *testing.T, der []byte) {
		s, err := tls.ParseStaple(der)
		check := tls.CheckStaple(der, leaf, p.Intermediate(), now)
		if err != nil && check == nil {
			t.Errorf("refused and good: %v", err)
		}
		if err == nil && (s.Status == "" || s.Serial == "" || s.Responses == 0 || s.Responses > 64 || s.Delegates > 8) {
			t.Errorf("accepted %+v", s)
		}
	})
}
