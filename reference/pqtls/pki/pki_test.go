package pki

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/mldsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func serverRequest() Request {
	return Request{Use: Server, Names: []string{"server.test", "localhost"},
		IPs: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}}
}

func newAuthority(t testing.TB, o Options) *Authority {
	t.Helper()
	a, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func issue(t testing.TB, a *Authority, r Request) *tls.Certificate {
	t.Helper()
	c, err := a.Issue(r)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestIssueVerifiesForEveryKindAndUse(t *testing.T) {
	uses := map[Use]x509.ExtKeyUsage{Server: x509.ExtKeyUsageServerAuth, Client: x509.ExtKeyUsageClientAuth,
		Responder: x509.ExtKeyUsageOCSPSigning}
	seen := 0
	for _, o := range []Options{{Kind: MLDSA}, {Kind: MLDSA, Circl: true}, {Kind: ECDSA}, {Kind: RSA}} {
		a := newAuthority(t, o)
		roots, err := Pool(a)
		if err != nil {
			t.Fatal(err)
		}
		intermediate, _, err := a.Issuer()
		if err != nil {
			t.Fatal(err)
		}
		for use, usage := range uses {
			seen++
			r := serverRequest()
			r.Use = use
			c := issue(t, a, r)
			if err := CheckProfile(c.Leaf, use); err != nil {
				t.Errorf("%v, use %d: %v", o.Kind, use, err)
			}
			if !slices.Equal(c.Certificate[1], intermediate.Raw) || len(c.Certificate) != 2 {
				t.Errorf("%v: chain of %d, want leaf and intermediate", o.Kind, len(c.Certificate))
			}
			between := x509.NewCertPool()
			between.AddCert(intermediate)
			opts := x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{usage}}
			if use == Server {
				opts.DNSName = "server.test"
			}
			chains, err := c.Leaf.Verify(opts)
			if err != nil || len(chains) != 1 || len(chains[0]) != 3 {
				t.Errorf("%v, use %d: chains %v, %v", o.Kind, use, chains, err)
			}
		}
	}
	if seen == 0 {
		t.Error("no case ran")
	}
}

// The lengths of ML-DSA objects do not depend on chance, only on names.
func TestSizesAreConstant(t *testing.T) {
	a, b := newAuthority(t, Options{}), newAuthority(t, Options{})
	for range 8 {
		x, y := issue(t, a, serverRequest()), issue(t, b, serverRequest())
		if len(x.Certificate[0]) != len(y.Certificate[0]) || len(x.Certificate[1]) != len(y.Certificate[1]) {
			t.Fatalf("leaf %d and %d bytes, intermediate %d and %d", len(x.Certificate[0]), len(y.Certificate[0]),
				len(x.Certificate[1]), len(y.Certificate[1]))
		}
	}
}

func TestCheckProfileNamesDepartures(t *testing.T) {
	a := newAuthority(t, Options{Kind: ECDSA})
	leaf := issue(t, a, serverRequest()).Leaf
	cases := map[string]func(c *x509.Certificate){
		"version":             func(c *x509.Certificate) { c.Version = 1 },
		"serial number":       func(c *x509.Certificate) { c.SerialNumber = big.NewInt(1) },
		"key usage":           func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageKeyEncipherment },
		"extended key usage":  func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} },
		"basic constraints":   func(c *x509.Certificate) { c.IsCA = true },
		"key identifiers":     func(c *x509.Certificate) { c.AuthorityKeyId = nil },
		"subject alternative": func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = nil, nil },
		"empty validity":      func(c *x509.Certificate) { c.NotAfter = c.NotBefore },
	}
	for want, bend := range cases {
		c := *leaf
		bend(&c)
		if err := CheckProfile(&c, Server); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("CheckProfile = %v, want an error about %q", err, want)
		}
	}
	if len(cases) == 0 {
		t.Error("no case ran")
	}
	if err := CheckProfile(leaf, Responder); err == nil {
		t.Error("a server certificate passes as a responder's")
	}
	root, err := a.Root()
	if err != nil {
		t.Fatal(err)
	}
	if err := CheckProfile(root, Server); err == nil {
		t.Error("a root passes as a leaf")
	}
}

func TestValidityIsBounded(t *testing.T) {
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	a := newAuthority(t, Options{Kind: ECDSA, Now: func() time.Time { return now }})
	issuer, _, err := a.Issuer()
	if err != nil {
		t.Fatal(err)
	}
	r := serverRequest()
	r.NotBefore, r.NotAfter = now.AddDate(-50, 0, 0), now.AddDate(50, 0, 0)
	leaf := issue(t, a, r).Leaf
	if !leaf.NotBefore.Equal(issuer.NotBefore) || !leaf.NotAfter.Equal(issuer.NotAfter) {
		t.Errorf("validity %v to %v, want the issuer's", leaf.NotBefore, leaf.NotAfter)
	}
	r.NotBefore, r.NotAfter = now.AddDate(40, 0, 0), now.AddDate(50, 0, 0)
	if _, err := a.Issue(r); err == nil {
		t.Error("a validity beyond the issuer's is issued")
	}
}

func TestSignTakesKeyAndNothingElse(t *testing.T) {
	a := newAuthority(t, Options{})
	key, err := mldsa.GenerateKey(mldsa.MLDSA65())
	if err != nil {
		t.Fatal(err)
	}
	csr := signingRequest(t, key, x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "probe-1", Organization: []string{"evil"}}, DNSNames: []string{"bank.test"}})
	chain, err := a.Sign(csr, Request{Use: Client})
	if err != nil {
		t.Fatal(err)
	}
	leaf := chain[0]
	if err := CheckProfile(leaf, Client); err != nil {
		t.Error(err)
	}
	if len(chain) != 2 || len(leaf.DNSNames) != 0 || leaf.Subject.CommonName != "probe-1" ||
		!cmp.Equal(leaf.Subject.Organization, []string{"assay reference"}) || !key.PublicKey().Equal(leaf.PublicKey) {
		t.Errorf("leaf %v with names %v", leaf.Subject, leaf.DNSNames)
	}
	odd := signingRequest(t, key, x509.CertificateRequest{Subject: pkix.Name{CommonName: "a/b\n"}})
	if chain, err = a.Sign(odd, Request{Use: Client}); err != nil || chain[0].Subject.CommonName != "" {
		t.Errorf("an odd common name is taken: %v, %v", chain, err)
	}
}

func TestSignRefuses(t *testing.T) {
	a := newAuthority(t, Options{})
	weak, err := mldsa.GenerateKey(mldsa.MLDSA44())
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good, err := mldsa.GenerateKey(mldsa.MLDSA65())
	if err != nil {
		t.Fatal(err)
	}
	forged := signingRequest(t, good, x509.CertificateRequest{})
	forged.Signature[7] ^= 1
	cases := map[string]*x509.CertificateRequest{
		"weak": signingRequest(t, weak, x509.CertificateRequest{}), "kind": signingRequest(t, other, x509.CertificateRequest{}),
		"forged": forged}
	for name, csr := range cases {
		if _, err := a.Sign(csr, Request{Use: Client}); err == nil {
			t.Errorf("%s: issued", name)
		}
	}
	if len(cases) == 0 {
		t.Error("no case ran")
	}
}

func signingRequest(t testing.TB, key crypto.Signer, template x509.CertificateRequest) *x509.CertificateRequest {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &template, key)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

func TestRevocation(t *testing.T) {
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	a := newAuthority(t, Options{Now: func() time.Time { return now }})
	bad, good := issue(t, a, serverRequest()).Leaf, issue(t, a, serverRequest()).Leaf
	if err := a.Revoke(bad.SerialNumber, 1, now); err != nil {
		t.Fatal(err)
	}
	if err := a.Revoke(bad.SerialNumber, 4, now.Add(time.Hour)); err != nil { // the first time stays
		t.Fatal(err)
	}
	if diff := cmp.Diff(Status{State: Revoked, At: now, Reason: 1}, a.Status(bad.SerialNumber)); diff != "" {
		t.Error(diff)
	}
	if got := a.Status(good.SerialNumber).State; got != Good {
		t.Errorf("state %d of a good leaf", got)
	}
	if got := a.Status(big.NewInt(5)).State; got != Unknown {
		t.Errorf("state %d of a foreign serial number", got)
	}
	if err := a.Revoke(big.NewInt(5), 0, now); !errors.Is(err, errNoIssuer) {
		t.Errorf("revoke a foreign serial number: %v", err)
	}
	if err := a.Revoke(good.SerialNumber, 7, now); err == nil {
		t.Error("reason 7 is taken")
	}
	for want := int64(1); want <= 2; want++ {
		checkCRL(t, a, want, bad.SerialNumber)
	}
}

func checkCRL(t *testing.T, a *Authority, number int64, serial *big.Int) {
	t.Helper()
	der, err := a.CRL()
	if err != nil {
		t.Fatal(err)
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	issuer, _, err := a.Issuer()
	if err != nil {
		t.Fatal(err)
	}
	if err := list.CheckSignatureFrom(issuer); err != nil {
		t.Error(err)
	}
	if list.Number.Int64() != number || len(list.RevokedCertificateEntries) != 1 ||
		list.RevokedCertificateEntries[0].SerialNumber.Cmp(serial) != 0 {
		t.Errorf("list %v with %d entries", list.Number, len(list.RevokedCertificateEntries))
	}
}

func TestSourceRotates(t *testing.T) {
	a := newAuthority(t, Options{})
	s := a.Source(serverRequest())
	first, err := s.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := s.GetCertificate(nil); again != first {
		t.Error("the leaf changes without a rotation")
	}
	refused := errors.New("no staple")
	if _, err := s.Rotate(t.Context(), func(context.Context, *tls.Certificate) error { return refused }); !errors.Is(err, refused) {
		t.Errorf("rotate = %v", err)
	}
	if kept, _ := s.Certificate(); kept != first {
		t.Error("a failed rotation replaces the leaf")
	}
	next, err := s.Rotate(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if now, _ := s.Certificate(); now != next || next.Leaf.SerialNumber.Cmp(first.Leaf.SerialNumber) == 0 {
		t.Error("a rotation does not replace the leaf")
	}
}

func TestPEM(t *testing.T) {
	a, b := newAuthority(t, Options{}), newAuthority(t, Options{Kind: ECDSA})
	text, err := Roots(a, b)
	if err != nil {
		t.Fatal(err)
	}
	certs, err := ParsePEM(text)
	if err != nil || len(certs) != 2 {
		t.Fatalf("%d certificates, %v", len(certs), err)
	}
	for _, bad := range []string{"", "x", strings.Replace(text, "CERTIFICATE", "KEY", 2), strings.Repeat(" ", maxPEM+1)} {
		if _, err := ParsePEM(bad); err == nil {
			t.Errorf("%.20q is taken", bad)
		}
	}
	key, err := NewCirclSigner(mldsa.MLDSA65(), make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	if text, err := EncodeKeyPEM(key); err != nil || !strings.Contains(text, "PRIVATE KEY") {
		t.Errorf("%q, %v", text, err)
	}
}

func FuzzParsePEM(f *testing.F) {
	f.Add("")
	f.Add("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n")
	f.Add("-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END CERTIFICATE REQUEST-----\n")
	f.Fuzz(func(t *testing.T, text string) {
		if certs, err := ParsePEM(text); err == nil && len(certs) == 0 {
			t.Error("neither certificates nor an error")
		}
		if csr, err := ParseRequestPEM(text); err == nil && csr == nil {
			t.Error("neither a request nor an error")
		}
	})
}
