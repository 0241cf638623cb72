package tls

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios/target"
	drive "github.com/assay-bench/assay/scenarios/tls"
	"github.com/assay-bench/assay/suites"
)

// serverCheckIDs are the checks whose subject is a server.
func serverCheckIDs() []string {
	return []string{
		"tls/kex/hybrid-negotiated", "tls/kex/server-share-layout", "tls/kex/secret-order", "tls/kex/encapsulation-key-checked",
		"tls/kex/classical-part-valid", "tls/kex/zero-secret-refused", "tls/kex/share-matches-group", "tls/kex/unknown-group-ignored",
		"tls/kex/fail-closed", "tls/kex/hybrid-preferred", "tls/kex/shared-ecdh-reuse", "tls/kex/not-in-tls12", "tls/kex/bytes-exact",
		"tls/kex/cpu-ratio", "tls/hello/key-share-present", "tls/hello/groups-present", "tls/hello/sigalgs-present",
		"tls/hello/empty-shares-retry", "tls/hello/second-share-exact", "tls/hello/share-data-nonempty", "tls/hello/trailing-data",
		"tls/hello/duplicate-extension", "tls/hello/share-list-rules", "tls/hello/downgrade-sentinel", "tls/hello/record-version",
		"tls/hello/fragmented", "tls/hello/zero-length-record", "tls/auth/mldsa-chain", "tls/auth/mldsa-mutual",
		"tls/auth/certificate-fits-client", "tls/auth/no-usable-certificate", "tls/auth/tls12-peer-refused", "tls/resume/class-bound",
		"tls/resume/dhe-kept", "tls/resume/cpu-ratio", "tls/ocsp/staple-sent", "tls/ocsp/refresh",
		"claims/tls.server", "claims/tls.tls12", "claims/tls.x25519mlkem768", "claims/tls.secp256r1mlkem768",
		"claims/tls.secp384r1mlkem1024", "claims/tls.mlkem1024", "claims/tls.mldsa", "claims/tls.tickets", "claims/tls.staple",
		"claims/tls.dual-certificate", "claims/tls.mutual", "claims/tls.classical", "claims/tls.mldsa-only",
	}
}

// serverChecks finds them.
func serverChecks(t testing.TB) []suites.Check {
	t.Helper()
	var out []suites.Check
	for _, id := range serverCheckIDs() {
		i := slices.IndexFunc(slices.Concat(checks, claims), func(c suites.Check) bool { return c.ID == id })
		if i < 0 {
			t.Fatalf("there is no check %s", id)
		}
		out = append(out, slices.Concat(checks, claims)[i])
	}
	return out
}

// listening answers every connection of a listener on loopback until the test ends, and gives its address.
func listening(t *testing.T, answer func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			all.Go(func() {
				answer(c)
				_ = c.Close()
				mu.Lock()
				delete(open, c)
				mu.Unlock()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return l.Addr().String()
}

// claimed are claims of all features, or of some.
func claimed(some ...features.Feature) target.Claims {
	c := target.Claims{Name: "peer", TLS: &target.TLS{
		ServerName: "server.test", Roots: drive.RootsPEM(drive.MLDSA, drive.ECDSA), App: "echo",
	}}
	for _, f := range features.All() {
		if len(some) == 0 || slices.Contains(some, f.Feature) {
			c.Features = append(c.Features, string(f.Feature))
		}
	}
	return c
}

func certificate(kind string) tls.Certificate {
	id := drive.Authority(kind).Identity()
	return tls.Certificate{Certificate: id.Chain, PrivateKey: id.Signer}
}

// standard answers with crypto/tls and echoes.
func standard(t *testing.T, bend func(*tls.Config), kinds ...string) string {
	cfg := &tls.Config{
		MinVersion: tls.VersionTLS12,
		CurvePreferences: []tls.CurveID{
			tls.X25519MLKEM768, tls.SecP256r1MLKEM768, tls.SecP384r1MLKEM1024, tls.MLKEM1024, tls.X25519, tls.CurveP256, tls.CurveP384,
		},
	}
	for _, k := range kinds {
		cfg.Certificates = append(cfg.Certificates, certificate(k))
	}
	if bend != nil {
		bend(cfg)
	}
	return listening(t, func(c net.Conn) {
		conn := tls.Server(c, cfg)
		if conn.Handshake() == nil {
			_, _ = io.Copy(conn, conn)
			_ = conn.Close()
		}
	})
}

// standardPeer is crypto/tls on all endpoints but the lab.
func standardPeer(t *testing.T) target.Endpoints {
	return target.Endpoints{
		endpoint: standard(t, nil, drive.MLDSA, drive.ECDSA),
		endpointClassical: standard(t, func(c *tls.Config) {
			c.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384}
		}, drive.ECDSA),
		endpointMLDSA: standard(t, nil, drive.MLDSA),
		endpointMutual: standard(t, func(c *tls.Config) {
			c.MinVersion, c.ClientAuth = tls.VersionTLS13, tls.RequireAndVerifyClientCert
			c.ClientCAs = x509.NewCertPool()
			c.ClientCAs.AppendCertsFromPEM([]byte(drive.Authority(drive.ECDSA).Roots()))
		}, drive.MLDSA, drive.ECDSA),
	}
}

// TestStandardLibrary judges crypto/tls, which conforms but for what is listed. A mistake in a case, in a
// drive or in a judge shows as another verdict.
func TestStandardLibrary(t *testing.T) {
	deviates := map[string]string{ // the first with internal_error
		"tls/hello/groups-present#absent":    reasonWrongAlert,
		"tls/hello/key-share-present#absent": reasonAccepted, // it asks for another hello
	}
	unable := []string{ // it has no lab, no staple, and its tickets are not bound to a class; costs want a process of their own
		"tls/kex/cpu-ratio", "tls/resume/cpu-ratio", "tls/resume/class-bound", "tls/ocsp/staple-sent", "tls/ocsp/refresh", "claims/tls.staple",
	}
	addrs, claims := standardPeer(t), claimed()
	n := 0
	for _, c := range serverChecks(t) {
		if slices.Contains(unable, c.ID) {
			continue
		}
		for _, key := range c.Keys() {
			if slices.Contains(c.NeedsOf(key.Case), features.TLSLab) {
				continue
			}
			n++
			f := trial(t, c, key.Case, addrs, claims)
			if got, want := f.Reason, deviates[suites.Pattern(key)]; got != want || (want == "") != (f.Status == results.Pass) {
				t.Errorf("%s is %s %q, want %q\n  expected %s\n  observed %s", suites.Pattern(key), f.Status, got, want, f.Expected, f.Observed)
			}
		}
	}
	if n < 100 {
		t.Fatalf("saw %d cases: this test proves nothing", n)
	}
}

// TestHollowServers runs every case against servers that implement nothing: none may pass, and none may be
// undecided on a quiet host.
func TestHollowServers(t *testing.T) {
	hollow := map[string]func(net.Conn){
		"closes":  func(net.Conn) {},
		"garbage": func(c net.Conn) { _, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) },
		"echoes":  func(c net.Conn) { _, _ = io.Copy(c, c) },
		"silent":  func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		"alerts": func(c net.Conn) { // handshake_failure, whatever comes
			_, _ = c.Read(make([]byte, 4096))
			_, _ = c.Write([]byte{21, 3, 3, 0, 2, 2, 40})
		},
	}
	for name, answer := range hollow {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr, claims := listening(t, answer), claimed()
			addrs := target.Endpoints{}
			for _, f := range features.All() {
				addrs[f.Endpoint] = addr
			}
			var all sync.WaitGroup
			n := 0
			for _, c := range serverChecks(t) {
				for _, key := range c.Keys() {
					n++
					all.Go(func() {
						if f := trial(t, c, key.Case, addrs, claims); f.Status != results.Fail {
							t.Errorf("%s is %s %s: %s", suites.Pattern(key), f.Status, f.Reason, f.Observed)
						}
					})
				}
			}
			all.Wait()
			if n < 100 {
				t.Fatalf("saw %d cases: this test proves nothing", n)
			}
		})
	}
}

// TestClassicalServer has only classical groups: cases that no group is needed for pass.
func TestClassicalServer(t *testing.T) {
	addrs := target.Endpoints{endpoint: standard(t, func(c *tls.Config) {
		c.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384}
	}, drive.ECDSA)}
	claims := claimed(features.TLSServer, features.TLSTLS12)
	deviates := map[string]string{
		"tls/hello/groups-present#absent":    reasonWrongAlert,
		"tls/hello/key-share-present#absent": reasonAccepted,
	}
	n := 0
	for _, c := range serverChecks(t) {
	cases:
		for _, key := range c.Keys() {
			for _, f := range c.NeedsOf(key.Case) {
				if !claims.Has(string(f)) {
					continue cases
				}
			}
			n++
			f := trial(t, c, key.Case, addrs, claims)
			if got, want := f.Reason, deviates[suites.Pattern(key)]; got != want || (want == "") != (f.Status == results.Pass) {
				t.Errorf("%s is %s %q, want %q: %s", suites.Pattern(key), f.Status, got, want, f.Observed)
			}
		}
	}
	if n < 20 {
		t.Fatalf("saw %d cases: this test proves nothing", n)
	}
}

// TestServerWithoutX25519 has P-256 alone beside the hybrid. RFC 9846 section 9.1 demands no other group, so
// that no row of a standard may fail it.
func TestServerWithoutX25519(t *testing.T) {
	for name, only := range map[string][]tls.CurveID{
		"hybrid and P-256": {tls.X25519MLKEM768, tls.CurveP256}, "P-384": {tls.CurveP384},
	} {
		addrs := target.Endpoints{endpoint: standard(t, func(c *tls.Config) { c.CurvePreferences = only }, drive.ECDSA)}
		claims := claimed(features.TLSServer, features.TLSTLS12, features.TLSTickets)
		if len(only) > 1 {
			claims = claimed(features.TLSServer, features.TLSTLS12, features.TLSTickets, features.TLSX25519)
		}
		deviates := map[string]string{
			"tls/hello/groups-present#absent":    reasonWrongAlert,
			"tls/hello/key-share-present#absent": reasonAccepted,
		}
		s, n := suite(t), 0
		for _, c := range serverChecks(t) {
			if !s.Standard(c) {
				continue
			}
		cases:
			for _, key := range c.Keys() {
				for _, f := range c.NeedsOf(key.Case) {
					if !claims.Has(string(f)) {
						continue cases
					}
				}
				n++
				f := trial(t, c, key.Case, addrs, claims)
				if got, want := f.Reason, deviates[suites.Pattern(key)]; got != want {
					t.Errorf("%s: %s is %s %q, want %q: %s", name, suites.Pattern(key), f.Status, got, want, f.Observed)
				}
			}
		}
		if n < 18 {
			t.Fatalf("%s: saw %d cases: this test proves nothing", name, n)
		}
	}
}
