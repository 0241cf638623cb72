package backend

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/propagation"
)

// MaxAnswer bounds an answer that is read whole.
const MaxAnswer = 16 << 20

// idle is how long nothing of an answer may come once it has begun.
const idle = time.Minute

// Client calls backends. It follows no redirects: a backend is where it was said to be.
type Client struct {
	http      *http.Client
	propagate propagation.TextMapPropagator // nil: nothing is handed on
}

// NewClient returns a Client; propagate puts the trace and its baggage into each request.
func NewClient(propagate propagation.TextMapPropagator) *Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil // a proxy of the environment would see what upstreams are asked
	transport.MaxIdleConnsPerHost = 64
	return &Client{propagate: propagate, http: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// ErrTimeout is wrapped where the answer did not begin in time, or did not go on.
var ErrTimeout = errors.New("backend timed out")

// Chat sends a chat completion and returns once the answer's header is there. The header counts as an
// observation: a status of 500 or more, or none, is an error of the backend. The caller closes the body.
func (c *Client) Chat(ctx context.Context, s *Set, b *Backend, body []byte, accept string) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(b.Timeout(), func() { cancel(ErrTimeout) })
	start := time.Now()
	response, err := c.send(ctx, b, body, accept)
	if !timer.Stop() && err == nil { // the answer and the end of its time met
		_ = response.Body.Close()
		err = ErrTimeout
	}
	if ctx.Err() == nil || errors.Is(context.Cause(ctx), ErrTimeout) { // a client that left says nothing of the backend
		s.Observe(b, time.Since(start), err != nil || response.StatusCode >= http.StatusInternalServerError)
	}
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		cancel(nil)
		return nil, fmt.Errorf("backend %s: %w", b.Name, err)
	}
	response.Body = &watched{response.Body, time.AfterFunc(idle, func() { cancel(ErrTimeout) }), func() { cancel(nil) }}
	return response, nil
}

func (c *Client) send(ctx context.Context, b *Backend, body []byte, accept string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, b.Spec.URL+"/chat/completions", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", accept)
	if c.propagate != nil {
		c.propagate.Inject(ctx, propagation.HeaderCarrier(request.Header))
	}
	return c.http.Do(request)
}

// watched ends an answer in which nothing moves, and frees the request's context with its body.
type watched struct {
	io.ReadCloser
	idle *time.Timer
	end  func()
}

func (w *watched) Read(p []byte) (int, error) {
	w.idle.Reset(idle)
	return w.ReadCloser.Read(p)
}

func (w *watched) Close() error {
	w.idle.Stop()
	defer w.end()
	return w.ReadCloser.Close()
}
