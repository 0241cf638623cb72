// Package catalogue lists the faults that assay has. It is the one place that knows all drivers and
// does nothing but list.
package catalogue

import (
	"fmt"
	"sort"

	"github.com/assay-bench/assay/chaos"
	"github.com/assay-bench/assay/chaos/l4proxy"
	"github.com/assay-bench/assay/chaos/proc"
)

// All returns every fault, sorted by name.
func All() []chaos.Fault {
	all := []chaos.Fault{
		l4proxy.Delay(),
		proc.Pause(),
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Name() < all[j].Name() })
	return all
}

// Find returns the fault of that name. The error for an unknown one names the nearest.
func Find(name string) (chaos.Fault, error) {
	nearest, least := "", 0
	for _, f := range All() {
		if f.Name() == name {
			return f, nil
		}
		if d := distance(f.Name(), name); nearest == "" || d < least {
			nearest, least = f.Name(), d
		}
	}
	return nil, fmt.Errorf("unknown fault %.64q, did you mean %s?", name, nearest)
}

// distance is the number of bytes to insert, delete or replace to make b of a (Levenshtein).
func distance(a, b string) int {
	b = b[:min(len(b), 64)] // no fault has a longer name, and names come from outside
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
