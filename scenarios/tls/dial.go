package tls

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
)

// labEndpoint is the endpoint of the target that serves the lab's HTTP API.
const labEndpoint = "tls-lab"

const (
	maxLabAnswer   = 1 << 20
	maxLabRecorded = 256 << 10 // of an answer, in evidence
	maxLabHead     = 64 << 10
	maxWord        = 256 // of a word in an answer
	labSlack       = 3 * time.Second
	defaultDial    = 3 * time.Second

	// hookStart is what a program that a hook starts may take until it dials: a browser takes seconds on a busy machine.
	hookStart = 15 * time.Second
)

// DialRequest says how the client under test shall dial, as POST /dial of the lab takes it.
type DialRequest struct {
	Name           string    `json:"-"` // of the dial within the case; not told to the lab
	Address        string    `json:"address"`
	ServerName     string    `json:"serverName"`
	Roots          string    `json:"roots"` // PEM
	ALPN           []string  `json:"alpn,omitempty"`
	Policy         string    `json:"policy,omitempty"` // require-pq, prefer-pq or any
	Groups         []string  `json:"groups,omitempty"` // a restriction by membership
	MinVersion     string    `json:"minVersion,omitempty"`
	Staple         string    `json:"staple,omitempty"` // ignore, check or require
	At             time.Time `json:"at,omitzero"`      // the client's clock
	Send           string    `json:"send,omitempty"`
	Pool           bool      `json:"pool"`
	Identity       bool      `json:"identity,omitempty"` // presents a client certificate
	DeadlineMillis int       `json:"deadlineMillis,omitempty"`

	// Reached is closed when the client's first connection arrives. The deadline of a hook counts from then.
	Reached <-chan struct{} `json:"-"`
}

// deadline is how long the dial may take.
func (r DialRequest) deadline() time.Duration {
	if r.DeadlineMillis <= 0 {
		return defaultDial
	}
	return time.Duration(r.DeadlineMillis) * time.Millisecond
}

// DialError is why a dial failed, in the words of the lab.
type DialError struct {
	Code string `json:"code"`
	Text string `json:"text,omitempty"`
}

// DialAnswer is what came of a dial. Broken is not empty where the lab did not answer as its API says,
// or the hook could not be run: then nothing else is known.
type DialAnswer struct {
	Connected bool      `json:"connected"`
	Error     DialError `json:"error,omitzero"`
	Group     string    `json:"group,omitempty"`
	Class     string    `json:"class,omitempty"`
	Version   string    `json:"version,omitempty"`
	Retry     bool      `json:"retry,omitempty"`
	Resumed   bool      `json:"resumed,omitempty"`
	Reused    bool      `json:"reused,omitempty"`
	Chain     int       `json:"chain,omitempty"` // certificates of the verified chain, the root too
	Received  string    `json:"received,omitempty"`
	Staple    string    `json:"staple,omitempty"` // absent, good or refused

	Broken string `json:"broken,omitempty"`
	Hook   bool   `json:"hook,omitempty"`   // the client hook was run in place of the lab
	Output string `json:"output,omitempty"` // what the hook printed, its end
}

// DialOut is the evidence of a dial of the client under test.
type DialOut struct {
	Name    string      `json:"name,omitempty"`
	Request DialRequest `json:"request"`
	Answer  DialAnswer  `json:"answer"`
}

// LabCall is the evidence of another call of the lab.
type LabCall struct {
	Method string          `json:"method"`
	Path   string          `json:"path"`
	Body   json.RawMessage `json:"body,omitempty"`
	Status int             `json:"status,omitempty"`
	Answer json.RawMessage `json:"answer,omitempty"`
	Broken string          `json:"broken,omitempty"` // it did not answer as its API says: text
}

// Dial makes the client under test dial once: by POST /dial of the lab, or by the client hook where the
// target has one and no lab. Whatever the lab answers is evidence; the error is the harness's own.
func Dial(ctx context.Context, env *scenarios.Env, req DialRequest) (DialAnswer, error) {
	var a DialAnswer
	var err error
	switch t := env.Claims.TLS; {
	case env.Endpoints[labEndpoint] != "":
		a, err = dialByLab(ctx, env, req)
	case t != nil && t.Client != "":
		a, err = dialByHook(ctx, t, req)
	default:
		a.Broken = "the target names neither the endpoint " + labEndpoint + " nor a client hook"
	}
	if err != nil {
		return DialAnswer{}, err
	}
	return a, env.Record(DialedOut, DialOut{req.Name, req, a})
}

func dialByLab(ctx context.Context, env *scenarios.Env, req DialRequest) (DialAnswer, error) {
	body, err := results.Marshal(req)
	if err != nil {
		return DialAnswer{}, fmt.Errorf("lab: POST /dial: %w", err)
	}
	reply, err := ask(ctx, env, http.MethodPost, "/dial", body, req.deadline()+labSlack)
	if err != nil {
		return DialAnswer{}, err
	}
	if reply.broken != "" {
		return DialAnswer{Broken: reply.broken}, nil
	}
	return parseAnswer(reply.body), nil
}

// parseAnswer reads the lab's answer to POST /dial.
func parseAnswer(body []byte) DialAnswer {
	var a DialAnswer
	if err := json.Unmarshal(body, &a); err != nil {
		return DialAnswer{Broken: fmt.Sprintf("POST /dial answers what is not its JSON: %s: %.200q", shortError(err), body)}
	}
	a.Broken, a.Hook, a.Output = "", false, "" // the harness's own fields
	if a.Connected == (a.Error.Code != "") {
		return DialAnswer{Broken: fmt.Sprintf("POST /dial answers connected %t with the error %.100q", a.Connected, a.Error.Code)}
	}
	for _, word := range []*string{&a.Error.Code, &a.Group, &a.Class, &a.Version, &a.Staple} {
		*word = clipText(*word, maxWord)
	}
	a.Error.Text = clipText(a.Error.Text, maxText)
	if len(a.Received) > maxApp {
		return DialAnswer{Broken: fmt.Sprintf("POST /dial answers %d bytes as received: at most %d", len(a.Received), maxApp)}
	}
	return a
}

// Lab makes another call of the lab's HTTP API and decodes a good answer into into, where that is not
// nil. It records the call. A lab that does not answer as its API says leaves into alone, and the
// evidence tells; the error is the harness's own.
func Lab(ctx context.Context, env *scenarios.Env, method, path string, body, into any) error {
	c := LabCall{Method: method, Path: path}
	if body != nil {
		raw, err := results.Marshal(body)
		if err != nil {
			return fmt.Errorf("lab: %s %s: %w", method, path, err)
		}
		c.Body = raw
	}
	reply, err := ask(ctx, env, method, path, c.Body, defaultDial+labSlack)
	if err != nil {
		return err
	}
	c.Status, c.Broken = reply.status, reply.broken
	c.Answer = recordable(reply.body)
	if c.Broken == "" && into != nil {
		if err := json.Unmarshal(reply.body, into); err != nil {
			c.Broken = fmt.Sprintf("answers what is not its JSON: %s: %.200q", shortError(err), reply.body)
		}
	}
	return env.Record(LabCalled, c)
}

// recordable keeps a body as JSON where it is JSON of a modest size, else as the begin of a text.
func recordable(body []byte) json.RawMessage {
	if len(body) == 0 {
		return nil
	}
	if len(body) <= maxLabRecorded && json.Valid(body) {
		return body
	}
	text, err := results.Marshal(clipText(string(body), maxText))
	if err != nil {
		return nil
	}
	return text
}

// reply is an answer of the lab.
type reply struct {
	status int
	body   []byte
	broken string
}

// ask sends one request on a connection of its own. Redirects are not followed: they could lead
// anywhere.
func ask(ctx context.Context, env *scenarios.Env, method, path string, body []byte, wait time.Duration) (reply, error) {
	within, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	req, err := http.NewRequestWithContext(within, method, "http://"+env.Endpoints[labEndpoint]+path, bytes.NewReader(body))
	if err != nil {
		return reply{}, fmt.Errorf("lab: %s %s: %w", method, path, err)
	}
	if len(body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	transport := &http.Transport{DialContext: env.Dial, DisableKeepAlives: true, MaxResponseHeaderBytes: maxLabHead}
	defer transport.CloseIdleConnections()
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return unanswered(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	r := reply{status: resp.StatusCode}
	r.body, err = io.ReadAll(io.LimitReader(resp.Body, maxLabAnswer+1))
	switch {
	case err != nil:
		return unanswered(ctx, err)
	case len(r.body) > maxLabAnswer:
		r.body, r.broken = nil, fmt.Sprintf("%s %s answers more than %d bytes", method, path, maxLabAnswer)
	case r.status != http.StatusOK:
		r.broken = fmt.Sprintf("%s %s answers status %d: %.200q", method, path, r.status, r.body)
	}
	return r, nil
}

// unanswered tells a lab that did not answer from a run that was ended or a host that is not allowed.
func unanswered(ctx context.Context, err error) (reply, error) {
	if ctx.Err() != nil || errors.Is(err, scenarios.ErrNotAllowed) {
		return reply{}, fmt.Errorf("lab: %w", err)
	}
	return reply{broken: shortError(err)}, nil
}

// shortError bounds the text of an error, which may quote what a hostile lab sent.
func shortError(err error) string { return fmt.Sprintf("%.500s", err.Error()) }

// SeenDial is a recorded dial of the client under test.
type SeenDial struct {
	DialOut
	Cites []uint64
}

// Dials collects the dials of a case, in order.
func Dials(evidence []results.Evidence) ([]SeenDial, error) {
	var out []SeenDial
	for _, e := range evidence {
		if e.Kind != DialedOut {
			continue
		}
		s := SeenDial{Cites: []uint64{e.Seq}}
		if err := e.Decode(&s.DialOut); err != nil {
			return nil, err
		}
		s.Request.Name = s.Name
		out = append(out, s)
	}
	return out, nil
}

// SeenLab is a recorded call of the lab.
type SeenLab struct {
	LabCall
	Cites []uint64
}

// Labs collects the other calls of the lab of a case, in order.
func Labs(evidence []results.Evidence) ([]SeenLab, error) {
	var out []SeenLab
	for _, e := range evidence {
		if e.Kind != LabCalled {
			continue
		}
		s := SeenLab{Cites: []uint64{e.Seq}}
		if err := e.Decode(&s.LabCall); err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}
