package face

import (
	"context"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/assay-bench/assay/reference/defect"
)

// Bounds of a request.
const (
	maxBody   = 16 << 20 // bytes
	smallBody = 64 << 10 // bytes; what is longer needs a place
	maxLarge  = 8        // large bodies in memory at a time
	maxName   = 64       // characters of a name
	maxTexts  = 1024     // texts, decisions or events of a request
)

// Times of a request that is no stream.
const (
	readTimeout  = 20 * time.Second
	writeTimeout = 20 * time.Second
)

// jsonOptions make sure that an answer is valid UTF-8, whatever a client said.
var jsonOptions = jsontext.AllowInvalidUTF8(true)

// bad is a request that can not be meant.
func bad(format string, args ...any) *problem {
	return &problem{Status: http.StatusBadRequest, Detail: fmt.Sprintf(format, args...)}
}

// decode reads one JSON object. Unknown and repeated members, data after the object and invalid UTF-8 are
// errors. The caller releases the place that the body takes in memory, after an error too.
func (f *Face) decode(w http.ResponseWriter, r *http.Request, into any) (release func(), err error) {
	body, release, err := f.read(w, r)
	if err != nil {
		return release, err
	}
	if kind := jsontext.Value(body).Kind(); kind != '{' {
		return release, bad("body: not a JSON object")
	}
	strict := json.RejectUnknownMembers(!f.cfg.Defects.On(defect.RouterUnknownMemberOK))
	if err := json.Unmarshal(body, into, strict); err != nil {
		return release, bad("body: %v", err)
	}
	return release, nil
}

// read takes a body of at most maxBody bytes.
func (f *Face) read(w http.ResponseWriter, r *http.Request) (body []byte, release func(), err error) {
	release = func() {}
	if r.ContentLength < 0 || r.ContentLength > smallBody {
		if release, err = f.turn(r.Context()); err != nil {
			return nil, func() {}, err
		}
	}
	limit := int64(maxBody)
	if f.cfg.Defects.On(defect.RouterUnboundedBody) {
		limit = 1 << 40
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(readTimeout)) // a connection that is gone fails the read
	body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	_ = control.SetReadDeadline(time.Time{})
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, release, &problem{Status: http.StatusRequestEntityTooLarge, Limit: maxBody,
			Detail: fmt.Sprintf("the body has more than %d bytes", maxBody)}
	}
	if err != nil {
		return nil, release, bad("body: %v", err)
	}
	return body, release, nil
}

// turn bounds the memory of bodies: a large one, or one whose length is not said, waits for its place.
func (f *Face) turn(ctx context.Context) (release func(), err error) {
	select {
	case f.large <- struct{}{}:
		return func() { <-f.large }, nil
	case <-ctx.Done():
		return nil, &problem{Status: http.StatusServiceUnavailable, Detail: "the request ended before its turn"}
	}
}

// name takes a name out of the path or the body.
func name(what, s string) (string, error) {
	if s == "" || len(s) > maxName {
		return "", bad("%s has %d characters, want 1 to %d", what, len(s), maxName)
	}
	for i := range len(s) {
		if c := s[i]; !letter(c) {
			return "", bad("%s holds %q, want letters, digits, '.', '_' and '-'", what, c)
		}
	}
	return s, nil
}

func letter(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-'
}
