package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/mldsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/assay-bench/assay/results"
)

// lookPeer finds a program of another project. Where it is not installed there is nothing to test; CI
// installs it.
func lookPeer(t *testing.T, names ...string) string {
	t.Helper()
	for _, n := range names {
		if p, err := exec.LookPath(n); err == nil {
			return p
		}
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("none of %q is installed, and CI should have installed it", names)
	}
	t.Skipf("none of %q is installed", names)
	return ""
}

// peerPKI writes root.pem, leaf.pem, inter.pem, chain.pem (leaf and intermediate) and key.pem for server.test.
func peerPKI(t *testing.T, dir string, key func() crypto.Signer) {
	t.Helper()
	now := time.Now()
	var parent *x509.Certificate
	var by crypto.Signer
	var ders [][]byte
	for i, name := range []string{"root", "intermediate", "server.test"} {
		k := key()
		c := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour),
			NotAfter: now.Add(24 * time.Hour), BasicConstraintsValid: true, IsCA: i < 2, KeyUsage: x509.KeyUsageCertSign,
		}
		if i == 2 {
			c.KeyUsage, c.DNSNames, c.IPAddresses = x509.KeyUsageDigitalSignature, []string{"server.test", "localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}
		if parent == nil {
			parent, by = c, k
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, k.Public(), by)
		if err != nil {
			t.Fatal(err)
		}
		if parent, err = x509.ParseCertificate(der); err != nil {
			t.Fatal(err)
		}
		by, ders = k, append(ders, der)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(by)
	if err != nil {
		t.Fatal(err)
	}
	cert := func(der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	for name, text := range map[string]string{
		"root.pem": cert(ders[0]), "inter.pem": cert(ders[1]), "leaf.pem": cert(ders[2]), "chain.pem": cert(ders[2]) + cert(ders[1]),
		"key.pem": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func ecdsaKey() crypto.Signer {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
}

func mldsaKey() crypto.Signer {
	k, err := mldsa.GenerateKey(mldsa.MLDSA65())
	if err != nil {
		panic(err)
	}
	return k
}

// freeAddr reserves no port: it finds one that was free a moment ago.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// started runs a peer until the test ends and waits for its port.
func started(t *testing.T, addr, dir string, argv ...string) {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.SysProcAttr = dir, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-exited
	})
	for deadline := time.Now().Add(15 * time.Second); ; {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			conn.Close()
			return
		}
		if len(exited) > 0 || time.Now().After(deadline) {
			t.Fatalf("%s does not serve %s: %v\n%s", argv[0], addr, err, out.String())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// failures lists the cases of the area that failed, with their reasons.
func failures(b *results.Bundle, area string) map[string]string {
	out := map[string]string{}
	for _, v := range b.Verdicts.Verdicts {
		if strings.HasPrefix(v.Check, area) && v.Status == results.Fail {
			out[v.Key().String()] = v.Reason + ": " + v.Why.Observed
		}
	}
	return out
}

func wantVerdict(t *testing.T, b *results.Bundle, key string, want results.Status) {
	t.Helper()
	for _, v := range b.Verdicts.Verdicts {
		if v.Key().String() == key {
			if v.Status != want {
				t.Errorf("%s is %s %s (%s), want %s", key, v.Status, v.Reason, v.Why.Observed, want)
			}
			return
		}
	}
	t.Errorf("no verdict on %s, want %s", key, want)
}

// TestOpenSSLServer judges Debian's openssl, which knows no post-quantum group: what it lacks is not claimed
// and never a failure.
func TestOpenSSLServer(t *testing.T) {
	openssl, dir, addr := lookPeer(t, "openssl"), t.TempDir(), freeAddr(t)
	peerPKI(t, dir, ecdsaKey)
	started(t, addr, dir, openssl, "s_server", "-accept", addr, "-cert", "leaf.pem", "-key", "key.pem", "-cert_chain", "inter.pem", "-www", "-quiet")
	_, b := assayIn(t, dir, "run", "tls", "--target", "tls://"+addr, "--sni", "server.test", "--ca", "root.pem", "--app", "http")
	classical(t, "OpenSSL 3.0, server", b)
}

// TestGnuTLSServer does the same with a second classical library.
func TestGnuTLSServer(t *testing.T) {
	gnutls, dir, addr := lookPeer(t, "gnutls-serv"), t.TempDir(), freeAddr(t)
	peerPKI(t, dir, ecdsaKey)
	_, port, _ := net.SplitHostPort(addr)
	started(t, addr, dir, gnutls, "--http", "--port", port, "--x509certfile", "chain.pem", "--x509keyfile", "key.pem", "--priority", "NORMAL:-VERS-ALL:+VERS-TLS1.3")
	_, b := assayIn(t, dir, "run", "tls", "--target", "tls://"+addr, "--sni", "server.test", "--ca", "root.pem", "--app", "http")
	classical(t, "GnuTLS 3.7, server", b)
}

// classical holds what is true of every sound server without post-quantum groups.
func classical(t *testing.T, stack string, b *results.Bundle) {
	t.Helper()
	if n := b.Verdicts.Count(results.Broken) + b.Verdicts.Count(results.Unproven); n != 0 {
		t.Errorf("%d verdicts are broken or unproven", n)
	}
	for key, why := range failures(b, "tls/kex/") {
		t.Errorf("%s: %s: a group that is not there is no failure", key, why)
	}
	if n := statuses(b, "tls/kex/")[results.NotClaimed]; n < 20 {
		t.Errorf("%d cases on key exchange are not claimed, want those of every post-quantum group", n)
	}
	wantVerdict(t, b, "tls/hello/key-share-present#absent", results.Pass)
	listedPasses(t, stack, b)
	logFindings(t, b)
}

// TestNodeServer judges OpenSSL 3.5, which has the hybrids and ML-DSA.
func TestNodeServer(t *testing.T) {
	node, dir, addr := lookPeer(t, "node26"), t.TempDir(), freeAddr(t)
	peerPKI(t, dir, mldsaKey)
	_, port, _ := net.SplitHostPort(addr)
	script := `const https=require('https'),fs=require('fs');
https.createServer({cert:fs.readFileSync('chain.pem'),key:fs.readFileSync('key.pem'),
  ecdhCurve:'X25519MLKEM768:SecP256r1MLKEM768:SecP384r1MLKEM1024:MLKEM1024:X25519:P-256'},(q,r)=>r.end('hi')).listen(` + port + `,'127.0.0.1')`
	started(t, addr, dir, node, "-e", script)
	_, b := assayIn(t, dir, "run", "tls", "--target", "tls://"+addr, "--sni", "server.test", "--ca", "root.pem", "--app", "http")
	if n := b.Verdicts.Count(results.Broken) + b.Verdicts.Count(results.Unproven); n != 0 {
		t.Errorf("%d verdicts are broken or unproven", n)
	}
	for _, group := range []string{"x25519mlkem768", "secp256r1mlkem768", "secp384r1mlkem1024", "mlkem1024"} {
		wantVerdict(t, b, "tls/kex/hybrid-negotiated#"+group, results.Pass)
	}
	wantVerdict(t, b, "claims/tls.mldsa", results.Pass)
	listedPasses(t, "OpenSSL 3.5 in Node.js, server", b)
	logFindings(t, b)
}

// clientTarget writes the target file of a client that a hook makes dial.
func clientTarget(t *testing.T, dir, name, hook string, claims ...string) {
	t.Helper()
	file := fmt.Sprintf("apiVersion: assay/v1\nkind: Target\nname: %s\nrole: client\nhooks:\n  client: %q\nclaims: [%s]\n", name, hook, strings.Join(claims, ", "))
	if err := os.WriteFile(filepath.Join(dir, "target.yaml"), []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
}

func judgeClientPeer(t *testing.T, stack, dir string) *results.Bundle {
	t.Helper()
	_, b := assayIn(t, dir, "run", "tls", "--target", "target.yaml", "--workers", "2")
	if n := b.Verdicts.Count(results.Broken) + b.Verdicts.Count(results.Unproven); n != 0 {
		t.Errorf("%d verdicts are broken or unproven", n)
	}
	wantVerdict(t, b, "claims/tls.client", results.Pass)
	listedPasses(t, stack, b)
	logFindings(t, b)
	return b
}

// logFindings shows what a peer fails. That a client took what it had to refuse would be new, and serious.
func logFindings(t *testing.T, b *results.Bundle) {
	t.Helper()
	for key, why := range failures(b, "") {
		t.Logf("finding: %s: %.300s", key, why)
		if strings.HasPrefix(why, "went-on") {
			t.Errorf("%s went on: %.300s", key, why)
		}
	}
}

// TestOpenSSLClient points the misbehaving server at openssl s_client.
func TestOpenSSLClient(t *testing.T) {
	openssl, dir := lookPeer(t, "openssl"), t.TempDir()
	clientTarget(t, dir, "openssl s_client",
		openssl+" s_client -connect {host}:{port} -servername {sni} -CAfile {ca} -verify_return_error -tls1_3 -brief", "tls.client")
	b := judgeClientPeer(t, "OpenSSL 3.0, client", dir)
	for _, key := range []string{"tls/hello/retry-group-valid#unoffered", "tls/hello/session-id-echo#wrong-echo", "tls/hello/record-version-of-client"} {
		wantVerdict(t, b, key, results.Pass)
	}
	if n := statuses(b, "tls/auth/")[results.NotClaimed]; n == 0 {
		t.Error("openssl 3.0 verifies no ML-DSA, and no case says so")
	}
}

// TestNodeClient points it at OpenSSL 3.5.
func TestNodeClient(t *testing.T) {
	node, dir := lookPeer(t, "node26"), t.TempDir()
	script := `const tls=require('tls'),fs=require('fs');const [host,port,sni,ca]=process.argv.slice(2);
const s=tls.connect({host,port:+port,servername:sni,ca:fs.readFileSync(ca),ecdhCurve:'X25519MLKEM768:X25519:P-384'},()=>{s.write('assay');s.end()});
s.on('data',()=>{});s.on('error',e=>{console.error(e.code||e.message);process.exit(1)});s.on('close',()=>process.exit(0));`
	if err := os.WriteFile(filepath.Join(dir, "dial.js"), []byte(script), 0o644); err != nil {
		t.Fatal(err)
	}
	clientTarget(t, dir, "node 26", node+" dial.js {host} {port} {sni} {ca}", "tls.client", "tls.client-hybrid", "tls.client-mldsa")
	b := judgeClientPeer(t, "OpenSSL 3.5 in Node.js, client", dir)
	for _, key := range []string{
		"tls/kex/client-share-layout#first-hello", "tls/kex/implicit-rejection#random-ciphertext",
		"tls/auth/mldsa-chain-verified-by-client", "tls/auth/signature-valid#mldsa", "tls/auth/context-empty#context",
	} {
		wantVerdict(t, b, key, results.Pass)
	}
}

// TestChromiumClient points it at a browser, which opens connections as it likes.
func TestChromiumClient(t *testing.T) {
	chromium, dir := lookPeer(t, "chromium"), t.TempDir()
	script := "#!/bin/sh\np=$(mktemp -d)\ntrap 'rm -rf \"$p\"' EXIT\ntimeout 14 " + chromium + ` --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run ` +
		`--disable-background-networking --disable-component-update --user-data-dir="$p" --host-resolver-rules="MAP server.test 127.0.0.1" ` +
		`--ignore-certificate-errors --dump-dom "https://server.test:$1/" >/dev/null 2>&1` + "\n"
	if err := os.WriteFile(filepath.Join(dir, "dial.sh"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	clientTarget(t, dir, "Chromium", "./dial.sh {port}", "tls.client", "tls.client-hybrid")
	_, b := assayIn(t, dir, "run", "tls/kex/client-share-layout#first-hello", "tls/kex/ciphertext-length-checked", "tls/kex/implicit-rejection",
		"tls/hello/session-id-echo", "tls/hello/retry-group-valid", "--target", "target.yaml", "--workers", "1")
	if n := b.Verdicts.Count(results.Broken) + b.Verdicts.Count(results.Unproven); n != 0 {
		t.Errorf("%d verdicts are broken or unproven", n)
	}
	for _, key := range []string{"tls/kex/client-share-layout#first-hello", "tls/kex/implicit-rejection#random-ciphertext"} {
		wantVerdict(t, b, key, results.Pass)
	}
	logFindings(t, b)
}
