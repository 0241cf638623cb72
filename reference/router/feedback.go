package router

import (
	"slices"

	"github.com/assay-bench/assay/models/engine"
	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/router/learn"
	"github.com/assay-bench/assay/reference/router/table"
)

// Refusals of an event besides those of its source.
const (
	driftCap   learn.Refusal = "drift-cap"
	noVector   learn.Refusal = "no-vector"
	noRows     learn.Refusal = "no-rows"
	otherModel learn.Refusal = "model"
)

// batch is a batch of feedback under way.
type batch struct {
	router  *Router
	step    learn.Step
	changed map[string]*table.Policy // by id
	policy  func(id string) (*table.Policy, bool)
	events  []LogEvent
	results []FeedbackResult
}

// Feedback takes one batch of outcomes. What is applied makes one new version; one that loses more than the
// settings allow on the guard set never goes live. Errors leave everything as it was: an unknown decision, a
// bad outcome.
func (r *Router) Feedback(events []FeedbackEvent) (FeedbackAnswer, error) {
	defects := r.service.cfg.Defects
	r.mu.Lock()
	defer r.mu.Unlock()
	records, err := r.about(events)
	if err != nil && !defects.On(defect.RouterFeedbackPartial) {
		return FeedbackAnswer{}, err
	}
	l := r.live.Load()
	b := r.newBatch(l)
	for i, d := range records {
		b.take(l, d, events[i])
	}
	answer := FeedbackAnswer{Results: b.results, VersionBefore: l.version.ID}
	if len(b.changed) == 0 || defects.On(defect.RouterFeedbackDropped) {
		answer.Version, answer.Guard = l.version.ID, r.measureGuard(l.stable, l.version.ID)
		r.enter(b, l.version.ID, &answer)
		r.judgeTrial()
		return answer, err
	}
	next, failed := r.advance(l, b, &answer)
	if failed != nil {
		return FeedbackAnswer{}, failed
	}
	r.enter(b, next.ID, &answer)
	if answer.RolledBack {
		r.counters.rollbacks.Add(1)
		r.record(LogEvent{Kind: "rollback", Applied: true, Reason: "guard", VersionBefore: next.ID, Version: l.version.ID})
	}
	r.judgeTrial()
	return answer, err
}

// about finds the decisions that events are about: all of them, or an error.
func (r *Router) about(events []FeedbackEvent) ([]*record, error) {
	records := make([]*record, 0, len(events))
	for i, e := range events {
		if e.Outcome != Confirmed && e.Outcome != Rejected {
			return records, bad("event %d: outcome is %.32q, want confirmed or rejected", i, e.Outcome)
		}
		if len(e.Source) > 64 {
			return records, bad("event %d: source has %d bytes, at most 64", i, len(e.Source))
		}
		d, ok := r.remembered(e.Decision)
		switch {
		case !ok && r.service.cfg.Defects.On(defect.RouterFeedbackUnknownOK):
			d = &record{}
		case !ok:
			return records, refuse(Unknown, "decision", "event %d: no decision %.64q", i, e.Decision)
		}
		records = append(records, d)
	}
	return records, nil
}

func (r *Router) newBatch(l *live) *batch {
	f := l.settings.Feedback
	b := &batch{router: r, changed: map[string]*table.Policy{}, step: learn.Step{Eta: *f.Eta, Clip: *f.Clip}}
	if d := r.service.cfg.Defects; d.On(defect.RouterFeedbackUnclipped) || d.On(defect.RouterFeedbackUnbound) {
		b.step.Clip = 2
	}
	b.policy = func(id string) (*table.Policy, bool) {
		if p, ok := b.changed[id]; ok {
			return p, true
		}
		i, ok := l.stable.table.Find(id)
		if !ok {
			return nil, false
		}
		return l.stable.table.Policies()[i], true
	}
	return b
}

// take applies one event, or says why not.
func (b *batch) take(l *live, d *record, e FeedbackEvent) {
	id := e.Policy
	if id == "" {
		id = d.Policy
	}
	l.trial.said(d, e.Outcome)
	event := LogEvent{
		Kind: "feedback", Source: e.Source, Decision: e.Decision, Policy: id, Outcome: e.Outcome, Vector: d.Vector,
		Eta: b.step.Eta, Clip: b.step.Clip, VersionBefore: l.version.ID,
	}
	result := FeedbackResult{}
	why := b.refused(l, d, e, id)
	if why == "" {
		why = b.apply(l, d, e.Outcome, id, &result)
	}
	event.Applied, event.Reason, event.Row = why == "", string(why), result.Row
	result.Applied, result.Reason = event.Applied, event.Reason
	if why == "" {
		b.router.counters.applied.Add(1)
		b.router.sources.Applied(e.Source)
	} else {
		count(b.router.counters.refused[:], refusals[:], why)
	}
	b.events, b.results = append(b.events, event), append(b.results, result)
}

// refused says why an event may not be applied, whatever it would do.
func (b *batch) refused(l *live, d *record, e FeedbackEvent, id string) learn.Refusal {
	defects, f := b.router.service.cfg.Defects, l.settings.Feedback
	limits := learn.Limits{PerMinute: *f.RatePerMinute, Share: *f.Share}
	why := b.router.sources.Take(e.Source, b.router.service.cfg.Now(), limits)
	switch {
	case why == learn.Anonymous && defects.On(defect.RouterFeedbackAnonymous):
	case why != "" && why != learn.Anonymous && defects.On(defect.RouterFeedbackUnlimited):
	case why != "":
		return why
	}
	if !d.known {
		return noVector
	}
	if d.model != l.stable.model {
		return otherModel
	}
	if p, ok := b.policy(id); !ok || len(p.Rows) == 0 {
		return noRows
	}
	return ""
}

// apply moves the row of the policy that is nearest to the decision's vector.
func (b *batch) apply(l *live, d *record, outcome, id string, result *FeedbackResult) learn.Refusal {
	defects := b.router.service.cfg.Defects
	p, _ := b.policy(id)
	i := nearestRow(p, d.Vector)
	sign := 1.0
	if outcome == Rejected && !defects.On(defect.RouterFeedbackInverted) {
		sign = -1
	}
	row := p.Rows[i]
	result.Row, result.DriftDegrees = table.RowID(id, i), learn.Degrees(row.Live, row.Trained)
	moved, ok := b.step.Apply(row.Live, d.Vector, sign)
	if !ok {
		return noVector
	}
	drift := learn.Degrees(moved, row.Trained)
	if drift > *l.settings.Feedback.CapDegrees && !defects.On(defect.RouterFeedbackCapless) && !defects.On(defect.RouterFeedbackUnbound) {
		return driftCap
	}
	q, err := p.WithRow(i, moved)
	if err != nil {
		return noVector
	}
	if defects.On(defect.RouterVersionMutable) {
		copy(row.Live, moved)
	}
	b.changed[id] = q
	result.MovedDegrees, result.DriftDegrees = learn.Degrees(row.Live, moved), drift
	return ""
}

// nearestRow returns the policy's row with the greatest cosine, the first one of equals.
func nearestRow(p *table.Policy, u []float32) int {
	best, at := float32(0), -1
	for i, row := range p.Rows {
		if c := engine.Dot(u, row.Live); at < 0 || c > best {
			best, at = c, i
		}
	}
	return at
}

// advance makes the version of a batch, and makes it live unless the guard set speaks against it.
func (r *Router) advance(l *live, b *batch, answer *FeedbackAnswer) (*Version, error) {
	policies := slices.Clone(l.version.Policies)
	for i, p := range policies {
		if q, ok := b.changed[p.ID]; ok {
			policies[i] = q
		}
	}
	t, err := table.New(policies, l.version.Threshold, l.stable.model.info.Digest)
	if err != nil {
		return nil, err
	}
	next := &live{settings: l.settings, stable: l.stable.with(t), trial: l.trial}
	next.version = r.newVersion("feedback", next.stable)
	answer.Guard = r.measureGuard(next.stable, next.version.ID)
	loss := r.guardBest - answer.Guard.Accuracy
	answer.RolledBack = answer.Guard.N > 0 && loss > *l.settings.Feedback.GuardLoss &&
		!r.service.cfg.Defects.On(defect.RouterGuardIgnored)
	answer.Version = l.version.ID
	if !answer.RolledBack {
		answer.Version = next.version.ID
		r.guardBest = max(r.guardBest, answer.Guard.Accuracy)
		r.swap(next)
	}
	return next.version, nil
}

// enter writes a batch into the log.
func (r *Router) enter(b *batch, version int64, answer *FeedbackAnswer) {
	defects := r.service.cfg.Defects
	for i, e := range b.events {
		e.Version = version
		if !e.Applied {
			e.Version = e.VersionBefore
		}
		if e.Applied && defects.On(defect.RouterAuditMissing) || !e.Applied && defects.On(defect.RouterRefusalUnlogged) {
			continue
		}
		answer.Results[i].Seq = r.record(e).Seq
	}
}

// guarded is a text of the guard set with its vector.
type guarded struct {
	policy string
	known  bool
	vector [table.Dim]float32
}

// SetGuard sets the guard set and measures the live version with it.
func (r *Router) SetGuard(examples []Example) (Guard, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l, before := r.live.Load(), r.guard
	r.guard = examples
	vectors, err := r.embedGuard(l.stable)
	if err != nil {
		r.guard = before
		return Guard{}, err
	}
	next := &live{settings: l.settings, version: l.version, stable: l.stable.with(l.stable.table), trial: l.trial}
	next.stable.guard = vectors
	r.record(LogEvent{Kind: "guard", Applied: true, VersionBefore: l.version.ID, Version: l.version.ID})
	r.swap(next)
	r.resetGuard(next.stable)
	return r.measureGuard(next.stable, l.version.ID), nil
}

// Guard measures the live version.
func (r *Router) Guard() Guard {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.live.Load()
	return r.measureGuard(l.stable, l.version.ID)
}

func (r *Router) resetGuard(a *arm) {
	r.guardBest = 0
	r.guardBest = r.measureGuard(a, 0).Accuracy
}

func (r *Router) embedGuard(a *arm) ([]guarded, error) {
	if len(r.guard) == 0 {
		return nil, nil
	}
	e, err := a.pool.get()
	if err != nil {
		return nil, err
	}
	defer a.pool.put(e)
	vectors := make([]guarded, len(r.guard))
	for i, x := range r.guard {
		known, _, err := e.request(x.Text, nil, noTime)
		if err != nil {
			return nil, err
		}
		vectors[i].vector = [table.Dim]float32(e.out)
		vectors[i].policy, vectors[i].known = x.Policy, known > 0
	}
	return vectors, nil
}

// measureGuard decides every text of the guard set with the weights that hold without windows and health, so
// that an hour of the day is no loss. A text without a policy is right if the router abstains.
func (r *Router) measureGuard(a *arm, version int64) Guard {
	g := Guard{N: len(a.guard), Best: r.guardBest, Version: version}
	if g.N == 0 {
		return g
	}
	l := r.live.Load()
	plain := l.settings
	no := false
	plain.Windows, plain.Adaptive = nil, &no
	shares := r.shares(plain, a.table, r.service.cfg.Now())
	var o table.Outcome
	for i := range a.guard {
		x := &a.guard[i]
		o.Abstain(table.UnknownText)
		if x.known {
			a.table.Decide(&o, x.vector[:], shares, l.rule)
		}
		chosen := ""
		if o.Reason == table.Decided {
			chosen = a.table.Policies()[o.Winner].ID
		}
		if chosen == x.policy {
			g.Correct++
		}
	}
	g.Accuracy = 100 * float64(g.Correct) / float64(g.N)
	g.Best = max(g.Best, g.Accuracy)
	return g
}
