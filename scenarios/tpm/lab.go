package tpm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
)

// Endpoint is the endpoint of the target that serves the HTTP API of the cache and of quotes.
const Endpoint = "tpm"

const (
	maxAnswer   = 1 << 20
	maxRecorded = 64 << 10 // of an answer, in evidence
	maxText     = 512      // of an error's text
)

// Call is the evidence of a call of the target's HTTP API. Secrets are left out of Answer.
type Call struct {
	Name    string          `json:"name"` // within the case
	Path    string          `json:"path"`
	Request json.RawMessage `json:"request"`
	Status  int             `json:"status,omitempty"`
	Answer  json.RawMessage `json:"answer,omitempty"`
	Broken  string          `json:"broken,omitempty"` // it did not answer as its API says: text
	Took    time.Duration   `json:"took"`
}

// Failure is an error in an answer of the target.
type Failure struct {
	Code string `json:"code"`
	Text string `json:"text,omitempty"`
}

func (f *Failure) String() string {
	if f == nil {
		return "no error"
	}
	return f.Code
}

// OpenRequest opens a session of the target on a TPM.
type OpenRequest struct {
	Socket    string `json:"socket"`
	Dir       string `json:"dir"`
	Mode      string `json:"mode"`              // entry or kek
	Responder string `json:"responder"`         // URL of an OCSP responder
	Deadline  int64  `json:"tpmDeadlineMillis"` // of the TPM's work for one call
	Serve     bool   `json:"serve"`             // with a TLS listener
}

// Opened is the answer to /open.
type Opened struct {
	Session   string   `json:"session"`
	Backend   string   `json:"backend"`
	TLS       string   `json:"tls"`
	ID        string   `json:"id"`     // of the entry that the listener staples
	Leaf      string   `json:"leaf"`   // PEM
	Issuer    string   `json:"issuer"` // PEM
	IssuerKey string   `json:"issuerKey"`
	Error     *Failure `json:"error"`
}

// Stored is the answer to /store and /close.
type Stored struct {
	Error *Failure `json:"error"`
}

// Got is the answer to /get. The error says why the cache did not serve.
type Got struct {
	Source   string   `json:"source"` // cache, responder or none
	Response []byte   `json:"response"`
	Error    *Failure `json:"error"`
}

// Sealed is the answer to /seal and /unseal.
type Sealed struct {
	Blob  []byte   `json:"blob"`
	Data  []byte   `json:"data"`
	Error *Failure `json:"error"`
}

// Quoted is the answer to /quote.
type Quoted struct {
	Attest    []byte   `json:"attest"`    // TPMS_ATTEST
	Signature []byte   `json:"signature"` // TPMT_SIGNATURE
	Key       []byte   `json:"key"`       // TPMT_PUBLIC
	Error     *Failure `json:"error"`
}

// Verified is the answer to /verify.
type Verified struct {
	OK       bool     `json:"ok"`
	Resets   uint32   `json:"resetCount"`
	Restarts uint32   `json:"restartCount"`
	Changed  bool     `json:"changed"` // since the session's previous verified quote
	Error    *Failure `json:"error"`
}

// Status is the answer to /status.
type Status struct {
	Backend   string         `json:"backend"`
	Entries   int            `json:"entries"`
	Mode      string         `json:"mode"`
	Errors    map[string]int `json:"errors"`
	Responder int            `json:"responder"`
	Handles   int            `json:"handles"`
	Error     *Failure       `json:"error"`
}

// Lab calls the target's HTTP API and records it. A call that fails is evidence; an error is the
// harness's own.
type Lab struct {
	env    *scenarios.Env
	client *http.Client
}

// NewLab returns a client of the endpoint. Each call has a connection of its own.
func NewLab(env *scenarios.Env) *Lab {
	return &Lab{env, &http.Client{
		Transport:     &http.Transport{DialContext: env.Dial, DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Do posts a request and decodes the answer. ok tells that the target answered with JSON, which may be
// an error of its own. The call is recorded under the name unless that is empty.
func (l *Lab) Do(ctx context.Context, name, path string, wait time.Duration, request, answer any) (ok bool, err error) {
	body, err := results.Marshal(request)
	if err != nil {
		return false, fmt.Errorf("POST %s: %w", path, err)
	}
	began := l.env.Clock.Now()
	c := Call{Name: name, Path: path, Request: body}
	raw, err := l.post(ctx, path, wait, body, &c)
	c.Took = l.env.Elapsed(began)
	if err != nil {
		return false, err
	}
	if c.Broken == "" {
		if err := json.Unmarshal(raw, answer); err != nil {
			c.Broken = clip(fmt.Sprintf("answers what is not its JSON: %v: %.100q", err, raw))
		} else {
			c.Answer = public(raw)
		}
	}
	if name == "" {
		return c.Broken == "", nil
	}
	return c.Broken == "", l.env.Record(Called, c)
}

// post returns the body of the answer; what is wrong with the target goes to c.
func (l *Lab) post(ctx context.Context, path string, wait time.Duration, body []byte, c *Call) ([]byte, error) {
	inside, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	url := "http://" + l.env.Endpoints[Endpoint] + path
	request, err := http.NewRequestWithContext(inside, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		c.Broken = clip(err.Error()) // the address is the target's own
		return nil, nil
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := l.client.Do(request)
	if errors.Is(err, scenarios.ErrNotAllowed) {
		return nil, err
	}
	if err == nil {
		defer func() { _ = response.Body.Close() }() // all of it that matters is read
		c.Status = response.StatusCode
		var raw []byte
		if raw, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer+1)); err == nil && len(raw) <= maxAnswer {
			return raw, nil
		}
		if err == nil {
			err = fmt.Errorf("answers more than %d bytes", maxAnswer)
		}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	c.Broken = clip(err.Error())
	return nil, nil
}

// public takes secrets out of an answer and clips it. An answer is an object, or it would not have
// been decoded.
func public(raw []byte) json.RawMessage {
	var all map[string]json.RawMessage
	if json.Unmarshal(raw, &all) != nil {
		return json.RawMessage(`"no object"`)
	}
	maps.DeleteFunc(all, func(name string, _ json.RawMessage) bool { return name == "issuerKey" })
	out, err := results.Marshal(all)
	if err != nil || len(out) > maxRecorded {
		return json.RawMessage(fmt.Sprintf(`{"clipped":%d}`, len(raw)))
	}
	return out
}

func clip(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxText)], "") }

// maxWord bounds a word of an answer that is kept.
const maxWord = 64

// Word clips a word of an answer to what is worth keeping.
func Word(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxWord)], "") }

// Trials is the evidence of many small calls in a row.
type Trials struct {
	Name  string         `json:"name"`
	Each  []Trial        `json:"each,omitempty"`
	Calls int            `json:"calls"`           // in all
	Took  time.Duration  `json:"took"`            // in all
	Codes map[string]int `json:"codes,omitempty"` // by source and error code
}

// Trial is one of them.
type Trial struct {
	What   string `json:"what"`             // was done before the call
	ID     string `json:"id"`               // of the entry asked for
	Source string `json:"source"`           // cache, responder, none; empty: no answer of the API
	Code   string `json:"code,omitempty"`   // of the error
	Of     string `json:"of,omitempty"`     // the id of the stored response that came, or "other"
	Broken bool   `json:"broken,omitempty"` // no answer of the API
}
