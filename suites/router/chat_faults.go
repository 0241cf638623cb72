package router

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/assay-bench/assay/scenarios/backends"
	scenario "github.com/assay-bench/assay/scenarios/router"
	"github.com/assay-bench/assay/suites"
)

const (
	reasonInvented     = "invented"       // success was answered that no healthy upstream gave
	reasonLimitLost    = "limit-lost"     // that an upstream is limited was told as something else
	reasonSlowLost     = "slow-lost"      // an upstream that is slow, but in time, was not waited for
	reasonDoneAfterCut = "done-after-cut" // a stream that was cut looks like a whole one
	reasonNotRecovered = "not-recovered"  // an ordinary request afterwards was not answered
	faulty             = 1                // the upstream that does something wrong
)

// failing is a case in which the upstream that a text belongs to does something wrong.
func failing(fault backends.Fault, stream bool, title string, wrong func(*story) (string, string)) chatCase {
	id := string(fault)
	if stream {
		id += "-stream"
	}
	return chatCase{
		id: id, title: title,
		drive: func(ctx context.Context, b *scenario.Bed) error {
			if err := b.Fault(ctx, faulty, fault); err != nil {
				return err
			}
			if _, err := b.Ask(ctx, "ask", example(faulty, 2), stream); err != nil {
				return err
			}
			if err := b.Fault(ctx, faulty, backends.FaultNone); err != nil {
				return err
			}
			_, err := b.Ask(ctx, "next", example(0, 3), false)
			return err
		},
		wrong: func(s *story) (string, string) {
			if reason, observed := wrong(s); reason != "" {
				return reason, observed
			}
			if reason, observed := s.passedOn("next"); reason != "" {
				return reasonNotRecovered, observed
			}
			return "", chatted(s.chats["ask"])
		},
	}
}

// healthy tells whether one of the upstreams without a fault got the request and its answer came back.
func (s *story) healthy(name string) bool {
	c := s.chats[name]
	for _, a := range s.chatsAt(name) {
		if a.Fault == backends.FaultNone && c.Status == 200 && said(c) == a.Text {
			return true
		}
	}
	return false
}

// failed judges a request whose upstream failed: an error of the API, or the answer of another upstream.
func failed(s *story) (reason, observed string) {
	c := s.chats["ask"]
	observed = chatted(c) + "; " + arrived(s.arrivals["ask"])
	switch {
	case len(s.chatsAt("ask")) == 0:
		return reasonNotForwarded, observed
	case !c.Whole():
		return reasonNoAnswer, observed
	case s.healthy("ask"):
		return "", observed
	case c.Status < 400:
		return reasonInvented, observed
	case apiError(c) != "":
		return reasonShape, apiError(c) + ": " + observed
	}
	return "", observed
}

// limited judges likewise, and demands that a limit is told as one.
func limited(s *story) (string, string) {
	reason, observed := failed(s)
	if c := s.chats["ask"]; reason == "" && !s.healthy("ask") && c.Status != 429 && c.Status != 503 {
		return reasonLimitLost, observed
	}
	return reason, observed
}

// slow judges a request whose upstream takes its time, but not too much.
func slow(s *story) (string, string) {
	c := s.chats["ask"]
	observed := chatted(c) + "; " + arrived(s.arrivals["ask"])
	if !c.Whole() || c.Status != 200 || len(s.chatsAt("ask")) == 0 {
		return reasonSlowLost, observed
	}
	return s.passedOn("ask")
}

// cutStream judges a stream that breaks off at the upstream: the client must be able to tell.
func cutStream(s *story) (string, string) {
	c := s.chats["ask"]
	raw, _ := c.Body.Whole()
	data, done := events(raw)
	observed := fmt.Sprintf("%d events, [DONE] %v, %s; %s", len(data), done, chatted(c), arrived(s.arrivals["ask"]))
	switch {
	case len(s.chatsAt("ask")) == 0:
		return reasonNotForwarded, observed
	case s.healthy("ask") && done:
		return "", observed
	case done:
		return reasonDoneAfterCut, observed
	case !c.Whole(), c.Status >= 400:
		return "", observed
	}
	for _, d := range data { // an error as the last event tells as well
		var e struct {
			Error json.RawMessage `json:"error"`
		}
		if json.Unmarshal([]byte(d), &e) == nil && len(e.Error) > 0 && !strings.EqualFold(string(e.Error), "null") {
			return "", observed
		}
	}
	return reasonDoneAfterCut, "the stream ended in good order, without [DONE] and without an error: " + observed
}

var _ = addChat(chatRow(suites.Check{
	ID: "router/openai/upstream-fails", Title: "a failure of the upstream is told as an error of the API, or another upstream answers",
	Cost: chatCost(120 * time.Millisecond),
	Kills: kills(killIn("limit", reasonInvented, "router.upstream-error-hidden"), killIn("refuse", reasonShape, "router.error-shape"),
		killIn("cut-stream", reasonDoneAfterCut, "router.cut-as-done")),
}, "no success that no healthy upstream gave, no silence, a limit told as one, a cut stream that can be told from a whole one; the next request is answered",
	[]string{reasonNotForwarded, reasonTwice, reasonOtherAnswer, reasonInvented, reasonShape, reasonLimitLost, reasonSlowLost, reasonDoneAfterCut, reasonNotRecovered},
	failing(backends.FaultError, false, "the upstream answers 500", failed),
	failing(backends.FaultLimit, false, "the upstream answers 429", limited),
	failing(backends.FaultRefuse, false, "the upstream resets the connection", failed),
	failing(backends.FaultGarbage, false, "the upstream answers 200 with half a JSON object", passedOrFailed),
	failing(backends.FaultCut, false, "the upstream breaks off within its answer", cutAnswer),
	failing(backends.FaultSlow, false, "the upstream answers after 400 ms", slow),
	failing(backends.FaultError, true, "the upstream answers 500 to a request for a stream", failed),
	failing(backends.FaultCut, true, "the upstream breaks off within its stream", cutStream),
))

// passedOrFailed takes also what the upstream sent, byte for byte: a router need not read answers.
func passedOrFailed(s *story) (string, string) {
	c := s.chats["ask"]
	for _, a := range s.chatsAt("ask") {
		if c.Whole() && c.Status == a.Status && c.BodyHash == a.SentHash {
			return "", chatted(c)
		}
	}
	return failed(s)
}

// cutAnswer judges an answer that breaks off at the upstream: a router that passes on as it comes can only
// break off as well.
func cutAnswer(s *story) (string, string) {
	if c := s.chats["ask"]; !c.Whole() && c.Status != 0 && len(s.chatsAt("ask")) > 0 {
		return "", chatted(c)
	}
	return failed(s)
}
