package client_test

import (
	"crypto/tls"
	"sync"
	"testing"
	"time"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/pqtls/client"
	"github.com/assay-bench/assay/reference/pqtls/ocsp"
	"github.com/assay-bench/assay/reference/pqtls/pki"
)

// stapling serves the leaf with a response that may be exchanged.
func stapling(t *testing.T, leaf *tls.Certificate, der []byte) (*server, func([]byte)) {
	t.Helper()
	var mu sync.Mutex
	s := serve(t, &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		mu.Lock()
		defer mu.Unlock()
		own := *leaf
		own.OCSPStaple = der
		return &own, nil
	}}, nil)
	return s, func(next []byte) {
		mu.Lock()
		defer mu.Unlock()
		der = next
	}
}

// stranger issues a leaf and answers for it: another authority of the same shape.
func stranger(t *testing.T) []byte {
	t.Helper()
	a, err := pki.New(pki.Options{Kind: pki.ECDSA, Name: "stranger"})
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := a.Issue(leafRequest())
	if err != nil {
		t.Fatal(err)
	}
	issuer, _, err := a.Issuer()
	if err != nil {
		t.Fatal(err)
	}
	r, err := ocsp.NewResponder(a, ocsp.ResponderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	der, _, err := r.Response(t.Context(), leaf.Leaf, issuer)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestStapleModes(t *testing.T) {
	h := pkiOf(t)
	good := h.staple(t, h.leaf.Leaf)
	flipped := append([]byte(nil), good...)
	flipped[len(flipped)-1] ^= 1
	revoked, err := h.authority.Issue(leafRequest())
	if err != nil {
		t.Fatal(err)
	}
	if err := h.authority.Revoke(revoked.Leaf.SerialNumber, 1, time.Now()); err != nil {
		t.Fatal(err)
	}
	late := time.Now().Add(2 * time.Hour)
	cases := []struct {
		name    string
		leaf    *tls.Certificate
		der     []byte
		at      time.Time
		code    client.Code // under require; under check the same, but for a missing one
		planted defect.Name // makes it pass
	}{
		{"good", h.leaf, good, time.Time{}, "", ""},
		{"missing", h.leaf, nil, time.Time{}, client.StapleMissing, ""},
		{"garbage", h.leaf, []byte("garbage"), time.Time{}, "staple_garbage", ""},
		{"flipped", h.leaf, flipped, time.Time{}, "staple_signature", defect.OCSPSignatureUnchecked},
		{"revoked", revoked, h.staple(t, revoked.Leaf), time.Time{}, "staple_revoked", defect.OCSPStatusIgnored},
		{"another leaf", h.leaf, h.staple(t, revoked.Leaf), time.Time{}, "staple_serial", ""},
		{"another issuer", h.leaf, stranger(t), time.Time{}, "staple_issuer", ""},
		{"expired", h.leaf, good, late, "staple_window", defect.OCSPWindowUnchecked},
	}
	seen := 0
	for _, c := range cases {
		s, _ := stapling(t, c.leaf, c.der)
		for _, mode := range []client.Staple{client.StapleIgnore, client.StapleCheck, client.StapleRequire} {
			seen++
			q := request(t, s)
			q.Staple, q.At = mode, c.at
			code, state := c.code, "refused"
			switch {
			case c.name == "good":
				state = "good"
			case c.name == "missing":
				state = "absent"
			}
			if mode == client.StapleIgnore || mode == client.StapleCheck && code == client.StapleMissing {
				code = ""
			}
			before := s.received.Load()
			got := newRig(t).fails(t, q, code)
			if code == "" && got.Staple != state {
				t.Errorf("%s, %s: staple %q, want %q", c.name, mode, got.Staple, state)
			}
			if code != "" && (s.received.Load() != before || got.Connected) {
				t.Errorf("%s, %s: application data was sent", c.name, mode)
			}
			if c.planted != "" {
				newRig(t, c.planted).must(t, q)
			}
		}
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
}

// TestSessionOutlivesStaple: a session keeps the response of its first handshake. When that is no longer
// good the client does not fail, it makes a whole handshake.
func TestSessionOutlivesStaple(t *testing.T) {
	h := pkiOf(t)
	s, install := stapling(t, h.leaf, h.staple(t, h.leaf.Leaf))
	r := newRig(t)
	q := request(t, s)
	q.Staple = client.StapleRequire
	r.must(t, q)
	r.clock.advance(30 * time.Minute)
	if got := r.must(t, q); !got.Resumed || got.Staple != "good" {
		t.Errorf("within the hour: %+v", got)
	}
	later, err := ocsp.NewResponder(h.authority, ocsp.ResponderOptions{Now: r.clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	r.clock.advance(time.Hour)
	der, _, err := later.Response(t.Context(), h.leaf.Leaf, h.issuer)
	if err != nil {
		t.Fatal(err)
	}
	install(der)
	if got := r.must(t, q); got.Resumed || got.Staple != "good" {
		t.Errorf("after the hour: %+v", got)
	}
}
