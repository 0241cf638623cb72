package ocsp

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	xocsp "golang.org/x/crypto/ocsp"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/pqtls/pki"
)

// bench is an authority with a leaf and a clock that stands still.
type bench struct {
	authority    *pki.Authority
	issuer, leaf *x509.Certificate
	key          crypto.Signer
	now          time.Time
}

func newBench(t testing.TB, kind pki.Kind) bench {
	t.Helper()
	b := bench{now: time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)}
	var err error
	if b.authority, err = pki.New(pki.Options{Kind: kind, Now: func() time.Time { return b.now }}); err != nil {
		t.Fatal(err)
	}
	if b.issuer, b.key, err = b.authority.Issuer(); err != nil {
		t.Fatal(err)
	}
	b.leaf = b.issue(t)
	return b
}

func (b bench) issue(t testing.TB) *x509.Certificate {
	t.Helper()
	cert, err := b.authority.Issue(pki.Request{Use: pki.Server, Names: []string{"server.test"}})
	if err != nil {
		t.Fatal(err)
	}
	return cert.Leaf
}

func (b bench) clock() time.Time { return b.now }

func (b bench) responder(t testing.TB, o ResponderOptions) *Responder {
	t.Helper()
	if o.Now == nil {
		o.Now = b.clock
	}
	r, err := NewResponder(b.authority, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (b bench) response(t testing.TB) []byte {
	t.Helper()
	der, next, err := b.responder(t, ResponderOptions{}).Response(t.Context(), b.leaf, b.issuer)
	if err != nil {
		t.Fatal(err)
	}
	if want := b.now.Add(time.Hour); !next.Equal(want) {
		t.Fatalf("nextUpdate %v, want %v", next, want)
	}
	return der
}

// template is a good response about the leaf, to bend.
func (b bench) template(t testing.TB) Template {
	t.Helper()
	id, err := NewCertID(crypto.SHA1, b.leaf.SerialNumber, b.issuer)
	if err != nil {
		t.Fatal(err)
	}
	return Template{ProducedAt: b.now, Singles: []Single{{ID: id, Status: Good, ThisUpdate: b.now, NextUpdate: b.now.Add(time.Hour)}}}
}

func (b bench) sign(t testing.TB, tmpl Template, by Signer) []byte {
	t.Helper()
	der, err := Sign(tmpl, by)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (b bench) self() Signer { return Signer{Key: b.key, Certificate: b.issuer} }

func kinds() []pki.Kind { return []pki.Kind{pki.MLDSA, pki.ECDSA, pki.RSA} }

func TestResponderVerifiesForEveryKind(t *testing.T) {
	seen := 0
	for _, kind := range kinds() {
		b := newBench(t, kind)
		for _, delegate := range []bool{false, true} {
			seen++
			r := b.responder(t, ResponderOptions{Delegate: delegate})
			der, _, err := r.Response(t.Context(), b.leaf, b.issuer)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Verify(der, b.leaf, b.issuer, b.now, Options{})
			if err != nil {
				t.Fatalf("%v, delegate %t: %v", kind, delegate, err)
			}
			if want := map[bool]int{true: 1}[delegate]; len(got.Certificates) != want || !got.ProducedAt.Equal(b.now) {
				t.Errorf("%v: %d certificates, produced at %v", kind, len(got.Certificates), got.ProducedAt)
			}
			// A delegate's certificate is issued at its first use, so its signature over a second
			// response is by the same one.
			if again, _, err := r.Response(t.Context(), b.leaf, b.issuer); err != nil || delegate &&
				!bytes.Contains(again, got.Certificates[0].Raw) {
				t.Errorf("%v: %v", kind, err)
			}
		}
	}
	if seen == 0 {
		t.Error("no case ran")
	}
}

// The sizes that a handshake carries. They are those of a serial number of 16 octets: each octet less
// takes one off, down to 3508 and 264 for a number of two octets.
func TestSizes(t *testing.T) {
	if got := len(newBench(t, pki.MLDSA).response(t)); got != 3522 {
		t.Errorf("ML-DSA response of %d bytes, want 3522", got)
	}
	if got := len(newBench(t, pki.ECDSA).response(t)); got < 276 || got > 282 { // the signature varies
		t.Errorf("ECDSA response of %d bytes, want 279 within 3", got)
	}
}

func TestOtherImplementationReadsOurs(t *testing.T) {
	for _, kind := range []pki.Kind{pki.ECDSA, pki.RSA} {
		b := newBench(t, kind)
		got, err := xocsp.ParseResponseForCert(b.response(t), b.leaf, b.issuer)
		if err != nil || got.Status != xocsp.Good || !got.NextUpdate.Equal(b.now.Add(time.Hour)) {
			t.Errorf("%v: %+v, %v", kind, got, err)
		}
	}
	b := newBench(t, pki.MLDSA)
	if err := b.authority.Revoke(b.leaf.SerialNumber, xocsp.KeyCompromise, b.now); err != nil {
		t.Fatal(err)
	}
	got, err := xocsp.ParseResponse(b.response(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.issuer.CheckSignature(x509.MLDSA65, got.TBSResponseData, got.Signature); err != nil {
		t.Error(err)
	}
	if got.Status != xocsp.Revoked || got.RevocationReason != xocsp.KeyCompromise || !got.RevokedAt.Equal(b.now) ||
		got.SerialNumber.Cmp(b.leaf.SerialNumber) != 0 {
		t.Errorf("read %+v", got)
	}
}

func TestWeReadOtherImplementation(t *testing.T) {
	b := newBench(t, pki.ECDSA)
	cases := []struct {
		status int
		want   Code
	}{{xocsp.Good, ""}, {xocsp.Revoked, CodeRevoked}, {xocsp.Unknown, CodeUnknown}}
	for _, c := range cases {
		for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
			der, err := xocsp.CreateResponse(b.issuer, b.issuer, xocsp.Response{
				Status: c.status, SerialNumber: b.leaf.SerialNumber, ThisUpdate: b.now, NextUpdate: b.now.Add(time.Hour),
				RevokedAt: b.now, RevocationReason: xocsp.Superseded, IssuerHash: hash}, b.key)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Verify(der, b.leaf, b.issuer, b.now, Options{}); CodeOf(err) != c.want {
				t.Errorf("status %d, %v: %v, want %q", c.status, hash, err, c.want)
			}
		}
	}
	request, err := xocsp.CreateRequest(b.leaf, b.issuer, nil)
	if err != nil {
		t.Fatal(err)
	}
	if own, err := Ask(b.leaf, b.issuer); err != nil || !bytes.Equal(own, request) {
		t.Errorf("our request differs from the other implementation's: %x, %x, %v", own, request, err)
	}
	if len(cases) == 0 {
		t.Error("no case ran")
	}
}

func TestVerifyRefuses(t *testing.T) {
	b, foreign := newBench(t, pki.MLDSA), newBench(t, pki.MLDSA)
	second := b.issue(t)
	delegate := func(use pki.Use, of bench) Signer {
		cert, err := of.authority.Issue(pki.Request{Use: use, Names: []string{"ocsp.test"}})
		if err != nil {
			t.Fatal(err)
		}
		return Signer{Key: cert.PrivateKey.(crypto.Signer), Certificate: cert.Leaf, Delegate: true}
	}
	bend := func(f func(s *Single)) Template {
		tmpl := b.template(t)
		f(&tmpl.Singles[0])
		return tmpl
	}
	flipped := b.sign(t, b.template(t), b.self())
	flipped[len(flipped)-1] ^= 1
	otherID, err := NewCertID(crypto.SHA1, b.leaf.SerialNumber, foreign.issuer)
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name   string
		der    []byte
		want   Code
		defect defect.Name // takes the response
	}{
		{"good", b.sign(t, b.template(t), b.self()), "", ""},
		{"flipped bit", flipped, CodeSignature, defect.OCSPSignatureUnchecked},
		{"other key", b.sign(t, b.template(t), Signer{Key: foreign.key, Certificate: b.issuer}), CodeSignature, defect.OCSPSignatureUnchecked},
		{"nobody's", b.sign(t, b.template(t), foreign.self()), CodeSignature, defect.OCSPSignatureUnchecked},
		{"other serial", b.sign(t, bend(func(s *Single) { s.ID.Serial = second.SerialNumber }), b.self()), CodeSerial, defect.OCSPSerialUnchecked},
		{"other issuer", b.sign(t, bend(func(s *Single) { s.ID = otherID }), b.self()), CodeIssuer, defect.OCSPIssuerUnchecked},
		{"delegate", b.sign(t, b.template(t), delegate(pki.Responder, b)), "", ""},
		{"delegate without usage", b.sign(t, b.template(t), delegate(pki.Server, b)), CodeDelegate, defect.OCSPDelegateEkuUnchecked},
		{"foreign delegate", b.sign(t, b.template(t), delegate(pki.Responder, foreign)), CodeDelegate, ""},
		{"future", b.sign(t, bend(func(s *Single) { s.ThisUpdate = b.now.Add(time.Minute) }), b.self()), CodeWindow, defect.OCSPWindowUnchecked},
		{"past", b.sign(t, bend(func(s *Single) { s.NextUpdate = b.now }), b.self()), CodeWindow, defect.OCSPWindowUnchecked},
		{"endless", b.sign(t, bend(func(s *Single) { s.NextUpdate = time.Time{} }), b.self()), CodeWindow, defect.OCSPWindowUnchecked},
		{"revoked", b.sign(t, bend(func(s *Single) { s.Status, s.RevokedAt = Revoked, b.now }), b.self()), CodeRevoked, defect.OCSPStatusIgnored},
		{"unknown", b.sign(t, bend(func(s *Single) { s.Status = Unknown }), b.self()), CodeUnknown, defect.OCSPStatusIgnored},
		{"empty", nil, CodeGarbage, ""},
		{"try later", TryLater.Marshal(), CodeGarbage, ""},
		{"trailing byte", append(b.sign(t, b.template(t), b.self()), 0), CodeGarbage, ""},
		{"huge", make([]byte, maxResponse+1), CodeGarbage, ""},
	}
	for _, c := range cases {
		if _, err := Verify(c.der, b.leaf, b.issuer, b.now, Options{}); CodeOf(err) != c.want {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if c.defect == "" {
			continue
		}
		if _, err := Verify(c.der, b.leaf, b.issuer, b.now, Options{Defects: defect.Of(c.defect)}); err != nil {
			t.Errorf("%s with %s planted: %v", c.name, c.defect, err)
		}
	}
	if len(cases) == 0 {
		t.Error("no case ran")
	}
}

func TestSkewWidensTheWindow(t *testing.T) {
	b := newBench(t, pki.ECDSA)
	der := b.response(t)
	for _, at := range []time.Time{b.now.Add(-time.Minute), b.now.Add(time.Hour + 59*time.Second)} {
		if _, err := Verify(der, b.leaf, b.issuer, at, Options{}); CodeOf(err) != CodeWindow {
			t.Errorf("at %v: %v", at, err)
		}
		if _, err := Verify(der, b.leaf, b.issuer, at, Options{Skew: time.Minute}); err != nil {
			t.Errorf("at %v with a minute's skew: %v", at, err)
		}
	}
}

func TestResponderOverHTTP(t *testing.T) {
	b := newBench(t, pki.ECDSA)
	server := httptest.NewServer(b.responder(t, ResponderOptions{}))
	defer server.Close()
	der, _, err := HTTP{URL: server.URL, Client: server.Client()}.Response(t.Context(), b.leaf, b.issuer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(der, b.leaf, b.issuer, b.now, Options{}); err != nil {
		t.Error(err)
	}
	request, err := Ask(b.leaf, b.issuer)
	if err != nil {
		t.Fatal(err)
	}
	path := url.PathEscape(base64.StdEncoding.EncodeToString(request))
	if _, err := Verify(httpBody(t, server, http.MethodGet, "/"+path, nil, http.StatusOK), b.leaf, b.issuer, b.now, Options{}); err != nil {
		t.Errorf("GET: %v", err)
	}
	for _, bad := range [][]byte{nil, []byte("garbage"), make([]byte, maxRequest+1)} {
		if got := httpBody(t, server, http.MethodPost, "/", bad, http.StatusOK); !bytes.Equal(got, Malformed.Marshal()) {
			t.Errorf("%d bytes of garbage: %x", len(bad), got)
		}
	}
	if got := httpBody(t, server, http.MethodGet, "/%%%", nil, http.StatusBadRequest); len(got) > 1000 {
		t.Errorf("%d bytes of answer to garbage", len(got))
	}
	httpBody(t, server, http.MethodPut, "/", nil, http.StatusMethodNotAllowed)
}

func httpBody(t *testing.T, server *httptest.Server, method, path string, body []byte, want int) []byte {
	t.Helper()
	req := &http.Request{Method: method, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)), Header: http.Header{}}
	host := strings.TrimPrefix(server.URL, "http://")
	req.URL = &url.URL{Scheme: "http", Host: host, Opaque: "//" + host + path}
	res, err := server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != want {
		t.Fatalf("%s %s: %s, want %d", method, path, res.Status, want)
	}
	got, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestResponderAnswers(t *testing.T) {
	b, foreign := newBench(t, pki.ECDSA), newBench(t, pki.ECDSA)
	r := b.responder(t, ResponderOptions{})
	known, err := NewCertID(crypto.SHA256, b.leaf.SerialNumber, b.issuer)
	if err != nil {
		t.Fatal(err)
	}
	other, err := NewCertID(crypto.SHA1, big.NewInt(77), b.issuer)
	if err != nil {
		t.Fatal(err)
	}
	request, err := Request{IDs: []CertID{known, other}, Nonce: []byte("nonce")}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseResponse(r.Respond(request))
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Singles) != 2 || got.Singles[0].Status != Good || got.Singles[1].Status != Unknown || string(got.Nonce) != "nonce" {
		t.Errorf("answered %+v, nonce %q", got.Singles, got.Nonce)
	}
	if request, err = Ask(foreign.leaf, foreign.issuer); err != nil {
		t.Fatal(err)
	}
	if _, err := ParseResponse(r.Respond(request)); !errors.Is(err, Unauthorized) {
		t.Errorf("about a foreign issuer: %v, want %v", err, Unauthorized)
	}
	for _, v := range []time.Duration{-1, time.Millisecond, maxValidity + 1} {
		if _, err := NewResponder(b.authority, ResponderOptions{Validity: v}); err == nil {
			t.Errorf("validity %v is taken", v)
		}
	}
}

func TestRequestRoundTrip(t *testing.T) {
	b := newBench(t, pki.ECDSA)
	seen := 0
	for h := range hashOIDs {
		seen++
		id, err := NewCertID(h, b.leaf.SerialNumber, b.issuer)
		if err != nil {
			t.Fatal(err)
		}
		want := Request{IDs: []CertID{id, id}, Nonce: make([]byte, 32)}
		der, err := want.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseRequest(der)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b *big.Int) bool { return a.Cmp(b) == 0 })); diff != "" {
			t.Error(diff)
		}
	}
	if seen == 0 {
		t.Error("no case ran")
	}
}

// Whatever can be parsed, another implementation reads alike.
func FuzzParseResponse(f *testing.F) {
	b := newBench(f, pki.ECDSA)
	good, err := Sign(b.template(f), b.self())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(TryLater.Marshal())
	f.Add([]byte{0x30, 0x80})
	f.Fuzz(func(t *testing.T, der []byte) {
		r, err := ParseResponse(der)
		if err == nil && (len(r.Singles) == 0 || len(r.Singles) > maxIDs || len(r.Certificates) > maxCertificates) {
			t.Errorf("beyond its bounds: %d singles, %d certificates", len(r.Singles), len(r.Certificates))
		}
		if _, err := Verify(der, b.leaf, b.issuer, b.now, Options{}); err != nil && CodeOf(err) == "" {
			t.Errorf("an error without a code: %v", err)
		}
	})
}

func FuzzParseRequest(f *testing.F) {
	b := newBench(f, pki.ECDSA)
	good, err := Ask(b.leaf, b.issuer)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{0x30, 0})
	r, err := NewResponder(b.authority, ResponderOptions{Now: b.clock})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		if got, err := ParseRequest(der); err == nil {
			if len(got.IDs) == 0 || len(got.IDs) > maxIDs {
				t.Errorf("%d certificates", len(got.IDs))
			}
			again, err := got.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ParseRequest(again); err != nil {
				t.Errorf("a parsed request does not parse again: %v", err)
			}
		}
		if len(r.Respond(der)) == 0 {
			t.Error("no answer")
		}
	})
}
