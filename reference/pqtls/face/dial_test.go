package face

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// FuzzDialRequest: a body is refused, or is a request within its bounds.
func FuzzDialRequest(f *testing.F) {
	f.Add(`{"address":"127.0.0.1:1","policy":"any","groups":["X25519"],"minVersion":"1.2","staple":"check"}`)
	f.Add(`{"address":"[::1]:1","alpn":["h2"],"at":"2026-01-02T03:04:05Z","deadlineMillis":1,"send":"\u0000"}`)
	f.Add(`{"roots":"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"}`)
	f.Fuzz(func(t *testing.T, body string) {
		var d dialRequest
		if decode(httptest.NewRecorder(), httptest.NewRequest("POST", "/dial", strings.NewReader(body)), &d) != nil {
			return
		}
		r, err := d.request()
		if err == nil && (r.Deadline < 0 || r.Deadline > 30*time.Second || len(r.ALPN) > 16) {
			t.Errorf("%+v", r)
		}
	})
}

func TestLoopback(t *testing.T) {
	seen := 0
	for address, want := range map[string]bool{
		"127.0.0.1:1": true, "127.9.9.9:1": true, "[::1]:1": true, "localhost:1": true, "[::ffff:127.0.0.1]:1": true,
		"10.0.0.1:1": false, "0.0.0.0:1": false, "[::]:1": false, "127.0.0.1.example:1": false, "127.1:1": false,
		"LOCALHOST.evil:1": false, "127.0.0.1": false, "": false, "[fe80::1%lo]:1": false,
	} {
		seen++
		if err := loopback(address); (err == nil) != want {
			t.Errorf("%q: %v", address, err)
		}
	}
	if seen == 0 {
		t.Fatal("no addresses")
	}
}
