package tls

import (
	"context"
	"crypto"
	"crypto/mldsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"time"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	drive "github.com/assay-bench/assay/scenarios/tls"
	wire "github.com/assay-bench/assay/scenarios/wire/tls"
	"github.com/assay-bench/assay/suites"
)

const (
	reasonNotAsked   = "not-asked"   // the server did not ask for a certificate
	reasonNoIdentity = "no-identity" // the target's lab did not issue a certificate
	maxIssued        = 8             // certificates that are read of what the lab issues
)

// mutualCase is a client certificate, or none, and what is due for it.
type mutualCase struct {
	id, title string
	issued    bool // with a certificate that the target's own authority issues
	needs     []features.Feature
	bend      func(*scenarios.Env, *wire.Client) error // of the client that has the certificate
	due       due
}

const clauseMutual = "draft-ietf-tls-mldsa; RFC 9846 section 4.5.2"

func mutualCases() []mutualCase {
	lab := []features.Feature{features.TLSLab}
	return []mutualCase{
		{
			id: "right", title: "the certificate that the target's authority issued", issued: true, needs: lab,
			due: due{serve: true, clause: clauseMutual, also: asked},
		},
		{
			id: "none", title: "no certificate", due: refuse("RFC 9846 section 4.5.1.4"),
		},
		{
			id: "other-root", title: "a certificate of an authority that the target does not know",
			bend: func(_ *scenarios.Env, c *wire.Client) error {
				id := drive.Authority(drive.MLDSA).Identity(drive.ClientUse())
				c.Offer.Identity = &id
				return nil
			},
			due: refuse("RFC 9846 section 4.5.1.4"),
		},
		{
			id: "wrong-key", title: "the right certificate, and a signature by another key", issued: true, needs: lab,
			bend: func(env *scenarios.Env, c *wire.Client) error {
				key, err := newKey(env)
				c.Offer.Identity.Signer = key
				return err
			},
			due: refuse(clauseMutual, "decrypt_error"),
		},
		{
			id: "flipped-signature", title: "the right certificate, and a signature with one bit changed", issued: true, needs: lab,
			bend: func(_ *scenarios.Env, c *wire.Client) error {
				c.CertificateVerify = func(_ *wire.Scheme, signature *[]byte) {
					if n := len(*signature); n > 0 {
						(*signature)[n/2] ^= 1
					}
				}
				return nil
			},
			due: refuse(clauseMutual, "decrypt_error"),
		},
	}
}

// asked demands a CertificateRequest.
func asked(o wire.Outcome) (string, string) {
	const want = "a CertificateRequest before it"
	if o.Flight == nil || !o.Flight.Requested {
		return reasonNotAsked, want
	}
	return "", want
}

var _ = add(mutual())

func mutual() suites.Check {
	c := suites.Check{
		ID: "tls/auth/mldsa-mutual", Title: "an ML-DSA client certificate is asked for and verified",
		Covers: []string{"tls/auth/mldsa-mutual"}, Needs: []features.Feature{features.TLSMutual},
		Cost: suites.Cost{Time: 200 * time.Millisecond}, Explain: explain, Drive: driveMutual, Judge: judgeMutual,
		Reasons: reasonsOf(refusalReasons(), serviceReasons(), []string{reasonNotAsked, reasonNoIdentity}),
		Control: &suites.Control{Drive: driveMutualControl, Judge: judgeMutualControl},
		Kills: kills(
			killsIn("tls.mutual-cert-unverified", reasonAccepted, "other-root"),
			killsIn("tls.mutual-cert-not-asked", reasonNotAsked, "right"),
			killsIn("tls.mutual-cert-not-asked", reasonAccepted, "none"),
			killsIn("tls.mutual-signature-unchecked", reasonAccepted, "wrong-key", "flipped-signature"),
		),
	}
	for _, k := range mutualCases() {
		c.Cases = append(c.Cases, suites.Case{ID: k.id, Title: k.title, Needs: k.needs})
	}
	return c
}

func mutualNamed(id string) (mutualCase, error) {
	for _, k := range mutualCases() {
		if k.id == id {
			return k, nil
		}
	}
	return mutualCase{}, fmt.Errorf("no case %q", id)
}

// driveMutualControl goes up to the server's Finished: what the server thinks of a client without a
// certificate comes after it.
func driveMutualControl(ctx context.Context, env *scenarios.Env) error {
	_, err := drive.Probe(ctx, env, endpointMutual, "control", wire.Client{Offer: ordinary(env.Claims), Wait: answerWait(env.Claims)})
	return err
}

func judgeMutualControl(evidence []results.Evidence) (bool, string) {
	all, err := drive.Handshakes(evidence)
	if err != nil {
		return false, err.Error()
	}
	h, ok := all["control"]
	if !ok {
		return false, "no handshake of the control is in the evidence"
	}
	o := h.Outcome
	return o.Flight != nil && o.Flight.FinishedValid, describe(o)
}

// driveMutual handshakes with the case's certificate, and exchanges data or waits for a ticket: a server of
// TLS 1.3 refuses a client after the client is done.
func driveMutual(ctx context.Context, env *scenarios.Env) error {
	k, err := mutualNamed(env.Key.Case)
	if err != nil {
		return err
	}
	c := wire.Client{Offer: ordinary(env.Claims), Wait: answerWait(env.Claims)}
	if c.Send, c.Want = drive.App(env); c.Want == 0 {
		c.Tickets = 1
	}
	if k.issued {
		id, err := issue(ctx, env)
		if err != nil || id == nil {
			return err
		}
		c.Offer.Identity = id
	}
	if k.bend != nil {
		if err := k.bend(env, &c); err != nil {
			return err
		}
	}
	_, err = drive.Probe(ctx, env, endpointMutual, "probe", c)
	return err
}

// newKey draws an ML-DSA-65 key from the case's randomness.
func newKey(env *scenarios.Env) (crypto.Signer, error) {
	seed := make([]byte, mldsa.PrivateKeySize)
	for i := range seed {
		seed[i] = byte(env.Rand.Uint32())
	}
	return mldsa.NewPrivateKey(mldsa.MLDSA65(), seed)
}

// issue asks the target's authority for a client certificate. Nil: it did not give one, as the evidence
// tells.
func issue(ctx context.Context, env *scenarios.Env) (*wire.Identity, error) {
	key, err := newKey(env)
	if err != nil {
		return nil, err
	}
	request := &x509.CertificateRequest{Subject: pkix.Name{Organization: []string{"assay harness"}, CommonName: "client.test"}}
	csr, err := x509.CreateCertificateRequest(rand.Reader, request, key)
	if err != nil {
		return nil, err
	}
	body := struct {
		CSR string `json:"csr"`
	}{string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr}))}
	var answer struct {
		Chain string `json:"chain"`
	}
	if err := drive.Lab(ctx, env, "POST", "/issue", body, &answer); err != nil {
		return nil, err
	}
	chain := certificatesOf(answer.Chain)
	if len(chain) == 0 {
		return nil, nil
	}
	return &wire.Identity{Chain: chain, Signer: key, Scheme: wire.MLDSA65}, nil
}

// certificatesOf reads the certificates of a PEM, as far as they are well formed.
func certificatesOf(text string) (chain [][]byte) {
	rest := []byte(text)
	for len(chain) < maxIssued {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type == "CERTIFICATE" {
			chain = append(chain, block.Bytes)
		}
	}
	return chain
}

func judgeMutual(t suites.Trace) suites.Finding {
	k, err := mutualNamed(t.Key.Case)
	if err != nil {
		return missing("a case that exists", t.Key.Case)
	}
	h, ok := seen(t, "probe")
	if !ok {
		return unissued(t, k)
	}
	return judged(t, k.reason(h.Outcome), k.due.want(), describe(h.Outcome), h.Cites)
}

// reason differs from due.reason: a server of TLS 1.3 has answered before it can refuse the client.
func (k mutualCase) reason(o wire.Outcome) string {
	switch {
	case k.due.serve:
		if r, _ := asked(o); r != "" && o.Flight != nil {
			return r
		}
		return k.due.reason(o)
	case o.Flight == nil || !o.Flight.FinishedValid: // it never came to the client's certificate
		return orGarbled(served(o, 0))
	case o.Ending == wire.Completed:
		return reasonAccepted
	}
	return refusedBy(wire.Outcome{Ending: o.Ending, Alert: o.Alert}, k.due.alerts)
}

// unissued is the finding where there was no handshake because there was no certificate.
func unissued(t suites.Trace, k mutualCase) suites.Finding {
	calls, err := drive.Labs(t.Evidence)
	if err != nil || len(calls) == 0 {
		return missing(k.due.want(), "probe")
	}
	last := calls[len(calls)-1]
	return suites.Failing(reasonNoIdentity, k.due.want(),
		fmt.Sprintf("POST /issue gave no certificate: status %d %s", last.Status, last.Broken), last.Cites)
}
