package face

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http/httptest"
	"testing"

	"github.com/assay-bench/assay/reference/sandbox"
)

// FuzzBodies: whatever a body holds, an operation answers JSON and does not fail.
func FuzzBodies(f *testing.F) {
	for which, body := range []string{
		`{"tier":"free","keys":{"ed25519":"AAAA"}}`,
		`{"wasm":"AGFzbQ==","version":1,"exports":[{"name":"f","params":["i32"]}],"canary":{"function":"f"}}`,
		`{"function":"f","args":["1"],"input":"AA=="}`,
		`{"samples":0}`,
		`{"tenant":"t","version":1,"upstream":"[::1]:1","configuration":"\ud800"}`,
		`{"a":{"a":{"a":[[[[[]]]]]}}}`,
	} {
		f.Add(which, []byte(body))
	}
	api := startFake(f, &fake{err: sandbox.ErrArguments, stream: func(context.Context, io.Reader, io.Writer) error { return nil }})
	handler, routes := api.api(), api.routes()
	f.Fuzz(func(t *testing.T, which int, body []byte) {
		r := routes[uint(which)%uint(len(routes))]
		if r.path == "/gc" || r.path == "/coldstart" && bytes.ContainsAny(body, "123456789") {
			return // they would do their work
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(r.method, filled(r.path), bytes.NewReader(body)))
		if w.Code >= 500 {
			t.Errorf("%s %s: %d %s", r.method, r.path, w.Code, w.Body)
		}
		if w.Body.Len() > 0 && !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s %s: %q is no JSON", r.method, r.path, w.Body)
		}
	})
}
