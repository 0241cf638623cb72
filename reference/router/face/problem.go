package face

import (
	"context"
	"encoding/json/v2"
	"errors"
	"net/http"
	"time"

	"github.com/assay-bench/assay/reference/router"
)

// problemType is the media type of errors (RFC 9457 section 3).
const problemType = "application/problem+json"

// problem is an error in an answer (RFC 9457 section 3.1), with the members of this API besides.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitzero"`
	Reason string `json:"reason,omitzero"`
	Limit  int    `json:"limit,omitzero"`
}

// Error makes a problem an error of a handler.
func (p *problem) Error() string { return p.Detail }

func answerProblem(w http.ResponseWriter, p problem) {
	p.Type, p.Title = "about:blank", http.StatusText(p.Status) // RFC 9457 section 4.2.1
	write(w, p.Status, problemType, p)
}

// statuses of the kinds of refusals.
var statuses = map[router.Kind]int{
	router.Bad: http.StatusBadRequest, router.Unknown: http.StatusNotFound, router.Conflict: http.StatusConflict,
	router.TooLarge: http.StatusRequestEntityTooLarge, router.Refused: http.StatusForbidden,
	router.Busy: http.StatusTooManyRequests, router.Unserved: http.StatusUnprocessableEntity,
	router.Failed: http.StatusBadGateway,
}

// problemOf says what an error of the router means to a client.
func problemOf(err error) problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return *p
	}
	if e, ok := errors.AsType[*router.Error](err); ok {
		return problem{Status: statuses[e.Kind], Detail: err.Error(), Reason: e.Reason, Limit: e.Limit}
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return problem{Status: http.StatusServiceUnavailable, Detail: err.Error()}
	}
	return problem{Status: http.StatusInternalServerError, Detail: err.Error()}
}

// answer writes what a handler returned; nil has no body.
func answer(w http.ResponseWriter, status int, a any) {
	if a == nil {
		limitWrite(w)
		w.WriteHeader(status)
		return
	}
	write(w, status, "application/json", a)
}

func write(w http.ResponseWriter, status int, mediaType string, a any) {
	body, err := json.Marshal(a, jsonOptions)
	if err != nil {
		status, mediaType, body = http.StatusInternalServerError, problemType,
			[]byte(`{"type":"about:blank","title":"Internal Server Error","status":500,"detail":"the answer can not be written"}`)
	}
	limitWrite(w)
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // a client that went away is no error of ours
}

// limitWrite gives the client a time to take what is written. It is set for every answer: a connection keeps
// the deadline of the one before.
func limitWrite(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout)) // a connection that is gone fails the write
}
