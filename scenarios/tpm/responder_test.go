package tpm

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/mldsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/assay-bench/assay/scenarios/tls"
)

// issued makes an issuer of a kind with a leaf, as /open hands them out.
func issued(t *testing.T, kind string) Opened {
	t.Helper()
	var key crypto.Signer
	var err error
	switch kind {
	case "ecdsa":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "rsa":
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case "mldsa":
		key, err = mldsa.GenerateKey(mldsa.MLDSA65())
	}
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "issuer"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	issuer, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(issuer)
	if err != nil {
		t.Fatal(err)
	}
	leafTemplate := &x509.Certificate{
		SerialNumber: big.NewInt(0xabcdef), Subject: pkix.Name{CommonName: "leaf"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	leaf, err := x509.CreateCertificate(rand.Reader, leafTemplate, parsed, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return Opened{Leaf: text("CERTIFICATE", leaf), Issuer: text("CERTIFICATE", issuer), IssuerKey: text("PRIVATE KEY", der)}
}

func TestResponsesVerify(t *testing.T) {
	kinds := []string{"ecdsa", "rsa", "mldsa"}
	for _, kind := range kinds {
		c, err := ParseCertificate(issued(t, kind))
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		now := time.Now()
		der, err := c.Response(now.Add(-time.Minute), now.Add(time.Hour))
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if err := tls.CheckStaple(der, c.leaf.Raw, c.issuer.Raw, now); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if err := tls.CheckStaple(der, c.leaf.Raw, c.issuer.Raw, now.Add(2*time.Hour)); err == nil {
			t.Errorf("%s: valid after nextUpdate", kind)
		}
		if kind == "mldsa" {
			continue // x/crypto does not know it
		}
		parsed, err := ocsp.ParseResponseForCert(der, c.leaf, c.issuer)
		if err != nil || parsed.Status != ocsp.Good {
			t.Errorf("%s: %+v, %v", kind, parsed, err)
		}
	}
}

func TestParseCertificateRefuses(t *testing.T) {
	good := issued(t, "ecdsa")
	bad := map[string]func(*Opened){
		"no leaf":       func(o *Opened) { o.Leaf = "" },
		"garbled leaf":  func(o *Opened) { o.Leaf = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" },
		"no issuer":     func(o *Opened) { o.Issuer = "x" },
		"no key":        func(o *Opened) { o.IssuerKey = "" },
		"leaf as a key": func(o *Opened) { o.IssuerKey = o.Leaf },
	}
	for name, change := range bad {
		o := good
		change(&o)
		if _, err := ParseCertificate(o); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func ask(t *testing.T, url string, request []byte) []byte {
	t.Helper()
	resp, err := http.Post(url, "application/ocsp-request", bytes.NewReader(request))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestResponder(t *testing.T) {
	env, rec := newEnv(t)
	r, err := StartResponder(context.Background(), env)
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseCertificate(issued(t, "ecdsa"))
	if err != nil {
		t.Fatal(err)
	}
	request, err := ocsp.CreateRequest(c.leaf, c.issuer, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := ask(t, r.URL(), request); len(got) != 5 {
		t.Errorf("before it knows a certificate: %x", got)
	}
	r.Answer(c, time.Hour)
	first, second := ask(t, r.URL(), request), ask(t, r.URL(), request)
	if _, err := ocsp.ParseResponseForCert(first, c.leaf, c.issuer); err != nil || bytes.Equal(first, second) {
		t.Errorf("answers equal: %t, %v", bytes.Equal(first, second), err)
	}
	other := *c.leaf
	other.SerialNumber = big.NewInt(5)
	strange, err := ocsp.CreateRequest(&other, c.issuer, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string][]byte{"another serial": strange, "garbage": []byte("x"), "nothing": nil} {
		if got := ask(t, r.URL(), raw); len(got) != 5 {
			t.Errorf("%s: %x", name, got)
		}
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	var statuses []string
	for _, e := range rec.of(Responded) {
		var a Answered
		if err := e.Decode(&a); err != nil {
			t.Fatal(err)
		}
		statuses = append(statuses, a.Status)
		if a.N == 2 && a.SHA256 != Digest(first) {
			t.Errorf("%+v", a)
		}
	}
	if len(statuses) != 6 || statuses[0] != "not-ready" || statuses[1] != "good" || statuses[2] != "good" {
		t.Errorf("recorded %v", statuses)
	}
}

func FuzzRequestedSerial(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0x30, 0x03, 0x0a, 1, 0})
	f.Add([]byte("\x30\x42\x30\x40\x30\x3e\x30\x3c\x30\x3a\x30\x09\x06\x05+\x0e\x03\x02\x1a\x05\x00\x04\x0100\x04\x0100\x02\x01\x05"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if serial, err := requestedSerial(raw); err == nil && serial.BitLen() > 8*70 {
			t.Errorf("a serial number of %d bits", serial.BitLen())
		}
	})
}

func FuzzAttest(f *testing.F) {
	f.Add([]byte{}, []byte{}, []byte{})
	f.Add([]byte("\xff\x54\x43\x47\x80\x18\x00\x00\x00\x01x\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x03\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x0b\x03\x05\x00\x00\x00\x01d"),
		[]byte("\x00\x18\x00\x0b\x00\x01\x01\x00\x01\x01"), []byte("\x00\x23\x00\x0b\x00\x05\x00\x72\x00\x00\x00\x10\x00\x18\x00\x0b\x00\x03\x00\x10\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, attest, signature, public []byte) {
		if a, err := ParseAttest(attest); err == nil && (len(a.Banks) > maxBanks || len(a.Digest) > len(attest)) {
			t.Errorf("%+v", a)
		}
		_ = VerifyAttest(attest, signature, public) // it must only come back
	})
}

func FuzzReadMessage(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0x80, 1, 0, 0, 0, 10, 0, 0, 1, 0x7b})
	f.Add([]byte{0x80, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 1, 0x7b})
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := readMessage(bytes.NewReader(raw))
		if err == nil && (len(m) < headerBytes || len(m) > maxMessage || !bytes.HasPrefix(raw, m)) {
			t.Errorf("%d bytes of %d", len(m), len(raw))
		}
	})
}
