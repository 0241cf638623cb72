package face

import (
	"encoding/json/v2"
	"net/http"
	"time"
)

// problemType is the media type of errors (RFC 9457 section 3).
const problemType = "application/problem+json"

// problem is an error in an answer (RFC 9457 section 3.1), with the members of this API besides: step
// and reason of a refused module, class and instance of a trap.
type problem struct {
	Type     string `json:"type"`
	Title    string `json:"title"`
	Status   int    `json:"status"`
	Detail   string `json:"detail,omitzero"`
	Step     string `json:"step,omitzero"`
	Reason   string `json:"reason,omitzero"`
	Class    string `json:"class,omitzero"`
	Instance string `json:"instance,omitzero"` // of the sandbox, where the trap happened
}

// Error makes a problem an error of a handler.
func (p *problem) Error() string { return p.Detail }

// complete fills in what the status implies: with the type about:blank the title is the status's phrase
// (RFC 9457 section 4.2.1).
func (p problem) complete() problem {
	if p.Status == 0 {
		p.Status = http.StatusInternalServerError
	}
	p.Type, p.Title = "about:blank", http.StatusText(p.Status)
	return p
}

func answerProblem(w http.ResponseWriter, p problem) {
	p = p.complete()
	write(w, p.Status, problemType, p)
}

// answer writes what a handler returned; nil has no body.
func answer(w http.ResponseWriter, status int, a any) {
	if a == nil {
		limitWrite(w, writeTimeout)
		w.WriteHeader(status)
		return
	}
	write(w, status, "application/json", a)
}

func write(w http.ResponseWriter, status int, mediaType string, a any) {
	// texts of guests and modules may hold any bytes; an answer is UTF-8 always
	body, err := json.Marshal(a, jsonOptions)
	if err != nil {
		status, mediaType, body = http.StatusInternalServerError, problemType,
			[]byte(`{"type":"about:blank","title":"Internal Server Error","status":500,"detail":"the answer can not be written"}`)
	}
	limitWrite(w, writeTimeout)
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // a client that went away is no error of ours
}

// limitWrite gives the client a time to take what is written. It is set for every answer: a connection
// keeps the deadline of the one before.
func limitWrite(w http.ResponseWriter, d time.Duration) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(d)) // a connection that is gone fails the write
}
