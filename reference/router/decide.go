package router

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/assay-bench/assay/models/encode"
	"github.com/assay-bench/assay/models/tower"
	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/router/backend"
	"github.com/assay-bench/assay/reference/router/span"
	"github.com/assay-bench/assay/reference/router/table"
)

// maxKey bounds the key of a split, in bytes.
const maxKey = 256

// Scratch is the caller's memory of a decision. It serves one goroutine at a time and may be used again. Release it
// after the last use: until then it keeps the embedder of the last decision.
type Scratch struct {
	Outcome table.Outcome
	Vector  []float32 // where the engine wrote it, or the cache has it; read only, until the next decision
	Known   int       // features of the text that the model knows; 0: the vector is zero
	Cached  bool      // the vector came from the cache
	shares  []float64
	lent    *embedder // whose memory Vector is
	from    *pool
}

// borrow makes lent an embedder of a pool.
func (s *Scratch) borrow(p *pool) (err error) {
	if s.lent != nil && s.from == p && !p.closed.Load() {
		return nil
	}
	s.Release()
	s.lent, err = p.get()
	s.from = p
	return err
}

// Release gives the memory of the vector back, which is nil then. A scratch may be released twice and used again.
func (s *Scratch) Release() {
	if s.lent != nil {
		s.from.put(s.lent)
	}
	s.Vector, s.lent, s.from = nil, nil, nil
}

// record is a decision that is remembered for feedback and explanation.
type record struct {
	Decision // with its vector
	known    bool
	model    *Model
}

// Ask decides about a text with the stable model and leaves the outcome in s. It allocates nothing in steady
// state, keeps no record and counts what it did. Errors: a text that is too long, an engine that fails.
func (r *Router) Ask(s *Scratch, text string) error {
	l := r.live.Load()
	now := r.service.cfg.Now()
	if err := r.vector(s, l.stable, l.stable.pool, text, nil, now); err != nil {
		return err
	}
	r.choose(s, l, l.stable, now)
	return nil
}

// vector embeds a text with what is known of its request. The cache goes by texts, so it is for them alone.
func (r *Router) vector(s *Scratch, a *arm, p *pool, text string, f *RequestFeatures, at time.Time) error {
	s.Cached = false
	keep := a.cache != nil && (f == nil || a.model.info.Format != Towers)
	if keep {
		if c, ok := a.cache.Get(r.cacheKey(text)); ok {
			r.counters.hits.Add(1)
			s.Vector, s.Known, s.Cached = c.vector[:], c.known, true
			return nil
		}
		r.counters.misses.Add(1)
	}
	if err := s.borrow(p); err != nil {
		return err
	}
	s.Vector = s.lent.out
	known, ran, err := s.lent.request(text, f, at)
	if ran && !r.service.cfg.Defects.On(defect.RouterEngineUncounted) {
		r.counters.engineCalls.Add(1)
	}
	if err != nil {
		return err
	}
	s.Known = known
	if keep {
		a.cache.Add(strings.Clone(r.cacheKey(text)), &cached{[table.Dim]float32(s.Vector), known})
	}
	return nil
}

func (r *Router) cacheKey(text string) string {
	if r.service.cfg.Defects.On(defect.RouterCacheStale) {
		return fmt.Sprint(len(text))
	}
	return text
}

// choose asks the table and counts.
func (r *Router) choose(s *Scratch, l *live, a *arm, at time.Time) {
	r.counters.decisions.Add(1)
	if r.service.cfg.Defects.Any() {
		r.service.loiter()
	}
	s.shares = r.weigh(l, a, at)
	if s.Known == 0 {
		s.Outcome.Abstain(table.UnknownText)
	} else {
		rule := l.rule
		if r.service.cfg.Defects.On(defect.RouterTieRandom) {
			rule.Mistakes.TiesByOrder = r.counters.decisions.Load()%2 == 0
		}
		a.table.Decide(&s.Outcome, s.Vector, s.shares, rule)
	}
	if s.Outcome.Reason != table.Decided {
		count(r.counters.abstained[:], abstentions[:], s.Outcome.Reason)
		if l.settings.Fallback != "" && !r.service.cfg.Defects.On(defect.RouterFallbackUncounted) {
			r.counters.fallbacks.Add(1)
		}
	}
}

// Decide decides about a text or a vector, remembers the decision and returns it.
func (r *Router) Decide(ctx context.Context, q DecideRequest) (Decision, error) {
	if err := q.check(r.service.cfg.Defects); err != nil {
		return Decision{}, err
	}
	if r.swapping.Load() {
		return Decision{}, errors.New("the model is being replaced")
	}
	l := r.live.Load() // everything below is of this one state
	at := r.service.cfg.Now()
	if !q.At.IsZero() {
		at = q.At
	}
	a, variant := l.pick(&q)
	ctx, root := r.service.start(ctx, "router.decide", a, attribute.String("router", r.name))
	defer root.End()
	s := new(Scratch)
	defer s.Release()
	err := r.fill(ctx, s, a, &q, at)
	if err != nil && variant == Canary && !isRefusal(err) { // the stable model decides, and from now on alone
		r.failTrial(l.trial, err)
		a, variant = l.stable, Stable
		err = r.fill(ctx, s, a, &q, at)
	}
	if err != nil {
		span.Fail(root, err)
		return Decision{}, err
	}
	_, voting := r.service.start(ctx, "router.vote", a)
	r.choose(s, l, a, at)
	voting.End()
	d := r.describe(s, l, a, variant, &q)
	d.At, d.Trace = at.UTC(), root.SpanContext().TraceID().String()
	r.seen.see(q.observed())
	r.shadowModel(s, l, &q)
	l.trial.decided(variant, d.Abstained)
	if variant == Canary {
		r.counters.canary.Add(1)
	}
	root.SetAttributes(attribute.String("policy", d.Policy), attribute.Int64("prototypes", d.Version))
	return r.remember(d, s, a, q.Explain), nil
}

func (q *DecideRequest) check(d defect.Set) error {
	if (q.Text == nil) == (q.Vector == nil) {
		return bad("text or vector: exactly one of them is needed")
	}
	if q.Text != nil && len(*q.Text) > encode.MaxTextBytes && !d.On(defect.RouterLongUnbounded) {
		return tooLarge(encode.MaxTextBytes, "text has %d bytes, at most %d", len(*q.Text), encode.MaxTextBytes)
	}
	if len(q.Key) > maxKey {
		return bad("key has %d bytes, at most %d", len(q.Key), maxKey)
	}
	if err := q.Request.check(); err != nil {
		return err
	}
	if !slices.Contains([]string{"", backend.Cost, backend.Latency, backend.Priority}, q.Objective) {
		return bad("objective is %.32q, want cost, latency or priority", q.Objective)
	}
	return nil
}

// check compares the features with their bounds.
func (f *RequestFeatures) check() error {
	switch {
	case f == nil:
		return nil
	case len(f.URL) > 8192 || len(f.UserAgent) > 1024 || len(f.Region) > 64 || len(f.AccessTimes) > tower.MaxAccesses:
		return bad("request: url, userAgent, region or accessTimes is longer than 8,192, 1,024, 64 bytes or %d times", tower.MaxAccesses)
	case !(f.LatencyMillis >= 0 && f.LatencyMillis <= 86400000):
		return bad("request: latencyMillis is %v, want 0 to 86,400,000", f.LatencyMillis)
	case f.ErrorCode < 0 || f.ErrorCode > 999:
		return bad("request: errorCode is %d, want 0 to 999", f.ErrorCode)
	}
	return nil
}

// key is what splits and canaries go by.
func (q *DecideRequest) key() string {
	if q.Key == "" && q.Text != nil {
		return *q.Text
	}
	return q.Key
}

// fill embeds the text of a request or takes its vector.
func (r *Router) fill(ctx context.Context, s *Scratch, a *arm, q *DecideRequest, at time.Time) error {
	if q.Vector != nil {
		s.Known, s.Vector = 1, make([]float32, table.Dim)
		return unit(s.Vector, q.Vector, r.service.cfg.Defects)
	}
	p := a.pool
	if q.Engine != "" {
		used, err := r.service.resolve(q.Engine)
		if err != nil {
			return err
		}
		if p, err = a.model.in(used); err != nil {
			return err
		}
	}
	_, embedding := r.service.start(ctx, "router.embed", a)
	defer embedding.End()
	if err := r.vector(s, a, p, *q.Text, q.Request, at); err != nil {
		span.Fail(embedding, err)
		return err
	}
	return nil
}

// unit writes a vector that a client gave, made of length 1.
func unit(dst []float32, v []float64, d defect.Set) error {
	if len(v) != table.Dim {
		return bad("vector has %d values, want %d", len(v), table.Dim)
	}
	for i, x := range v {
		dst[i] = float32(x)
		if f := float64(dst[i]); (math.IsNaN(f) || math.IsInf(f, 0)) && !d.On(defect.RouterNaNTaken) {
			return bad("vector: value %d is %v, want a finite float32", i, x)
		}
	}
	if !encode.Normalize(dst) && !d.On(defect.RouterNaNTaken) {
		return bad("vector: its length is 0 or too great")
	}
	return nil
}

// describe writes a decision out.
func (r *Router) describe(s *Scratch, l *live, a *arm, variant string, q *DecideRequest) Decision {
	o, t := &s.Outcome, a.table
	d := Decision{
		Abstained: o.Reason != table.Decided, Reason: o.Reason, TopCosine: o.Top, Margin: o.Margin,
		Threshold: t.Threshold(), MinMargin: *l.settings.Margin, Version: l.version.ID, VersionDigest: t.Digest(),
		Model: a.ref(variant), Cached: s.Cached, Votes: []Vote{}, Neighbours: []Neighbour{},
	}
	if q.Engine != "" && q.Text != nil {
		d.Model.Engine, _ = r.service.resolve(q.Engine) // it ran
	}
	for _, v := range o.Votes() {
		d.Votes = append(d.Votes, Vote{t.Policies()[v.Policy].ID, v.Sum, s.shares[v.Policy]})
	}
	for _, n := range o.Neighbours() {
		p, row := t.Place(n.Row)
		d.Neighbours = append(d.Neighbours, Neighbour{table.RowID(p.ID, row), p.ID, n.Cosine, s.shares[n.Policy]})
	}
	if o.Winner >= 0 {
		d.Policy = t.Policies()[o.Winner].ID
	}
	if o.Second >= 0 {
		d.Second = t.Policies()[o.Second].ID
	}
	if d.Abstained && !r.service.cfg.Defects.On(defect.RouterFallbackIgnored) {
		d.Policy = l.settings.Fallback
	}
	if candidates := r.candidates(l, a, d.Policy, q); len(candidates) > 0 {
		d.Backend = candidates[0].Name
	}
	r.misreport(&d)
	return d
}

// remember keeps a decision, the oldest falls out. The vector goes to those who asked for an explanation.
func (r *Router) remember(d Decision, s *Scratch, a *arm, explain bool) Decision {
	d.Vector = []float32{}
	if s.Known > 0 {
		d.Vector = slices.Clone(s.Vector) // the record outlives the scratch
	}
	r.decided.Lock()
	r.decisionNo++
	d.Decision = fmt.Sprintf("d-%s-%d", r.service.nonce, r.decisionNo)
	kept := &record{Decision: d, known: s.Known > 0, model: a.model}
	if i := int((r.decisionNo - 1) % keptDecisions); i < len(r.decisions) {
		r.decisions[i] = kept
	} else {
		r.decisions = append(r.decisions, kept)
	}
	r.decided.Unlock()
	if !explain {
		d.Vector = nil
	}
	return r.shortened(d)
}

func (r *Router) remembered(id string) (*record, bool) {
	r.decided.Lock()
	defer r.decided.Unlock()
	var number int64
	if _, err := fmt.Sscanf(id, "d-"+r.service.nonce+"-%d", &number); err != nil || number < 1 || len(r.decisions) == 0 {
		return nil, false
	}
	d := r.decisions[min((number-1)%keptDecisions, int64(len(r.decisions)-1))]
	return d, d.Decision.Decision == id
}

// Explain returns a decision of the past as it was made, with its vector.
func (r *Router) Explain(id string) (Decision, error) {
	d, ok := r.remembered(id)
	if !ok {
		return Decision{}, unknown("decision", id)
	}
	if r.service.cfg.Defects.On(defect.RouterExplainForgets) {
		forgetful := d.Decision
		l := r.live.Load()
		forgetful.Version, forgetful.VersionDigest = l.version.ID, l.version.Digest
		return forgetful, nil
	}
	return r.shortened(d.Decision), nil
}

// Embed returns the vectors of texts.
func (r *Router) Embed(texts []string, engineName string) (Embedded, error) {
	a := r.live.Load().stable
	p, ref := a.pool, a.ref(Stable)
	if engineName != "" {
		used, err := r.service.resolve(engineName)
		if err != nil {
			return Embedded{}, err
		}
		if p, err = a.model.in(used); err != nil {
			return Embedded{}, err
		}
		ref.Engine = used
	}
	answer, s := Embedded{Embeddings: make([]Embedding, 0, len(texts)), Model: ref}, new(Scratch)
	defer s.Release()
	for i, text := range texts {
		if err := r.vector(s, a, p, text, nil, noTime); err != nil {
			return Embedded{}, fmt.Errorf("text %d: %w", i, err)
		}
		e := Embedding{Vector: []float32{}, Features: s.Known}
		if s.Known > 0 {
			e.Vector = slices.Clone(s.Vector)
		}
		if r.service.cfg.Defects.On(defect.RouterVectorShort) && s.Known > 0 {
			e.Vector = e.Vector[:table.Dim-1]
		}
		answer.Embeddings = append(answer.Embeddings, e)
	}
	return answer, nil
}
