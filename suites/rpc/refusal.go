package rpc

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/suites"
)

// refusal is the frame of checks that send what must be refused: the refusal is compared by its code,
// and the handler must not have run.
type refusal struct {
	variants []variant
	codes    []int32                                           // exceptions that count as a refusal
	closing  bool                                              // closing without an answer counts too
	ends     bool                                              // nothing sent afterwards on the connection may be answered
	wait     func(env *scenarios.Env, v variant) time.Duration // nil: refusalWait
}

// Reasons that refusal gives.
const (
	reasonServed         = "served"          // answered as if nothing were wrong
	reasonHandlerRan     = "handler-ran"     // refused, but the handler ran
	reasonWrongException = "wrong-exception" // refused with another code
	reasonNotRefused     = "not-refused"     // neither an answer nor a close in time
	reasonGarbled        = "garbled"         // an answer that can not be read
	reasonStillOpen      = "still-open"      // the connection went on serving
	reasonNoCount        = "no-count"        // the target did not say whether the handler ran
)

func refusalReasons() []string {
	return []string{
		reasonServed, reasonHandlerRan, reasonWrongException, reasonNotRefused, reasonGarbled, reasonStillOpen, reasonNoCount,
	}
}

// check completes a Check with the frame's drive and judge.
func (r refusal) check(c suites.Check) suites.Check {
	c.Needs = append(c.Needs, features.RPCBehave)
	c.Cases, c.Control, c.Reasons, c.Explain = casesOf(r.variants), controlFor(r.variants), refusalReasons(), explain
	c.Drive, c.Judge = driving(r.variants, r.drive), r.judge
	if c.Cost.Time == 0 {
		c.Cost.Time = time.Second
	}
	return c
}

func (r refusal) drive(ctx context.Context, env *scenarios.Env, v variant, b []byte) error {
	wait := refusalWait
	if r.wait != nil {
		wait = r.wait(env, v)
	}
	c, err := once(ctx, env, "probe", v.form, b, wait)
	if err != nil {
		return err
	}
	defer c.Close()
	if r.ends {
		next, err := echo(v.form, 42, tagged(env.Token+"-next")).Encode()
		if err != nil {
			return err
		}
		if err := again(ctx, c, "next", v.form, next, nextWait); err != nil {
			return err
		}
	}
	return countCalls(ctx, env, v.form)
}

func (r refusal) judge(t suites.Trace) suites.Finding {
	v, err := variantOf(r.variants, t.Key.Case)
	if err != nil {
		return suites.Failing(reasonGarbled, "a case that exists", err.Error(), nil)
	}
	xs := exchangesOf(t)
	a := answerOf(xs, "probe", v.form)
	n, count := counted(xs, v.form)
	cites := joined(a.cites(), count.cites())
	want := r.want()
	observed := fmt.Sprintf("%s; the handler ran %d times", a, n)
	switch {
	case a.served():
		return suites.Failing(reasonServed, want, observed, cites)
	case a.kind == garbled:
		return suites.Failing(reasonGarbled, want, observed, cites)
	case a.kind == quiet && t.Noisy(refusalWait):
		return suites.TooNoisy(want, observed, cites)
	case a.kind == quiet, a.kind == refused, a.kind == ended && !r.closing:
		return suites.Failing(reasonNotRefused, want, observed, cites)
	case a.kind == exception && !a.excepted(r.codes...):
		return suites.Failing(reasonWrongException, want, observed, cites)
	case n < 0:
		return suites.Failing(reasonNoCount, want, "asked for the count, the target gave "+count.String(), cites)
	case n > 0:
		return suites.Failing(reasonHandlerRan, want, observed, cites)
	}
	if next := xs["next"]; r.ends && next != nil && len(next.Received) > 0 {
		return suites.Failing(reasonStillOpen, want, observed+"; a call sent afterwards was answered", joined(cites, next.Cites))
	}
	return suites.Passing(want, observed, cites)
}

func (r refusal) want() string {
	s := ""
	for i, c := range r.codes {
		if i > 0 {
			s += " or "
		}
		s += fmt.Sprintf("exception %d", c)
	}
	if r.closing {
		if s != "" {
			s += " or "
		}
		s += "the connection closed"
	}
	s += ", and the handler not run"
	if r.ends {
		s += ", and nothing answered afterwards on the connection"
	}
	return s
}

// killsIn repeats a kill for several cases.
func killsIn(defect, reason string, cases ...string) []suites.Kill {
	var out []suites.Kill
	for _, c := range cases {
		out = append(out, suites.Kill{Defect: defect, Reason: reason, Case: c})
	}
	return out
}

func kills(lists ...[]suites.Kill) []suites.Kill { return slices.Concat(lists...) }
