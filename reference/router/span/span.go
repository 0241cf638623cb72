// Package span colours the router's traffic: every span that it starts carries the version of the model that
// decided. Spans are OpenTelemetry's; the finished ones are kept in memory, the oldest fall out.
package span

import (
	"context"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Kept is how many finished spans are remembered.
const Kept = 1024

// ModelVersion is the attribute that every span has: the digest of the model.
const ModelVersion = "model_version"

// Finished is a span that has ended.
type Finished struct {
	Trace      string            `json:"trace"`
	Span       string            `json:"span"`
	Parent     string            `json:"parent"`
	Name       string            `json:"name"`
	At         time.Time         `json:"at"`
	Nanos      int64             `json:"nanos"`
	Error      string            `json:"error"`
	Attributes map[string]string `json:"attributes"`
}

// Recorder starts spans and remembers them.
type Recorder struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	ring     *ring
}

// New returns a Recorder; end it with Shutdown.
func New() *Recorder {
	r := &ring{}
	provider := sdk.NewTracerProvider(sdk.WithSyncer(r), sdk.WithSampler(sdk.AlwaysSample()))
	return &Recorder{provider: provider, tracer: provider.Tracer("assay/router"), ring: r}
}

// Start begins a span that carries the model's version.
func (r *Recorder) Start(ctx context.Context, name, model string, more ...attribute.KeyValue) (context.Context, trace.Span) {
	return r.tracer.Start(ctx, name, trace.WithAttributes(append(more, attribute.String(ModelVersion, model))...))
}

// Shutdown ends the recorder.
func (r *Recorder) Shutdown(ctx context.Context) error { return r.provider.Shutdown(ctx) }

// Spans returns the finished spans, oldest first; of one trace unless it is empty.
func (r *Recorder) Spans(ofTrace string) []Finished { return r.ring.list(ofTrace) }

// Fail marks a span as failed.
func Fail(s trace.Span, err error) { s.SetStatus(codes.Error, err.Error()) }

// Propagator carries a trace and its baggage between processes (W3C Trace Context and Baggage).
var Propagator propagation.TextMapPropagator = propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})

// ring is an exporter to memory.
type ring struct {
	mu    sync.Mutex
	spans [Kept]Finished
	n     int // ever
}

func (r *ring) ExportSpans(_ context.Context, spans []sdk.ReadOnlySpan) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range spans {
		r.spans[r.n%Kept] = finished(s)
		r.n++
	}
	return nil
}

func (r *ring) Shutdown(context.Context) error { return nil }

func (r *ring) list(ofTrace string) []Finished {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := []Finished{}
	for i := max(0, r.n-Kept); i < r.n; i++ {
		if s := r.spans[i%Kept]; ofTrace == "" || s.Trace == ofTrace {
			list = append(list, s)
		}
	}
	return list
}

func finished(s sdk.ReadOnlySpan) Finished {
	f := Finished{
		Trace: s.SpanContext().TraceID().String(), Span: s.SpanContext().SpanID().String(), Name: s.Name(),
		At: s.StartTime(), Nanos: s.EndTime().Sub(s.StartTime()).Nanoseconds(), Error: s.Status().Description,
		Attributes: map[string]string{},
	}
	if s.Parent().SpanID().IsValid() {
		f.Parent = s.Parent().SpanID().String()
	}
	for _, a := range s.Attributes() {
		f.Attributes[string(a.Key)] = a.Value.String()
	}
	return f
}
