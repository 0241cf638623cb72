package router

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/router/backend"
	"github.com/assay-bench/assay/reference/router/learn"
	"github.com/assay-bench/assay/reference/router/table"
)

// Router is a table of policies with its versions, its log and its backends.
type Router struct {
	service  *Service
	name     string
	live     atomic.Pointer[live] // what decisions see; nil until it is configured
	backends backend.Set
	counters counters
	seen     window      // texts that were decided, for drift
	swapping atomic.Bool // of a planted defect

	mu          sync.Mutex // of every change
	versions    []*Version // oldest first
	lastVersion int64
	log         []LogEvent
	lastSeq     int64
	sources     learn.Sources
	guard       []Example
	guardBest   float64
	calibration *Calibration
	ended       RolloutState // the last rollout, if none runs

	decided    sync.Mutex // of the decisions that are remembered
	decisions  []*record
	decisionNo int64

	sent       sync.Mutex // of the dispatches that are remembered
	dispatches []*sending
	dispatchNo int64
}

// Version is an immutable state of the prototypes.
type Version struct {
	ID, Parent int64
	Cause      string
	At         time.Time
	Policies   []*table.Policy
	Threshold  table.Threshold
	Model      *Model
	Digest     string
	Rows       int
}

// arm is a model with the table that it made: what a decision needs.
type arm struct {
	model  *Model
	engine string
	pool   *pool
	table  *table.Table
	guard  []guarded
	cache  *lru.Cache[string, *cached] // nil: off
	shares atomic.Pointer[weighing]
}

// live is everything that a decision sees, in one pointer.
type live struct {
	settings Settings
	rule     table.Rule
	version  *Version
	stable   *arm
	trial    *trial // nil: none runs
}

type cached struct {
	vector [table.Dim]float32
	known  int
}

// counters of a router since it was made.
type counters struct {
	decisions, engineCalls, fallbacks, canary atomic.Int64
	compared, agreed, shadowed, rollbacks     atomic.Int64
	hits, misses                              atomic.Int64
	abstained                                 [len(abstentions)]atomic.Int64
	applied                                   atomic.Int64
	refused                                   [len(refusals)]atomic.Int64
}

var (
	abstentions = [...]table.Reason{table.UnknownText, table.BelowThreshold, table.BelowMargin, table.NoPolicy}
	refusals    = [...]learn.Refusal{learn.Anonymous, learn.OverRate, learn.OverShare, driftCap, noVector, noRows, otherModel}
)

// count adds one to the place of a word in a list.
func count[W comparable](places []atomic.Int64, words []W, w W) {
	for i, have := range words {
		if have == w {
			places[i].Add(1)
		}
	}
}

// newArm makes an arm of a model's policies.
func (r *Router) newArm(m *Model, used string, s Settings, policies []*table.Policy, threshold table.Threshold) (*arm, error) {
	t, err := table.New(policies, threshold, m.info.Digest)
	if err != nil {
		return nil, bad("%v", err)
	}
	p, err := m.in(used)
	if err != nil {
		return nil, err
	}
	a := &arm{model: m, engine: used, pool: p, table: t}
	if size := *s.Cache; size > 0 {
		if a.cache, err = lru.New[string, *cached](size); err != nil {
			return nil, bad("cache: %v", err)
		}
	}
	a.guard, err = r.embedGuard(a)
	return a, err
}

// with returns the arm with another table; the cache of vectors and the guard's vectors stay.
func (a *arm) with(t *table.Table) *arm {
	return &arm{model: a.model, engine: a.engine, pool: a.pool, table: t, guard: a.guard, cache: a.cache}
}

func (a *arm) ref(variant string) ModelRef {
	return ModelRef{Name: a.model.info.Name, Digest: a.model.info.Digest, Engine: a.engine, Variant: variant}
}

// configure gives the router settings. Another model learns the policies again.
func (r *Router) configure(s Settings, m *Model, used string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.live.Load()
	var policies []*table.Policy
	var err error
	if old != nil {
		policies = old.version.Policies
		if old.stable.model != m {
			if policies, err = r.relearn(policies, m, used); err != nil {
				return err
			}
		}
	}
	threshold, err := r.threshold(s, m, used, policies)
	if err != nil {
		return err
	}
	if old != nil && old.stable.model == m && s.Threshold == nil && old.settings.Threshold == nil {
		threshold = old.version.Threshold
	}
	if old != nil && old.stable.model == m && old.version.Threshold == threshold {
		a, err := r.newArm(m, used, s, policies, threshold)
		if err != nil {
			return err
		}
		r.record(LogEvent{Kind: "settings", Applied: true, VersionBefore: old.version.ID, Version: old.version.ID})
		r.swap(&live{settings: s, version: old.version, stable: a, trial: old.trial})
		return nil
	}
	return r.publish("settings", s, m, used, policies, threshold)
}

// threshold is the one of the settings, or the calibrated one, or none.
func (r *Router) threshold(s Settings, m *Model, used string, policies []*table.Policy) (table.Threshold, error) {
	switch {
	case s.Threshold != nil:
		return table.Threshold{Value: *s.Threshold, Split: "configured"}, nil
	case r.calibration == nil, !slices.ContainsFunc(policies, func(p *table.Policy) bool { return len(p.Rows) > 0 }):
		return table.Threshold{Split: "none"}, nil
	}
	t, _, err := r.quantile(*r.calibration, m, used, policies)
	return t, err
}

// publish makes a new version live.
func (r *Router) publish(cause string, s Settings, m *Model, used string, policies []*table.Policy, threshold table.Threshold) error {
	a, err := r.newArm(m, used, s, policies, threshold)
	if err != nil {
		return err
	}
	old := r.live.Load()
	next := &live{settings: s, stable: a}
	if old != nil {
		if next.trial, err = r.trialWith(old.trial, s, policies); err != nil {
			return err
		}
	}
	next.version = r.newVersion(cause, a)
	event := LogEvent{Kind: cause, Applied: true, Version: next.version.ID}
	if old != nil {
		event.VersionBefore = old.version.ID
	}
	r.record(event)
	r.swap(next)
	r.resetGuard(a)
	return nil
}

// newVersion keeps a version; it is not live yet.
func (r *Router) newVersion(cause string, a *arm) *Version {
	r.lastVersion++
	v := &Version{
		ID: r.lastVersion, Cause: cause, At: r.service.cfg.Now().UTC(), Policies: a.table.Policies(),
		Threshold: a.table.Threshold(), Model: a.model, Digest: a.table.Digest(), Rows: a.table.Rows(),
	}
	if old := r.live.Load(); old != nil {
		v.Parent = old.version.ID
	}
	r.versions = append(r.versions, v)
	r.trim()
	return v
}

// trim forgets the oldest versions that are not live.
func (r *Router) trim() {
	kept := 0
	for _, v := range r.versions {
		kept += v.Rows
	}
	for len(r.versions) > 2 && (len(r.versions) > keptVersions || kept > keptRows) {
		drop := 0
		if l := r.live.Load(); l != nil && r.versions[0] == l.version {
			drop = 1
		}
		kept -= r.versions[drop].Rows
		r.versions = append(r.versions[:drop:drop], r.versions[drop+1:]...)
	}
}

// swap makes a state live: one store, so that a decision sees all of it or nothing.
func (r *Router) swap(l *live) {
	l.rule = table.Rule{K: *l.settings.K, Margin: *l.settings.Margin, Mistakes: mistakes(r.service.cfg.Defects)}
	r.live.Store(l)
}

// State returns the router as it is now.
func (r *Router) State() State {
	l := r.live.Load()
	return State{
		Router: r.name, Settings: l.settings, Version: l.version.ID, Digest: l.version.Digest,
		Policies: len(l.stable.table.Policies()), Rows: l.stable.table.Rows(),
		Threshold: l.stable.table.Threshold(), Model: l.stable.ref(Stable),
	}
}

// record appends to the log.
func (r *Router) record(e LogEvent) LogEvent {
	if r.service.cfg.Defects.On(defect.RouterAuditIncomplete) {
		e.Source, e.Vector = "", nil
	}
	r.lastSeq++
	e.Seq, e.At = r.lastSeq, r.service.cfg.Now().UTC()
	r.log = append(r.log, e)
	if len(r.log) >= 2*keptLog {
		r.log = append([]LogEvent(nil), r.log[len(r.log)-keptLog:]...)
	}
	return e
}

// pageSize of the log.
const pageSize = 1000

// Log returns events with a greater number than since, oldest first.
func (r *Router) Log(since int64) Log {
	r.mu.Lock()
	defer r.mu.Unlock()
	page := Log{Events: []LogEvent{}, Newest: r.lastSeq}
	kept := r.log[max(0, len(r.log)-keptLog):]
	if len(kept) == 0 {
		return page
	}
	page.Oldest = kept[0].Seq
	from := min(max(since+1-page.Oldest, 0), int64(len(kept)))
	if since == math.MaxInt64 {
		from = int64(len(kept))
	}
	page.Events = append(page.Events, kept[from:min(from+pageSize, int64(len(kept)))]...)
	return page
}
