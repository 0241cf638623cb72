package router

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/backends"
	scenario "github.com/assay-bench/assay/scenarios/router"
	"github.com/assay-bench/assay/suites"
)

// chatCase is what is asked of a router over the chat API and what must be seen, as data.
type chatCase struct {
	id, title string
	drive     func(context.Context, *scenario.Bed) error
	// wrong says what is not as it has to be: a reason of the check's set, and what was seen.
	wrong func(*story) (reason, observed string)
}

// upstreamsOf is how many upstreams a case puts behind the router: one for each intent.
var upstreamsOf = len(scenario.Intents())

// chatRow makes a check of cases.
func chatRow(c suites.Check, want string, own []string, cases ...chatCase) suites.Check {
	find := func(id string) chatCase {
		for _, k := range cases {
			if k.id == id {
				return k
			}
		}
		return cases[0]
	}
	if len(cases) > 1 || cases[0].id != "" {
		for _, k := range cases {
			c.Cases = append(c.Cases, suites.Case{ID: k.id, Title: k.title})
		}
	}
	c.Reasons = append(c.Reasons, own...)
	c.Drive = func(ctx context.Context, env *scenarios.Env) error { return onBed(ctx, env, find(env.Key.Case).drive) }
	c.Judge = told(want, func(t suites.Trace, s *story) suites.Finding {
		if why := s.unconfigured(); why != "" {
			return s.fail(reasonNotConfigured, why)
		}
		if len(s.chats) == 0 {
			return s.fail(reasonNoAnswer, "nothing was asked")
		}
		reason, observed := find(t.Key.Case).wrong(s)
		return s.verdict(reason, observed)
	})
	return c
}

// onBed runs f on a router in front of upstreams, unless it can not be told of them.
func onBed(ctx context.Context, env *scenarios.Env, f func(context.Context, *scenario.Bed) error) (err error) {
	bed, err := scenario.OpenBed(ctx, env, upstreamsOf)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bed.Close(ctx)) }()
	if !bed.OK {
		return nil
	}
	return f(ctx, bed)
}

func (s *story) unconfigured() string {
	switch {
	case s.configured == nil:
		return "the router was not told of upstreams"
	case !s.configured.OK:
		return s.configured.Broken
	}
	return ""
}

// example is a text that the router was told belongs to upstream i.
func example(i, n int) string {
	all := scenario.Intents()[i].Examples
	return all[n%len(all)]
}

// driveChat asks for the router's choice on one example.
func driveChat(ctx context.Context, env *scenarios.Env) error {
	return onBed(ctx, env, func(ctx context.Context, b *scenario.Bed) error {
		_, err := b.Ask(ctx, "control", example(env.Rand.IntN(upstreamsOf), env.Rand.IntN(10)), false)
		return err
	})
}

// chatWorks judges driveChat: an upstream got the request, and its answer came back.
func (s *story) chatWorks() (ok bool, observed string) {
	if why := s.unconfigured(); why != "" {
		return false, why
	}
	c := s.chats["control"]
	for _, a := range s.chatsAt("control") {
		ok = ok || c.Status == 200 && said(c) == a.Text
	}
	return ok, chatted(c) + "; " + arrived(s.arrivals["control"])
}

// chatControl is the positive control: refusals and failures mean something only where an ordinary request
// is answered by an upstream.
func chatControl() *suites.Control {
	return &suites.Control{Drive: driveChat, Judge: func(evidence []results.Evidence) (bool, string) {
		s, err := tell(evidence)
		if err != nil {
			return false, err.Error()
		}
		return s.chatWorks()
	}}
}

// Reasons of a request that is not passed on as it has to be.
const (
	reasonNotForwarded = "not-forwarded" // no upstream got it
	reasonTwice        = "sent-twice"    // several upstreams got it, or one several times
	reasonOtherAnswer  = "other-answer"  // the answer is not what the upstream said
)

// chatsAt are the requests of chat completions that arrived for a name.
func (s *story) chatsAt(name string) (out []backends.ChatArrival) {
	for _, a := range s.arrivals[name].Arrived {
		if strings.HasSuffix(a.Path, "/chat/completions") {
			out = append(out, a)
		}
	}
	return out
}

// passedOn tells what is wrong with a request that exactly one upstream had to get and answer.
func (s *story) passedOn(name string) (reason, observed string) {
	c, at := s.chats[name], s.chatsAt(name)
	observed = name + ": " + chatted(c) + "; " + arrived(s.arrivals[name])
	switch {
	case !c.Whole():
		return reasonNoAnswer, observed
	case len(at) == 0:
		return reasonNotForwarded, observed
	case len(at) > 1:
		return reasonTwice, observed
	case c.Status != 200 || said(c) != at[0].Text:
		return reasonOtherAnswer, observed
	}
	return "", observed
}

// said is the text of an answer, put together where it was streamed.
func said(c scenario.Chat) string {
	raw, whole := c.Body.Whole()
	if !whole || !c.Whole() {
		return ""
	}
	if strings.HasPrefix(c.ContentType, "text/event-stream") {
		events, _ := events(raw)
		var text strings.Builder
		for _, e := range events {
			var chunk completion
			if json.Unmarshal([]byte(e), &chunk) == nil && len(chunk.Choices) > 0 && chunk.Choices[0].Delta != nil {
				text.WriteString(chunk.Choices[0].Delta.Content)
			}
		}
		return text.String()
	}
	var whole1 completion
	if json.Unmarshal(raw, &whole1) != nil || len(whole1.Choices) == 0 || whole1.Choices[0].Message == nil {
		return ""
	}
	return whole1.Choices[0].Message.Content
}

// completion is a chat.completion or a chunk of one.
type completion struct {
	ID      *string  `json:"id"`
	Object  string   `json:"object"`
	Created *int64   `json:"created"`
	Model   *string  `json:"model"`
	Choices []choice `json:"choices"`
}

type choice struct {
	Index        *int            `json:"index"`
	FinishReason json.RawMessage `json:"finish_reason"` // null is there, too
	Message      *spoken         `json:"message"`
	Delta        *spoken         `json:"delta"`
}

type spoken struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// events reads a stream of server-sent events: the data of each, and whether the last one is [DONE].
func events(raw []byte) (data []string, done bool) {
	for _, block := range bytes.Split(bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n")), []byte("\n\n")) {
		var lines []string
		for _, line := range strings.Split(string(block), "\n") {
			if rest, ok := strings.CutPrefix(line, "data:"); ok {
				lines = append(lines, strings.TrimPrefix(rest, " "))
			}
		}
		if len(lines) == 0 {
			continue // a comment, or the end
		}
		text := strings.Join(lines, "\n")
		done = text == "[DONE]"
		if !done {
			data = append(data, text)
		}
	}
	return data, done
}

// apiError reads an error of the API. wrong says what it lacks, or is empty.
func apiError(c scenario.Chat) (wrong string) {
	raw, _ := c.Body.Whole()
	var e struct {
		Error map[string]json.RawMessage `json:"error"`
	}
	if err := json.Unmarshal(raw, &e); err != nil || e.Error == nil {
		return "the body has no object error"
	}
	var text string
	for _, name := range []string{"message", "type"} {
		if json.Unmarshal(e.Error[name], &text) != nil || text == "" {
			return "error." + name + " is no text"
		}
	}
	for _, name := range []string{"param", "code"} {
		if _, there := e.Error[name]; !there {
			return "error." + name + " is missing"
		}
	}
	return ""
}

// cost of a case that talks to upstreams.
func chatCost(d time.Duration) suites.Cost { return suites.Cost{Time: d, Exclusive: true} }

func named(format string, i int) string { return fmt.Sprintf(format, i) }
