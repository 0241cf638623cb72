package target_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/scenarios/target"
)

type addressCase struct {
	raw       string
	endpoints target.Endpoints
	offered   []string
	allow     []string
	tls       *target.TLS
	wrong     string // part of the error
}

func addressCases() []addressCase {
	grpc := []string{"grpc.behave", "grpc.health", "grpc.interop"}
	thrift := []string{"rpc.behave", "rpc.buffered", "rpc.framed", "rpc.ttheader", "rpc.ttheader-framed"}
	tls := []string{"tls.dual-certificate", "tls.mldsa", "tls.mlkem1024", "tls.secp256r1mlkem768", "tls.secp384r1mlkem1024",
		"tls.server", "tls.staple", "tls.tickets", "tls.tls12", "tls.x25519mlkem768"}
	return []addressCase{
		{raw: "grpc://127.0.0.1:9000", endpoints: target.Endpoints{"grpc": "127.0.0.1:9000"}, offered: grpc},
		{raw: "grpc://[::1]:9000", endpoints: target.Endpoints{"grpc": "[::1]:9000"}, offered: grpc},
		{raw: "thrift://localhost:9090", endpoints: target.Endpoints{"rpc": "localhost:9090"}, offered: thrift},
		{raw: "thrift://staging.example:9090", endpoints: target.Endpoints{"rpc": "staging.example:9090"}, offered: thrift, allow: []string{"staging.example"}},
		{raw: "grpc://[2001:db8::1]:1", endpoints: target.Endpoints{"grpc": "[2001:db8::1]:1"}, offered: grpc, allow: []string{"2001:db8::1"}},
		{raw: "tls://127.0.0.1:8443", endpoints: target.Endpoints{"tls": "127.0.0.1:8443"}, offered: tls, tls: &target.TLS{}},
		{raw: "tls://localhost:8443", endpoints: target.Endpoints{"tls": "localhost:8443"}, offered: tls, tls: &target.TLS{ServerName: "localhost"}},
		{raw: "tls://pq.example:443", endpoints: target.Endpoints{"tls": "pq.example:443"}, offered: tls, allow: []string{"pq.example"}, tls: &target.TLS{ServerName: "pq.example"}},
		{raw: "tls://pq.example", wrong: "is not host:port"},
		{raw: "", wrong: "does not say its protocol"},
		{raw: "127.0.0.1:9000", wrong: "write grpc://host:port, thrift://host:port or tls://host:port"},
		{raw: "localhost:9000", wrong: "does not say its protocol"},
		{raw: "tcp://localhost:9000", wrong: "does not say its protocol"},
		{raw: "grpc:localhost:9000", wrong: "does not say its protocol"},
		{raw: "grpc://", wrong: "does not say its protocol"},
		{raw: "grpc://localhost", wrong: "is not host:port"},
		{raw: "grpc://localhost:", wrong: "is not host:port"},
		{raw: "grpc://:9000", wrong: "is not host:port"},
		{raw: "grpc://localhost:0", wrong: "port 0"},
		{raw: "grpc://localhost:65536", wrong: "port 65536"},
		{raw: "grpc://localhost:{port.x}", wrong: "is not an address"},
		{raw: "grpc://me:secret@localhost:1", wrong: "holds more than an address"},
		{raw: "grpc://localhost:1/", wrong: "holds more than an address"},
		{raw: "grpc://localhost:1?x", wrong: "holds more than an address"},
		{raw: "grpc://localhost:1#x", wrong: "holds more than an address"},
	}
}

func TestParseAddress(t *testing.T) {
	seen := 0
	for _, c := range addressCases() {
		seen++
		f, err := target.ParseAddress(c.raw)
		if c.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), c.wrong) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%q: error %v, want …%s…", c.raw, err, c.wrong)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", c.raw, err)
			continue
		}
		if diff := cmp.Diff(c, addressCase{c.raw, f.Endpoints, f.Offered, f.AllowHosts, f.TLS, ""}, cmp.AllowUnexported(addressCase{})); diff != "" {
			t.Errorf("%q (-want +got):\n%s", c.raw, diff)
		}
		if f.Role != "endpoint" || f.Path != c.raw || len(f.Claims) > 0 || f.Start != nil {
			t.Errorf("%q = %+v", c.raw, f)
		}
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
}

// What the caller's probe found becomes the claim.
func TestAddressClaims(t *testing.T) {
	f, err := target.ParseAddress("grpc://127.0.0.1:9000")
	if err != nil {
		t.Fatal(err)
	}
	f.Claims = f.Offered[1:2]
	tg, err := f.Target(target.Build{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := tg.Claims(t.Context())
	want := target.Claims{Name: "127.0.0.1:9000", Features: []string{"grpc.health"}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("claims (-want +got), %v:\n%s", err, diff)
	}
}
