// Package prove shows that every check of a suite can fail: each planted defect must turn the checks that
// name it red, for the reason that they name, while unrelated checks stay green; targets that implement
// nothing must score nothing; and a fault that does nothing must leave a case Inconclusive.
package prove

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/suites"
)

// Trial is one process under examination.
type Trial struct {
	Name     string   // folder of its bundle
	Patterns []string // cases to run; none: all
	Defects  []string // planted in the reference
	Hollow   string   // a hollow target in place of the reference
	Probing  bool
	Null     bool // faults do nothing
}

// Options is what a proof needs from outside.
type Options struct {
	Suite     *suites.Suite
	Known     []string // planted defects that the reference has
	Hollow    []string // hollow targets that there are
	Sentinels []Sentinel
	Started   time.Time
	Workers   int // trials at once; 0 means 6
	// Conduct runs a trial to a sealed bundle.
	Conduct func(context.Context, Trial) (*results.Bundle, error)
	// Progress is told of each finished trial; it may be nil.
	Progress func(name string, done, total int, took time.Duration)
	Only     []string // restrict to these defects; none: all, with the hollow targets
}

// Sentinel is a case that every defect of another face must leave green.
type Sentinel struct {
	Face string // the word before the dot in a defect's name
	Case string // as a pattern: check#case
}

// wanted is one cell of the kill matrix that must come true.
type wanted struct {
	check string
	kill  suites.Kill
}

// Run proves the suite. The bundle of the clean reference's run is returned beside the proof.
func Run(ctx context.Context, o Options) (*results.Bundle, *results.Proof, error) {
	matrix, err := matrixOf(o.Suite, o.Known)
	if err != nil {
		return nil, nil, err
	}
	if o.Workers <= 0 {
		o.Workers = 6
	}
	trials, err := o.trials(matrix)
	if err != nil {
		return nil, nil, err
	}
	bundles, err := o.conduct(ctx, trials)
	if err != nil {
		return nil, nil, err
	}
	p, err := Assemble(o, bundles)
	for again := 1; err == nil && again < maxTrials && len(missed(p)) > 0; again++ {
		if err := o.tryAgain(ctx, again, missed(p), trials, bundles); err != nil {
			return nil, nil, err
		}
		p, err = Assemble(o, bundles)
	}
	return bundles[cleanTrial], p, err
}

// maxTrials is how often a defect is tried before it counts as a survivor. A proof shows that a check can fail:
// one kill shows it, and a shared host that froze at the wrong moment takes nothing from that. How often the
// check missed the defect stands in the proof.
const maxTrials = 3

// missed lists the defects of which a kill is still wanted.
func missed(p *results.Proof) []string {
	var out []string
	for _, k := range p.Defects {
		if !k.Killed && k.Observed != results.NotClaimed.String() && !has(out, k.Defect) {
			out = append(out, k.Defect)
		}
	}
	return out
}

// tryAgain repeats the trials of defects one at a time, without the others beside them.
func (o Options) tryAgain(ctx context.Context, again int, defects []string, trials []Trial, bundles map[string]*results.Bundle) error {
	var repeats []Trial
	for _, t := range trials {
		if len(t.Defects) == 1 && has(defects, t.Defects[0]) {
			t.Name = trialName(t.Defects[0], again)
			repeats = append(repeats, t)
		}
	}
	o.Workers = 1
	more, err := o.conduct(ctx, repeats)
	maps.Copy(bundles, more)
	return err
}

// trialName names the trial of a defect, again for the nth time.
func trialName(defect string, again int) string {
	if again == 0 {
		return "defect-" + defect
	}
	return fmt.Sprintf("defect-%s-again-%d", defect, again)
}

// Assemble computes the proof from the bundles of the trials, by name of the trial. It is pure: whoever has
// the bundles gets the same proof.
func Assemble(o Options, bundles map[string]*results.Bundle) (*results.Proof, error) {
	matrix, err := matrixOf(o.Suite, o.Known)
	if err != nil {
		return nil, err
	}
	p := &results.Proof{SuiteDigest: o.Suite.Digest(), Started: o.Started}
	o.matrix(p, matrix, bundles)
	o.hollow(p, bundles)
	o.nullFaults(p, bundles)
	o.clean(p, bundles[cleanTrial])
	o.count(p)
	o.unshown(p)
	sort.Strings(p.Survivors)
	return p, nil
}

// unshown lists what no planted defect was seen to turn red: cases, and reasons of checks. They are no
// survivors, because nobody claimed a kill, but a reader should know.
func (o Options) unshown(p *results.Proof) {
	if len(o.Only) > 0 {
		return
	}
	cases, reasons := map[results.Key]bool{}, map[string]bool{}
	for _, k := range p.Defects {
		if !k.Killed {
			continue
		}
		reasons[k.Check+" "+k.Reason] = true
		cases[results.Key{Check: k.Check, Case: k.Case, Under: k.Under}] = true
	}
	for _, c := range o.Suite.Checks() {
		for _, key := range c.Keys() {
			whole := results.Key{Check: key.Check, Under: key.Under}
			if !cases[key] && !cases[whole] {
				p.Unshown = append(p.Unshown, "case "+suites.Pattern(key))
			}
		}
		for _, r := range c.Reasons {
			if !reasons[c.ID+" "+r] {
				p.Unshown = append(p.Unshown, "reason "+r+" of "+c.ID)
			}
		}
	}
}

// matrixOf collects the kills by defect. A kill of a defect that the reference lacks, and a defect that
// no check kills, are both errors of the suite.
func matrixOf(s *suites.Suite, known []string) (map[string][]wanted, error) {
	out := map[string][]wanted{}
	have := map[string]bool{}
	for _, d := range known {
		have[d] = true
	}
	var errs []string
	for _, c := range s.Checks() {
		for _, k := range c.Kills {
			if !have[k.Defect] {
				errs = append(errs, fmt.Sprintf("check %s kills %s, which the reference can not plant", c.ID, k.Defect))
			}
			out[k.Defect] = append(out[k.Defect], wanted{c.ID, k})
		}
	}
	for _, d := range known {
		if len(out[d]) == 0 {
			errs = append(errs, fmt.Sprintf("planted defect %s: no check names it", d))
		}
	}
	if len(errs) > 0 {
		sort.Strings(errs)
		return nil, fmt.Errorf("the kill matrix has holes:\n  %s", strings.Join(errs, "\n  "))
	}
	return out, nil
}

func (o Options) trials(matrix map[string][]wanted) ([]Trial, error) {
	var out []Trial
	if len(o.Only) == 0 {
		out = append(out, Trial{Name: cleanTrial, Probing: true})
		for _, h := range o.Hollow {
			out = append(out, Trial{Name: "hollow-" + h, Hollow: h})
		}
		if faulted := o.faulted(); len(faulted) > 0 {
			out = append(out, Trial{Name: "null-faults", Patterns: faulted, Null: true})
		}
	}
	var defects []string
	for d := range matrix {
		defects = append(defects, d)
	}
	sort.Strings(defects)
	for _, d := range o.Only {
		if len(matrix[d]) == 0 {
			return nil, fmt.Errorf("no check kills %q%s", d, suites.Suggest(d, defects))
		}
	}
	for _, d := range defects {
		if len(o.Only) > 0 && !has(o.Only, d) {
			continue
		}
		out = append(out, Trial{Name: trialName(d, 0), Defects: []string{d}, Patterns: o.patternsOf(d, matrix[d])})
	}
	return out, nil
}

// patternsOf picks the cases that must die and the sentinels that must live.
func (o Options) patternsOf(defect string, ws []wanted) []string {
	seen := map[string]bool{}
	var out []string
	add := func(p string) {
		if !seen[p] {
			seen[p] = true
			out = append(out, p)
		}
	}
	for _, w := range ws {
		p := w.check
		if w.kill.Case != "" {
			p += "#" + w.kill.Case
		}
		if w.kill.Under != "" {
			p += "@" + w.kill.Under
		}
		add(p)
	}
	for _, s := range o.sentinelsFor(defect) {
		add(s)
	}
	return out
}

// sentinelsFor picks the sentinels that the defect has no business with.
func (o Options) sentinelsFor(defect string) []string {
	face, _, _ := strings.Cut(defect, ".")
	var out []string
	for _, s := range o.Sentinels {
		if s.Face != face {
			out = append(out, s.Case)
		}
	}
	return out
}

func (o Options) faulted() []string {
	var out []string
	for _, c := range o.Suite.Checks() {
		for _, key := range c.Keys() {
			if key.Under != "" {
				out = append(out, suites.Pattern(key))
			}
		}
	}
	return out
}

// cleanTrial is the run of the reference without defects. Its latency scenarios want the host for
// themselves, so that it goes first and alone.
const cleanTrial = "clean"

// conduct runs the trials, the clean one alone, the others a few at once.
func (o Options) conduct(ctx context.Context, trials []Trial) (map[string]*results.Bundle, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	out := map[string]*results.Bundle{}
	var mu sync.Mutex
	one := func(t Trial) {
		began := time.Now()
		b, err := o.Conduct(ctx, t)
		if err != nil {
			cancel(fmt.Errorf("trial %s: %w", t.Name, err))
			return
		}
		mu.Lock()
		defer mu.Unlock()
		out[t.Name] = b
		if o.Progress != nil {
			o.Progress(t.Name, len(out), len(trials), time.Since(began))
		}
	}
	rest := trials
	if len(rest) > 0 && rest[0].Name == cleanTrial {
		one(rest[0])
		rest = rest[1:]
	}
	o.together(ctx, rest, one)
	return out, context.Cause(ctx)
}

// together runs trials on the proof's workers until all are done or ctx ends.
func (o Options) together(ctx context.Context, trials []Trial, one func(Trial)) {
	queue := make(chan Trial)
	var wg sync.WaitGroup
	for range o.Workers {
		wg.Go(func() {
			for t := range queue {
				one(t)
			}
		})
	}
	defer wg.Wait()
	defer close(queue)
	for _, t := range trials {
		select {
		case queue <- t:
		case <-ctx.Done():
			return
		}
	}
}

// matrix fills in which defects were killed.
func (o Options) matrix(p *results.Proof, matrix map[string][]wanted, bundles map[string]*results.Bundle) {
	var defects []string
	for d := range matrix {
		defects = append(defects, d)
	}
	sort.Strings(defects)
	for _, d := range defects {
		tries := triesOf(d, bundles)
		if len(tries) == 0 {
			continue
		}
		for _, w := range matrix[d] {
			cell := o.cell(d, w, tries)
			p.Defects = append(p.Defects, cell)
			switch {
			case cell.Killed:
			case cell.Observed == results.NotClaimed.String() && o.optional(w.check, w.kill.Case):
				p.Open = append(p.Open, fmt.Sprintf("%s on %s: the reference does not claim here what the check needs", d, w.check))
			default:
				p.Survivors = append(p.Survivors, fmt.Sprintf("%s survives %s (%s), seen: %s", d, w.check, w.kill.Reason, cell.Observed))
			}
		}
	}
}

// triesOf returns the bundles of a defect's trials in their order.
func triesOf(defect string, bundles map[string]*results.Bundle) (out []*results.Bundle) {
	for again := range maxTrials {
		b := bundles[trialName(defect, again)]
		if b == nil {
			break
		}
		out = append(out, b)
	}
	return out
}

// cell is a kill as its trials show it: what the first that killed observed, or else the last.
func (o Options) cell(defect string, w wanted, tries []*results.Bundle) results.ProvedKill {
	cell := results.ProvedKill{Defect: defect, Check: w.check, Case: w.kill.Case, Under: w.kill.Under, Reason: w.kill.Reason}
	for _, b := range tries {
		dead, seen := killed(b, w)
		if bad := o.badSentinel(b, defect); bad != "" {
			dead, seen = false, seen+"; sentinel "+bad
		}
		switch {
		case !dead:
			cell.Missed++
			if !cell.Killed {
				cell.Observed = seen
			}
		case !cell.Killed:
			cell.Killed, cell.Observed = true, seen
		}
	}
	if cell.Missed > 0 {
		cell.Trials = len(tries)
	}
	return cell
}

// killed looks for a Fail with the reason that the kill names.
func killed(b *results.Bundle, w wanted) (bool, string) {
	var seen []string
	for _, v := range b.Verdicts.Verdicts {
		if v.Check != w.check || (w.kill.Case != "" && v.Case != w.kill.Case) || v.Under != w.kill.Under {
			continue
		}
		text := v.Status.String()
		if v.Reason != "" {
			text += " " + v.Reason
		}
		if v.Status == results.Fail && v.Reason == w.kill.Reason {
			return true, text
		}
		if !has(seen, text) {
			seen = append(seen, text)
		}
	}
	for _, n := range b.Run.NotRun {
		if n.Check == w.check {
			seen = append(seen, "not run: "+n.Probe)
		}
	}
	if len(seen) == 0 {
		return false, "no verdict"
	}
	return false, strings.Join(seen, ", ")
}

// badSentinel names a sentinel that did not stay green.
func (o Options) badSentinel(b *results.Bundle, defect string) string {
	if strings.HasPrefix(defect, "stack.") {
		return "" // such a stack does not come up: nothing can stay green
	}
	for _, s := range o.sentinelsFor(defect) {
		found := false
		for _, v := range b.Verdicts.Verdicts {
			if suites.Pattern(v.Key()) == s {
				found = true
				if v.Status != results.Pass {
					return s + " is " + v.Status.String() + " " + v.Reason
				}
			}
		}
		if !found {
			return s + " did not run"
		}
	}
	return ""
}

// hollow scores the targets that implement nothing: everything executed, nothing passed.
func (o Options) hollow(p *results.Proof, bundles map[string]*results.Bundle) {
	for _, h := range o.Hollow {
		b := bundles["hollow-"+h]
		if b == nil {
			continue
		}
		score := results.Hollow{Target: h, Counts: map[string]int{}}
		for _, v := range b.Verdicts.Verdicts {
			c, ok := o.Suite.Check(v.Check)
			if !ok || !c.Driven() {
				continue
			}
			score.Executed++
			score.Counts[v.Status.String()]++
			switch v.Status {
			case results.Fail, results.Inconclusive:
			default:
				p.Survivors = append(p.Survivors, fmt.Sprintf("hollow target %s: %s is %s", h, v.Key(), v.Status))
			}
		}
		if score.Executed == 0 {
			p.Survivors = append(p.Survivors, "hollow target "+h+": nothing was executed")
		}
		p.Hollow = append(p.Hollow, score)
	}
}

// nullFaults demands Inconclusive from every case under a fault that did nothing.
func (o Options) nullFaults(p *results.Proof, bundles map[string]*results.Bundle) {
	b := bundles["null-faults"]
	if b == nil {
		return
	}
	defer func() {
		if len(p.Faults) == 0 && len(b.Run.NotRun) == 0 {
			p.Survivors = append(p.Survivors, "a fault that does nothing: nothing was executed")
		}
	}()
	for _, v := range b.Verdicts.Verdicts {
		if v.Under == "" {
			continue
		}
		held := v.Status == results.Inconclusive && v.Reason == suites.ReasonNotWitnessed
		p.Faults = append(p.Faults, results.NullFault{
			Check: v.Check, Fault: v.Under, Observed: strings.TrimSpace(v.Status.String() + " " + v.Reason), Held: held,
		})
		if !held {
			p.Survivors = append(p.Survivors, fmt.Sprintf("a fault that does nothing: %s is %s %s", v.Key(), v.Status, v.Reason))
		}
	}
}

// clean demands that the reference without defects passes everything. What this host was too noisy to
// say is left open: it is no survivor, and no proof either.
func (o Options) clean(p *results.Proof, b *results.Bundle) {
	if b == nil {
		return
	}
	if len(b.Verdicts.Verdicts) == 0 {
		p.Survivors = append(p.Survivors, "clean reference: nothing was executed")
	}
	for _, v := range b.Verdicts.Verdicts {
		switch {
		case v.Status == results.Pass:
		case v.Status == results.NotClaimed && o.optional(v.Check, v.Case):
			p.Open = append(p.Open, fmt.Sprintf("clean reference: %s: the reference does not claim here what it needs", v.Key()))
		case v.Status == results.Inconclusive && (v.Reason == suites.ReasonHostNoise || v.Reason == suites.ReasonNotWitnessed):
			p.Open = append(p.Open, fmt.Sprintf("clean reference: %s is inconclusive %s: %s", v.Key(), v.Reason, v.Why.Observed))
		default:
			p.Survivors = append(p.Survivors, fmt.Sprintf("clean reference: %s is %s %s: %s", v.Key(), v.Status, v.Reason, v.Why.Observed))
		}
	}
}

// count computes covered and proven requirements.
func (o Options) count(p *results.Proof) {
	proven := Proven(o.Suite, p)
	for _, r := range o.Suite.Requirements() {
		if r.Subject != "target" {
			continue
		}
		p.Requirements++
		if len(o.Suite.CheckedBy(r.ID)) > 0 {
			p.Covered++
		}
		if proven[r.ID] {
			p.Proven++
		}
	}
}

// optional tells whether a case needs a feature that the reference has only where the host has a component.
func (o Options) optional(check, kase string) bool {
	c, ok := o.Suite.Check(check)
	return ok && slices.ContainsFunc(c.NeedsOf(kase), features.Optional)
}

// Proven lists the requirements of which a covering check was seen to kill a defect.
func Proven(s *suites.Suite, p *results.Proof) map[string]bool {
	out := map[string]bool{}
	for _, k := range p.Defects {
		c, ok := s.Check(k.Check)
		if !ok || !k.Killed {
			continue
		}
		for _, id := range c.Covers {
			out[id] = true
		}
	}
	return out
}

func has(list []string, x string) bool {
	for _, y := range list {
		if x == y {
			return true
		}
	}
	return false
}
