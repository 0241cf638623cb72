package tpm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios/tls"
	scenario "github.com/assay-bench/assay/scenarios/tpm"
	"github.com/assay-bench/assay/suites"
)

// story is the evidence of a case, sorted.
type story struct {
	calls      map[string]scenario.Call
	marks      map[string]scenario.Mark
	ran        map[string]scenario.Fault // hooks that ran, by name
	looks      map[string]int
	trials     map[string]scenario.Trials
	searches   map[string]scenario.Search
	forgeries  map[string]scenario.Forgery
	answered   []scenario.Answered
	handshakes map[string]tls.Seen
	cites      []uint64
}

// maxCites bounds what a verdict cites; the bundle has the rest.
const maxCites = 64

// tell reads the evidence. What can not be decoded is an error of the harness, which wrote it.
func tell(evidence []results.Evidence) (*story, error) {
	s := &story{
		calls: map[string]scenario.Call{}, marks: map[string]scenario.Mark{}, ran: map[string]scenario.Fault{},
		looks: map[string]int{}, trials: map[string]scenario.Trials{}, searches: map[string]scenario.Search{},
		forgeries: map[string]scenario.Forgery{},
	}
	for _, e := range evidence {
		known, err := s.take(e)
		if err != nil {
			return nil, err
		}
		if known && len(s.cites) < maxCites {
			s.cites = append(s.cites, e.Seq)
		}
	}
	var err error
	s.handshakes, err = tls.Handshakes(evidence)
	return s, err
}

func (s *story) take(e results.Evidence) (known bool, err error) {
	switch e.Kind {
	case scenario.Called:
		return true, keep(e, s.calls, func(c scenario.Call) string { return c.Name })
	case scenario.Marked:
		return true, keep(e, s.marks, func(m scenario.Mark) string { return m.Name })
	case scenario.Tried:
		return true, keep(e, s.trials, func(t scenario.Trials) string { return t.Name })
	case scenario.Searched:
		return true, keep(e, s.searches, func(x scenario.Search) string { return x.Name })
	case scenario.Forged:
		return true, keep(e, s.forgeries, func(f scenario.Forgery) string { return f.Name })
	case scenario.Looked:
		var l scenario.Look
		err := e.Decode(&l)
		s.looks[l.Name] = l.N
		return true, err
	case scenario.Faulted:
		var f scenario.Fault
		err := e.Decode(&f)
		if f.Name == "ran" {
			s.ran[f.Detail] = f
		}
		return true, err
	case scenario.Responded:
		var a scenario.Answered
		err := e.Decode(&a)
		s.answered = append(s.answered, a)
		return true, err
	case scenario.Meddled, tls.Handshaken:
		return true, nil
	}
	return false, nil
}

// keep decodes evidence and puts it under its name, the first one of that name.
func keep[T any](e results.Evidence, into map[string]T, name func(T) string) error {
	var v T
	if err := e.Decode(&v); err != nil {
		return err
	}
	if _, twice := into[name(v)]; !twice {
		into[name(v)] = v
	}
	return nil
}

// answer decodes the answer to a call. ok tells that the target gave one.
func answer[T any](s *story, name string) (a T, ok bool) {
	c, there := s.calls[name]
	if !there || c.Broken != "" || json.Unmarshal(c.Answer, &a) != nil {
		return a, false
	}
	return a, true
}

// opened tells whether the target opened the session.
func (s *story) opened(name string) bool {
	a, ok := answer[scenario.Opened](s, name)
	return ok && a.Error == nil && a.Session != ""
}

// sent is the response that a call of /store carried.
func (s *story) sent(name string) []byte {
	var q struct {
		Response []byte `json:"response"`
	}
	if json.Unmarshal(s.calls[name].Request, &q) != nil {
		return nil
	}
	return q.Response
}

// stored tells whether a call of /store was answered without an error.
func (s *story) stored(name string) bool {
	a, ok := answer[scenario.Stored](s, name)
	return ok && a.Error == nil
}

// describe says in words how a call was answered.
func (s *story) describe(name string) string {
	c, there := s.calls[name]
	if !there {
		return name + " was not asked"
	}
	if c.Broken != "" {
		return fmt.Sprintf("%s (%s): %s", name, c.Path, c.Broken)
	}
	var a struct {
		Source   string            `json:"source"`
		Response []byte            `json:"response"`
		Error    *scenario.Failure `json:"error"`
	}
	if json.Unmarshal(c.Answer, &a) != nil {
		return fmt.Sprintf("%s (%s): unreadable", name, c.Path)
	}
	text := fmt.Sprintf("%s (%s): %s", name, c.Path, a.Error)
	if a.Source != "" {
		text += fmt.Sprintf(", %d bytes from %s", len(a.Response), a.Source)
	}
	return text
}

// tale describes calls one after the other.
func (s *story) tale(names ...string) string {
	var parts []string
	for _, n := range names {
		if _, there := s.calls[n]; there {
			parts = append(parts, s.describe(n))
		}
	}
	if len(parts) == 0 {
		return "nothing was asked"
	}
	return strings.Join(parts, "; ")
}

func (s *story) pass(want, observed string) suites.Finding {
	return suites.Passing(want, observed, s.cites)
}

func (s *story) fail(reason, want, observed string) suites.Finding {
	return suites.Failing(reason, want, observed, s.cites)
}

// unsure is for a fault that the target did not come across.
func (s *story) unsure(want, observed string) suites.Finding {
	return suites.Finding{Status: results.Inconclusive, Reason: reasonNoBite, Expected: want, Observed: observed, Cites: s.cites}
}

// sameAs tells whether a call of /get brought from the cache what a call of /store had sent.
func (s *story) sameAs(get, store string) (reason string) {
	g, ok := answer[scenario.Got](s, get)
	switch {
	case !ok:
		return reasonNoSession
	case g.Source != "cache":
		return reasonNotServed
	case !bytes.Equal(g.Response, s.sent(store)):
		return reasonAltered
	}
	return ""
}

// judging makes a judge of a function that is asked only about sessions that were opened.
func judging(want string, f func(suites.Trace, *story) suites.Finding) func(suites.Trace) suites.Finding {
	return func(t suites.Trace) suites.Finding {
		s, err := tell(t.Evidence)
		if err != nil {
			return suites.Finding{Observed: err.Error()} // not in the set of reasons: Broken
		}
		if !s.opened("open") {
			return s.fail(reasonNoSession, want, s.tale("alive", "open"))
		}
		f := f(t, s)
		f.Expected = want
		return f
	}
}

// calm takes back a Fail where the harness itself stalled for so long that a deadline of the TPM or of
// a call may have passed because of it.
func calm(judge func(suites.Trace) suites.Finding) func(suites.Trace) suites.Finding {
	return func(t suites.Trace) suites.Finding {
		f := judge(t)
		if f.Status != results.Fail {
			return f
		}
		s, err := tell(t.Evidence)
		if err != nil {
			return f
		}
		if bound := s.overdue(); bound > 0 && t.Noisy(bound) {
			return suites.TooNoisy(f.Expected, f.Observed, f.Cites)
		}
		return f
	}
}

// overdue returns the shortest bound on time that a call ran into: the deadline of the TPM's work, or
// how long an answer was waited for. 0: none.
func (s *story) overdue() time.Duration {
	var q scenario.OpenRequest
	if json.Unmarshal(s.calls["open"].Request, &q) != nil {
		q.Deadline = 0
	}
	bound := time.Duration(0)
	for _, c := range s.calls {
		var a scenario.Stored
		switch {
		case c.Broken != "" && c.Took >= callWait:
			bound = shorter(bound, callWait)
		case json.Unmarshal(c.Answer, &a) == nil && a.Error != nil && a.Error.Code == codeDeadline:
			bound = shorter(bound, time.Duration(q.Deadline)*time.Millisecond)
		}
	}
	return bound
}

func shorter(a, b time.Duration) time.Duration {
	if a == 0 || b < a {
		return b
	}
	return a
}

// codeDeadline is the target's word for a TPM that did not answer in time.
const codeDeadline = "tpm_deadline"
