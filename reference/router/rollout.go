package router

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/router/backend"
	"github.com/assay-bench/assay/reference/router/table"
)

// States and modes of a rollout.
const (
	none       = "none"
	running    = "running"
	promoted   = "promoted"
	rolledBack = "rolled-back"

	modeCanary = "canary"
	modeShadow = "shadow"
)

// A canary ends by itself when feedback speaks against it.
const (
	canaryEvents = 20   // of feedback that are needed for a verdict
	canaryLoss   = 0.05 // of the share of rejected ones
)

// trial is another model beside the stable one. Its counters outlive a change of its table.
type trial struct {
	arm    *arm
	mode   string
	share  float64
	seed   int64
	always bool // a planted defect
	guard  Guard
	stats  *trialStats
}

type trialStats struct{ stable, trial armCounters }

type armCounters struct{ decisions, abstained, feedback, rejected atomic.Int64 }

func (c *armCounters) stats() ArmStats {
	return ArmStats{c.decisions.Load(), c.abstained.Load(), c.feedback.Load(), c.rejected.Load()}
}

// of returns the counters of a variant.
func (s *trialStats) of(variant string) *armCounters {
	if variant == Canary {
		return &s.trial
	}
	return &s.stable
}

// decided counts a decision. A nil trial counts nothing.
func (t *trial) decided(variant string, abstained bool) {
	if t == nil {
		return
	}
	c := t.stats.of(variant)
	c.decisions.Add(1)
	if abstained {
		c.abstained.Add(1)
	}
}

// said counts feedback for a decision of either arm.
func (t *trial) said(d *record, outcome string) {
	if t == nil || d.model == nil {
		return
	}
	c := t.stats.of(d.Model.Variant)
	c.feedback.Add(1)
	if outcome == Rejected {
		c.rejected.Add(1)
	}
}

// failing reports whether feedback speaks against the canary.
func (t *trial) failing() bool {
	if t == nil || t.mode != modeCanary {
		return false
	}
	c, s := t.stats.trial.stats(), t.stats.stable.stats()
	if c.Feedback < canaryEvents {
		return false
	}
	return share(c) > share(s)+canaryLoss
}

func share(a ArmStats) float64 {
	if a.Feedback == 0 {
		return 0
	}
	return float64(a.Rejected) / float64(a.Feedback)
}

// pick returns the arm that decides about a request. Vectors are of the stable model.
func (l *live) pick(q *DecideRequest) (*arm, string) {
	if l.trial == nil || l.trial.mode != modeCanary || q.Text == nil {
		return l.stable, Stable
	}
	if l.trial.always || backend.Fraction(l.trial.seed, "canary", q.key()) < l.trial.share {
		return l.trial.arm, Canary
	}
	return l.stable, Stable
}

// shadowModel lets a shadow model decide beside the answer and counts whether it agrees.
func (r *Router) shadowModel(s *Scratch, l *live, q *DecideRequest) {
	if l.trial == nil || l.trial.mode != modeShadow || q.Text == nil {
		return
	}
	var beside Scratch
	a := l.trial.arm
	if beside.borrow(a.pool) != nil {
		return
	}
	defer beside.Release()
	known, _, err := beside.lent.request(*q.Text, q.Request, r.service.cfg.Now())
	if err != nil {
		return
	}
	beside.Outcome.Abstain(table.UnknownText)
	if known > 0 {
		a.table.Decide(&beside.Outcome, beside.lent.out, r.weigh(l, a, r.service.cfg.Now()), l.rule)
	}
	l.trial.decided(Canary, beside.Outcome.Reason != table.Decided)
	r.counters.compared.Add(1)
	if beside.Outcome.Winner == s.Outcome.Winner && beside.Outcome.Reason == s.Outcome.Reason {
		r.counters.agreed.Add(1)
	}
}

// SetRollout starts a trial of another model in place of one that runs.
func (r *Router) SetRollout(q Rollout) (RolloutState, error) {
	m, err := r.service.model(q.Model)
	if err != nil {
		return RolloutState{}, err
	}
	part := *or(q.Share, 0.05)
	switch {
	case q.Mode != modeCanary && q.Mode != modeShadow:
		return RolloutState{}, bad("mode is %.32q, want canary or shadow", q.Mode)
	case !(part >= 0 && part <= 1):
		return RolloutState{}, bad("share is %v, want 0 to 1", part)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.live.Load()
	if m == l.stable.model {
		return RolloutState{}, refuse(Conflict, "model", "model %s decides already", m.info.Name)
	}
	t := &trial{
		mode: q.Mode, share: part, seed: l.settings.Seed, stats: &trialStats{},
		always: r.service.cfg.Defects.On(defect.RouterCanaryEverywhere),
	}
	if t.arm, err = r.trialArm(m, l.settings, l.version.Policies); err != nil {
		return RolloutState{}, err
	}
	t.guard = r.measureGuard(t.arm, l.version.ID)
	stable := r.measureGuard(l.stable, l.version.ID)
	if loss := stable.Accuracy - t.guard.Accuracy; q.Mode == modeCanary && loss > *l.settings.Feedback.GuardLoss &&
		!r.service.cfg.Defects.On(defect.RouterCanaryUnguarded) {
		return RolloutState{}, refuse(Conflict, "guard", "the guard accuracy is %.2f %%, that of the stable model %.2f %%", t.guard.Accuracy, stable.Accuracy)
	}
	r.record(LogEvent{Kind: "rollout", Applied: true, Detail: running + " " + m.info.Digest, VersionBefore: l.version.ID, Version: l.version.ID})
	r.swap(&live{settings: l.settings, version: l.version, stable: l.stable, trial: t})
	return r.rollout(), nil
}

// trialArm learns policies with a trial's model.
func (r *Router) trialArm(m *Model, s Settings, policies []*table.Policy) (*arm, error) {
	used, err := r.service.resolve(s.Engine)
	if err != nil {
		return nil, err
	}
	again, err := r.relearn(policies, m, used)
	if err != nil {
		return nil, err
	}
	threshold, err := r.threshold(s, m, used, again)
	if err != nil {
		return nil, err
	}
	return r.newArm(m, used, s, again, threshold)
}

// trialWith is a trial that goes on with other policies.
func (r *Router) trialWith(t *trial, s Settings, policies []*table.Policy) (*trial, error) {
	if t == nil {
		return nil, nil
	}
	a, err := r.trialArm(t.arm.model, s, policies)
	if err != nil {
		return nil, err
	}
	next := *t
	next.arm = a
	return &next, nil
}

// Rollout returns how the trial goes, or how the last one ended.
func (r *Router) Rollout() RolloutState {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rollout()
}

func (r *Router) rollout() RolloutState {
	t := r.live.Load().trial
	if t == nil {
		ended := r.ended
		if ended.State == "" {
			ended.State = none
		}
		return ended
	}
	return RolloutState{
		State: running, Model: t.arm.model.info.Digest, Mode: t.mode, Share: t.share, Guard: t.guard,
		Stable: t.stats.stable.stats(), Trial: t.stats.trial.stats(),
	}
}

// endTrial remembers how a trial ended; the caller swaps in a state without it.
func (r *Router) endTrial(l *live, state, why string) {
	if l.trial == nil {
		return
	}
	r.ended = r.rollout()
	r.ended.State, r.ended.Reason = state, why
	r.record(LogEvent{Kind: "rollout", Applied: true, Reason: why, Detail: state, VersionBefore: l.version.ID, Version: l.version.ID})
}

// EndRollout rolls the trial back.
func (r *Router) EndRollout() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.live.Load()
	if l.trial == nil {
		return refuse(Unknown, "", "no rollout is running")
	}
	r.withoutTrial(l, "asked")
	return nil
}

func (r *Router) withoutTrial(l *live, why string) {
	r.endTrial(l, rolledBack, why)
	r.swap(&live{settings: l.settings, version: l.version, stable: l.stable})
}

// judgeTrial rolls a canary back that feedback speaks against.
func (r *Router) judgeTrial() {
	l := r.live.Load()
	if l.trial.failing() && !r.service.cfg.Defects.On(defect.RouterCanaryStays) {
		r.withoutTrial(l, "rejected")
	}
}

// failTrial rolls a canary back whose engine failed, unless that was done already.
func (r *Router) failTrial(t *trial, why error) {
	r.service.cfg.Logger.Warn("the canary's engine failed", "router", r.name, "error", why)
	r.mu.Lock()
	defer r.mu.Unlock()
	if l := r.live.Load(); l.trial != nil && l.trial.stats == t.stats {
		r.withoutTrial(l, "engine")
	}
}

// Promote makes the trial's model the stable one, as a new version.
func (r *Router) Promote() (State, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.live.Load()
	if l.trial == nil {
		return State{}, refuse(Unknown, "", "no rollout is running")
	}
	r.endTrial(l, promoted, "asked")
	s := l.settings
	s.Model = l.trial.arm.model.info.Digest
	a := l.trial.arm
	next := &live{settings: s, stable: a}
	next.version = r.newVersion("model", a)
	if r.service.cfg.Defects.On(defect.RouterModelStale) {
		stale := *a.model
		stale.info = l.stable.model.info
		next.stable = a.with(a.table)
		next.stable.model = &stale
	}
	if r.service.cfg.Defects.On(defect.RouterModelSwapFails) {
		r.swapping.Store(true)
		time.AfterFunc(50*time.Millisecond, func() { r.swapping.Store(false) })
	}
	r.record(LogEvent{Kind: "model", Applied: true, Detail: s.Model, VersionBefore: l.version.ID, Version: next.version.ID})
	r.swap(next)
	r.resetGuard(a)
	return r.State(), nil
}

// candidates are the backends of a policy in the order in which they should be tried.
func (r *Router) candidates(l *live, a *arm, policy string, q *DecideRequest) []*backend.Backend {
	i, ok := a.table.Find(policy)
	if !ok {
		return nil
	}
	route, defects := a.table.Policies()[i].Route, r.service.cfg.Defects
	var all []*backend.Backend
	for _, name := range route.Backends {
		if b, ok := r.backends.Get(name); ok {
			all = append(all, b)
		}
	}
	if route.Split != nil && !defects.On(defect.RouterSplitIgnored) {
		key := q.key()
		if defects.On(defect.RouterSplitRandom) {
			key += r.State().Router + string(rune(r.counters.decisions.Load()))
		}
		if b, ok := r.backends.Get(route.Split.Backend); ok && backend.Fraction(l.settings.Seed, policy, key) < route.Split.Share {
			all = append([]*backend.Backend{b}, slices.DeleteFunc(all, func(x *backend.Backend) bool { return x == b })...)
		}
	}
	if defects.On(defect.RouterObjectiveIgnored) {
		return all
	}
	return backend.Order(all, q.Objective)
}

// start begins a span in the model's colour.
func (s *Service) start(ctx context.Context, name string, a *arm, more ...attribute.KeyValue) (context.Context, trace.Span) {
	return s.spans.Start(ctx, name, s.colour(a.model.info.Digest), more...)
}

// colour is what spans say of a model.
func (s *Service) colour(digest string) string {
	switch {
	case s.cfg.Defects.On(defect.RouterSpansOldModel):
		return s.builtin.info.Digest
	case s.cfg.Defects.On(defect.RouterSpansUncoloured):
		return ""
	}
	return digest
}
