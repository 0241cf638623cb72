package proxywasm

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// answer is a response to the client that is there in full.
type answer struct {
	status   int
	headers  fields
	trailers fields
	body     []byte
	reset    bool   // close the connection without an answer
	outcome  string // label of the counter
}

// problem is an answer with a problem document (RFC 9457).
func problem(status int, detail string) answer {
	body, err := json.Marshal(map[string]any{"type": "about:blank", "title": http.StatusText(status), "status": status, "detail": detail})
	if err != nil { // a map of texts and a number has none
		body = []byte("{}")
	}
	return answer{status: status, headers: fields{{"content-type", "application/problem+json"}}, body: body}
}

func failed(status int, outcome, detail string) answer {
	a := problem(status, detail)
	a.outcome = outcome
	return a
}

// write sends the answer. An error of the connection ends it: there is nobody left to tell.
func (a answer) write(w http.ResponseWriter, r *http.Request) {
	if a.reset {
		return
	}
	h := w.Header()
	maps.Copy(h, a.headers.header())
	if h["Content-Type"] == nil {
		h["Content-Type"] = nil // no guess by net/http
	}
	if a.status == http.StatusRequestEntityTooLarge || a.status == http.StatusRequestTimeout {
		h.Set("Connection", "close") // the rest of the body is not read
	}
	bodiless := r.Method == http.MethodHead || a.status == http.StatusNotModified
	trailers := a.trailers.header()
	switch {
	case bodiless:
		if n, found := a.headers.get("content-length"); found && lengthText(n) {
			h.Set("Content-Length", n)
		}
	case a.status == http.StatusNoContent:
	case len(trailers) > 0:
		h.Set("Trailer", strings.Join(slices.Sorted(maps.Keys(trailers)), ", "))
	default:
		h.Set("Content-Length", strconv.Itoa(len(a.body)))
	}
	w.WriteHeader(a.status)
	if !bodiless && a.status != http.StatusNoContent {
		_, _ = w.Write(a.body)
		maps.Copy(h, trailers)
	}
}

// lengthText reports whether n is a Content-Length (RFC 9110 section 8.6).
func lengthText(n string) bool {
	_, err := strconv.ParseUint(n, 10, 62)
	return err == nil
}
