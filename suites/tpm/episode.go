package tpm

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/assay-bench/assay/scenarios"
	scenario "github.com/assay-bench/assay/scenarios/tpm"
	"github.com/assay-bench/assay/suites"
)

// episode is the frame of checks that store a response, get it, do some harm, get it again, end the
// harm, and see whether the cache works afterwards.
type episode struct {
	want  string
	acts  []act
	noted string // reason where a good entry does not come back during the harm; empty: not-served
	extra func(t suites.Trace, s *story, a act, sent map[string]int) (reason, observed string)
}

// act is one case of an episode.
type act struct {
	id, title string
	setup     setup
	warm      bool // get the entry twice before the harm, so that what can be kept in memory is
	harm      func(context.Context, *bench) error
	end       func(context.Context, *bench) error // of the harm; nil: rules are cleared
	expect    expectation
	codes     []string // of which the answer must have one where the cache does not serve; nil: any
	once      bool     // get only once during the harm
	keep      bool     // the entry must come back afterwards without being stored again
	bit       func(*story) bool
}

// expectation is what must come during the harm.
type expectation uint8

const (
	refuses expectation = iota // the cache must not serve
	serves                     // it must
	either                     // it may, with the right bytes, or says why not
)

func (e episode) check(c suites.Check) suites.Check {
	for _, a := range e.acts {
		c.Cases = append(c.Cases, suites.Case{ID: a.id, Title: a.title})
	}
	for _, r := range []string{reasonNotStored, reasonNotServed, reasonAltered, reasonServed, reasonWrongCode, reasonNotRebuilt} {
		if !slices.Contains(c.Reasons, r) {
			c.Reasons = append(c.Reasons, r)
		}
	}
	c.Reasons = append(c.Reasons, reasonNoBite)
	c.Drive = func(ctx context.Context, env *scenarios.Env) error {
		a := e.act(env.Key.Case)
		return drive(ctx, env, a.setup, a.drive)
	}
	c.Judge = judging(e.want, e.judge)
	return c
}

func (e episode) act(id string) act {
	i := slices.IndexFunc(e.acts, func(a act) bool { return a.id == id })
	return e.acts[max(i, 0)] // the frame asks only for cases that exist
}

// entry is the id of the entry of all episodes.
const entry = "entry"

func (a act) drive(ctx context.Context, b *bench) error {
	if err := b.store(ctx, "store", entry, b.response(264)); err != nil {
		return err
	}
	gets := []string{"before"}
	if a.warm {
		gets = append(gets, "warm")
	}
	if err := b.gets(ctx, gets...); err != nil || b.dead {
		return err
	}
	if err := a.harm(ctx, b); err != nil {
		return err
	}
	if err := a.during(ctx, b); err != nil {
		return err
	}
	if err := b.device.Heal(); err != nil {
		return err
	}
	if a.end != nil {
		if err := a.end(ctx, b); err != nil {
			return err
		}
	}
	if !a.keep {
		if err := b.store(ctx, "store again", entry, b.response(264)); err != nil {
			return err
		}
	}
	return b.gets(ctx, "after")
}

// during gets the entry, once or twice, between two marks of the device.
func (a act) during(ctx context.Context, b *bench) error {
	if _, err := b.device.Mark("harmed"); err != nil {
		return err
	}
	if err := b.gets(ctx, "during"); err != nil {
		return err
	}
	if _, err := b.device.Mark("asked"); err != nil {
		return err
	}
	if a.once || a.expect != refuses {
		return nil
	}
	return b.gets(ctx, "during again")
}

func (b *bench) gets(ctx context.Context, names ...string) error {
	for _, name := range names {
		if _, err := b.get(ctx, name, entry); err != nil {
			return err
		}
	}
	return nil
}

func (e episode) judge(t suites.Trace, s *story) suites.Finding {
	a := e.act(t.Key.Case)
	observed := s.tale("store", "before", "warm", "newer", "close for reboot", "open again", "during", "during again", "store again", "after")
	if !s.stored("store") {
		return s.fail(reasonNotStored, e.want, observed)
	}
	if reason := s.sameAs("before", "store"); reason != "" {
		return s.fail(reason, e.want, observed)
	}
	if a.bit != nil && !a.bit(s) {
		return s.unsure(e.want, "the target did not come across the fault; "+observed)
	}
	sent := s.marks["asked"].Since(s.marks["harmed"])
	observed += fmt.Sprintf("; meanwhile the TPM was sent %v", sent)
	if reason := e.duringWrong(s, a); reason != "" {
		return s.fail(reason, e.want, observed)
	}
	if e.extra != nil {
		if reason, text := e.extra(t, s, a, sent); reason != "" {
			return s.fail(reason, e.want, text+"; "+observed)
		}
	}
	if reason := a.afterWrong(s); reason != "" {
		return s.fail(reason, e.want, observed)
	}
	return s.pass(e.want, observed)
}

// duringWrong says what is wrong with the answers during the harm.
func (e episode) duringWrong(s *story, a act) (reason string) {
	switch a.expect {
	case serves:
		if reason = s.sameAs("during", "store"); reason == reasonNotServed && e.noted != "" {
			return e.noted
		}
		return reason
	case either:
		if g, ok := answer[scenario.Got](s, "during"); ok && g.Source == "cache" {
			return s.sameAs("during", "store")
		}
		return a.refusedWrong(s, "during")
	}
	if reason = a.refusedWrong(s, "during"); reason != "" || a.once {
		return reason
	}
	if g, ok := answer[scenario.Got](s, "during again"); !ok {
		return reasonNoSession
	} else if g.Source == "cache" {
		return reasonServed
	}
	return ""
}

// refusedWrong says what is wrong with an answer that must not come from the cache.
func (a act) refusedWrong(s *story, name string) (reason string) {
	g, ok := answer[scenario.Got](s, name)
	switch {
	case !ok:
		return reasonNoSession
	case g.Source == "cache":
		return reasonServed
	case g.Error == nil || g.Error.Code == "", len(a.codes) > 0 && !slices.Contains(a.codes, g.Error.Code):
		return reasonWrongCode
	}
	return ""
}

// afterWrong says what is wrong once the harm has ended.
func (a act) afterWrong(s *story) (reason string) {
	store := "store again"
	if a.keep {
		store = "store"
	}
	if !s.stored(store) {
		return reasonNotRebuilt
	}
	if reason = s.sameAs("after", store); reason == reasonNotServed {
		return reasonNotRebuilt
	}
	return reason
}

// total counts the commands of a name, or of all but FlushContext where the name is empty.
func total(sent map[string]int, command string) (n int) {
	for key, times := range sent {
		name, _, _ := strings.Cut(key, " ")
		if name == command || command == "" && name != "FlushContext" {
			n += times
		}
	}
	return n
}

// deadlineOf is the deadline of the TPM's work in a setup.
func (s setup) deadlineOf() time.Duration {
	if s.deadline > 0 {
		return s.deadline
	}
	return tpmTime
}
