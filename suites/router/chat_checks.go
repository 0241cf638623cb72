package router

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/assay-bench/assay/scenarios/backends"
	scenario "github.com/assay-bench/assay/scenarios/router"
	"github.com/assay-bench/assay/suites"
)

// asking makes a drive of one request for the router's choice.
func asking(stream bool) func(context.Context, *scenario.Bed) error {
	return func(ctx context.Context, b *scenario.Bed) error {
		_, err := b.Ask(ctx, "ask", example(1, 0), stream)
		return err
	}
}

var _ = addChat(chatRow(suites.Check{
	ID: "router/openai/one-upstream", Title: "a request for the router's choice goes to exactly one upstream, whose answer comes back",
	Kills: kills(killIn("plain", reasonTwice, "router.sent-twice"), killIn("stream", reasonTwice, "router.sent-twice")),
}, "one upstream gets the request, and what it says is the answer", []string{reasonNotForwarded, reasonTwice, reasonOtherAnswer},
	chatCase{id: "plain", title: "an answer in one piece", drive: asking(false), wrong: func(s *story) (string, string) { return s.passedOn("ask") }},
	chatCase{id: "stream", title: "a streamed answer", drive: asking(true), wrong: func(s *story) (string, string) { return s.passedOn("ask") }},
))

const reasonShape = "wrong-shape" // an answer lacks what the API reference demands of it

var _ = addChat(chatRow(suites.Check{
	ID: "router/openai/completion-shape", Title: "an answer is a chat.completion",
	Kills: kill(reasonShape, "router.completion-bare"),
}, "200 with id, object chat.completion, created, model, and choices of index, message and finish_reason", []string{reasonShape},
	chatCase{drive: asking(false), wrong: func(s *story) (string, string) {
		c := s.chats["ask"]
		if !c.Whole() {
			return reasonNoAnswer, chatted(c)
		}
		raw, _ := c.Body.Whole()
		var x completion
		if err := json.Unmarshal(raw, &x); err != nil || c.Status != 200 {
			return reasonShape, chatted(c)
		}
		if why := x.lacks("chat.completion"); why != "" {
			return reasonShape, why + ": " + chatted(c)
		}
		return "", chatted(c)
	}},
))

// lacks names a member that the API reference demands and that is missing.
func (x completion) lacks(object string) string {
	switch {
	case x.Object != object:
		return fmt.Sprintf("object is %q", x.Object)
	case x.ID == nil || x.Created == nil || x.Model == nil:
		return "id, created or model is missing"
	case x.Choices == nil:
		return "choices is missing"
	}
	for _, k := range x.Choices {
		switch {
		case k.Index == nil || len(k.FinishReason) == 0:
			return "index or finish_reason of a choice is missing"
		case object == "chat.completion" && (k.Message == nil || k.Message.Role != "assistant"):
			return "a choice has no message of the assistant"
		case object != "chat.completion" && k.Delta == nil:
			return "a choice has no delta"
		}
	}
	return ""
}

const (
	reasonNoEvents = "not-events" // a streamed answer is no stream of events
	reasonNoDone   = "no-done"    // the stream does not end with [DONE]
	reasonAltered  = "altered"    // the stream is not byte for byte what the upstream sent
)

var _ = addChat(chatRow(suites.Check{
	ID: "router/openai/stream-terminated", Title: "a streamed answer is events of chunks that end with [DONE]",
	Kills: kill(reasonNoDone, "router.stream-unended"),
}, "text/event-stream of chat.completion.chunk objects, then data: [DONE]", []string{reasonNoEvents, reasonShape, reasonNoDone},
	chatCase{drive: asking(true), wrong: func(s *story) (string, string) {
		c := s.chats["ask"]
		raw, _ := c.Body.Whole()
		data, done := events(raw)
		switch {
		case !c.Whole():
			return reasonNoAnswer, chatted(c)
		case c.Status != 200 || !strings.HasPrefix(c.ContentType, "text/event-stream") || len(data) == 0:
			return reasonNoEvents, chatted(c)
		case !done:
			return reasonNoDone, fmt.Sprintf("%d events, the last one is %.160q", len(data), data[len(data)-1])
		}
		for i, d := range data {
			var x completion
			if json.Unmarshal([]byte(d), &x) != nil || x.lacks("chat.completion.chunk") != "" {
				return reasonShape, fmt.Sprintf("event %d: %s: %.160q", i, x.lacks("chat.completion.chunk"), d)
			}
		}
		return "", fmt.Sprintf("%d events and [DONE]", len(data))
	}},
))

var _ = addChat(chatRow(suites.Check{
	ID: "router/openai/stream-verbatim", Title: "a stream is passed on byte for byte",
	Kills: kill(reasonAltered, "router.stream-unended"),
}, "the bytes of the answer are those that the upstream sent", []string{reasonAltered, reasonNotForwarded},
	chatCase{drive: asking(true), wrong: func(s *story) (string, string) {
		c, at := s.chats["ask"], s.chatsAt("ask")
		switch {
		case !c.Whole():
			return reasonNoAnswer, chatted(c)
		case len(at) != 1:
			return reasonNotForwarded, arrived(s.arrivals["ask"])
		}
		observed := fmt.Sprintf("%d bytes of SHA-256 %.12s were sent, %d of %.12s came", at[0].Sent, at[0].SentHash, c.Body.Len, c.BodyHash)
		if at[0].SentHash != c.BodyHash {
			return reasonAltered, observed
		}
		return "", observed
	}},
))

const reasonBuffered = "buffered" // a stream was held back until it was whole

var _ = addChat(chatRow(suites.Check{
	ID: "router/openai/stream-incremental", Title: "a stream is passed on as it comes", Cost: chatCost(600 * time.Millisecond),
	Kills: kill(reasonBuffered, "router.stream-buffered"),
}, "the first byte comes before the pause of 400 ms in the upstream's stream, not after it", []string{reasonBuffered, reasonNotForwarded, reasonTwice, reasonOtherAnswer},
	chatCase{drive: func(ctx context.Context, b *scenario.Bed) error {
		for i := range upstreamsOf {
			if err := b.Fault(ctx, i, backends.FaultPause); err != nil {
				return err
			}
		}
		_, err := b.Ask(ctx, "ask", example(1, 0), true)
		return err
	}, wrong: func(s *story) (string, string) {
		if reason, observed := s.passedOn("ask"); reason != "" {
			return reason, observed
		}
		c := s.chats["ask"]
		observed := fmt.Sprintf("first byte after %s, the last one after %s", c.FirstByte.Round(time.Millisecond), c.Took.Round(time.Millisecond))
		if c.Took-c.FirstByte < backends.SlowBy/2 {
			return reasonBuffered, observed
		}
		return "", observed
	}},
))

var _ = addChat(chatRow(suites.Check{
	ID: "router/openai/last-message", Title: "the last message of the user decides",
	Kills: kill(reasonAstray, "router.auto-first-message"),
}, "a conversation that began about something else goes where its last message belongs", []string{reasonAstray, reasonNotForwarded, reasonTwice, reasonOtherAnswer},
	chatCase{drive: func(ctx context.Context, b *scenario.Bed) error {
		_, err := b.Send(ctx, "ask", scenario.Ask{Model: b.Routing().Model, Messages: []scenario.Message{
			{Role: "user", Content: example(0, 0)},
			{Role: "assistant", Content: "Done. What else?"}, {Role: "user", Content: example(1, 0)},
		}})
		return err
	}, wrong: func(s *story) (string, string) {
		if reason, observed := s.passedOn("ask"); reason != "" {
			return reason, observed
		}
		if at := s.chatsAt("ask")[0]; at.Backend != s.configured.Upstreams[1].Name {
			return reasonAstray, seen(at)
		}
		return "", seen(s.chatsAt("ask")[0])
	}},
))

const reasonUntraced = "untraced" // the upstream sees no trace context

var _ = addChat(chatRow(suites.Check{
	ID: "router/openai/trace-passed", Title: "an upstream sees the trace that its request belongs to",
	Kills: kill(reasonUntraced, "router.baggage-missing"),
}, "the request arrives with traceparent and baggage", []string{reasonUntraced, reasonNotForwarded},
	chatCase{drive: asking(false), wrong: func(s *story) (string, string) {
		at := s.chatsAt("ask")
		if len(at) != 1 {
			return reasonNotForwarded, arrived(s.arrivals["ask"])
		}
		observed := "headers " + strings.Join(at[0].Headers, ", ")
		if !slices.Contains(at[0].Headers, "traceparent") || !slices.Contains(at[0].Headers, "baggage") {
			return reasonUntraced, observed
		}
		return "", observed
	}},
))

// tooLong is the length of a body that no router should read to its end.
const tooLong = 24 << 20

var _ = addChat(chatRow(suites.Check{
	ID: "router/openai/body-bounded", Title: "a body without measure is refused", Cost: chatCost(600 * time.Millisecond),
	Kills: kill(reasonTaken, "router.unbounded-body"),
}, "24 MiB are refused with 400 to 499 or an end of the connection, and the next request is answered", []string{reasonTaken, reasonServerError, reasonNotRecovered},
	chatCase{drive: func(ctx context.Context, b *scenario.Bed) error {
		body := map[string]any{"model": b.Routing().Model, "messages": scenario.User(example(1, 0)), "padding": strings.Repeat("will it rain tomorrow? ", tooLong/23)}
		if _, err := b.Send(ctx, "long", body); err != nil {
			return err
		}
		_, err := b.Ask(ctx, "next", example(0, 1), false)
		return err
	}, wrong: func(s *story) (string, string) {
		c := s.chats["long"]
		observed := chatted(c) + "; " + arrived(s.arrivals["long"])
		switch {
		case len(s.chatsAt("long")) > 0, c.Whole() && c.Status < 400:
			return reasonTaken, observed
		case c.Status >= 500:
			return reasonServerError, observed
		}
		if reason, observed := s.passedOn("next"); reason != "" {
			return reasonNotRecovered, observed
		}
		return "", observed
	}},
))

const reasonUnlisted = "unlisted" // the list of models lacks the one that stands for the router's choice

// models asks for the list of models.
func models(ctx context.Context, b *scenario.Bed) error {
	_, err := b.Models(ctx, "models")
	return err
}

// listed reads the list of models. wrong says what it lacks.
func listed(c scenario.Chat) (ids []string, wrong string) {
	raw, _ := c.Body.Whole()
	var x struct {
		Object string `json:"object"`
		Data   []struct {
			ID      *string `json:"id"`
			Object  string  `json:"object"`
			Created *int64  `json:"created"`
			OwnedBy *string `json:"owned_by"`
		} `json:"data"`
	}
	switch err := json.Unmarshal(raw, &x); {
	case err != nil || c.Status != 200:
		return nil, "it is no JSON list"
	case x.Object != "list" || x.Data == nil:
		return nil, "object is not list, or data is missing"
	}
	for _, m := range x.Data {
		if m.ID == nil || m.Object != "model" || m.Created == nil || m.OwnedBy == nil {
			return nil, "a model lacks id, object, created or owned_by"
		}
		ids = append(ids, *m.ID)
	}
	return ids, ""
}

var _ = addChat(chatRow(suites.Check{
	ID: "router/openai/models-shape", Title: "the list of models has its shape",
	Kills: kill(reasonShape, "router.models-bare"),
}, "object list, and in data models of id, object, created and owned_by", []string{reasonShape},
	chatCase{drive: models, wrong: func(s *story) (string, string) {
		c := s.chats["models"]
		ids, wrong := listed(c)
		switch {
		case !c.Whole():
			return reasonNoAnswer, chatted(c)
		case wrong != "":
			return reasonShape, wrong + ": " + chatted(c)
		}
		return "", strings.Join(ids, ", ")
	}},
))

var _ = addChat(chatRow(suites.Check{
	ID: "router/openai/auto-listed", Title: "the list of models has the one that stands for the router's choice",
	Kills: kill(reasonUnlisted, "router.auto-unlisted"),
}, "the list has the model that requests for the router's choice name", []string{reasonUnlisted},
	chatCase{drive: models, wrong: func(s *story) (string, string) {
		c := s.chats["models"]
		ids, _ := listed(c)
		switch {
		case !c.Whole():
			return reasonNoAnswer, chatted(c)
		case !slices.Contains(ids, s.configured.Model):
			return reasonUnlisted, s.configured.Model + " is not among " + strings.Join(ids, ", ")
		}
		return "", strings.Join(ids, ", ")
	}},
))

const (
	reasonTaken       = "taken"        // what must be refused was answered with success
	reasonServerError = "server-error" // a client's mistake was called the server's
	reasonForwarded   = "forwarded"    // what must be refused reached an upstream
)

// badRequest is a request that must be refused with an error of the API.
func badRequest(id, title string, body func(model string) any) chatCase {
	return chatCase{
		id: id, title: title,
		drive: func(ctx context.Context, b *scenario.Bed) error {
			_, err := b.Send(ctx, "bad", body(b.Routing().Model))
			return err
		},
		wrong: func(s *story) (string, string) {
			c := s.chats["bad"]
			observed := chatted(c) + "; " + arrived(s.arrivals["bad"])
			switch {
			case !c.Whole():
				return reasonNoAnswer, observed
			case c.Status < 400:
				return reasonTaken, observed
			case c.Status >= 500:
				return reasonServerError, observed
			case apiError(c) != "":
				return reasonShape, apiError(c) + ": " + observed
			case len(s.chatsAt("bad")) > 0:
				return reasonForwarded, observed
			}
			return "", observed
		},
	}
}

func text(format string, args ...any) func(string) any {
	return func(model string) any { return fmt.Appendf(nil, strings.ReplaceAll(format, "MODEL", model), args...) }
}

var _ = addChat(chatRow(suites.Check{
	ID: "router/openai/error-shape", Title: "what is no request is refused with an error of the API",
	Kills: kills(killIn("unknown-model", reasonTaken, "router.unknown-model-200"), kill(reasonShape, "router.error-shape")),
}, "400 to 499 with error.message, type, param and code; no upstream gets anything",
	[]string{reasonTaken, reasonServerError, reasonShape, reasonForwarded},
	badRequest("not-json", "a body that is not JSON", text(`{"model":"MODEL","messages":[`)),
	badRequest("no-body", "an empty body", text("")),
	badRequest("no-messages", "no messages", text(`{"model":"MODEL"}`)),
	badRequest("messages-text", "messages that are a text", text(`{"model":"MODEL","messages":"hello"}`)),
	badRequest("messages-empty", "an empty list of messages", text(`{"model":"MODEL","messages":[]}`)),
	badRequest("unknown-model", "a model that nobody serves", text(`{"model":"assay-no-such-model","messages":[{"role":"user","content":"hello"}]}`)),
	badRequest("model-number", "a model that is a number", text(`{"model":5,"messages":[{"role":"user","content":"hello"}]}`)),
))

const (
	reasonWanders = "wanders"        // equal requests go to different upstreams
	reasonAstray  = "wrong-upstream" // a request goes to another upstream than the one it belongs to
	repeats       = 6
)

var _ = addChat(chatRow(suites.Check{
	ID: "router/openai/deterministic", Title: "equal requests go to the same upstream", Cost: chatCost(80 * time.Millisecond),
	Kills: kill(reasonWanders, "router.choice-wanders"),
}, "each of 6 equal requests goes to the same upstream, for 2 texts", []string{reasonWanders, reasonNotForwarded, reasonTwice, reasonOtherAnswer},
	chatCase{
		drive: func(ctx context.Context, b *scenario.Bed) error {
			for i := range repeats {
				for k, text := range []string{scenario.Intents()[0].Unseen[0], scenario.Intents()[2].Unseen[1]} {
					if _, err := b.Ask(ctx, fmt.Sprintf("ask-%d-%d", k, i), text, false); err != nil {
						return err
					}
				}
			}
			return nil
		},
		wrong: func(s *story) (string, string) {
			var parts []string
			for k := range 2 {
				went := map[string]int{}
				for i := range repeats {
					name := fmt.Sprintf("ask-%d-%d", k, i)
					if reason, observed := s.passedOn(name); reason != "" {
						return reason, observed
					}
					went[s.chatsAt(name)[0].Backend]++
				}
				parts = append(parts, fmt.Sprint(went))
				if len(went) != 1 {
					return reasonWanders, fmt.Sprintf("text %d went to %v", k, went)
				}
			}
			return "", strings.Join(parts, ", ")
		},
	},
))

// perIntent is how many texts of an intent are asked.
const perIntent = 4

// sort asks texts of each intent.
func sortTexts(pick func(scenario.Intent) []string) func(context.Context, *scenario.Bed) error {
	return func(ctx context.Context, b *scenario.Bed) error {
		for i, in := range scenario.Intents() {
			for n, text := range pick(in)[:perIntent] {
				if _, err := b.Ask(ctx, fmt.Sprintf("ask-%d-%d", i, n), text, false); err != nil {
					return err
				}
			}
		}
		return nil
	}
}

// astray counts texts that went to another upstream than that of their intent.
func (s *story) astray() (right int, reason, observed string) {
	var wrong []string
	for i, in := range scenario.Intents() {
		for n := range perIntent {
			name := fmt.Sprintf("ask-%d-%d", i, n)
			if reason, observed := s.passedOn(name); reason != "" {
				return 0, reason, observed
			}
			if at := s.chatsAt(name)[0].Backend; at != s.configured.Upstreams[i].Name {
				wrong = append(wrong, fmt.Sprintf("%s %d to %s", in.Name, n, at))
				continue
			}
			right++
		}
	}
	return right, "", fmt.Sprintf("%d of %d; astray: %s", right, perIntent*upstreamsOf, strings.Join(wrong, ", "))
}

var _ = addChat(chatRow(suites.Check{
	ID: "router/openai/examples-apart", Title: "a text that was an example of an upstream goes to that upstream", Cost: chatCost(100 * time.Millisecond),
	Kills: kill(reasonAstray, "router.auto-unrouted"),
}, "each of 12 examples goes to the upstream that it was an example of",
	[]string{reasonAstray, reasonNotForwarded, reasonTwice, reasonOtherAnswer},
	chatCase{drive: sortTexts(func(in scenario.Intent) []string { return in.Examples }), wrong: func(s *story) (string, string) {
		right, reason, observed := s.astray()
		if reason == "" && right != perIntent*upstreamsOf {
			reason = reasonAstray
		}
		return reason, observed
	}},
))

// leastUnseen of the unseen texts must find their upstream: guessing finds 4 of 12.
const leastUnseen = 9

var _ = addChat(chatRow(suites.Check{
	ID: "router/openai/unseen-apart", Title: "texts like the examples of an upstream go to that upstream", Cost: chatCost(100 * time.Millisecond),
	Kills: kill(reasonAstray, "router.auto-unrouted"),
}, "at least 9 of 12 texts that were no examples go to the upstream of their kind; guessing finds 4",
	[]string{reasonAstray, reasonNotForwarded, reasonTwice, reasonOtherAnswer},
	chatCase{drive: sortTexts(func(in scenario.Intent) []string { return in.Unseen }), wrong: func(s *story) (string, string) {
		right, reason, observed := s.astray()
		if reason == "" && right < leastUnseen {
			reason = reasonAstray
		}
		return reason, observed
	}},
))

const reasonAskedAuto = "asked-auto" // the upstream was asked for a model that it does not serve

var _ = addChat(chatRow(suites.Check{
	ID: "router/openai/upstream-model", Title: "an upstream is asked for the model that it serves",
	Kills: kill(reasonAskedAuto, "router.model-name-kept"),
}, "the request arrives with the model of the upstream", []string{reasonAskedAuto, reasonNotForwarded},
	chatCase{drive: asking(false), wrong: func(s *story) (string, string) {
		at := s.chatsAt("ask")
		switch {
		case len(at) != 1:
			return reasonNotForwarded, arrived(s.arrivals["ask"])
		case at[0].Model != backends.OpenAIModel(at[0].Backend):
			return reasonAskedAuto, seen(at[0])
		}
		return "", seen(at[0])
	}},
))

var _ = addChat(chatRow(suites.Check{
	ID: "router/openai/named-model", Title: "a model that one upstream serves goes to that upstream",
	Kills: kill(reasonAstray, "router.model-ignored"),
}, "a request that names the model of an upstream goes there, whatever its text", []string{reasonAstray, reasonNotForwarded, reasonTwice, reasonOtherAnswer},
	chatCase{drive: func(ctx context.Context, b *scenario.Bed) error {
		for i, u := range b.Routing().Upstreams {
			q := scenario.Ask{Model: u.Model, Messages: scenario.User(example((i+1)%upstreamsOf, 0))}
			if _, err := b.Send(ctx, named("named-%d", i), q); err != nil {
				return err
			}
		}
		return nil
	}, wrong: func(s *story) (string, string) {
		for i, u := range s.configured.Upstreams {
			name := named("named-%d", i)
			if reason, observed := s.passedOn(name); reason != "" {
				return reason, observed
			}
			if at := s.chatsAt(name)[0]; at.Backend != u.Name {
				return reasonAstray, u.Model + ": " + seen(at)
			}
		}
		return "", fmt.Sprintf("%d models found their upstreams", len(s.configured.Upstreams))
	}},
))
