package router

import (
	"crypto/sha256"
	"encoding/hex"
	"math"
	"slices"

	"github.com/assay-bench/assay/models/encode"
	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/router/learn"
	"github.com/assay-bench/assay/reference/router/table"
)

// How many rows examples make.
const (
	rowsCentroid = "centroid"
	rowsExamples = "examples"
)

// SetPolicies learns policies and makes one new version of them. All of them or none.
func (r *Router) SetPolicies(policies map[string]Policy) (PoliciesSet, error) {
	for id, p := range policies {
		if err := p.check(id); err != nil {
			return PoliciesSet{}, err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.live.Load()
	next := make([]*table.Policy, 0, len(l.version.Policies)+len(policies))
	for _, p := range l.version.Policies {
		if _, replaced := policies[p.ID]; !replaced {
			next = append(next, r.kept(p))
		}
	}
	for id, p := range policies {
		learned, err := r.learn(id, p, l.stable)
		if err != nil {
			return PoliciesSet{}, err
		}
		next = append(next, learned)
	}
	rows := 0
	for _, p := range next {
		rows += len(p.Rows)
	}
	if err := r.service.room(r, rows); err != nil {
		return PoliciesSet{}, err
	}
	if len(next) > maxPolicies {
		return PoliciesSet{}, refuse(Conflict, "policies", "%d policies, at most %d", len(next), maxPolicies)
	}
	if err := r.change("policy", l, next); err != nil {
		return PoliciesSet{}, err
	}
	l = r.live.Load()
	return PoliciesSet{l.version.ID, l.version.Digest, l.version.Rows}, nil
}

// change publishes other policies under the same settings, model and threshold: a calibration holds until the
// next one.
func (r *Router) change(cause string, l *live, policies []*table.Policy) error {
	return r.publish(cause, l.settings, l.stable.model, l.stable.engine, policies, l.version.Threshold)
}

func (p Policy) check(id string) error {
	if len(p.Examples) > 0 && len(p.Vectors) > 0 {
		return bad("policy %s: examples or vectors, not both", id)
	}
	if n := max(len(p.Examples), len(p.Vectors)); n > maxPerPolicy {
		return bad("policy %s: %d examples or vectors, at most %d", id, n, maxPerPolicy)
	}
	if w := *or(p.Weight, 1); !(w > 0 && w <= 1000) {
		return bad("policy %s: weight is %v, want more than 0, at most 1,000", id, w)
	}
	if !slices.Contains([]string{"", rowsCentroid, rowsExamples}, p.Rows) {
		return bad("policy %s: rows is %.32q, want centroid or examples", id, p.Rows)
	}
	if len(p.Backends) > 16 {
		return bad("policy %s: %d backends, at most 16", id, len(p.Backends))
	}
	if s := p.Split; s != nil && !(s.Share >= 0 && s.Share <= 1) {
		return bad("policy %s: split.share is %v, want 0 to 1", id, s.Share)
	}
	return nil
}

// learn makes a policy's rows.
func (r *Router) learn(id string, p Policy, a *arm) (*table.Policy, error) {
	q := table.Policy{
		ID: id, Weight: *or(p.Weight, 1),
		Route: table.Route{Backends: p.Backends, Split: p.Split, Shadow: p.Shadow},
	}
	var err error
	if len(p.Vectors) > 0 {
		q.Rows, err = given(id, p.Vectors, r.service.cfg.Defects)
	} else {
		q.Learned = table.Learned{Examples: p.Examples, PerExample: p.Rows == rowsExamples}
		q.Rows, err = learned(id, q.Learned, a.pool)
	}
	if err != nil {
		return nil, err
	}
	made, err := table.NewPolicy(q)
	if err != nil {
		return nil, bad("%v", err)
	}
	return made, nil
}

func given(id string, vectors [][]float64, d defect.Set) ([]table.Row, error) {
	rows := make([]table.Row, len(vectors))
	for i, v := range vectors {
		u := make([]float32, table.Dim)
		if err := unit(u, v, d); err != nil {
			return nil, bad("policy %s: row %d: %v", id, i, err)
		}
		rows[i] = table.Row{Live: u, Trained: u}
	}
	return rows, nil
}

// learned embeds examples: a row each, or their normalised mean.
func learned(id string, l table.Learned, p *pool) ([]table.Row, error) {
	if len(l.Examples) == 0 {
		return nil, nil
	}
	e, err := p.get()
	if err != nil {
		return nil, err
	}
	defer p.put(e)
	vectors := make([][]float32, len(l.Examples))
	for i, text := range l.Examples {
		known, _, err := e.request(text, nil, noTime)
		if err != nil {
			return nil, err
		}
		if known == 0 {
			return nil, refuse(Bad, string(table.UnknownText), "policy %s: example %d has no feature that the model knows", id, i)
		}
		vectors[i] = slices.Clone(e.out)
	}
	if !l.PerExample {
		mean, ok := centroid(vectors)
		if !ok {
			return nil, bad("policy %s: the examples cancel each other", id)
		}
		vectors = [][]float32{mean}
	}
	rows := make([]table.Row, len(vectors))
	for i, v := range vectors {
		rows[i] = table.Row{Live: v, Trained: v}
	}
	return rows, nil
}

// centroid is the normalised mean, summed in float64 in the order of the examples.
func centroid(vectors [][]float32) ([]float32, bool) {
	mean := make([]float32, table.Dim)
	for i := range mean {
		sum := 0.0
		for _, v := range vectors {
			sum += float64(v[i])
		}
		mean[i] = float32(sum / float64(len(vectors)))
	}
	return mean, encode.Normalize(mean)
}

// relearn learns policies again with another model. Rows that were given as vectors have no texts to learn
// from.
func (r *Router) relearn(policies []*table.Policy, m *Model, used string) ([]*table.Policy, error) {
	p, err := m.in(used)
	if err != nil {
		return nil, err
	}
	again := make([]*table.Policy, len(policies))
	for i, old := range policies {
		if len(old.Rows) > 0 && old.Learned.Examples == nil {
			return nil, refuse(Conflict, "vectors", "policy %s was set as vectors: another model can not learn it", old.ID)
		}
		rows, err := learned(old.ID, old.Learned, p)
		if err != nil {
			return nil, err
		}
		q := *old
		q.Rows = rows
		if again[i], err = table.NewPolicy(q); err != nil {
			return nil, err
		}
	}
	return again, nil
}

// RemovePolicy takes a policy away and returns the version without it.
func (r *Router) RemovePolicy(id string) (int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.live.Load()
	next := slices.DeleteFunc(slices.Clone(l.version.Policies), func(p *table.Policy) bool { return p.ID == id })
	if len(next) == len(l.version.Policies) {
		return 0, unknown("policy", id)
	}
	if err := r.change("removal", l, next); err != nil {
		return 0, err
	}
	return r.live.Load().version.ID, nil
}

// Policies lists the live policies.
func (r *Router) Policies() []PolicySummary {
	list := []PolicySummary{}
	for _, p := range r.live.Load().version.Policies {
		list = append(list, PolicySummary{p.ID, len(p.Rows), p.Weight, names(p)})
	}
	return list
}

func names(p *table.Policy) []string { return append([]string{}, p.Route.Backends...) }

// Policy returns a live policy with its rows.
func (r *Router) Policy(id string) (PolicyState, error) {
	t := r.live.Load().stable.table
	i, ok := t.Find(id)
	if !ok {
		return PolicyState{}, unknown("policy", id)
	}
	p := t.Policies()[i]
	state := PolicyState{Policy: p.ID, Weight: p.Weight, Backends: names(p), Rows: []RowState{}}
	for i, row := range p.Rows {
		state.Rows = append(state.Rows, RowState{table.RowID(p.ID, i), row.Live, row.Trained, learn.Degrees(row.Live, row.Trained)})
	}
	return state, nil
}

// Calibrate takes the threshold from a quantile of the greatest cosines of texts.
func (r *Router) Calibrate(c Calibration) (Calibrated, error) {
	if !(c.Quantile >= 0 && c.Quantile <= 1) {
		return Calibrated{}, bad("quantile is %v, want 0 to 1", c.Quantile)
	}
	if len(c.Split) == 0 || len(c.Split) > 64 || c.Split == "none" || c.Split == "configured" {
		return Calibrated{}, bad("split is %.70q, want a name of 1 to 64 bytes other than none and configured", c.Split)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.live.Load()
	if l.settings.Threshold != nil {
		return Calibrated{}, refuse(Conflict, "threshold", "the settings have a threshold: take it out first")
	}
	t, unknownTexts, err := r.quantile(c, l.stable.model, l.stable.engine, l.version.Policies)
	if err != nil {
		return Calibrated{}, err
	}
	if err := r.publish("calibration", l.settings, l.stable.model, l.stable.engine, l.version.Policies, t); err != nil {
		return Calibrated{}, err
	}
	r.calibration = &c
	return Calibrated{t, r.live.Load().version.ID, unknownTexts}, nil
}

// quantile is the threshold that a calibration gives for policies.
func (r *Router) quantile(c Calibration, m *Model, used string, policies []*table.Policy) (table.Threshold, int, error) {
	t, err := table.New(slices.Clone(policies), table.Threshold{Value: -1}, m.info.Digest)
	if err != nil {
		return table.Threshold{}, 0, bad("%v", err)
	}
	p, err := m.in(used)
	if err != nil {
		return table.Threshold{}, 0, err
	}
	e, err := p.get()
	if err != nil {
		return table.Threshold{}, 0, err
	}
	defer p.put(e)
	digest, tops, unknownTexts := sha256.New(), []float64{}, 0
	var o table.Outcome
	weights := make([]float64, len(policies))
	for i, x := range c.Examples {
		_, _ = digest.Write([]byte(x.Text + "\n")) // a hash never fails
		known, _, err := e.request(x.Text, nil, noTime)
		if err != nil {
			return table.Threshold{}, 0, err
		}
		if known == 0 || t.Rows() == 0 {
			unknownTexts++
			continue
		}
		t.Decide(&o, e.out, weights, table.Rule{K: 1})
		if math.IsNaN(float64(o.Top)) {
			return table.Threshold{}, 0, bad("example %d has no cosine", i)
		}
		tops = append(tops, float64(o.Top))
	}
	if len(tops) == 0 {
		return table.Threshold{}, 0, refuse(Conflict, "unknown-text", "no text of the split has a cosine: set policies first")
	}
	slices.Sort(tops)
	q := c.Quantile
	if r.service.cfg.Defects.On(defect.RouterQuantileWrong) {
		q = 1 - q
	}
	at := min(int(math.Floor(q*float64(len(tops)))), len(tops)-1)
	return table.Threshold{
		Value: tops[at], Split: c.Split, Quantile: c.Quantile, N: len(tops), Digest: hex.EncodeToString(digest.Sum(nil)),
	}, unknownTexts, nil
}
