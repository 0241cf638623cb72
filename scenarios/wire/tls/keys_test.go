package tls

import (
	"encoding/hex"
	"testing"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The values are those of RFC 8448 section 3, "Simple 1-RTT Handshake".
func TestScheduleOfRFC8448(t *testing.T) {
	a, ok := algorithmsOf(AES128SHA256)
	if !ok {
		t.Fatal("no suite")
	}
	s := newSchedule(a, nil)
	is := func(name string, got []byte, want string) {
		t.Helper()
		if hex.EncodeToString(got) != want {
			t.Errorf("%s = %x, want %s", name, got, want)
		}
	}
	is("early secret", s.secret, "33ad0a1c607ec03b09e6cd9893680ce210adf300aa1f2660e1b22e10f170f92a")
	is("derived", s.derive("derived", nil), "6f2615a108c702c5678f54fc9dbab69716c076189c48250cebeac3576c3611ba")
	s.next(unhex(t, "8bd4054fb55b9d63fdfbacf9f04b9f0d35e6d63f537563efd46272900f89492d"))
	is("handshake secret", s.secret, "1dc826e93606aa6fdc0aadc12f741b01046aa6b99f691ed221a9f0ca043fbeac")
	is("derived", s.derive("derived", nil), "43de77e0c77713859a944db9db2590b53190a65b3ee2e4f12dd7a0bb7ce254b4")
	s.next(nil)
	is("master secret", s.secret, "18df06843d13a08bf2a449844c5f8a478001bc4d4c627984d5a41da8d0402919")
	server := unhex(t, "b67b7d690cc16c4e75e54213cb2d37b4e9c912bcded9105d42befd59d391ad38")
	is("key", a.expand(server, "key", nil, 16), "3fce516009c21727d0f2e4e86ee403bc")
	is("iv", a.expand(server, "iv", nil, 12), "5d313eb2671276ee13000b30")
	is("finished", a.expand(server, "finished", nil, 32), "008d3b66f816ea559f96b537e885c31fc068bf492c652f01f288a1d8cdc19fc8")
}

func TestHalves(t *testing.T) {
	for _, suite := range []Suite{AES128SHA256, AES256SHA384} {
		a, _ := algorithmsOf(suite)
		secret := make([]byte, a.size)
		out, err := newHalf(a, secret)
		if err != nil {
			t.Fatal(err)
		}
		in, err := newHalf(a, secret)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			raw := out.seal(version12, recordAlert, []byte{1, byte(i)})
			r := recordOf(raw)
			r.payload[0] ^= 1
			if _, _, _, err := in.open(r); err != errUndecryptable {
				t.Fatalf("a changed record: %v", err)
			}
			r.payload[0] ^= 1
			kind, payload, padding, err := in.open(r)
			if err != nil || kind != recordAlert || payload[1] != byte(i) || padding != 0 || len(r.payload) != sealedAlert {
				t.Fatalf("record %d: %d % x %d %v", i, kind, payload, padding, err)
			}
		}
		padded := recordOf(out.seal(version12, 0, []byte{9, 9, recordHandshake, 0, 0}))
		if kind, payload, padding, err := in.open(padded); err != nil || kind != recordHandshake || len(payload) != 2 || padding != 3 {
			t.Errorf("padded: %d % x %d %v", kind, payload, padding, err)
		}
		if _, _, _, err := in.open(recordOf(out.seal(version12, 0, nil))); err == nil {
			t.Error("a record of zeros was taken")
		}
	}
}

func recordOf(raw []byte) record {
	var r record
	copy(r.header[:], raw)
	r.payload = raw[5:]
	return r
}
