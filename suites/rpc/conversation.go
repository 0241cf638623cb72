package rpc

import (
	"context"
	"fmt"
	"time"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/suites"
)

// conversation is the frame of checks that send one call and judge its answer, then perhaps that the
// connection goes on serving and how often the handler ran.
type conversation struct {
	variants []variant
	silent   bool   // no answer may come
	kept     bool   // a call sent afterwards on the connection must be answered
	ran      int64  // how often the handler must have run; 0: not asked
	want     string // in words
	// judge returns the reason why an answer is wrong, or nothing. It is not asked about silent cases.
	judge func(t suites.Trace, a answer) (reason string)
}

// Reasons that conversation gives besides those of its judge.
const (
	reasonNotKept  = "not-kept" // the connection did not go on serving
	reasonNotRun   = "not-run"  // the handler did not run as often as it had to
	reasonAnswered = "answered" // an answer came where none may
)

func (k conversation) check(c suites.Check) suites.Check {
	c.Needs = append(c.Needs, features.RPCBehave)
	c.Cases, c.Control, c.Explain = casesOf(k.variants), controlFor(k.variants), explain
	if k.kept {
		c.Reasons = append(c.Reasons, reasonNotKept)
	}
	if k.ran > 0 {
		c.Reasons = append(c.Reasons, reasonNotRun)
	}
	if k.silent {
		c.Reasons = append(c.Reasons, reasonAnswered)
	}
	c.Drive, c.Judge = driving(k.variants, k.drive), k.judgeTrace
	if c.Cost.Time == 0 {
		c.Cost.Time = 200 * time.Millisecond
	}
	return c
}

func (k conversation) drive(ctx context.Context, env *scenarios.Env, v variant, b []byte) error {
	wait := env.Claims.Limits.Answer()
	if k.silent {
		wait = silenceWait
	}
	c, err := once(ctx, env, "probe", v.form, b, wait)
	if err != nil {
		return err
	}
	defer c.Close()
	if k.kept {
		next, err := goodCall(v.form)
		if err != nil {
			return err
		}
		if err := again(ctx, c, "next", v.form, next, env.Claims.Limits.Answer()); err != nil {
			return err
		}
	}
	if k.ran > 0 {
		return countCalls(ctx, env, v.form)
	}
	return nil
}

func (k conversation) judgeTrace(t suites.Trace) suites.Finding {
	v, err := variantOf(k.variants, t.Key.Case)
	if err != nil {
		return suites.Finding{Observed: err.Error()}
	}
	xs := exchangesOf(t)
	a := answerOf(xs, "probe", v.form)
	cites, observed := a.cites(), a.String()
	if reason := k.answerWrong(t, a); reason != "" {
		if a.kind == quiet && t.Noisy(t.Claims.Limits.Answer()) {
			return suites.TooNoisy(k.want, observed, cites)
		}
		return suites.Failing(reason, k.want, observed, cites)
	}
	if k.kept {
		next := answerOf(xs, "next", v.form)
		cites = joined(cites, next.cites())
		observed += "; afterwards " + next.String()
		if !isControl(next) {
			return suites.Failing(reasonNotKept, k.want, observed, cites)
		}
	}
	if k.ran > 0 {
		n, count := counted(xs, v.form)
		cites = joined(cites, count.cites())
		observed += fmt.Sprintf("; the handler ran %d times", n)
		if n != k.ran {
			return suites.Failing(reasonNotRun, k.want, observed, cites)
		}
	}
	return suites.Passing(k.want, observed, cites)
}

func (k conversation) answerWrong(t suites.Trace, a answer) string {
	if !k.silent {
		return k.judge(t, a)
	}
	switch a.kind {
	case quiet:
		if a.x != nil && a.x.Silent {
			return ""
		}
		return reasonNotKept
	case ended, refused:
		return reasonNotKept
	}
	return reasonAnswered
}

// forms repeats a call in each transport form.
func forms(build func(transport) variant) (out []variant) {
	for _, tr := range transports {
		out = append(out, build(tr))
	}
	return out
}
