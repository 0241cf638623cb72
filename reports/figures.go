package reports

import (
	"strings"

	"github.com/assay-bench/assay/results"
)

// figureTable is the numbers of verdicts that carry the same ones.
type figureTable struct {
	Names []string
	Lines []figureLine
}

type figureLine struct {
	Name   string
	Status results.Status
	Values []string
}

// figureTables puts verdicts with equal figure names into one table, in the order of the rows.
func figureTables(rows []row) []figureTable {
	var out []figureTable
	at := map[string]int{}
	for _, r := range rows {
		if len(r.Figures) == 0 {
			continue
		}
		l := figureLine{Name: r.Name, Status: r.Status}
		var names []string
		for _, f := range r.Figures {
			names = append(names, f.Name)
			l.Values = append(l.Values, figure(f))
		}
		key := strings.Join(names, "\x00")
		i, ok := at[key]
		if !ok {
			i = len(out)
			at[key], out = i, append(out, figureTable{Names: names})
		}
		out[i].Lines = append(out[i].Lines, l)
	}
	return out
}

// timed tells whether the load generator measured latencies, whose figures are no truer than it is.
func (m *report) timed() bool {
	for _, r := range m.Rows {
		for _, f := range r.Figures {
			if f.Name == "p99" {
				return true
			}
		}
	}
	return false
}
