package tls

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func sampleHello(t testing.TB) Hello {
	t.Helper()
	keys := keyring{from: seeded([32]byte{1}), pairs: map[Group]keyPair{}}
	o := Offer{ServerName: "server.test", ALPN: []string{"h2"}, Groups: Groups(), Shares: []Group{X25519MLKEM768, P256}, Status: true,
		Session: &Session{Ticket: []byte("ticket"), Secret: make([]byte, 32), Suite: AES128SHA256}}
	h, err := o.hello(&keys, time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestHelloRoundTrip(t *testing.T) {
	h := sampleHello(t)
	h.Trailing = []byte{1, 2}
	got, err := ParseHello(h.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(h.Marshal(), got.Marshal()); diff != "" {
		t.Error(diff)
	}
	seen := seeHello(got, 0)
	if seen.ServerName != "server.test" || !slices.Equal(seen.Groups, Groups()) || seen.Tickets != 1 || !seen.Status || seen.ALPN[0] != "h2" {
		t.Errorf("seen = %+v", seen)
	}
}

func TestHelloEdits(t *testing.T) {
	h := sampleHello(t)
	h.Add(Extension{Type: 0x1234})
	if last := h.Extensions[len(h.Extensions)-1].Type; last != extPSK {
		t.Errorf("last extension = %d", last)
	}
	if e, ok := h.Find(0x1234); !ok || len(e.Data) != 0 {
		t.Error("the added extension is not there")
	}
	h.Set(0x1234, []byte{5})
	if e, _ := h.Find(0x1234); len(e.Data) != 1 {
		t.Error("Set did not replace the data")
	}
	h.Remove(0x1234)
	if _, ok := h.Find(0x1234); ok {
		t.Error("Remove left the extension")
	}
	h.EditShare(P256, func(b []byte) []byte { return b[:3] })
	shares, err := h.Shares()
	if err != nil || len(shares) != 2 || len(shares[1].Data) != 3 || len(shares[0].Data) != 1216 {
		t.Errorf("shares = %v %v", len(shares), err)
	}
	h.Set(extKeyShare, []byte{0, 9, 1})
	if _, err := h.Shares(); err == nil {
		t.Error("a malformed key_share was read")
	}
}

func TestHelloIsRefused(t *testing.T) {
	raw := sampleHello(t).Marshal()
	refused := 0
	for n := range raw {
		if _, err := ParseHello(raw[:n]); err != nil {
			refused++
		}
	}
	if refused != len(raw) {
		t.Errorf("%d of %d prefixes were refused", refused, len(raw))
	}
}

func TestGroupLayouts(t *testing.T) {
	want := map[Group][2]int{X25519: {32, 32}, P256: {65, 65}, P384: {97, 97}, X25519MLKEM768: {1216, 1120},
		SecP256r1MLKEM768: {1249, 1153}, SecP384r1MLKEM1024: {1665, 1665}, MLKEM1024: {1568, 1568}, Kyber768Draft: {1216, 1120}, 0x0a0a: {0, 0}}
	for g, sizes := range want {
		if got := [2]int{g.ClientShare(), g.ServerShare()}; got != sizes {
			t.Errorf("%v: %v, want %v", g, got, sizes)
		}
	}
	if e, k, first := X25519MLKEM768.Parts(); e != 32 || k != 1184 || !first {
		t.Errorf("parts of X25519MLKEM768 = %d %d %v", e, k, first)
	}
	if e, k, first := SecP384r1MLKEM1024.Parts(); e != 97 || k != 1568 || first {
		t.Errorf("parts of SecP384r1MLKEM1024 = %d %d %v", e, k, first)
	}
	if P256.PostQuantum() || Kyber768Draft.PostQuantum() || !MLKEM1024.PostQuantum() || Kyber768Draft.String() != "0x6399" {
		t.Error("classes or names of groups")
	}
}

func TestLowOrderPointIsZero(t *testing.T) {
	point := unhex(t, "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")
	if got := shareFault(X25519, point); got != "zero" {
		t.Errorf("fault = %q", got)
	}
}

func TestAlertNames(t *testing.T) {
	for c := range 256 {
		if got, ok := AlertNamed(AlertCode(c).String()); !ok || got != AlertCode(c) {
			t.Errorf("%d: %v %v", c, got, ok)
		}
	}
	if _, ok := AlertNamed("nonsense"); ok {
		t.Error("nonsense has a code")
	}
}

func TestPackageDoesWithoutCryptoTLS(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := strings.Fields(string(out))
	if !slices.Contains(deps, "crypto/mlkem") {
		t.Fatalf("the list of dependencies is not one: %q", out)
	}
	for _, d := range deps {
		if d == "crypto/tls" || strings.Contains(d, "/reference/") {
			t.Errorf("the prober depends on %s", d)
		}
	}
}
