package backends

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/assay-bench/assay/results"
)

// OpenAIPrefix begins the names of upstreams with the OpenAI chat API: openai-1, openai-2 and so on.
const OpenAIPrefix = "openai-"

// MaxOpenAI is how many upstreams with the chat API there may be.
const MaxOpenAI = 16

// OpenAIModel is the model that the upstream of a name serves, and no other one does.
func OpenAIModel(name string) string { return "assay-" + name }

// Fault is what an upstream with the chat API does wrong, on purpose.
type Fault string

// The faults.
const (
	FaultNone    Fault = ""
	FaultSlow    Fault = "slow"    // answers after SlowBy
	FaultError   Fault = "error"   // 500 with an error of the API
	FaultLimit   Fault = "limit"   // 429 with an error of the API and Retry-After
	FaultCut     Fault = "cut"     // closes the connection in the middle of the body or the stream
	FaultGarbage Fault = "garbage" // 200 with a body that is not JSON
	FaultRefuse  Fault = "refuse"  // resets the connection before it answers
	FaultPause   Fault = "pause"   // waits SlowBy in the middle of a stream
)

// Faults lists all of them but none.
func Faults() []Fault {
	return []Fault{FaultSlow, FaultError, FaultLimit, FaultCut, FaultGarbage, FaultRefuse, FaultPause}
}

// SlowBy is how much later than at once a slow upstream answers.
const SlowBy = 400 * time.Millisecond

// Bounds of an upstream with the chat API.
const (
	maxChat     = 4 << 20 // bytes of a request
	maxArrivals = 4096    // that are kept to be asked for
)

// ChatArrivedKind is the kind of evidence of a request at an upstream with the chat API.
const ChatArrivedKind results.Kind = "chat-arrived"

// ChatArrival is what an upstream with the chat API saw of a request, and what it sent.
type ChatArrival struct {
	N        int           `json:"n"` // from 1, by upstream
	Backend  string        `json:"backend"`
	Method   string        `json:"method"`
	Path     string        `json:"path"`
	Headers  []string      `json:"headers"` // names only, in lower case, sorted
	Model    string        `json:"model"`
	Stream   bool          `json:"stream,omitempty"`
	Body     results.Bytes `json:"body"`
	Digest   string        `json:"digest"` // SHA-256 of the body
	Status   int           `json:"status,omitempty"`
	Sent     int           `json:"sent"`           // bytes of the answer's body
	SentHash string        `json:"sentHash"`       // SHA-256 of them
	Text     string        `json:"text,omitempty"` // what it said
	Fault    Fault         `json:"fault,omitempty"`
}

// OpenAI is one upstream with /v1/chat/completions and /v1/models. It answers by who it is and what it was
// asked, the same way each time. Beside the API it has a face for its owner, under /assay/: what arrived,
// and which fault it has.
type OpenAI struct {
	name    string
	witness func(ChatArrival)

	mu      sync.Mutex
	n       int
	arrived []ChatArrival
	fault   Fault
}

// serveOpenAI serves the upstream of a name.
func (b *Backends) serveOpenAI(name string) func(net.Listener) func() error {
	return func(l net.Listener) func() error {
		u := &OpenAI{name: name, witness: b.witnessChat}
		return serveHTTP(l, u.handler())
	}
}

func (b *Backends) witnessChat(a ChatArrival) {
	a.Path = a.Path[:min(len(a.Path), maxText)]
	b.record(a.Backend, ChatArrivedKind, a)
}

func (u *OpenAI) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/chat/completions", u.chat)
	mux.HandleFunc("GET /v1/models", u.models)
	mux.HandleFunc("GET /assay/arrivals", u.tell)
	mux.HandleFunc("PUT /assay/fault/{fault}", u.setFault)
	mux.HandleFunc("DELETE /assay/fault", u.setFault)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		u.keep(ChatArrival{Method: r.Method, Path: r.URL.Path, Headers: names(r.Header, strings.ToLower), Status: http.StatusNotFound})
		apiError(w, http.StatusNotFound, "invalid_request_error", "unknown_url", "no such path")
	})
	return mux
}

// Told is the answer to the owner who asks what arrived.
type Told struct {
	Name    string        `json:"name"`
	Model   string        `json:"model"`
	Last    int           `json:"last"` // the number of the newest arrival
	Arrived []ChatArrival `json:"arrived"`
}

// tell answers with the arrivals after ?after=N.
func (u *OpenAI) tell(w http.ResponseWriter, r *http.Request) {
	after, err := strconv.Atoi(r.URL.Query().Get("after"))
	if err != nil || after < 0 {
		http.Error(w, "after must be the number of an arrival, or 0", http.StatusBadRequest)
		return
	}
	u.mu.Lock()
	told := Told{Name: u.name, Model: OpenAIModel(u.name), Last: u.n, Arrived: []ChatArrival{}}
	for _, a := range u.arrived {
		if a.N > after {
			told.Arrived = append(told.Arrived, a)
		}
	}
	u.mu.Unlock()
	answer(w, http.StatusOK, told)
}

func (u *OpenAI) setFault(w http.ResponseWriter, r *http.Request) {
	f := Fault(r.PathValue("fault"))
	known := f == FaultNone
	for _, k := range Faults() {
		known = known || f == k
	}
	if !known {
		http.Error(w, fmt.Sprintf("no fault %.40q: there are %v", f, Faults()), http.StatusNotFound)
		return
	}
	u.mu.Lock()
	u.fault = f
	u.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

// keep numbers an arrival and tells the witness.
func (u *OpenAI) keep(a ChatArrival) {
	u.mu.Lock()
	u.n++
	a.N, a.Backend = u.n, u.name
	u.arrived = append(u.arrived, a)
	if len(u.arrived) > maxArrivals {
		u.arrived = u.arrived[1:]
	}
	u.mu.Unlock()
	u.witness(a)
}

func (u *OpenAI) models(w http.ResponseWriter, r *http.Request) {
	u.keep(ChatArrival{Method: r.Method, Path: r.URL.Path, Headers: names(r.Header, strings.ToLower), Status: http.StatusOK})
	model := map[string]any{"id": OpenAIModel(u.name), "object": "model", "created": madeAt, "owned_by": "assay"}
	answer(w, http.StatusOK, map[string]any{"object": "list", "data": []any{model}})
}

// madeAt stands for the time of every answer: answers are the same each time.
const madeAt = 1735689600

// chatRequest is what an upstream reads of a request.
type chatRequest struct {
	Model  string `json:"model"`
	Stream bool   `json:"stream"`
}

func (u *OpenAI) chat(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxChat))
	u.mu.Lock()
	fault := u.fault
	u.mu.Unlock()
	a := ChatArrival{
		Method: r.Method, Path: r.URL.Path, Headers: names(r.Header, strings.ToLower),
		Body: results.BytesOf(body), Digest: digest(body), Fault: fault,
	}
	var q chatRequest
	if jerr := json.Unmarshal(body, &q); err != nil || jerr != nil {
		a.Status = http.StatusBadRequest
		u.keep(a)
		apiError(w, a.Status, "invalid_request_error", "", "the body is not a request of chat completions")
		return
	}
	a.Model, a.Stream, a.Text = q.Model[:min(len(q.Model), maxText)], q.Stream, u.says(a.Digest)
	reply := u.reply(a)
	if fault == FaultCut {
		reply.promised, reply.flush = len(reply.body), nil
		reply.body = reply.body[:len(reply.body)/2]
	}
	a.Status, a.Sent, a.SentHash = reply.status, len(reply.body), digest(reply.body)
	u.keep(a)
	reply.write(r.Context(), w, fault)
}

// says is the text of an answer: who answers, and the beginning of the digest of what was asked.
func (u *OpenAI) says(digest string) string { return u.name + " answers " + digest[:12] }

// reply is an answer before it is written.
type reply struct {
	status   int
	kind     string
	after    string // Retry-After
	body     []byte
	flush    []int // lengths of the body's parts, each sent by itself
	promised int   // the length that is announced of a body that is cut
}

func (u *OpenAI) reply(a ChatArrival) reply {
	switch {
	case a.Fault == FaultRefuse:
		return reply{}
	case a.Fault == FaultError:
		return jsonReply(http.StatusInternalServerError, errorBody("server_error", "", u.name+" failed on purpose"))
	case a.Fault == FaultLimit:
		r := jsonReply(http.StatusTooManyRequests, errorBody("rate_limit_error", "rate_limit_exceeded", u.name+" is limited on purpose"))
		r.after = "1"
		return r
	case a.Fault == FaultGarbage:
		return reply{status: http.StatusOK, kind: "application/json", body: []byte(`{"id":"chatcmpl-` + u.name + `","choices":[{"index":0,`)}
	case a.Stream:
		return u.streamed(a)
	}
	return jsonReply(http.StatusOK, map[string]any{
		"id": "chatcmpl-" + a.Digest[:16], "object": "chat.completion", "created": madeAt, "model": a.Model,
		"system_fingerprint": "fp_" + u.name,
		"choices": []any{map[string]any{
			"index": 0, "finish_reason": "stop", "logprobs": nil,
			"message": map[string]any{"role": "assistant", "content": a.Text, "refusal": nil},
		}},
		"usage": map[string]int{"prompt_tokens": a.Body.Len / 4, "completion_tokens": 3, "total_tokens": a.Body.Len/4 + 3},
	})
}

// streamed writes the words of the answer as one event each, then [DONE].
func (u *OpenAI) streamed(a ChatArrival) reply {
	r := reply{status: http.StatusOK, kind: "text/event-stream"}
	event := func(v any) {
		raw, err := results.Marshal(v)
		if err != nil {
			raw = []byte("{}") // strings and numbers only: can not happen
		}
		r.part("data: " + string(raw) + "\n\n")
	}
	chunk := func(delta map[string]string, finish any) map[string]any {
		return map[string]any{
			"id": "chatcmpl-" + a.Digest[:16], "object": "chat.completion.chunk", "created": madeAt, "model": a.Model,
			"system_fingerprint": "fp_" + u.name,
			"choices":            []any{map[string]any{"index": 0, "delta": delta, "finish_reason": finish}},
		}
	}
	event(chunk(map[string]string{"role": "assistant", "content": ""}, nil))
	for i, word := range strings.Fields(a.Text) {
		if i > 0 {
			word = " " + word
		}
		event(chunk(map[string]string{"content": word}, nil))
	}
	event(chunk(map[string]string{}, "stop"))
	r.part("data: [DONE]\n\n")
	return r
}

func (r *reply) part(text string) {
	r.body = append(r.body, text...)
	r.flush = append(r.flush, len(text))
}

func jsonReply(status int, v any) reply {
	raw, err := results.Marshal(v)
	if err != nil {
		return reply{status: http.StatusInternalServerError} // strings and numbers only: can not happen
	}
	return reply{status: status, kind: "application/json", body: raw, flush: []int{len(raw)}}
}

// write sends an answer with what the fault does to it. A peer that goes away is no error here.
func (r reply) write(ctx context.Context, w http.ResponseWriter, fault Fault) {
	switch fault {
	case FaultSlow:
		wait(ctx)
	case FaultRefuse:
		reset(w)
		return
	}
	w.Header().Set("Content-Type", r.kind)
	if r.after != "" {
		w.Header().Set("Retry-After", r.after)
	}
	if r.promised > 0 {
		w.Header().Set("Content-Length", strconv.Itoa(r.promised))
	}
	w.WriteHeader(r.status)
	control, body := http.NewResponseController(w), r.body
	for i, n := range r.flush {
		if fault == FaultPause && i > 0 && i == len(r.flush)/2 {
			wait(ctx)
		}
		_, _ = w.Write(body[:n])
		_ = control.Flush()
		body = body[n:]
	}
	_, _ = w.Write(body)
	if r.promised > 0 {
		_ = control.Flush()
		reset(w)
	}
}

// wait lasts SlowBy, or as long as somebody waits for the answer.
func wait(ctx context.Context) {
	timer := time.NewTimer(SlowBy)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// reset ends a connection with RST.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // ends the connection all the same
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

func errorBody(kind, code, text string) map[string]any {
	e := map[string]any{"message": text, "type": kind, "param": nil, "code": nil}
	if code != "" {
		e["code"] = code
	}
	return map[string]any{"error": e}
}

func apiError(w http.ResponseWriter, status int, kind, code, text string) {
	answer(w, status, errorBody(kind, code, text))
}

func answer(w http.ResponseWriter, status int, v any) {
	r := jsonReply(status, v)
	w.Header().Set("Content-Type", r.kind)
	w.WriteHeader(r.status)
	_, _ = w.Write(r.body) // a peer that goes away is no error here
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
