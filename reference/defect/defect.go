// Package defect names the mistakes that can be planted in the reference implementation, so that a
// conformance suite can prove that each of its checks is able to fail. It holds names and no
// behaviour: the code that misbehaves asks Set.On at the place where a real bug would sit.
package defect

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/agnivade/levenshtein"
)

// Name identifies one planted defect, for example "rpc.length-ignored". Names never change meaning.
type Name string

// Entry is one line of the catalogue.
type Entry struct {
	Name Name
	Does string // what the implementation does wrong when the defect is planted
}

// Catalogue returns every known defect, sorted by name. The caller owns the slice.
func Catalogue() []Entry {
	entries := all()
	slices.SortFunc(entries, func(a, b Entry) int { return cmp.Compare(a.Name, b.Name) })
	return entries
}

// all lists the defects of every area.
func all() []Entry {
	return slices.Concat(catalogue[:], catalogueTLS, catalogueTPM, catalogueSandbox, catalogueRouter, catalogueRouterChat)
}

// Set is a selection of defects. The zero value is empty: the correct implementation. A Set is
// immutable and safe for concurrent use.
type Set struct {
	on map[Name]struct{}
}

// Of returns a Set of names known at compile time.
func Of(names ...Name) Set {
	on := make(map[Name]struct{}, len(names))
	for _, n := range names {
		on[n] = struct{}{}
	}
	return Set{on: on}
}

// Parse returns the Set of the given names. An unknown name is an error that suggests the nearest
// known one; a name given twice counts once.
func Parse(names []string) (Set, error) {
	parsed := make([]Name, 0, len(names))
	for _, n := range names {
		if !known(Name(n)) {
			return Set{}, fmt.Errorf("unknown defect %q: did you mean %q", n, nearest(n))
		}
		parsed = append(parsed, Name(n))
	}
	return Of(parsed...), nil
}

// On reports whether the defect is planted.
func (s Set) On(n Name) bool {
	if len(s.on) == 0 { // the usual case, asked several times a call
		return false
	}
	_, on := s.on[n]
	return on
}

// Any reports whether any defect is planted.
func (s Set) Any() bool { return len(s.on) > 0 }

// Names returns the planted defects, sorted. It is never nil, so that it encodes as a JSON list.
func (s Set) Names() []Name {
	names := slices.AppendSeq(make([]Name, 0, len(s.on)), maps.Keys(s.on))
	slices.Sort(names)
	return names
}

func known(n Name) bool {
	return slices.ContainsFunc(all(), func(e Entry) bool { return e.Name == n })
}

// nearest returns the known name with the smallest edit distance to n.
func nearest(n string) Name {
	if len(n) > 256 {
		n = n[:256] // the distance is quadratic
	}
	return slices.MinFunc(Catalogue(), func(a, b Entry) int {
		return cmp.Compare(levenshtein.ComputeDistance(n, string(a.Name)), levenshtein.ComputeDistance(n, string(b.Name)))
	}).Name
}
