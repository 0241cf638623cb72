package face

import (
	"bytes"
	"context"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/propagation"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/router"
	"github.com/assay-bench/assay/reference/router/backend"
	"github.com/assay-bench/assay/reference/router/span"
)

// auto is the model name that stands for a choice of the router default; auto:NAME of another one.
const auto = "auto"

// openAIError is the error object of OpenAI's API.
type openAIError struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    *string `json:"code"`
}

type openAIErrorBody struct {
	Error openAIError `json:"error"`
}

// refusal is an error of the OpenAI face.
type refusal struct {
	status             int
	kind, code, detail string
	param              string
}

func (r *refusal) Error() string { return r.detail }

func (f *Face) answerOpenAI(w http.ResponseWriter, status int, e openAIError) {
	if f.cfg.Defects.On(defect.RouterErrorShape) {
		answerProblem(w, problem{Status: status, Detail: e.Message})
		return
	}
	write(w, status, "application/json", openAIErrorBody{e})
}

// failOpenAI says in OpenAI's form what went wrong.
func (f *Face) failOpenAI(w http.ResponseWriter, err error) {
	if r, ok := errors.AsType[*refusal](err); ok {
		f.answerOpenAI(w, r.status, openAIError{r.detail, r.kind, optional(r.param), optional(r.code)})
		return
	}
	p := problemOf(err)
	e := openAIError{Message: p.Detail, Type: "server_error"}
	switch {
	case p.Status == http.StatusRequestEntityTooLarge:
		e.Type, e.Code = "invalid_request_error", optional("too_large")
	case p.Status == http.StatusTooManyRequests:
		e.Type = "rate_limit_error"
	case p.Status == http.StatusNotFound:
		e.Type, e.Code, e.Param = "not_found_error", optional("model_not_found"), optional("model")
	case p.Status < http.StatusInternalServerError:
		e.Type = "invalid_request_error"
	}
	f.answerOpenAI(w, p.Status, e)
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// incoming is a request's context with the trace that its client began.
func incoming(r *http.Request) context.Context {
	return span.Propagator.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
}

type openAIModel struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by,omitzero"`
}

type openAIList struct {
	Object string        `json:"object"`
	Data   []openAIModel `json:"data"`
}

func (f *Face) openAIModels(w http.ResponseWriter, _ *http.Request) {
	s, err := f.service()
	if err != nil {
		f.failOpenAI(w, err)
		return
	}
	list := openAIList{"list", []openAIModel{}}
	seen := map[string]bool{}
	add := func(id, owner string) {
		if !seen[id] {
			seen[id] = true
			if f.cfg.Defects.On(defect.RouterModelsBare) {
				owner = ""
			}
			list.Data = append(list.Data, openAIModel{id, "model", 0, owner})
		}
	}
	if !f.cfg.Defects.On(defect.RouterAutoUnlisted) {
		add(auto, "assay")
	}
	for _, name := range s.Names() {
		add(auto+":"+name, "assay")
	}
	for _, r := range s.Routers() {
		for _, b := range r.Backends() {
			add(b.Model, b.Backend)
		}
	}
	answer(w, http.StatusOK, list)
}

// chatRequest is what the router reads of a chat completion; everything else is the backend's.
type chatRequest struct {
	Model    string    `json:"model"`
	Stream   bool      `json:"stream"`
	Messages []message `json:"messages"`
}

type message struct {
	Role    string         `json:"role"`
	Content jsontext.Value `json:"content"`
}

// text is the text of a message: its content, or its parts of type text.
func (m message) text() string {
	var s string
	if json.Unmarshal(m.Content, &s) == nil {
		return s
	}
	var parts []struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
	if json.Unmarshal(m.Content, &parts) != nil {
		return ""
	}
	var texts []string
	for _, p := range parts {
		if p.Type == "text" {
			texts = append(texts, p.Text)
		}
	}
	return strings.Join(texts, "\n")
}

// asked returns what the decision is about: the text of the last message of the user.
func (q *chatRequest) asked(d defect.Set) (string, error) {
	if len(q.Messages) == 0 {
		return "", &refusal{http.StatusBadRequest, "invalid_request_error", "", "messages: at least one is needed", "messages"}
	}
	if d.On(defect.RouterAutoFirstMessage) {
		slices.Reverse(q.Messages)
	}
	for i := len(q.Messages) - 1; i >= 0; i-- {
		if q.Messages[i].Role == "user" {
			return q.Messages[i].text(), nil
		}
	}
	return "", &refusal{http.StatusBadRequest, "invalid_request_error", "", "messages: none of the role user", "messages"}
}

// plan is where a chat completion goes.
type plan struct {
	router   *router.Router
	decision router.Decision
	order    []*backend.Backend
	shadow   *backend.Backend
}

func (f *Face) chat(w http.ResponseWriter, r *http.Request) {
	body, release, err := f.read(w, r)
	defer release()
	if err != nil {
		f.failOpenAI(w, err)
		return
	}
	var q chatRequest
	if err := json.Unmarshal(body, &q); err != nil {
		f.failOpenAI(w, &refusal{http.StatusBadRequest, "invalid_request_error", "invalid_json", "body: " + err.Error(), ""})
		return
	}
	s, err := f.service()
	if err != nil {
		f.failOpenAI(w, err)
		return
	}
	p, err := f.plan(r, s, &q)
	if err != nil {
		f.failOpenAI(w, err)
		return
	}
	f.mistakes.under.Add(1)
	defer f.mistakes.under.Add(-1)
	f.forward(w, r, p, body, q.Stream)
}

// plan decides where a request goes.
func (f *Face) plan(r *http.Request, s *router.Service, q *chatRequest) (plan, error) {
	if q.Model == "" {
		return plan{}, &refusal{http.StatusBadRequest, "invalid_request_error", "", "model: a name is needed", "model"}
	}
	named, routed := strings.CutPrefix(q.Model, auto+":")
	routed = routed || q.Model == auto
	if q.Model == auto {
		named = router.Default
	}
	if !routed && f.cfg.Defects.On(defect.RouterModelIgnored) {
		routed, named = true, f.firstRouter(s)
	}
	if !routed {
		return f.explicit(s, q.Model)
	}
	of, err := s.Router(named)
	if err != nil {
		return plan{}, &refusal{http.StatusNotFound, "not_found_error", "model_not_found", err.Error(), "model"}
	}
	text, err := q.asked(f.cfg.Defects)
	if err != nil {
		return plan{}, err
	}
	ask := router.DecideRequest{Text: &text, Objective: r.Header.Get("X-Router-Objective"), Key: r.Header.Get("X-Router-Key")}
	p := plan{router: of}
	if p.decision, err = of.Decide(incoming(r), ask); err != nil {
		return plan{}, err
	}
	p.order, p.shadow = of.Serving(p.decision, ask)
	switch {
	case f.cfg.Defects.On(defect.RouterAutoUnrouted):
		p.order = of.Set().All()
	case f.cfg.Defects.On(defect.RouterChoiceWanders):
		p.order = f.wander(of.Set().All())
	case f.cfg.Defects.On(defect.RouterShadowAnswers) && p.shadow != nil:
		p.order = []*backend.Backend{p.shadow}
	}
	if len(p.order) == 0 {
		return plan{}, &refusal{http.StatusServiceUnavailable, "server_error", "no_route", "no backend serves policy " + strconv.Quote(p.decision.Policy), ""}
	}
	return p, nil
}

func (f *Face) firstRouter(s *router.Service) string { return s.Names()[0] }

// explicit finds the backend of a model that the client named: default's first, then the other routers'.
func (f *Face) explicit(s *router.Service, model string) (plan, error) {
	for _, r := range s.Routers() {
		if b := r.ByModel(model); b != nil {
			return plan{router: r, order: []*backend.Backend{b}, decision: router.Decision{Model: r.State().Model}}, nil
		}
		if all := r.Set().All(); len(all) > 0 && f.cfg.Defects.On(defect.RouterUnknownModel200) {
			return plan{router: r, order: all[:1]}, nil
		}
	}
	return plan{}, &refusal{http.StatusNotFound, "not_found_error", "model_not_found", "no backend serves the model " + strconv.Quote(model), "model"}
}

// forward sends the request to the first backend of the plan that answers.
func (f *Face) forward(w http.ResponseWriter, r *http.Request, p plan, body []byte, stream bool) {
	accept := "application/json"
	if stream {
		accept = "text/event-stream"
	}
	if p.shadow != nil {
		copied, err := f.rename(unstreamed(body), p.shadow.Spec.Model)
		if err == nil {
			p.router.Shadow(p.shadow, p.decision, copied)
		}
	}
	var last error
	for i, b := range p.order {
		named, err := f.rename(body, b.Spec.Model)
		if err != nil {
			f.failOpenAI(w, bad("body: %v", err))
			return
		}
		response, err := p.router.Send(incoming(r), b, p.decision, named, accept)
		if err == nil && f.cfg.Defects.On(defect.RouterSentTwice) {
			_ = response.Body.Close()
			response, err = p.router.Send(incoming(r), b, p.decision, named, accept)
		}
		again := i+1 < len(p.order) && !f.cfg.Defects.On(defect.RouterRetryMissing)
		if err == nil && (response.StatusCode < http.StatusInternalServerError || !again) {
			f.pass(w, response, b, p, stream)
			return
		}
		if err == nil {
			_ = response.Body.Close()
		}
		if last = err; !again {
			break
		}
	}
	f.failOpenAI(w, upstream(last))
}

func upstream(err error) error {
	if errors.Is(err, backend.ErrTimeout) {
		return &refusal{http.StatusGatewayTimeout, "server_error", "upstream_timeout", err.Error(), ""}
	}
	return &refusal{http.StatusBadGateway, "server_error", "upstream_failed", err.Error(), ""}
}

// rename replaces the value of the member model and leaves every other byte as it is.
func (f *Face) rename(body []byte, model string) ([]byte, error) {
	if f.cfg.Defects.On(defect.RouterModelNameKept) {
		return body, nil
	}
	if f.cfg.Defects.On(defect.RouterBodyRewritten) {
		var q chatRequest
		if err := json.Unmarshal(body, &q); err != nil {
			return nil, err
		}
		q.Model = model
		return json.Marshal(q)
	}
	quoted, err := json.Marshal(model)
	if err != nil {
		return nil, err
	}
	return replaced(body, "model", quoted)
}

// unstreamed asks for a whole answer: nobody reads a shadow's events.
func unstreamed(body []byte) []byte {
	if changed, err := replaced(body, "stream", []byte("false")); err == nil {
		return changed
	}
	return body
}

// replaced returns a JSON object with another value of one member. An object without the member stays as it is.
func replaced(body []byte, member string, value []byte) ([]byte, error) {
	d := jsontext.NewDecoder(bytes.NewReader(body))
	if t, err := d.ReadToken(); err != nil || t.Kind() != '{' {
		return nil, errors.New("not a JSON object")
	}
	for d.PeekKind() == '"' {
		t, err := d.ReadToken()
		if err != nil {
			return nil, err
		}
		found := t.String() == member
		v, err := d.ReadValue()
		if err != nil {
			return nil, err
		}
		if found {
			end := int(d.InputOffset())
			return bytes.Join([][]byte{body[:end-len(v)], value, body[end:]}, nil), nil
		}
	}
	return body, nil
}

// pass hands the backend's answer to the client.
func (f *Face) pass(w http.ResponseWriter, response *http.Response, b *backend.Backend, p plan, stream bool) {
	defer func() { _ = response.Body.Close() }()
	h := w.Header()
	h.Set("X-Router-Backend", b.Name)
	if d := p.decision; d.Decision != "" {
		h.Set("X-Router-Policy", d.Policy)
		h.Set("X-Router-Decision", d.Decision)
		h.Set("X-Router-Version", strconv.FormatInt(d.Version, 10))
		h.Set("X-Router-Model", d.Model.Digest)
	}
	kind := response.Header.Get("Content-Type")
	if kind != "" {
		h.Set("Content-Type", kind)
	}
	h.Set("X-Content-Type-Options", "nosniff")
	if stream && strings.HasPrefix(kind, "text/event-stream") && !f.cfg.Defects.On(defect.RouterStreamBuffered) {
		h.Set("Cache-Control", "no-cache")
		w.WriteHeader(response.StatusCode)
		f.flow(w, response.Body)
		return
	}
	whole, err := io.ReadAll(io.LimitReader(response.Body, backend.MaxAnswer+1))
	if err != nil || len(whole) > backend.MaxAnswer {
		f.failOpenAI(w, upstream(errors.New("backend "+b.Name+": the answer broke off or is too long")))
		return
	}
	status := response.StatusCode
	if status >= http.StatusBadRequest && f.cfg.Defects.On(defect.RouterUpstreamErrorHidden) {
		status, whole = http.StatusOK, []byte(`{"object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":""},"finish_reason":"stop"}]}`)
	}
	limitWrite(w)
	w.WriteHeader(status)
	_, _ = w.Write(f.garble(whole)) // a client that went away is no error of ours
}

// flow passes events on as they come. A stream that breaks off, or in which nothing moves, ends without its
// end: the connection is closed, so that nobody takes it for whole.
func (f *Face) flow(w http.ResponseWriter, body io.ReadCloser) {
	control, buffer := http.NewResponseController(w), make([]byte, 32<<10)
	_ = control.Flush() // the header
	for {
		n, err := body.Read(buffer)
		piece := buffer[:n]
		if f.cfg.Defects.On(defect.RouterStreamUnended) {
			piece = bytes.ReplaceAll(piece, []byte("data: [DONE]\n\n"), nil)
		}
		if len(piece) > 0 {
			limitWrite(w)
			if _, err := w.Write(piece); err != nil {
				return // the client went away
			}
			_ = control.Flush() // fails with the next write
		}
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil && f.cfg.Defects.On(defect.RouterCutAsDone) {
			_, _ = io.WriteString(w, "data: [DONE]\n\n")
			return
		}
		if err != nil {
			panic(http.ErrAbortHandler)
		}
	}
}
