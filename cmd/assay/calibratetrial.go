package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/assay-bench/assay/fixtures/services"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/duet"
	"github.com/assay-bench/assay/suites/gate"
)

// samplePolicy judges the sample service in this binary, which can be made slower on purpose.
const samplePolicy = `apiVersion: assay/v1
kind: Gate
name: sample
start:
  command: ["{out}", sample-service, "-listen", "127.0.0.1:{port}"]
  ready: /healthz
scenarios:
  - name: echo
    requests: [{method: POST, path: /echo, body: hello}]
    metrics: {METRICS}
`

// wanted is a kind of trial and how many there shall be.
type wanted struct {
	kind    gate.TrialKind
	effect  float64
	variant string
	count   int
}

func (w wanted) String() string {
	switch w.kind {
	case gate.Slower:
		return fmt.Sprintf("%+.3g %%", 100*w.effect)
	case gate.Layout:
		return "link order " + w.variant
	}
	return string(w.kind)
}

// metrics are those that gate a pair of this kind.
func (w wanted) metrics(usual string) string {
	if w.kind == gate.Tail {
		return "p50 p99"
	}
	return usual
}

// linkOrders is how many orders the linker is asked for.
const linkOrders = 5

// A slowed pair is preceded by a probe: a request has costs beside its work, and what share they have depends on the host
// and the minute, since waking a processor is most of them.
const (
	probeWork   = 0.3 // further work, of a size with what is planted: twice the work would not do six times as much
	probeEpochs = 4
	probeTries  = 3
	leastShift  = 0.02 // below it a probe is noise, and would plant many times the effect
)

// What is planted in the tail: the epoch's p99 shall rise by tailEffect (gate.md section 6.5), for which one request in tailEvery
// does more work. How much more is looked for in small steps: below the host's own p99 a plant shows nothing, so that the answer
// is no straight line through zero.
const (
	tailEffect = 0.20
	tailEvery  = 50
	tailFirst  = 2.0 // share of further work that the search begins with
	tailStep   = 1.25
	tailMost   = 50.0
	tailEpochs = 12
	tailLife   = 15 * time.Minute // of what a search found
)

func (f calibrateFlags) wanted() []wanted {
	var out []wanted
	out = append(out, wanted{kind: gate.SameBuild, count: f.aa})
	for _, e := range f.effects {
		out = append(out, wanted{kind: gate.Slower, effect: e, count: f.power})
	}
	for i := range linkOrders {
		out = append(out, wanted{kind: gate.Layout, variant: strconv.Itoa(i + 1), count: (f.layouts + linkOrders - 1 - i) / linkOrders})
	}
	return append(out, wanted{kind: gate.Tail, effect: tailEffect, count: f.tail})
}

// next picks the kind of trial that lags most behind, so that an interrupted calibration has some of each.
func next(all []wanted, trials []gate.Trial, class string) (w wanted, have int, more bool) {
	least := 1.0
	for _, c := range all {
		n := 0
		for _, t := range trials {
			if t.Kind == c.kind && t.Effect == c.effect && t.Variant == c.variant && t.HostClass == class && t.Instrument == duet.Instrument && time.Since(t.At) < gate.Life {
				n++
			}
		}
		if share := float64(n) / float64(max(c.count, 1)); n < c.count && share < least {
			w, have, more, least = c, n, true, share
		}
	}
	return w, have, more
}

// trialBench runs pairs of which the truth is known.
type trialBench struct {
	exe, harness, class string
	metrics             string
	scratch             string
	layouts             map[string]string // programs by link order
	tail                float64           // work that plants tailEffect, and since when that is known
	tailAt              time.Time
}

func newTrialBench(metrics, class string) (*trialBench, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	digest, err := fileDigest(exe)
	if err != nil {
		return nil, err
	}
	scratch, err := os.MkdirTemp("", "assay-trials-*")
	return &trialBench{exe: exe, harness: digest, class: class, metrics: metrics, scratch: scratch, layouts: map[string]string{}}, err
}

// Close removes what the trials made.
func (b *trialBench) Close() error { return os.RemoveAll(b.scratch) }

func fileDigest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), errors.Join(err, f.Close())
}

// run runs the gate once on a pair.
func (b *trialBench) run(ctx context.Context, w wanted) (t gate.Trial, err error) {
	metrics := strings.ReplaceAll(w.metrics(b.metrics), " ", ": {}, ") + ": {}"
	raw := []byte(strings.Replace(samplePolicy, "METRICS", metrics, 1))
	if w.kind == gate.Layout {
		raw = []byte(strings.Replace(string(raw), "sample-service, ", "", 1))
	}
	policy, err := gate.ParsePolicy(raw)
	if err != nil {
		return t, usage(err)
	}
	seed, at := drawSeed(), time.Now()
	dir := filepath.Join(b.scratch, "bundle")
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	session := gate.Session{
		Policy: raw, Sides: gate.Sides{Options: gate.Options{Force: true, NoPreflight: true}},
		Run:  results.Run{APIVersion: results.APIVersion, Seed: seed, Target: results.Target{Kind: "command"}},
		Dir:  dir,
		Dial: scenarios.NewDialer(nil, 0).DialContext, Journal: openJournal,
		Reproduce: func(gate.Metric) string { return "assay calibrate gate" },
	}
	work := 0.0
	switch w.kind {
	case gate.Slower:
		work, err = b.work(ctx, session, policy, w.effect)
	case gate.Tail:
		work, err = b.tailWork(ctx, session, policy, w.effect)
	}
	if err != nil {
		return t, err
	}
	if session.Programs, err = b.programs(ctx, policy, w, work); err != nil {
		return t, err
	}
	_, course, err := session.Conduct(ctx)
	if err != nil {
		return t, err
	}
	t = course.Trial()
	t.Kind, t.Effect, t.Work, t.Variant = w.kind, w.effect, work, w.variant
	t.Seed, t.At, t.Took = seed, at.UTC().Truncate(time.Second), time.Since(at)
	t.HostClass, t.Version, t.Harness, t.Instrument = b.class, version, b.harness, duet.Instrument
	return t, nil
}

// programs are both sides of a pair. work is the share of further work in each of the candidate's requests.
func (b *trialBench) programs(ctx context.Context, policy gate.Policy, w wanted, work float64) ([2]*duet.Program, error) {
	out := [2]string{b.exe, b.exe}
	var flags []string
	var err error
	switch w.kind {
	case gate.Slower:
		flags = []string{"-slower", strconv.FormatFloat(work, 'g', 4, 64)}
	case gate.Tail:
		flags = []string{"-tail", strconv.Itoa(tailEvery), "-tail-work", strconv.FormatFloat(work, 'g', 4, 64)}
	case gate.Layout:
		for i, order := range []string{"", w.variant} {
			if out[i], err = b.linked(ctx, order); err != nil {
				break
			}
		}
	}
	sides := [2]*duet.Program{policy.Program(out[0], b.scratch), policy.Program(out[1], b.scratch)}
	sides[1].Argv = append(slices.Clone(sides[1].Argv), flags...)
	return sides, err
}

// work is the share of further work that makes the median slower by an effect now.
func (b *trialBench) work(ctx context.Context, s gate.Session, policy gate.Policy, effect float64) (float64, error) {
	for range probeTries {
		shift, err := b.shift(ctx, s, policy, wanted{kind: gate.Slower}, probeWork, duet.P50, probeEpochs)
		if err != nil {
			return 0, err
		}
		if shift >= leastShift {
			return effect * probeWork / shift, nil
		}
	}
	return 0, errors.New("probe: the median of the sample service does not feel a third of further work: it measures nothing here")
}

// tailWork is the share of further work in the tail's requests that makes p99 of an epoch slower by an effect now.
func (b *trialBench) tailWork(ctx context.Context, s gate.Session, policy gate.Policy, effect float64) (work float64, err error) {
	if time.Since(b.tailAt) < tailLife {
		return b.tail, nil
	}
	b.tail, err = searchTail(effect, func(work float64) (float64, error) {
		return b.shift(ctx, s, policy, wanted{kind: gate.Tail}, work, duet.P99, tailEpochs)
	})
	b.tailAt = time.Now()
	return b.tail, err
}

// searchTail lets the work grow until a probe shifts by the effect. The answer lies on the line through the last two probes.
func searchTail(effect float64, probe func(work float64) (shift float64, err error)) (work float64, err error) {
	below, least := 0.0, 0.0 // the last probe that shifted by less
	for work = tailFirst; work <= tailMost; work *= tailStep {
		shift, err := probe(work)
		if err != nil {
			return 0, err
		}
		if shift >= effect {
			return below + (work-below)*(effect-least)/(shift-least), nil
		}
		below, least = work, max(shift, 0)
	}
	return 0, fmt.Errorf("probe: p99 of the sample service does not rise by %.0f %% with %.0f times the work in one request of %d: it measures nothing here", 100*effect, tailMost, tailEvery)
}

// shift is how much a metric moves with so much further work.
func (b *trialBench) shift(ctx context.Context, s gate.Session, policy gate.Policy, w wanted, work float64, metric string, epochs int) (_ float64, err error) {
	if s.Programs, err = b.programs(ctx, policy, w, work); err != nil {
		return 0, err
	}
	folder, err := os.MkdirTemp(b.scratch, "probe-*")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	shift, err := s.Shift(ctx, folder, metric, epochs)
	if err != nil {
		return 0, fmt.Errorf("probe: %w", err)
	}
	return shift, nil
}

// linked builds the sample service with its functions in another order; the empty order is the linker's own.
func (b *trialBench) linked(ctx context.Context, order string) (string, error) {
	if path := b.layouts[order]; path != "" {
		return path, nil
	}
	dir := filepath.Join(b.scratch, "source")
	if err := services.WriteEcho(dir); err != nil {
		return "", err
	}
	path := filepath.Join(b.scratch, "echo"+order)
	args := []string{"build", "-o", path}
	if order != "" {
		args = append(args, "-ldflags=-randlayout="+order)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, services.EchoPackage)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-buildvcs=false", "GOWORK=off", "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("link the sample service in order %q: %w: %s; without a Go toolchain: --layouts 0", order, err, strings.TrimSpace(string(text)))
	}
	b.layouts[order] = path
	return path, nil
}

// outcomes writes what was decided on each metric.
func outcomes(t gate.Trial) string {
	var parts []string
	for _, id := range sortedKeys(t.Outcomes) {
		parts = append(parts, fmt.Sprintf("%s %s after %d (%+.2f %%)", id, t.Outcomes[id], t.Epochs[id], 100*t.Estimates[id]))
	}
	return strings.Join(parts, ", ")
}
