package router

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
)

// callWait is how long a call of the API may take beyond what the target says of its answers. It tells a
// slow router from a silent one and is no requirement.
const callWait = 8 * time.Second

// setWait is the same for making a router, with which a case begins: a target that is mute costs little.
const setWait = 1 * time.Second

// Call is the evidence of a call of the HTTP API.
type Call struct {
	Name    string          `json:"name"` // within the case
	Method  string          `json:"method"`
	Path    string          `json:"path"`
	Request json.RawMessage `json:"request,omitempty"`
	Status  int             `json:"status,omitempty"`
	Answer  json.RawMessage `json:"answer,omitempty"`
	Broken  string          `json:"broken,omitempty"` // it did not answer as its API says: text
	Took    time.Duration   `json:"took"`
}

// Answered tells whether the target answered at all as its API says, if only with a refusal.
func (c Call) Answered() bool { return c.Broken == "" && c.Status != 0 }

// Good tells whether it answered with success.
func (c Call) Good() bool { return c.Answered() && c.Status >= 200 && c.Status < 300 }

// Read decodes a good answer.
func (c Call) Read(into any) bool { return c.Good() && json.Unmarshal(c.Answer, into) == nil }

// Problem is an error of the API (RFC 9457).
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Reason string `json:"reason"`
	Limit  int64  `json:"limit"`
}

// Problem decodes an answer that is an error of the API. ok is false for anything else, also for an error
// status without the members of a problem.
func (c Call) Problem() (p Problem, ok bool) {
	if !c.Answered() || c.Good() || json.Unmarshal(c.Answer, &p) != nil {
		return Problem{}, false
	}
	return p, p.Status == c.Status
}

// API calls the HTTP API of a router and records each call. Each API has a router of its own in the target,
// which Close removes. After a call that got no answer in time nothing more is asked: the calls are recorded
// as broken. It may be used by several goroutines.
type API struct {
	env    *scenarios.Env
	client *http.Client
	name   string

	mu   sync.Mutex
	mute bool // a call got no answer in time
}

// NewAPI returns a client. Close it.
func NewAPI(env *scenarios.Env) *API {
	// Names grow with the clock, so that a second attempt at a case, or its control, meets nothing that the
	// first one left behind.
	stem := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return -1
	}, strings.ToLower("t"+env.Token))
	name := stem[:min(len(stem), 26)] + "-" + strconv.FormatUint(uint64(env.Clock.Now()/time.Microsecond), 36)
	return &API{env: env, client: newClient(env), name: name}
}

// Router is the name of its router in the target.
func (a *API) Router() string { return a.name }

// Close removes the router, unless the target stopped answering.
func (a *API) Close(ctx context.Context) error {
	defer a.client.CloseIdleConnections()
	_, err := a.Own(context.WithoutCancel(ctx), "", http.MethodDelete, "", nil, nil)
	return err
}

// Own calls an operation of the API's own router, such as /decide, records the call under a name unless that
// is empty, and decodes a good answer into a value unless that is nil.
func (a *API) Own(ctx context.Context, name, method, path string, body, into any) (Call, error) {
	return a.Call(ctx, name, method, "/routers/"+url.PathEscape(a.name)+path, body, into)
}

// Call calls an operation of the target as a whole, such as /models.
func (a *API) Call(ctx context.Context, name, method, path string, body, into any) (Call, error) {
	c := Call{Name: name, Method: method, Path: path}
	raw, isRaw := body.([]byte)
	if body != nil && !isRaw {
		var err error
		if raw, err = results.Marshal(body); err != nil {
			return c, fmt.Errorf("%s %s: %w", method, path, err)
		}
	}
	if json.Valid(raw) {
		c.Request = clipped(raw)
	} else if len(raw) > 0 {
		c.Request = fmt.Appendf(nil, "%q", clip(string(raw)))
	}
	began := a.env.Clock.Now()
	answer, err := a.send(ctx, &c, raw)
	c.Took = a.env.Elapsed(began)
	if err != nil {
		return c, err
	}
	c.take(answer, into)
	if name == "" {
		return c, nil
	}
	told := c
	told.Answer = clipped(told.Answer)
	return c, a.env.Record(Called, told)
}

// take keeps an answer that is JSON, or none at all.
func (c *Call) take(raw []byte, into any) {
	switch {
	case c.Broken != "" || len(raw) == 0:
	case !json.Valid(raw):
		c.Broken = clip(fmt.Sprintf("answers %d with what is not JSON: %.100q", c.Status, raw))
	default:
		c.Answer = raw
		if into == nil || !c.Good() {
			return
		}
		if err := json.Unmarshal(raw, into); err != nil {
			c.Broken = clip(fmt.Sprintf("answers what is not its JSON: %v: %.100q", err, raw))
		}
	}
}

// send returns the body of the answer; what is wrong with the target goes to c.
func (a *API) send(ctx context.Context, c *Call, body []byte) ([]byte, error) {
	if a.muted(false) {
		c.Broken = "not asked: an earlier call got no answer in time"
		return nil, nil
	}
	wait := callWait
	if c.Method == http.MethodPut && strings.Count(c.Path, "/") == 2 { // PUT /routers/NAME
		wait = setWait
	}
	within, cancel := context.WithTimeout(ctx, wait+a.env.Claims.Limits.Answer())
	defer cancel()
	request, err := http.NewRequestWithContext(within, c.Method, "http://"+a.env.Endpoints[Endpoint]+c.Path, bytes.NewReader(body))
	if err != nil {
		c.Broken = clip(err.Error()) // the address is the target's own
		return nil, nil
	}
	if len(body) > 0 {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := a.client.Do(request)
	var raw []byte
	if err == nil {
		defer func() { _ = response.Body.Close() }() // all of it that matters is read
		c.Status = response.StatusCode
		raw, err = io.ReadAll(io.LimitReader(response.Body, maxCall+1))
		if len(raw) > maxCall {
			err = fmt.Errorf("answers more than %d bytes", maxCall)
		}
	}
	switch {
	case errors.Is(err, scenarios.ErrNotAllowed):
		return nil, err
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		c.Broken = clip(err.Error())
		a.muted(within.Err() != nil)
	}
	return raw, nil
}

// maxCall bounds what is read of an answer of the API: a version of many rows is long.
const maxCall = 32 << 20

// muted tells whether a call got no answer in time, and remembers that this one did not.
func (a *API) muted(now bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mute = a.mute || now
	return a.mute
}

// defaultRouter is the one that the chat API asks.
const defaultRouter = "default"

// byAPI tells the router of the upstreams by the HTTP API.
func (b *Bed) byAPI(ctx context.Context) (broken string, err error) {
	api := &API{env: b.env, client: b.client, name: defaultRouter}
	b.remove = api.Close
	policies := map[string]Policy{}
	type step struct {
		method, path string
		body         any
	}
	steps := []step{{http.MethodPut, "", Settings{Fallback: b.routing.Fallback, Adaptive: new(bool)}}} // what is fast now must not decide
	for _, u := range b.routing.Upstreams {
		policies[u.Name] = Policy{Examples: u.Examples, Rows: RowsExamples, Backends: []string{u.Name}}
		steps = append(steps, step{http.MethodPut, "/backends/" + u.Name, Backend{URL: u.URL, Model: u.Model}})
	}
	steps = append(steps, step{http.MethodPost, "/policies", PolicyBatch{policies}})
	for _, s := range steps {
		c, err := api.Own(ctx, "configure "+s.method+" "+s.path, s.method, s.path, s.body, nil)
		if err != nil {
			return "", err
		}
		if !c.Good() {
			return clip(fmt.Sprintf("%s %s: status %d %s %.200s", s.method, c.Path, c.Status, c.Broken, c.Answer)), nil
		}
	}
	return "", nil
}
