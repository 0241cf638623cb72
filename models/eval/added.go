package eval

import (
	"slices"

	"github.com/assay-bench/assay/models/dataset"
)

// adding is a router that was trained without some classes, and rows for these from a few examples each.
type adding struct {
	router *Prototypes // without the held-out classes
	rows   map[int][]float32
	shots  int
}

// newAdding holds out evenly spread classes, trains without their texts, and makes their rows from few of them.
func newAdding(d *dataset.Dataset, p Plan) (*adding, error) {
	n := min(addedRoutes, len(d.Classes)/2)
	if n == 0 || p.AddedShots == 0 {
		return nil, nil
	}
	held := map[int]bool{}
	for i := range n {
		held[i*len(d.Classes)/n] = true
	}
	rest := slices.DeleteFunc(slices.Clone(d.Train), func(x dataset.Example) bool { return held[x.Class] })
	router, err := p.Learn(rest, len(d.Classes), p.Seeds[0])
	if err != nil {
		return nil, err
	}
	shots, err := dataset.Shots(d.Train, len(d.Classes), p.AddedShots, p.Seeds[0])
	if err != nil {
		return nil, err
	}
	few, err := NewPrototypes(router.Encoder, len(d.Classes), shots)
	if err != nil {
		return nil, err
	}
	a := &adding{router, map[int][]float32{}, p.AddedShots}
	for class := range held {
		router.Rows[class] = nil
		a.rows[class] = few.Rows[class]
	}
	return a, nil
}

// measure adds each route alone: how often its own texts are routed to it, and what it costs the old ones.
func (a *adding) measure(in []dataset.Example) (*Added, error) {
	if a == nil {
		return nil, nil
	}
	old := slices.DeleteFunc(slices.Clone(in), func(x dataset.Example) bool { return a.rows[x.Class] != nil })
	before, err := a.router.Decide(old, 0)
	if err != nil {
		return nil, err
	}
	out, right, total := &Added{Routes: len(a.rows), Shots: a.shots}, 0, 0
	for class := range a.router.Rows {
		if a.rows[class] == nil {
			continue
		}
		with := &Prototypes{a.router.Encoder, slices.Clone(a.router.Rows)}
		with.Rows[class] = a.rows[class]
		after, err := with.Decide(old, 0)
		if err != nil {
			return nil, err
		}
		out.LargestDrop = max(out.LargestDrop, Accuracy(before).Share()-Accuracy(after).Share())
		own, err := with.Decide(slices.DeleteFunc(slices.Clone(in), func(x dataset.Example) bool { return x.Class != class }), 0)
		if err != nil {
			return nil, err
		}
		right, total = right+Accuracy(own).K, total+len(own)
	}
	out.New = NewRate(right, total)
	return out, nil
}
