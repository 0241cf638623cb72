// Package catalogue lists the faults that assay has. It is the one place that knows all drivers and
// does nothing but list.
package catalogue

import (
	"fmt"
	"sort"

	"github.com/agnivade/levenshtein"

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
	word := name[:min(len(name), 64)] // the distance is quadratic, and names come from outside
	for _, f := range All() {
		if f.Name() == name {
			return f, nil
		}
		if d := levenshtein.ComputeDistance(f.Name(), word); nearest == "" || d < least {
			nearest, least = f.Name(), d
		}
	}
	return nil, fmt.Errorf("unknown fault %.64q, did you mean %s?", name, nearest)
}
