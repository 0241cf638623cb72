package face

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// FuzzBodies: whatever the body of an operation, the answer is an error of the face's form or a success, and
// never a 500.
func FuzzBodies(f *testing.F) {
	paths := []string{
		"/routers/default/decide", "/routers/default/feedback", "/routers/default/policies", "/routers/default/calibrate",
		"/v1/chat/completions", "/v1/multimodal/invoke", "/models",
	}
	for i := range paths {
		f.Add(uint8(i), []byte(`{"text":"a"}`))
		f.Add(uint8(i), []byte(`{"model":"auto","messages":[{"role":"user","content":[{"type":"text","text":"x"}]}]}`))
		f.Add(uint8(i), []byte(`{"policies":{"a":{"vectors":[[1e400]],"examples":null}}}`))
		f.Add(uint8(i), []byte(`{"inputs":[{"type":"image","data":"iVBORw0KGgo=","mediaType":"image/png"}]}`))
		f.Add(uint8(i), []byte(`{"name":"m","data":"YXNzYXltZGw=","manifest":"e30="}`))
	}
	face := newFace(Config{})
	face.ctx = f.Context()
	handler := face.handler()
	f.Fuzz(func(t *testing.T, which uint8, body []byte) {
		path := paths[int(which)%len(paths)]
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, bytes.NewReader(body)))
		if w.Code == http.StatusInternalServerError {
			t.Fatalf("%s: %s", path, w.Body)
		}
		var answer map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
			t.Fatalf("%s: %q", path, w.Body)
		}
	})
}

// FuzzReplaced: a replaced member leaves the rest of an object as it was.
func FuzzReplaced(f *testing.F) {
	f.Add([]byte(`{"model":"a","b":[{"model":1}]}`))
	f.Add([]byte(`{"b":1}`))
	f.Add([]byte(` {"m\u006fdel": null}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := replaced(body, "model", []byte(`"x"`))
		if err != nil {
			return
		}
		var before, after map[string]any
		if json.Unmarshal(body, &before) != nil {
			return
		}
		if err := json.Unmarshal(got, &after); err != nil {
			t.Fatalf("%q became %q", body, got)
		}
		if _, ok := before["model"]; ok && !strings.Contains(string(body), "odel\":") {
			return // an escaped name
		}
		if len(before) != len(after) {
			t.Fatalf("%q became %q", body, got)
		}
	})
}
