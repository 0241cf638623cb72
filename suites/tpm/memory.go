package tpm

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/assay-bench/assay/scenarios"
	scenario "github.com/assay-bench/assay/scenarios/tpm"
	"github.com/assay-bench/assay/suites"
)

const (
	reasonNotRetried = "not-retried"
	reasonLeaked     = "leaked" // handles were left in the TPM
)

func clearForeign(_ context.Context, b *bench) error { return b.device.ClearForeign() }

func respond(command tpm2.TPMCC, rc tpm2.TPMRC, times int) func(context.Context, *bench) error {
	return func(_ context.Context, b *bench) error { return b.device.Respond(command, rc, times) }
}

// refused tells whether the TPM was seen to answer a command so.
func refused(command tpm2.TPMCC, rc tpm2.TPMRC) func(*story) bool {
	key := scenario.CommandName(command) + " " + scenario.ResponseName(rc)
	return func(s *story) bool { return s.marks["asked"].Since(s.marks["harmed"])[key] > 0 }
}

var _ = add(episode{
	want:  "a TPM without room is worth one more attempt; what fails then is named, and passes with its cause",
	noted: reasonNotRetried,
	acts: []act{
		{
			id: "objects", title: "two objects of another program stay loaded", expect: either, keep: true,
			codes: []string{"TPM_RC_OBJECT_MEMORY", "TPM_RC_OBJECT_HANDLES", "TPM_RC_MEMORY"}, end: clearForeign,
			harm: func(_ context.Context, b *bench) error { _, err := b.device.ExhaustObjects(2); return err },
		},
		{
			id: "sessions", title: "another program has all sessions", expect: either, keep: true,
			codes: []string{"TPM_RC_SESSION_MEMORY", "TPM_RC_SESSION_HANDLES", "TPM_RC_MEMORY"}, end: clearForeign,
			harm: func(_ context.Context, b *bench) error { _, err := b.device.ExhaustSessions(64); return err },
		},
		{
			id: "object-once", title: "one load finds no room", expect: serves, keep: true,
			harm: respond(tpm2.TPMCCLoad, tpm2.TPMRCObjectMemory, 1), bit: refused(tpm2.TPMCCLoad, tpm2.TPMRCObjectMemory),
		},
		{
			id: "session-once", title: "one session finds no room", expect: serves, keep: true,
			harm: respond(tpm2.TPMCCStartAuthSession, tpm2.TPMRCSessionMemory, 1),
			bit:  refused(tpm2.TPMCCStartAuthSession, tpm2.TPMRCSessionMemory),
		},
	},
}.check(suites.Check{
	ID: "tpm/fault/memory", Title: "a TPM without room is retried once", Covers: []string{"tpm/fault/memory"},
	Reasons: []string{reasonNotRetried},
	Kills: append(killIn("object-once", reasonNotRetried, "tpm.memory-not-retried"),
		killIn("session-once", reasonNotRetried, "tpm.memory-not-retried")...),
}))

// opens is how often the entry is opened to see whether handles leak.
const opens = 1000

const wantHandles = "1,000 opens leave no more handles in the TPM than one did"

var _ = add(suites.Check{
	ID: "tpm/fault/handles", Title: "opening entries leaks no handle", Covers: []string{"tpm/fault/memory"},
	Cost:    suites.Cost{Time: 3 * time.Second},
	Reasons: []string{reasonLeaked, reasonNotServed, reasonNotStored, reasonAltered},
	Drive: func(ctx context.Context, env *scenarios.Env) error {
		return drive(ctx, env, setup{}, func(ctx context.Context, b *bench) error {
			if err := b.store(ctx, "store", entry, b.response(264)); err != nil {
				return err
			}
			if err := b.gets(ctx, "before"); err != nil {
				return err
			}
			if err := b.device.CountHandles("before"); err != nil {
				return err
			}
			if err := b.openMany(ctx, opens); err != nil {
				return err
			}
			return b.device.CountHandles("after")
		})
	},
	Judge: judging(wantHandles, func(_ suites.Trace, s *story) suites.Finding {
		many := opened(s.trials["opens"])
		before, after := s.looks["before"], s.looks["after"]
		observed := fmt.Sprintf("%d handles after one open, %d after %d more, which gave %v; %s", before, after, many.Calls, many.Codes, s.tale("store", "before"))
		switch {
		case !s.stored("store"):
			return s.fail(reasonNotStored, "", observed)
		case s.sameAs("before", "store") != "":
			return s.fail(s.sameAs("before", "store"), "", observed)
		case after > before, many.full():
			return s.fail(reasonLeaked, "", observed)
		case many.Calls < opens || many.Codes["cache"] != many.Calls:
			return s.fail(reasonNotServed, "", observed)
		}
		return s.pass("", observed)
	}),
	Kills: kill(reasonLeaked, "tpm.handles-leaked"),
})

// openMany gets the entry many times, without recording each call, and stops at the first that is not
// served from the cache.
func (b *bench) openMany(ctx context.Context, n int) error {
	t := scenario.Trials{Name: "opens", Codes: map[string]int{}}
	began := b.env.Clock.Now()
	for t.Calls < n && !b.dead && t.Codes["cache"] == t.Calls {
		got, err := b.get(ctx, "", entry)
		if err != nil {
			return err
		}
		t.Calls++
		t.Codes[outcome(got, b.dead)]++
	}
	t.Took = b.env.Elapsed(began)
	return b.env.Record(scenario.Tried, t)
}

// opened is what many opens in a row gave.
type opened scenario.Trials

// full tells whether the TPM ran out of room. Nobody but the target uses it meanwhile.
func (o opened) full() bool {
	for text := range o.Codes {
		if strings.HasSuffix(text, "_MEMORY") || strings.HasSuffix(text, "_HANDLES") {
			return true
		}
	}
	return false
}

// outcome sums an answer up: its source, with the error's code where there is one.
func outcome(got scenario.Got, broken bool) string {
	text := scenario.Word(got.Source)
	if broken {
		text = "no answer"
	}
	if got.Error != nil {
		text += " " + scenario.Word(got.Error.Code)
	}
	return text
}
