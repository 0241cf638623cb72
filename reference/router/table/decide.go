package table

import (
	"math"

	"github.com/assay-bench/assay/models/engine"
)

// MaxK bounds the neighbours of a decision.
const MaxK = 64

// Reason says why a decision abstained; empty if it did not.
type Reason string

// The reasons of an abstention.
const (
	Decided        Reason = ""
	UnknownText    Reason = "unknown-text"
	BelowThreshold Reason = "below-threshold"
	BelowMargin    Reason = "margin"
	NoPolicy       Reason = "no-policy"
)

// Neighbour is a row near the text.
type Neighbour struct {
	Row, Policy int32
	Cosine      float32
}

// Vote is what the neighbours of one policy add up to.
type Vote struct {
	Policy int32
	Sum    float64
}

// Rule is how a table is asked. Its zero Mistakes are the correct rule.
type Rule struct {
	K        int     // neighbours, 1 to MaxK
	Margin   float64 // below it the decision abstains; 0 never does
	Mistakes Mistakes
}

// Mistakes are planted defects of the arithmetic.
type Mistakes struct {
	Unweighted       bool // every neighbour counts 1
	NegativeVotes    bool // cosines below 0 are taken off
	TiesByOrder      bool // ties go to whichever policy was met last
	ThresholdIgnored bool
	MarginIgnored    bool
	OneNeighbour     bool // k is taken for 1
}

// Outcome is a decision with what led to it. Its arrays are the caller's memory: deciding allocates nothing.
type Outcome struct {
	Winner, Second int32 // policies; -1 is none
	Reason         Reason
	Top            float32 // greatest cosine
	Margin         float64 // (first sum − second sum) / all sums; 0 if they are 0

	near  [MaxK]Neighbour
	votes [MaxK]Vote
	n, nv int
}

// Neighbours are the nearest rows, the nearest first. The slice is the outcome's own.
func (o *Outcome) Neighbours() []Neighbour { return o.near[:o.n] }

// Votes are the sums, the greatest first. The slice is the outcome's own.
func (o *Outcome) Votes() []Vote { return o.votes[:o.nv] }

// Abstain makes o the outcome of a text without a vector, or of a table without rows.
func (o *Outcome) Abstain(why Reason) {
	o.Winner, o.Second, o.Reason, o.Top, o.Margin, o.n, o.nv = -1, -1, why, 0, 0, 0, 0
}

// Decide asks the table for the unit vector u. Weights has one share a policy. Sums are made in float64, in
// the order of the neighbours.
func (t *Table) Decide(o *Outcome, u []float32, weights []float64, r Rule) {
	o.Abstain(Decided)
	if len(t.owner) == 0 {
		o.Reason = NoPolicy
		return
	}
	if r.Mistakes.OneNeighbour {
		r.K = 1
	}
	t.nearest(o, u, min(r.K, MaxK))
	o.vote(weights, r.Mistakes)
	o.Top = o.near[0].Cosine
	o.Winner = o.votes[0].Policy
	if o.nv > 1 {
		o.Second = o.votes[1].Policy
	}
	o.Margin = o.margin()
	switch {
	case float64(o.Top) < t.threshold.Value && !r.Mistakes.ThresholdIgnored:
		o.Reason = BelowThreshold
	case o.Margin < r.Margin && !r.Mistakes.MarginIgnored:
		o.Reason = BelowMargin
	}
}

// nearest keeps the k greatest cosines, sorted. Among equal ones the row that comes first in the table stays
// first: rows are met in that order and only a greater one moves up.
func (t *Table) nearest(o *Outcome, u []float32, k int) {
	least := float32(math.Inf(-1))
	for row := range t.owner {
		c := engine.Dot(u, t.matrix[row*Dim:][:Dim])
		if o.n == k && !(c > least) {
			continue
		}
		if o.n < k {
			o.n++
		}
		i := o.n - 1
		for ; i > 0 && c > o.near[i-1].Cosine; i-- {
			o.near[i] = o.near[i-1]
		}
		o.near[i] = Neighbour{Row: int32(row), Policy: t.owner[row], Cosine: c}
		least = o.near[o.n-1].Cosine
	}
}

func (o *Outcome) vote(weights []float64, m Mistakes) {
	for _, n := range o.near[:o.n] {
		share := float64(weights[n.Policy] * max(0, float64(n.Cosine)))
		switch {
		case m.Unweighted:
			share = 1
		case m.NegativeVotes:
			share = weights[n.Policy] * float64(n.Cosine)
		}
		o.sum(n.Policy).Sum += share
	}
	for i := 1; i < o.nv; i++ { // insertion: there are few
		for j := i; j > 0 && before(o.votes[j], o.votes[j-1], m); j-- {
			o.votes[j], o.votes[j-1] = o.votes[j-1], o.votes[j]
		}
	}
}

func (o *Outcome) sum(policy int32) *Vote {
	for i := range o.votes[:o.nv] {
		if o.votes[i].Policy == policy {
			return &o.votes[i]
		}
	}
	o.votes[o.nv] = Vote{Policy: policy}
	o.nv++
	return &o.votes[o.nv-1]
}

// before orders by sum, then by policy id: policies are numbered in the order of their ids.
func before(a, b Vote, m Mistakes) bool {
	if a.Sum != b.Sum {
		return a.Sum > b.Sum
	}
	if m.TiesByOrder {
		return a.Policy > b.Policy
	}
	return a.Policy < b.Policy
}

func (o *Outcome) margin() float64 {
	all := 0.0
	for _, v := range o.votes[:o.nv] {
		all += v.Sum
	}
	if all <= 0 {
		return 0
	}
	if o.nv == 1 {
		return 1
	}
	return (o.votes[0].Sum - o.votes[1].Sum) / all
}
