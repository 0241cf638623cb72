package router

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
)

// chatWait is how long an answer may take beyond what the target says of its answers. It tells a slow router
// from a silent one and is no requirement.
const chatWait = 4 * time.Second

// maxAnswer bounds what is read of an answer.
const maxAnswer = 4 << 20

// Message is a message of a conversation.
type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// Ask is the body of a request of chat completions.
type Ask struct {
	Model    string    `json:"model"`
	Messages []Message `json:"messages"`
	Stream   bool      `json:"stream,omitempty"`
}

// User is a conversation of one message of the user.
func User(text string) []Message { return []Message{{Role: "user", Content: text}} }

// Chat is the evidence of one request of the chat API.
type Chat struct {
	Name        string        `json:"name"` // within the case
	Method      string        `json:"method"`
	Path        string        `json:"path"`
	Asked       http.Header   `json:"asked,omitempty"` // headers beside those that every request has
	Request     results.Bytes `json:"request"`
	RequestHash string        `json:"requestHash"` // SHA-256 of its body
	Status      int           `json:"status,omitempty"`
	ContentType string        `json:"contentType,omitempty"`
	Headers     []string      `json:"headers,omitempty"` // X-Router-… of the answer, as name: value
	Body        results.Bytes `json:"body"`
	BodyHash    string        `json:"bodyHash"`         // SHA-256 of what came of the answer's body
	Broken      string        `json:"broken,omitempty"` // no whole answer of HTTP came: text
	FirstByte   time.Duration `json:"firstByte"`        // of the answer's body, since the request
	Took        time.Duration `json:"took"`
}

// Whole tells whether the target answered to the end, if only with an error.
func (c Chat) Whole() bool { return c.Broken == "" && c.Status != 0 }

// newClient returns a client that dials as the run allows, and never follows another way.
func newClient(env *scenarios.Env) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext: env.Dial, MaxResponseHeaderBytes: 64 << 10, MaxIdleConnsPerHost: 64, DisableCompression: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// exchange makes the request and fills in what came. What the target does is no error.
func (c *Chat) exchange(ctx context.Context, env *scenarios.Env, client *http.Client, body []byte) error {
	c.Request, c.RequestHash = results.BytesOf(body), digest(body)
	within, cancel := context.WithTimeout(ctx, chatWait+env.Claims.Limits.Answer())
	defer cancel()
	url := "http://" + env.Endpoints[ChatEndpoint] + c.Path
	request, err := http.NewRequestWithContext(within, c.Method, url, bytes.NewReader(body))
	if err != nil {
		c.Broken = clip(err.Error()) // the address is the target's own
		return nil
	}
	if len(body) > 0 {
		request.Header.Set("Content-Type", "application/json")
	}
	for name, values := range c.Asked {
		request.Header[name] = values
	}
	request.Header.Set("Authorization", "Bearer assay") // many routers want one, whichever it is
	began := env.Clock.Now()
	response, err := client.Do(request)
	var raw []byte
	if err == nil {
		defer func() { _ = response.Body.Close() }() // all of it that matters is read
		c.Status, c.ContentType = response.StatusCode, clip(response.Header.Get("Content-Type"))
		c.Headers = ownHeaders(response.Header)
		first := make([]byte, 1)
		if _, err = io.ReadFull(response.Body, first); err == nil {
			c.FirstByte = env.Elapsed(began)
			raw, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer))
			raw = append(first, raw...)
		} else if errors.Is(err, io.EOF) {
			err = nil
		}
		if len(raw) > maxAnswer {
			err = fmt.Errorf("answers more than %d bytes", maxAnswer)
		}
	}
	c.Took = env.Elapsed(began)
	c.Body, c.BodyHash = results.BytesOf(raw), digest(raw)
	switch {
	case errors.Is(err, scenarios.ErrNotAllowed):
		return err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		c.Broken = clip(err.Error())
	}
	return nil
}

// routerHeaders are what the reference says of a decision in the answer's headers.
var routerHeaders = []string{"X-Router-Policy", "X-Router-Backend", "X-Router-Decision", "X-Router-Version", "X-Router-Model"}

func ownHeaders(h http.Header) (out []string) {
	for _, name := range routerHeaders {
		if v := h.Get(name); v != "" {
			out = append(out, name+": "+clip(v))
		}
	}
	return out
}
