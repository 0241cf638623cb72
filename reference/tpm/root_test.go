package tpm_test

import (
	"crypto/mldsa"
	"crypto/rand"
	"crypto/x509"
	"testing"

	"github.com/assay-bench/assay/reference/pqtls/pki"
	"github.com/assay-bench/assay/reference/tpm"
)

// The ML-DSA-87 root of an authority whose key exists outside the TPM only while it signs: leaves verify up to
// it, and after a change of PCR 2 the root signs nothing more.
func TestAuthorityWithASealedRoot(t *testing.T) {
	b := newBench(t)
	seed := make([]byte, mldsa.PrivateKeySize)
	if _, err := rand.Read(seed); err != nil {
		t.Fatal(err)
	}
	blob, err := b.dev.SealSeed(t.Context(), seed)
	if err != nil {
		t.Fatal(err)
	}
	root, err := b.dev.OpenSeed(t.Context(), blob, mldsa.MLDSA87())
	if err != nil {
		t.Fatal(err)
	}
	ca, err := pki.New(pki.Options{Kind: pki.MLDSA, Root: root})
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := ca.Issue(pki.Request{Use: pki.Server, Names: []string{"server.test"}})
	if err != nil {
		t.Fatal(err)
	}
	intermediate, err := x509.ParseCertificate(leaf.Certificate[1])
	if err != nil {
		t.Fatal(err)
	}
	rootCert, err := ca.Root()
	if err != nil {
		t.Fatal(err)
	}
	if err := intermediate.CheckSignatureFrom(rootCert); err != nil {
		t.Errorf("intermediate: %v", err)
	}
	b.extend(2)
	if _, err := pki.New(pki.Options{Kind: pki.MLDSA, Root: root}); tpm.CodeOf(err) != "TPM_RC_POLICY_FAIL" {
		t.Errorf("a root after a change of PCR 2: %v, want TPM_RC_POLICY_FAIL", err)
	}
}
