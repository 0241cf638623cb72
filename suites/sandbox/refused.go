package sandbox

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/assay-bench/assay/scenarios"
	scenario "github.com/assay-bench/assay/scenarios/sandbox"
	"github.com/assay-bench/assay/suites"
)

// refusedCase is one upload that must be refused, as data.
type refusedCase struct {
	id, title string
	tier      scenario.Tier // pro where empty
	code      func() []byte
	// bend changes the upload after it was signed; sign it again where the change is to be signed.
	bend  func(*bench, *scenario.Upload) error
	steps []string // where it must be refused; none: anywhere
	words []string // that the reason must hold, in any case of letters
	// before publishes a version of the same name first, which must serve on; nil: the name is new.
	before   func() []byte
	replayed bool   // the upload is published first as what it was signed for, by the same keys
	function string // asked afterwards; get where empty
}

// refusedRow is a check of uploads that must all be refused.
type refusedRow struct{ cases []refusedCase }

// module is the name under which such uploads go.
const module = "m"

// check completes a Check with the frame's drive and judge.
func (r refusedRow) check(c suites.Check) suites.Check {
	for _, k := range r.cases {
		c.Cases = append(c.Cases, suites.Case{ID: k.id, Title: k.title})
	}
	first := r.cases[0]
	c.Kills = kills(c.Kills, killIn(first.id, reasonWrongStatus, "sandbox.refused-as-500"), killIn(first.id, reasonUnnamed, "sandbox.refused-unnamed"))
	if len(first.steps) > 0 {
		c.Kills = append(c.Kills, killIn(first.id, reasonWrongStep, "sandbox.refused-elsewhere")...)
	}
	c.Reasons = append(c.Reasons, reasonTaken, reasonWrongStatus, reasonWrongStep, reasonUnnamed, reasonServed, reasonNotServed)
	c.Drive = func(ctx context.Context, env *scenarios.Env) error {
		k, err := r.find(env.Key.Case)
		if err != nil {
			return err
		}
		return drive(ctx, env, func(ctx context.Context, b *bench) error { return ends(k.drive(ctx, b)) })
	}
	c.Judge = func(t suites.Trace) suites.Finding {
		k, err := r.find(t.Key.Case)
		if err != nil {
			return suites.Failing(reasonNotSet, "a case that exists", err.Error(), nil)
		}
		return judging(k.wanted(), func(_ suites.Trace, s *story) suites.Finding { return k.judge(s) })(t)
	}
	return c
}

func (r refusedRow) find(id string) (refusedCase, error) {
	i := slices.IndexFunc(r.cases, func(k refusedCase) bool { return k.id == id })
	if i < 0 {
		return refusedCase{}, fmt.Errorf("no case %q", id)
	}
	return r.cases[i], nil
}

func (k refusedCase) asks() string {
	if k.function != "" {
		return k.function
	}
	return "get"
}

func (k refusedCase) drive(ctx context.Context, b *bench) error {
	tier := k.tier
	if tier == "" {
		tier = scenario.Pro
	}
	tenant, err := b.tenant(ctx, "a", tier)
	if err != nil {
		return err
	}
	if k.before != nil {
		if err := b.publish(ctx, tenant, module, k.before()); err != nil {
			return err
		}
		if _, err := b.invoke(ctx, "before", tenant, module, k.asks()); err != nil {
			return err
		}
	}
	u, err := b.signed(tenant, module, k.code())
	if err != nil {
		return err
	}
	if k.bend != nil {
		if err := k.bend(b, &u); err != nil {
			return err
		}
	}
	if k.replayed {
		if err := k.replay(ctx, b, u, tier); err != nil {
			return err
		}
	}
	c, err := b.try(ctx, "upload", u)
	if err != nil || c.Good() && k.before == nil {
		return err // what was taken may never end
	}
	_, err = b.invoke(ctx, "after", tenant, module, k.asks())
	return err
}

// replay publishes the upload as another name and for another tenant: the target has seen both signatures.
func (k refusedCase) replay(ctx context.Context, b *bench, u scenario.Upload, tier scenario.Tier) error {
	if _, err := b.tenant(ctx, "b", tier); err != nil {
		return err
	}
	for _, change := range []func(*scenario.Upload){otherTenant, otherName} {
		other := u
		change(&other)
		if err := b.sign(&other); err != nil {
			return err
		}
		c, err := b.try(ctx, setup+"upload "+other.Tenant+" "+other.Module, other)
		if err == nil {
			err = b.set(c)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (k refusedCase) wanted() string {
	text := "the upload is refused with 403"
	if len(k.steps) > 0 {
		text += " at step " + strings.Join(k.steps, " or ")
	}
	if len(k.words) > 0 {
		text += ", and the reason names " + strings.Join(k.words, " and ")
	}
	if k.before != nil {
		return text + "; the version before it serves on"
	}
	return text + "; nothing of it can be called"
}

func (k refusedCase) judge(s *story) suites.Finding {
	observed := s.tale("before", "upload", "after")
	if reason := k.refusal(s.calls["upload"]); reason != "" {
		return s.fail(reason, observed)
	}
	after := s.calls["after"]
	if k.before == nil {
		p, ok := after.Problem()
		switch {
		case !after.Answered():
			return s.fail(reasonNoAnswer, observed)
		case !ok || p.Status != statusUnknown:
			return s.fail(reasonServed, observed)
		}
		return s.pass(observed)
	}
	was, ok := s.invoked("before")
	if !ok {
		return s.fail(reasonNotSet, observed)
	}
	is, ok := s.invoked("after")
	if !ok || is.Version != was.Version || !slices.Equal(is.Results, was.Results) {
		return s.fail(reasonNotServed, observed)
	}
	return s.pass(observed)
}

// refusal tells why an upload was not refused as it must be, or nothing.
func (k refusedCase) refusal(c scenario.Call) (reason string) {
	p, ok := c.Problem()
	text := strings.ToLower(p.Reason + " " + p.Detail)
	switch {
	case !c.Answered():
		return reasonNoAnswer
	case c.Good():
		return reasonTaken
	case c.Status != statusRefused:
		return reasonWrongStatus
	case !ok || p.Step == "" || len(k.steps) > 0 && !slices.Contains(k.steps, p.Step):
		return reasonWrongStep
	case p.Reason == "":
		return reasonUnnamed
	}
	for _, w := range k.words {
		if !strings.Contains(text, strings.ToLower(w)) {
			return reasonUnnamed
		}
	}
	return ""
}

// asked decodes what a recorded call asked for.
func (s *story) asked(name string) (in scenario.Invocation, ok bool) {
	c, there := s.calls[name]
	return in, there && json.Unmarshal(c.Request, &in) == nil
}
