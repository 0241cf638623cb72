package face

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"image"
	"image/png"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/sashabaranov/go-openai"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/assay-bench/assay/fixtures/idl/routerpb"
	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/router"
)

func start(t *testing.T, defects ...defect.Name) *Face {
	t.Helper()
	f, err := Start(t.Context(), Config{Defects: defect.Of(defects...)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

// call makes a request and decodes the answer.
func call(t *testing.T, f *Face, method, path string, body any) (int, object) {
	t.Helper()
	raw, ok := body.(string)
	if !ok && body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		raw = string(b)
	}
	q, err := http.NewRequestWithContext(t.Context(), method, "http://"+f.Addresses().HTTP+path, strings.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	a, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Body.Close() }()
	b, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	var got object
	if len(b) > 0 {
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatalf("%s %s: %d %q", method, path, a.StatusCode, b)
		}
	}
	return a.StatusCode, got
}

// want makes a request that must succeed.
func want(t *testing.T, f *Face, method, path string, body any) object {
	t.Helper()
	status, got := call(t, f, method, path, body)
	if status >= 300 {
		t.Fatalf("%s %s: %d %v", method, path, status, got)
	}
	return got
}

// fakeBackend is a backend that tells what it was asked.
type fakeBackend struct {
	*httptest.Server
	mu    sync.Mutex
	asked []object
	heads []http.Header
	fails int // status, or 0
}

func newUpstream(t *testing.T, answer string) *fakeBackend {
	t.Helper()
	u := &fakeBackend{}
	u.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q object
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			t.Error(err)
		}
		u.mu.Lock()
		u.asked, u.heads = append(u.asked, q), append(u.heads, r.Header)
		fails := u.fails
		u.mu.Unlock()
		if fails != 0 {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(fails)
			_, _ = io.WriteString(w, `{"error":{"message":"no","type":"invalid_request_error","param":null,"code":"own"}}`)
			return
		}
		if q["stream"] == true {
			stream(w, answer)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"`+answer+`"}}]}`)
	}))
	t.Cleanup(u.Close)
	return u
}

func stream(w http.ResponseWriter, answer string) {
	w.Header().Set("Content-Type", "text/event-stream")
	for _, piece := range strings.SplitAfter(answer, " ") {
		_, _ = io.WriteString(w, `data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"`+piece+`"}}]}`+"\n\n")
		w.(http.Flusher).Flush()
	}
	_, _ = io.WriteString(w, "data: [DONE]\n\n")
}

func (u *fakeBackend) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.asked)
}

// bed is a face with the router t in front of two upstreams.
func bed(t *testing.T, defects ...defect.Name) (f *Face, bills, weather *fakeBackend) {
	t.Helper()
	f, bills, weather = start(t, defects...), newUpstream(t, "the bill is paid"), newUpstream(t, "it will rain")
	want(t, f, http.MethodPut, "/routers/t", object{"fallback": "bills", "adaptive": false}) // a slow host would move the votes
	for name, u := range map[string]*fakeBackend{"bills": bills, "weather": weather} {
		want(t, f, http.MethodPut, "/routers/t/backends/"+name, object{"url": u.URL + "/v1", "model": "model-" + name})
	}
	want(t, f, http.MethodPost, "/routers/t/policies", object{"policies": object{
		"bills":   object{"examples": []string{"send me my invoice", "refund my payment"}, "backends": []string{"bills", "weather"}},
		"weather": object{"examples": []string{"will it rain", "the forecast for tomorrow"}, "backends": []string{"weather"}},
	}})
	return f, bills, weather
}

func client(f *Face) *openai.Client {
	c := openai.DefaultConfig("none")
	c.BaseURL = "http://" + f.Addresses().HTTP + "/v1"
	return openai.NewClientWithConfig(c)
}

func asking(model, text string) openai.ChatCompletionRequest {
	return openai.ChatCompletionRequest{Model: model, Messages: []openai.ChatCompletionMessage{
		{Role: "user", Content: "will it rain"}, {Role: "assistant", Content: "yes"}, {Role: "user", Content: text},
	}}
}

// TestOpenAIClient drives the face with a client library of OpenAI's API that knows nothing of routers.
func TestOpenAIClient(t *testing.T) {
	f, bills, weather := bed(t)
	c := client(f)
	got, err := c.CreateChatCompletion(t.Context(), asking("auto:t", "refund my invoice please"))
	if err != nil {
		t.Fatal(err)
	}
	if got.Choices[0].Message.Content != "the bill is paid" || bills.count() != 1 || weather.count() != 0 {
		t.Errorf("%+v, %d, %d", got, bills.count(), weather.count())
	}
	if bills.asked[0]["model"] != "model-bills" || len(bills.asked[0]["messages"].([]any)) != 3 {
		t.Errorf("asked %v", bills.asked[0])
	}
	if h := bills.heads[0]; h.Get("Traceparent") == "" || !strings.Contains(h.Get("Baggage"), "model_version=") || h.Get("Authorization") != "" {
		t.Errorf("headers %v", h)
	}
	if text, err := streamed(t, c, asking("auto:t", "what is the forecast")); err != nil || text != "it will rain" {
		t.Errorf("streamed %q, %v", text, err)
	}
	if _, err := c.CreateChatCompletion(t.Context(), asking("model-weather", "refund my invoice")); err != nil || weather.count() != 2 {
		t.Errorf("explicit: %v", err)
	}
	_, err = c.CreateChatCompletion(t.Context(), asking("none", "x"))
	if e, ok := errors.AsType[*openai.APIError](err); !ok || e.HTTPStatusCode != http.StatusNotFound || e.Code != "model_not_found" || *e.Param != "model" {
		t.Errorf("unknown model: %v", err)
	}
	models, err := c.ListModels(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, m := range models.Models {
		ids = append(ids, m.ID)
	}
	if diff := cmp.Diff([]string{"auto", "auto:default", "auto:t", "model-bills", "model-weather"}, ids); diff != "" {
		t.Error(diff)
	}
}

// streamed reads a streamed answer to its end.
func streamed(t *testing.T, c *openai.Client, q openai.ChatCompletionRequest) (string, error) {
	t.Helper()
	events, err := c.CreateChatCompletionStream(t.Context(), q)
	if err != nil {
		return "", err
	}
	defer func() { _ = events.Close() }()
	text := ""
	for {
		e, err := events.Recv()
		if errors.Is(err, io.EOF) {
			return text, nil
		}
		if err != nil {
			return text, err
		}
		text += e.Choices[0].Delta.Content
	}
}

func TestUpstreamFails(t *testing.T) {
	f, bills, weather := bed(t)
	c := client(f)
	bills.fails = http.StatusTooManyRequests
	_, err := c.CreateChatCompletion(t.Context(), asking("auto:t", "refund my invoice"))
	if e, ok := errors.AsType[*openai.APIError](err); !ok || e.HTTPStatusCode != http.StatusTooManyRequests || e.Code != "own" || weather.count() != 0 {
		t.Errorf("its own error: %v", err)
	}
	bills.fails = http.StatusInternalServerError
	got, err := c.CreateChatCompletion(t.Context(), asking("auto:t", "refund my invoice"))
	if err != nil || got.Choices[0].Message.Content != "it will rain" {
		t.Errorf("the next backend: %v %v", got, err)
	}
	bills.Close()
	if got, err = c.CreateChatCompletion(t.Context(), asking("auto:t", "refund my invoice")); err != nil || weather.count() != 2 {
		t.Errorf("a backend that is gone: %v %v", got, err)
	}
	weather.Close()
	_, err = c.CreateChatCompletion(t.Context(), asking("auto:t", "refund my invoice"))
	if e, ok := errors.AsType[*openai.APIError](err); !ok || e.HTTPStatusCode != http.StatusBadGateway || e.Code != "upstream_failed" {
		t.Errorf("none left: %v", err)
	}
}

// TestBodyIsKept: every byte but the model's name goes on.
func TestBodyIsKept(t *testing.T) {
	body := `{"x" : [1,2.50] ,"model":"auto", "z":{"model":"inner"},"messages":[]}`
	got, err := start(t).rename([]byte(body), `m"x`)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(`{"x" : [1,2.50] ,"model":"m\"x", "z":{"model":"inner"},"messages":[]}`, string(got)); diff != "" {
		t.Error(diff)
	}
}

func picture(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 2, 2))); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestMultimodal(t *testing.T) {
	f, bills, weather := bed(t)
	touched := false
	lure := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { touched = true }))
	defer lure.Close()
	want(t, f, http.MethodPut, "/routers/t/backends/weather", object{"url": weather.URL + "/v1", "model": "m", "modalities": []string{"text", "image", "image-url"}})
	text := object{"type": "text", "text": "will it rain on this picture"}
	cases := []struct {
		name   string
		inputs []object
		status int
		reason string
	}{
		{"text", []object{{"type": "text", "text": "refund"}}, 200, ""},
		{"image", []object{text, {"type": "image", "data": picture(t), "mediaType": "image/png"}}, 200, ""},
		{"url", []object{text, {"type": "image-url", "url": lure.URL + "/a.png"}}, 200, ""},
		{"not a png", []object{text, {"type": "image", "data": []byte("GIF89a"), "mediaType": "image/png"}}, 400, ""},
		{"file", []object{text, {"type": "image-url", "url": "file:///etc/passwd"}}, 400, ""},
		{"credentials", []object{text, {"type": "image-url", "url": "http://a:b@c/"}}, 400, ""},
		{"audio", []object{{"type": "audio"}}, 400, ""},
		{"nothing", []object{}, 400, ""},
	}
	seen := 0
	for _, c := range cases {
		seen++
		if status, got := call(t, f, http.MethodPost, "/v1/multimodal/invoke", object{"router": "t", "inputs": c.inputs}); status != c.status {
			t.Errorf("%s: %d %v", c.name, status, got)
		}
	}
	want(t, f, http.MethodPut, "/routers/t/policies/bills", object{"examples": []string{"refund my payment"}, "backends": []string{"bills"}})
	status, got := call(t, f, http.MethodPost, "/v1/multimodal/invoke", object{"router": "t", "inputs": []object{
		{"type": "text", "text": "refund my payment"}, {"type": "image-url", "url": lure.URL},
	}})
	if status != http.StatusUnprocessableEntity || got["reason"] != "modality-unserved" || touched || seen == 0 || bills.count() != 1 {
		t.Errorf("%d %v, fetched %v, %d", status, got, touched, bills.count())
	}
}

func TestDispatchAndShadow(t *testing.T) {
	f, bills, weather := bed(t)
	status, got := call(t, f, http.MethodPost, "/routers/t/dispatches", object{"text": "refund my payment, it rains"})
	if status != http.StatusAccepted {
		t.Fatalf("%d %v", status, got)
	}
	id := got["dispatch"].(string)
	end := time.Now().Add(10 * time.Second)
	for pending := 2; pending > 0 && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		pending = 0
		for _, a := range want(t, f, http.MethodGet, "/routers/t/dispatches/"+id, nil)["answers"].([]any) {
			if a.(object)["state"] == "pending" {
				pending++
			}
		}
	}
	if bills.count() != 1 || weather.count() != 1 {
		t.Errorf("%d and %d", bills.count(), weather.count())
	}
	want(t, f, http.MethodPut, "/routers/t/policies/bills", object{"examples": []string{"refund my payment"}, "backends": []string{"bills"}, "shadow": "weather"})
	if got, err := client(f).CreateChatCompletion(t.Context(), asking("auto:t", "refund my payment")); err != nil || got.Choices[0].Message.Content != "the bill is paid" {
		t.Errorf("%v %v", got, err)
	}
	for weather.count() < 2 && time.Now().Before(end) {
		time.Sleep(5 * time.Millisecond)
	}
	if weather.count() != 2 {
		t.Error("the shadow got no copy")
	}
}

func TestProblems(t *testing.T) {
	f := start(t)
	cases := []struct {
		method, path string
		body         any
		status       int
	}{
		{http.MethodGet, "/nothing", nil, 404},
		{http.MethodPatch, "/routers", nil, 405},
		{http.MethodPost, "/routers/default/decide", `{"text":"a","more":1}`, 400},
		{http.MethodPost, "/routers/default/decide", `{"text":"a"} x`, 400},
		{http.MethodPost, "/routers/default/decide", `[]`, 400},
		{http.MethodPost, "/routers/default/decide", `{"vector":[1e39]}`, 400},
		{http.MethodPost, "/routers/none/decide", `{"text":"a"}`, 404},
		{http.MethodPut, "/routers/a%20b", `{}`, 400},
		{http.MethodPut, "/routers/a", `{"k":0}`, 400},
		{http.MethodPut, "/routers/a", `{"windows":[{"from":"24:00","to":"01:00","factors":{}}]}`, 400},
		{http.MethodPut, "/routers/a", `{"model":"none"}`, 404},
		{http.MethodPut, "/routers/default/backends/b", `{"url":"ftp://x","model":"m"}`, 400},
		{http.MethodPost, "/routers/default/decide", `{"text":"` + strings.Repeat("a", 1<<20+1) + `"}`, 413},
		{http.MethodPost, "/models", `{"name":"m","data":"AAAA"}`, 403},
		{http.MethodPut, "/models/trust", `{"ed25519":["AAAA"]}`, 400},
		{http.MethodGet, "/spans?trace=x", nil, 400},
		{http.MethodGet, "/routers/default/log?since=-1", nil, 400},
		{http.MethodGet, "/routers/default/weights?at=noon", nil, 400},
		{http.MethodPost, "/routers/default/rollout/promote", nil, 404},
	}
	seen := 0
	for _, c := range cases {
		seen++
		status, got := call(t, f, c.method, c.path, c.body)
		if status != c.status || got["type"] != "about:blank" || got["status"] != float64(c.status) || got["detail"] == "" {
			t.Errorf("%s %s: %d %v, want %d", c.method, c.path, status, got, c.status)
		}
	}
	if names := want(t, f, http.MethodGet, "/routers", nil)["routers"]; seen == 0 || len(names.([]any)) != 1 {
		t.Errorf("routers %v: a refused one is there", names)
	}
}

// TestSameOverGRPC: both faces give the same decision.
func TestSameOverGRPC(t *testing.T) {
	f, _, _ := bed(t)
	conn, err := grpc.NewClient(f.Addresses().GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	c := routerpb.NewRouterClient(conn)
	p, err := c.Decide(t.Context(), &routerpb.DecideRequest{Router: "t", Input: &routerpb.DecideRequest_Text{Text: "refund it"}, Explain: true})
	if err != nil {
		t.Fatal(err)
	}
	got := want(t, f, http.MethodPost, "/routers/t/decide", object{"text": "refund it", "explain": true})
	if p.Policy != got["policy"] || p.VersionDigest != got["versionDigest"] || len(p.Vector) != 128 || float32(got["vector"].([]any)[7].(float64)) != p.Vector[7] {
		t.Errorf("%v and %v", p, got)
	}
	if _, err = c.Explain(t.Context(), &routerpb.DecisionName{Router: "t", Decision: p.Decision}); err != nil {
		t.Error(err)
	}
	a, err := c.Feedback(t.Context(), &routerpb.FeedbackBatch{Router: "t", Events: []*routerpb.FeedbackEvent{{Decision: p.Decision, Outcome: routerpb.Outcome_OUTCOME_CONFIRMED, Source: "s"}}})
	if err != nil || !a.Results[0].Applied || a.Version == a.VersionBefore {
		t.Errorf("%v %v", a, err)
	}
	_, err = c.Feedback(t.Context(), &routerpb.FeedbackBatch{Router: "t", Events: []*routerpb.FeedbackEvent{{Decision: "x", Outcome: routerpb.Outcome_OUTCOME_CONFIRMED}}})
	if status.Code(err) != codes.NotFound {
		t.Error(err)
	}
	nan := float32(0)
	nan /= nan
	_, err = c.Decide(t.Context(), &routerpb.DecideRequest{Router: "t", Input: &routerpb.DecideRequest_Vector{Vector: &routerpb.Vector{Values: append(make([]float32, 127), nan)}}})
	if status.Code(err) != codes.InvalidArgument {
		t.Error(err)
	}
	state, err := c.Rollback(t.Context(), &routerpb.RollbackRequest{Router: "t", Version: a.VersionBefore})
	if err != nil || state.Version != a.VersionBefore {
		t.Errorf("%v %v", state, err)
	}
}

func TestSpansAreColoured(t *testing.T) {
	f, _, _ := bed(t)
	d := want(t, f, http.MethodPost, "/routers/t/decide", object{"text": "refund it"})
	if _, err := client(f).CreateChatCompletion(t.Context(), asking("auto:t", "refund it")); err != nil {
		t.Fatal(err)
	}
	names := map[string]int{}
	for _, s := range want(t, f, http.MethodGet, "/spans", nil)["spans"].([]any) {
		names[s.(object)["name"].(string)]++
		if got := s.(object)["attributes"].(object)["model_version"]; got != d["model"].(object)["digest"] {
			t.Errorf("%v", s)
		}
	}
	if diff := cmp.Diff(map[string]int{"router.decide": 2, "router.embed": 2, "router.vote": 2, "router.backend": 1}, names); diff != "" {
		t.Error(diff)
	}
}

func TestCloseEndsStreams(t *testing.T) {
	f := start(t)
	hang := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	defer hang.Close()
	want(t, f, http.MethodPut, "/routers/default/backends/b", object{"url": hang.URL, "model": "m"})
	q, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+f.Addresses().HTTP+"/v1/chat/completions",
		strings.NewReader(`{"model":"m","stream":true,"messages":[{"role":"user","content":"x"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	a, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Body.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := f.Shutdown(ctx); err == nil {
		t.Error("a cut stream is not told")
	}
	if _, err := io.ReadAll(a.Body); err == nil {
		t.Error("a stream that was cut ends as if it were whole")
	}
}

func TestDecisionIsSameOnRouterTypes(t *testing.T) {
	f := start(t)
	s, err := f.service()
	if err != nil {
		t.Fatal(err)
	}
	text := "anything"
	r, err := s.Router("")
	if err != nil {
		t.Fatal(err)
	}
	d, err := r.Decide(t.Context(), router.DecideRequest{Text: &text})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(router.Decision{Abstained: true, Reason: "no-policy", Votes: []router.Vote{}, Neighbours: []router.Neighbour{}}, d,
		cmpopts.IgnoreFields(router.Decision{}, "Decision", "At", "Threshold", "Version", "VersionDigest", "Model", "Trace")); diff != "" {
		t.Error(diff)
	}
}
