package tls

import (
	"context"
	"crypto"
	"crypto/mldsa"
	"crypto/sha3"
	"crypto/sha512"
	"fmt"
	"time"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/scenarios"
	prober "github.com/assay-bench/assay/scenarios/tls"
	wire "github.com/assay-bench/assay/scenarios/wire/tls"
	"github.com/assay-bench/assay/suites"
)

func mldsaServer(bend wire.ServerBend) wire.Server { return wire.Server{Bend: bend, Echo: true} }

func shorter(b []byte) []byte { return b[:len(b)-1] }
func longer(b []byte) []byte  { return append(b[:len(b):len(b)], 0) }

func flipped(b []byte) []byte {
	out := append([]byte(nil), b...)
	out[len(out)/2] ^= 1
	return out
}

// withContext signs with the ML-DSA context "x", where TLS demands an empty one.
func withContext(signer crypto.Signer, content []byte) ([]byte, error) {
	return signer.Sign(nil, content, &mldsa.Options{Context: "x"})
}

// preHashed makes the HashML-DSA signature of FIPS 204 section 5.4 with SHA-512 by way of the external μ:
// SHAKE256(tr ‖ 1 ‖ 0 ‖ OID ‖ SHA-512(content)), tr = SHAKE256(public key).
func preHashed(signer crypto.Signer, content []byte) ([]byte, error) {
	public, ok := signer.Public().(*mldsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("pre-hash: the key is %T, want ML-DSA", signer.Public())
	}
	sum := sha512.Sum512(content)
	tr := sha3.SumSHAKE256(public.Bytes(), 64)
	h := sha3.NewSHAKE256()
	for _, part := range [][]byte{tr, {1, 0}, sha512OID(), sum[:]} {
		_, _ = h.Write(part) // it never fails
	}
	mu := make([]byte, 64)
	_, _ = h.Read(mu)
	return signer.Sign(nil, mu, crypto.MLDSAMu)
}

// sha512OID is the DER of 2.16.840.1.101.3.4.2.3.
func sha512OID() []byte { return []byte{6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 3} }

var (
	_ = add(trapRow{
		clause: "draft-ietf-tls-mldsa, Handshake signature",
		cases: []trapCase{{id: "mldsa44-over-65", title: "mldsa44 named over an ML-DSA-65 key", kind: "mldsa",
			server: mldsaServer(wire.ServerBend{Scheme: wire.MLDSA44})}},
	}.check(suites.Check{
		ID: "tls/auth/scheme-matches-key", Title: "a client refuses a scheme that does not fit the leaf's key",
		Covers: []string{"tls/auth/scheme-matches-key"}, Needs: []features.Feature{features.TLSClientDSA},
		Kills: killsIn("tlsclient.scheme-unchecked", reasonWentOn, "mldsa44-over-65"),
	}))

	_ = add(trapRow{
		clause: "draft-ietf-tls-mldsa, Handshake signature",
		cases: []trapCase{
			{id: "short", title: "one byte short", kind: "mldsa", server: mldsaServer(wire.ServerBend{Signature: shorter}), accept: []string{decryptError}},
			{id: "long", title: "one byte long", kind: "mldsa", server: mldsaServer(wire.ServerBend{Signature: longer}), accept: []string{decryptError}},
		},
	}.check(suites.Check{
		ID: "tls/auth/signature-length", Title: "a client refuses an ML-DSA signature of the wrong length",
		Covers: []string{"tls/auth/signature-length"}, Needs: []features.Feature{features.TLSClientDSA},
		Kills: killsIn("tlsclient.signature-unchecked", reasonWentOn, "short", "long"),
	}))

	_ = add(trapRow{
		clause: "RFC 9846 section 4.5.2",
		cases: []trapCase{
			{id: "mldsa", title: "a flipped bit in an ML-DSA signature", kind: "mldsa", server: mldsaServer(wire.ServerBend{Signature: flipped}), accept: []string{decryptError}},
			{id: "mldsa-other-key", title: "an ML-DSA signature of another key", kind: "mldsa", with: []prober.Option{prober.OtherKey()}, server: mldsaServer(wire.ServerBend{}), accept: []string{decryptError}},
			{id: "ecdsa-other-key", title: "an ECDSA signature of another key", with: []prober.Option{prober.OtherKey()}, server: mldsaServer(wire.ServerBend{}), accept: []string{decryptError}},
		},
	}.check(suites.Check{
		ID: "tls/auth/signature-valid", Title: "a client refuses a wrong CertificateVerify",
		Covers: []string{"tls/auth/signature-valid"}, Needs: []features.Feature{features.TLSClientDSA},
		Kills: killsIn("tlsclient.signature-unchecked", reasonWentOn, "mldsa", "mldsa-other-key", "ecdsa-other-key"),
	}))

	_ = add(trapRow{
		clause: "draft-ietf-tls-mldsa and FIPS 204: the context is empty, and there is no pre-hash",
		cases: []trapCase{
			{id: "context", title: `a signature with the context "x"`, kind: "mldsa", server: mldsaServer(wire.ServerBend{Sign: withContext}), accept: []string{decryptError}},
			{id: "pre-hash", title: "a HashML-DSA signature", kind: "mldsa", server: mldsaServer(wire.ServerBend{Sign: preHashed}), accept: []string{decryptError}},
		},
	}.check(suites.Check{
		ID: "tls/auth/context-empty", Title: "a client refuses an ML-DSA signature with a context or over a pre-hash",
		Covers: []string{"tls/auth/context-empty"}, Needs: []features.Feature{features.TLSClientDSA},
		Kills: killsIn("tlsclient.context-ignored", reasonWentOn, "context", "pre-hash"),
	}))

	_ = add(trapRow{
		clause: "draft-ietf-tls-mldsa, TLS 1.2",
		cases: []trapCase{{id: "server-key-exchange", title: "a ServerKeyExchange signed with mldsa65", kind: "mldsa", accept: []string{illegalParameter},
			server: wire.Server{Legacy: &wire.LegacyPlan{Scheme: wire.MLDSA65}}, dial: prober.DialRequest{MinVersion: "1.2"}, fits: offersTLS12}},
	}.check(suites.Check{
		ID: "tls/auth/not-in-tls12", Title: "a client refuses ML-DSA under TLS 1.2",
		Covers: []string{"tls/auth/not-in-tls12"}, Needs: []features.Feature{features.TLSClientDSA},
		Kills: killsIn("tlsclient.tls12-mldsa-accepted", reasonWentOn, "server-key-exchange"),
	}))

	_ = add(trapRow{
		clause: "RFC 5280 section 6 by way of RFC 9846 section 4.5.1",
		cases: []trapCase{
			{id: "unknown-root", title: "the chain ends in a root that the client does not have", kind: "mldsa", with: []prober.Option{prober.UnknownRoot()}, server: mldsaServer(wire.ServerBend{})},
			{id: "no-intermediate", title: "the chain lacks its intermediate", kind: "mldsa", with: []prober.Option{prober.NoIntermediate()}, server: mldsaServer(wire.ServerBend{})},
			{id: "expired", title: "the leaf has expired", kind: "mldsa", with: []prober.Option{prober.Expired()}, server: mldsaServer(wire.ServerBend{})},
			{id: "other-name", title: "the leaf is for another name", kind: "mldsa", with: []prober.Option{prober.Names("other.test")}, server: mldsaServer(wire.ServerBend{})},
		},
	}.check(suites.Check{
		ID: "tls/auth/mldsa-chain-refused-by-client", Title: "a client refuses an ML-DSA chain that it can not trust",
		Covers: []string{"tls/auth/mldsa-chain"}, Needs: []features.Feature{features.TLSClientDSA},
		Kills: killsIn("tlsclient.chain-unverified", reasonWentOn, "unknown-root", "no-intermediate", "expired", "other-name"),
	}))

	_ = add(chainVerified())
)

// Reasons of chainVerified.
const (
	reasonNotVerified    = "not-verified"
	reasonVerifiedLength = "chain-length"
)

// chainVerified points a client at an ML-DSA chain that holds. Where the client says how long the verified
// chain is, that is compared.
func chainVerified() suites.Check {
	const want = "the client completes the handshake; a chain of 3: ML-DSA-65 leaf and intermediate, ML-DSA-87 root"
	return suites.Check{
		ID: "tls/auth/mldsa-chain-verified-by-client", Title: "a client verifies an ML-DSA chain",
		Covers: []string{"tls/auth/mldsa-chain"}, Needs: []features.Feature{features.TLSClient, features.TLSClientDSA},
		Control: clientControl("ecdsa"), Cost: suites.Cost{Time: 100 * time.Millisecond}, Explain: explainClient,
		Reasons: []string{reasonNoDial, reasonNotVerified, reasonVerifiedLength},
		Drive: func(ctx context.Context, env *scenarios.Env) error {
			return springTrap(ctx, env, trapCase{kind: "mldsa", server: wire.Server{Echo: true}})
		},
		Judge: func(t suites.Trace) suites.Finding {
			heard, err := prober.Heards(t.Evidence)
			if err != nil {
				return suites.Failing(reasonNoDial, want, err.Error(), nil)
			}
			dials, err := prober.Dials(t.Evidence)
			if err != nil || len(dials) == 0 {
				return suites.Failing(reasonNoDial, want, "no dial is recorded", nil)
			}
			hs, d := heard["trap"], dials[len(dials)-1]
			cites := append(citesOf(hs), d.Cites...)
			best, said := furthest(hs)
			observed := fmt.Sprintf("%s; the client says connected %v, chain %d", describeHeard(hs), d.Answer.Connected, d.Answer.Chain)
			switch {
			case !said:
				return suites.Failing(reasonNoDial, want, observed, cites)
			case !best.FinishedValid || !d.Answer.Connected:
				return suites.Failing(reasonNotVerified, want, observed, cites)
			case d.Answer.Chain != 0 && d.Answer.Chain != 3:
				return suites.Failing(reasonVerifiedLength, want, observed, cites)
			}
			return suites.Passing(want, observed, cites)
		},
		Kills: killsIn("tlsclient.mldsa-refused", reasonNotVerified, ""),
	}
}
