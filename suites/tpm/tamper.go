package tpm

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"

	scenario "github.com/assay-bench/assay/scenarios/tpm"
	"github.com/assay-bench/assay/suites"
)

const (
	reasonUnnamed = "unnamed"  // refused without a code
	reasonMixedUp = "mixed-up" // one entry's response was served under another's id
	reasonNoFiles = "no-files" // the cache left nothing in its folder
	wantTamper    = "an entry whose file was changed anywhere is not served, and no entry opens under another one's name"
)

const (
	maxFlips = 40  // of bytes, in each file
	maxPairs = 8   // of files
	maxTries = 400 // calls in all
)

var _ = add(suites.Check{
	ID: "tpm/seal/tamper-detected", Title: "changed files are refused", Covers: []string{"tpm/seal/tamper-detected"},
	Cases:   []suites.Case{{ID: "flipped", Title: "one byte is inverted"}, {ID: "swapped", Title: "two entries change places"}},
	Cost:    suites.Cost{Time: 400e6},
	Reasons: []string{reasonNotStored, reasonNotServed, reasonAltered, reasonServed, reasonUnnamed, reasonMixedUp, reasonNoFiles},
	Drive:   driving(setup{}, tamper),
	Judge:   judging(wantTamper, judgeTamper),
	Kills:   killIn("swapped", reasonMixedUp, "tpm.aad-unbound"),
})

// twins are the entries of this check, of equal length, so that one could pass for the other.
var twins = []string{"first", "other"}

func tamper(ctx context.Context, b *bench) error {
	stored := map[string][]byte{}
	for _, id := range twins {
		stored[id] = b.response(264)
		if err := b.store(ctx, "store "+id, id, stored[id]); err != nil {
			return err
		}
	}
	for _, id := range twins {
		if _, err := b.get(ctx, "get "+id, id); err != nil {
			return err
		}
	}
	files, err := b.folder.Snapshot()
	if err != nil || b.dead {
		return err
	}
	t := trier{b: b, stored: stored, trials: scenario.Trials{Name: "tampered", Codes: map[string]int{}}}
	began := b.env.Clock.Now()
	if b.env.Key.Case == "swapped" {
		err = t.swap(ctx, files)
	} else {
		err = t.flip(ctx, files)
	}
	if err != nil {
		return err
	}
	t.trials.Took = b.env.Elapsed(began)
	return b.env.Record(scenario.Tried, t.trials)
}

// trier changes files and asks for both entries, again and again.
type trier struct {
	b      *bench
	stored map[string][]byte
	trials scenario.Trials
}

// flip inverts bytes at places spread over each file. Each place begins with the files as they were
// stored.
func (t *trier) flip(ctx context.Context, files scenario.Snapshot) error {
	for _, name := range files.Names() {
		size := len(files[name])
		for i := range min(maxFlips, size) {
			at := i * size / min(maxFlips, size)
			if i == min(maxFlips, size)-1 {
				at = size - 1
			}
			if err := t.try(ctx, fmt.Sprintf("byte %d of %d of %s inverted", at, size, name), files.Flipped(name, at)); err != nil {
				return err
			}
		}
	}
	return nil
}

// swap exchanges the contents of files.
func (t *trier) swap(ctx context.Context, files scenario.Snapshot) error {
	names, pairs := files.Names(), 0
	for i, a := range names {
		for _, b := range names[i+1:] {
			if pairs++; pairs > maxPairs {
				return nil
			}
			if err := t.try(ctx, a+" and "+b+" exchanged", files.Swapped(a, b)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *trier) try(ctx context.Context, what string, files scenario.Snapshot) error {
	if err := t.b.folder.Write(files); err != nil {
		return err
	}
	for _, id := range twins {
		if t.b.dead || t.trials.Calls == maxTries {
			return nil
		}
		got, err := t.b.get(ctx, "", id)
		if err != nil {
			return err
		}
		x := scenario.Trial{What: what, ID: id, Source: scenario.Word(got.Source), Broken: t.b.dead}
		if got.Error != nil {
			x.Code = scenario.Word(got.Error.Code)
		}
		if len(got.Response) > 0 {
			x.Of = t.whose(got.Response)
		}
		t.trials.Calls++
		t.trials.Codes[outcome(got, t.b.dead)]++
		t.trials.Each = append(t.trials.Each, x)
	}
	return nil
}

// whose names the entry that a response was stored as.
func (t *trier) whose(response []byte) string {
	for _, id := range slices.Sorted(maps.Keys(t.stored)) {
		if bytes.Equal(t.stored[id], response) {
			return id
		}
	}
	return "neither"
}

func judgeTamper(t suites.Trace, s *story) suites.Finding {
	for _, id := range twins {
		observed := s.tale("store "+id, "get "+id)
		if !s.stored("store " + id) {
			return s.fail(reasonNotStored, "", observed)
		}
		if reason := s.sameAs("get "+id, "store "+id); reason != "" {
			return s.fail(reason, "", observed)
		}
	}
	tried := s.trials["tampered"]
	observed := fmt.Sprintf("%d calls after changes gave %v", tried.Calls, tried.Codes)
	if tried.Calls == 0 {
		return s.fail(reasonNoFiles, "", observed)
	}
	for _, x := range tried.Each {
		if reason := tamperWrong(x); reason != "" {
			return s.fail(reason, "", fmt.Sprintf("%s: asked for %s, %q gave the response of %q (code %q); %s", x.What, x.ID, x.Source, x.Of, x.Code, observed))
		}
	}
	if t.Key.Case == "flipped" && !slices.ContainsFunc(tried.Each, func(x scenario.Trial) bool { return x.Source != "cache" }) {
		return s.fail(reasonServed, "", "no change of any file was noticed; "+observed)
	}
	return s.pass("", observed)
}

// tamperWrong judges one call. That an entry is served whose own file is as it was stored is right: a
// response that is exactly what was stored under the id has not been tampered with.
func tamperWrong(x scenario.Trial) string {
	switch {
	case x.Broken:
		return reasonNoSession
	case x.Source == "cache" && x.Of == x.ID:
		return ""
	case x.Source == "cache" && x.Of != "neither":
		return reasonMixedUp
	case x.Source == "cache":
		return reasonServed
	case x.Code == "":
		return reasonUnnamed
	}
	return ""
}
