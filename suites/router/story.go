package router

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios/backends"
	scenario "github.com/assay-bench/assay/scenarios/router"
	"github.com/assay-bench/assay/suites"
)

// story is the evidence of a case, sorted.
type story struct {
	configured *scenario.Configuration
	chats      map[string]scenario.Chat
	chatOrder  []string
	arrivals   map[string]scenario.Arrivals // by the name of the request
	calls      map[string]scenario.Call
	order      []string // the names of calls as they were made
	rest       []results.Evidence
	cites      []uint64
}

// maxCites bounds what a verdict cites; the bundle has the rest.
const maxCites = 64

// tell reads the evidence. What can not be decoded is an error of the harness, which wrote it.
func tell(evidence []results.Evidence) (*story, error) {
	s := &story{chats: map[string]scenario.Chat{}, arrivals: map[string]scenario.Arrivals{}, calls: map[string]scenario.Call{}}
	for _, e := range evidence {
		if err := s.take(e); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *story) take(e results.Evidence) (err error) {
	switch e.Kind {
	case scenario.Configured:
		var c scenario.Configuration
		err = e.Decode(&c)
		s.configured = &c
	case scenario.Chatted:
		var c scenario.Chat
		err = e.Decode(&c)
		if _, twice := s.chats[c.Name]; !twice {
			s.chats[c.Name] = c
			s.chatOrder = append(s.chatOrder, c.Name)
		}
	case scenario.Arrived:
		var a scenario.Arrivals
		err = e.Decode(&a)
		s.arrivals[a.For] = a
	case scenario.Called:
		var c scenario.Call
		err = e.Decode(&c)
		if _, twice := s.calls[c.Name]; !twice {
			s.calls[c.Name] = c
			s.order = append(s.order, c.Name)
		}
	case results.Stalled, results.Ended, results.Attempted:
		return nil
	default:
		s.rest = append(s.rest, e)
	}
	if len(s.cites) < maxCites {
		s.cites = append(s.cites, e.Seq)
	}
	return err
}

// the decodes the first other piece of evidence of a kind.
func the[T any](s *story, kind results.Kind) (v T, ok bool) {
	for _, e := range s.rest {
		if e.Kind == kind {
			return v, e.Decode(&v) == nil
		}
	}
	return v, false
}

// asked decodes the request of a call.
func asked[T any](s *story, name string) (v T, ok bool) {
	c, there := s.calls[name]
	return v, there && json.Unmarshal(c.Request, &v) == nil
}

// read decodes the answer to a call that succeeded.
func read[T any](s *story, name string) (v T, ok bool) {
	c, there := s.calls[name]
	return v, there && c.Read(&v)
}

func (s *story) pass(observed string, figures ...results.Figure) suites.Finding {
	f := suites.Passing("", observed, s.cites)
	f.Figures = figures
	return f
}

func (s *story) fail(reason, observed string) suites.Finding {
	return suites.Failing(reason, "", observed, s.cites)
}

func (s *story) noisy(observed string) suites.Finding { return suites.TooNoisy("", observed, s.cites) }

// verdict passes without a reason, and fails with one.
func (s *story) verdict(reason, observed string) suites.Finding {
	if reason == "" {
		return s.pass(observed)
	}
	return s.fail(reason, observed)
}

// setup begins the names of calls that have to succeed before anything can be judged.
const setup = "set "

// unprepared describes a call of the preparation that failed, or tells that there was none.
func (s *story) unprepared() string {
	prepared := 0
	for _, n := range s.order {
		if !strings.HasPrefix(n, setup) {
			continue
		}
		prepared++
		if !s.calls[n].Good() {
			return n + ": " + answered(s.calls[n])
		}
	}
	if prepared == 0 {
		return "nothing was set up"
	}
	return ""
}

// silent names a call that was not answered as the API says, or one that was never made.
func (s *story) silent() string {
	for _, n := range s.order {
		if !s.calls[n].Answered() {
			return n + ": " + answered(s.calls[n])
		}
	}
	return ""
}

// describe says in words how a call was answered.
func (s *story) describe(name string) string {
	c, there := s.calls[name]
	if !there {
		return name + " was not asked"
	}
	return name + ": " + answered(c)
}

func answered(c scenario.Call) string {
	if !c.Answered() {
		return "no answer of the API, " + c.Broken
	}
	if p, ok := c.Problem(); ok {
		return fmt.Sprintf("status %d, reason %q, %.200q", p.Status, p.Reason, p.Detail)
	}
	return fmt.Sprintf("status %d", c.Status)
}

// judging makes a judge of a function that is asked only where the preparation succeeded and everything was
// answered.
func judging(want string, f func(suites.Trace, *story) suites.Finding) func(suites.Trace) suites.Finding {
	return told(want, func(t suites.Trace, s *story) suites.Finding {
		if why := s.unprepared(); why != "" {
			return s.fail(reasonNotSet, why)
		}
		if why := s.silent(); why != "" {
			return s.fail(reasonNoAnswer, why)
		}
		return f(t, s)
	})
}

func told(want string, f func(suites.Trace, *story) suites.Finding) func(suites.Trace) suites.Finding {
	return func(t suites.Trace) suites.Finding {
		s, err := tell(t.Evidence)
		if err != nil {
			return suites.Finding{Observed: err.Error()} // not in the set of reasons: Broken
		}
		out := f(t, s)
		out.Expected = want
		return out
	}
}

// explain says in a line what a piece of evidence is.
func explain(e results.Evidence) string {
	switch e.Kind {
	case scenario.Called:
		var c scenario.Call
		if e.Decode(&c) == nil {
			return fmt.Sprintf("%s %s: %s", c.Method, c.Path, answered(c))
		}
	case scenario.Chatted:
		var c scenario.Chat
		if e.Decode(&c) == nil {
			return c.Name + ": " + chatted(c)
		}
	case scenario.Arrived:
		var a scenario.Arrivals
		if e.Decode(&a) == nil {
			return "upstreams, for " + a.For + ": " + arrived(a)
		}
	case scenario.Configured:
		var c scenario.Configuration
		if e.Decode(&c) == nil {
			return fmt.Sprintf("%d upstreams by %s: %v %s", len(c.Upstreams), c.By, c.OK, c.Broken)
		}
	}
	return ""
}

// chatted says in words how a request of the chat API was answered.
func chatted(c scenario.Chat) string {
	raw, _ := c.Body.Whole()
	if c.Broken != "" {
		return fmt.Sprintf("status %d, then %s after %d bytes", c.Status, c.Broken, c.Body.Len)
	}
	return fmt.Sprintf("status %d %s %.160q", c.Status, c.ContentType, raw)
}

// arrived says in words what came to the upstreams.
func arrived(a scenario.Arrivals) string {
	var parts []string
	for _, x := range a.Arrived {
		parts = append(parts, seen(x))
	}
	if len(parts) == 0 {
		return "nothing arrived"
	}
	return strings.Join(parts, ", ")
}

func seen(x backends.ChatArrival) string {
	return fmt.Sprintf("%s got %s %s of model %.60q", x.Backend, x.Method, x.Path, x.Model)
}
