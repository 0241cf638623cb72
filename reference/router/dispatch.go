package router

import (
	"bytes"
	"context"
	"encoding/json/v2"
	"fmt"
	"io"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/trace"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/router/backend"
	"github.com/assay-bench/assay/reference/router/span"
)

// States of a backend's answer.
const (
	pending  = "pending"
	answered = "answered"
	failed   = "failed"
)

// sending is a dispatch under way or done.
type sending struct{ Dispatch }

// Dispatch decides and sends the text to the backends of the two best policies without waiting for them.
func (r *Router) Dispatch(ctx context.Context, q DecideRequest) (Dispatch, error) {
	if q.Text == nil {
		return Dispatch{}, bad("text: a dispatch needs one")
	}
	d, err := r.Decide(ctx, q)
	if err != nil {
		return Dispatch{}, err
	}
	defects := r.service.cfg.Defects
	s := &sending{Dispatch{Decision: d, Answers: []BackendAnswer{}}}
	var to []*backend.Backend
	for _, policy := range []string{d.Policy, d.Second} {
		of := d
		of.Policy = policy
		order, _ := r.Serving(of, q)
		if policy == "" || len(order) == 0 || len(to) > 0 && defects.On(defect.RouterDispatchOne) {
			continue
		}
		to = append(to, order[0])
		s.Answers = append(s.Answers, BackendAnswer{Policy: policy, Backend: order[0].Name, State: pending})
	}
	if len(to) == 0 {
		return Dispatch{}, refuse(Conflict, "backends", "no policy of the decision has a backend")
	}
	r.keep(s)
	for i, b := range to {
		if err := r.service.background(func(ctx context.Context) { r.deliver(ctx, s, i, b, d, *q.Text) }); err != nil {
			r.settle(s, i, func(a *BackendAnswer) { a.State, a.Error = failed, err.Error() })
		}
	}
	if defects.On(defect.RouterDispatchBlocks) {
		r.service.sending.Wait()
	}
	return r.Dispatched(s.Dispatch.Dispatch)
}

func (r *Router) keep(s *sending) {
	r.sent.Lock()
	defer r.sent.Unlock()
	r.dispatchNo++
	s.Dispatch.Dispatch = fmt.Sprintf("x-%s-%d", r.service.nonce, r.dispatchNo)
	r.dispatches = append(r.dispatches, s)
	if len(r.dispatches) > keptDispatches {
		r.dispatches = append([]*sending(nil), r.dispatches[1:]...)
	}
}

func (r *Router) settle(s *sending, i int, change func(*BackendAnswer)) {
	r.sent.Lock()
	defer r.sent.Unlock()
	change(&s.Answers[i])
}

// deliver asks one backend.
func (r *Router) deliver(ctx context.Context, s *sending, i int, b *backend.Backend, d Decision, text string) {
	start := time.Now()
	status, output, err := r.Complete(ctx, b, d, text)
	r.settle(s, i, func(a *BackendAnswer) {
		a.State, a.Status, a.Output, a.Millis = answered, status, output, time.Since(start).Milliseconds()
		if err != nil {
			a.State, a.Error = failed, err.Error()
		}
	})
}

// Dispatched returns what the backends have answered so far.
func (r *Router) Dispatched(id string) (Dispatch, error) {
	r.sent.Lock()
	defer r.sent.Unlock()
	for _, s := range r.dispatches {
		if s.Dispatch.Dispatch == id {
			d := s.Dispatch
			d.Answers = append([]BackendAnswer{}, s.Answers...)
			return d, nil
		}
	}
	return Dispatch{}, unknown("dispatch", id)
}

// Complete asks a backend for a chat completion of a text and returns the first choice's content.
func (r *Router) Complete(ctx context.Context, b *backend.Backend, d Decision, text string) (status int, output string, err error) {
	body, err := json.Marshal(map[string]any{
		"model": b.Spec.Model, "messages": []any{map[string]string{"role": "user", "content": text}},
	})
	if err != nil {
		return 0, "", err
	}
	return r.Chat(ctx, b, d, body)
}

// Chat sends a chat completion that is not streamed and returns the first choice's content.
func (r *Router) Chat(ctx context.Context, b *backend.Backend, d Decision, body []byte) (status int, output string, err error) {
	response, err := r.Send(ctx, b, d, body, "application/json")
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = response.Body.Close() }()
	whole, err := io.ReadAll(io.LimitReader(response.Body, backend.MaxAnswer+1))
	if err != nil || len(whole) > backend.MaxAnswer {
		return response.StatusCode, "", fmt.Errorf("backend %s: the answer broke off or has more than %d bytes", b.Name, backend.MaxAnswer)
	}
	if response.StatusCode != http.StatusOK {
		return response.StatusCode, "", fmt.Errorf("backend %s: status %d: %.200s", b.Name, response.StatusCode, bytes.TrimSpace(whole))
	}
	var answer struct {
		Choices []struct {
			Message struct {
				Content string `json:"content"`
			} `json:"message"`
		} `json:"choices"`
	}
	if err := json.Unmarshal(whole, &answer); err != nil || len(answer.Choices) == 0 {
		return response.StatusCode, "", fmt.Errorf("backend %s: the answer is no chat completion", b.Name)
	}
	return response.StatusCode, answer.Choices[0].Message.Content, nil
}

// Send sends a chat completion to a backend under a span in the colour of the decision's model. The backend
// sees the trace, and the model's version as baggage.
func (r *Router) Send(ctx context.Context, b *backend.Backend, d Decision, body []byte, accept string) (*http.Response, error) {
	ctx = r.coloured(ctx, d)
	ctx, s := r.service.spans.Start(ctx, "router.backend", r.service.colour(d.Model.Digest), attribute.String("backend", b.Name), attribute.String("policy", d.Policy))
	defer s.End()
	response, err := r.service.client.Chat(ctx, &r.backends, b, body, accept)
	if err != nil {
		span.Fail(s, err)
	}
	return response, err
}

// coloured puts the decision's trace and its model's version into a context.
func (r *Router) coloured(ctx context.Context, d Decision) context.Context {
	if id, err := trace.TraceIDFromHex(d.Trace); err == nil && !trace.SpanContextFromContext(ctx).IsValid() {
		ctx = trace.ContextWithSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: id, SpanID: trace.SpanID(id[8:]), TraceFlags: trace.FlagsSampled, Remote: true,
		}))
	}
	member, err := baggage.NewMember(span.ModelVersion, d.Model.Digest)
	if err != nil {
		return ctx
	}
	bag, err := baggage.FromContext(ctx).SetMember(member)
	if err != nil {
		return ctx
	}
	return baggage.ContextWithBaggage(ctx, bag)
}

// Shadow sends a copy of a request to a backend whose answer nobody sees.
func (r *Router) Shadow(b *backend.Backend, d Decision, body []byte) {
	if r.service.cfg.Defects.On(defect.RouterShadowMissing) {
		return
	}
	err := r.service.background(func(ctx context.Context) {
		response, err := r.Send(ctx, b, d, body, "application/json")
		if err != nil {
			return // it was counted where it failed
		}
		_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, backend.MaxAnswer))
		_ = response.Body.Close()
	})
	if err == nil {
		r.counters.shadowed.Add(1)
	}
}
