package main

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/assay-bench/assay/chaos/catalogue"
	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reports"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/suites"
	"github.com/assay-bench/assay/suites/peers"
)

// table is what a list prints: the first column identifies a row.
type table struct {
	head []string
	rows [][]string
}

func (a *app) listCommand() *cobra.Command {
	var asJSON bool
	var proof string
	var stacks []peers.Stack
	lists := map[string]func(*suites.Suite) table{
		"requirements": func(s *suites.Suite) table { return listRequirements(s, proof) },
		"checks":       func(s *suites.Suite) table { return listChecks(s, stacks) },
		"profiles":     func(*suites.Suite) table { return listProfiles() },
		"features":     func(*suites.Suite) table { return listFeatures() },
		"defects":      listDefects,
		"faults":       listFaults,
		"formats":      func(*suites.Suite) table { return listFormats() },
	}
	var names []string
	for n := range lists {
		names = append(names, n)
	}
	sort.Strings(names)
	cmd := &cobra.Command{
		Use: "list WHAT", GroupID: "conformance", ValidArgs: names, Args: exactly(1, "one of "+strings.Join(names, ", ")),
		Short: "list " + strings.Join(names, ", "),
		RunE: func(_ *cobra.Command, args []string) error {
			make, ok := lists[args[0]]
			if !ok {
				return usagef("nothing to list is called %q: there are %s", args[0], strings.Join(names, ", "))
			}
			suite, err := newSuite()
			if err != nil {
				return err
			}
			if stacks, err = peers.Stacks(); err != nil {
				return err
			}
			if asJSON {
				return make(suite).writeJSON(a.out)
			}
			return make(suite).write(a.out)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().StringVar(&proof, "proof", filepath.Join(outDir, "prove"), "bundle of assay prove that says what is proven")
	return cmd
}

func (t table) write(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(tw, strings.Join(t.head, "\t"))
	for _, r := range t.rows {
		fmt.Fprintln(tw, strings.Join(r, "\t"))
	}
	return tw.Flush()
}

func (t table) writeJSON(w io.Writer) error {
	out := make([]map[string]string, 0, len(t.rows))
	for _, r := range t.rows {
		row := map[string]string{}
		for i, cell := range r {
			row[t.head[i]] = cell
		}
		out = append(out, row)
	}
	raw, err := results.MarshalIndent(out)
	if err != nil {
		return err
	}
	_, err = w.Write(raw)
	return err
}

// passing names the stacks that pass a check.
func passing(stacks []peers.Stack, check string) (names []string) {
	for _, s := range stacks {
		if slices.Contains(s.Passes, check) {
			names = append(names, s.Name)
		}
	}
	return names
}

// listRequirements says for each row which checks cover it and whether a kill of one was seen; a row about assay itself
// has a Go test in the place of a check.
func listRequirements(s *suites.Suite, proofDir string) table {
	t := table{head: []string{"requirement", "level", "basis", "proven", "checks", "statement"}}
	seen, known := proven(s, proofDir)
	for _, r := range s.Requirements() {
		checks := s.CheckedBy(r.ID)
		state := "not covered"
		switch {
		case r.Subject == "harness": // TestEveryHarnessRowHasATest
			state = "about assay; by go test"
		case len(checks) > 0 && !known:
			state = "covered; run assay prove"
		case len(checks) > 0 && seen[r.ID]:
			state = "proven"
		case len(checks) > 0:
			state = "covered, not proven"
		}
		t.rows = append(t.rows, []string{r.ID, r.Level, r.Basis, state, strings.Join(checks, " "), r.Statement})
	}
	return t
}

// listChecks says of each check also which stacks of other projects pass it.
func listChecks(s *suites.Suite, stacks []peers.Stack) table {
	t := table{head: []string{"check", "cases", "under", "needs", "kills", "passes on", "title"}}
	for _, c := range s.Checks() {
		var needs, under, kills []string
		for _, f := range c.Needs {
			needs = append(needs, string(f))
		}
		for _, u := range c.Under {
			under = append(under, u.String())
		}
		seen := map[string]bool{}
		for _, k := range c.Kills {
			if !seen[k.Defect] {
				seen[k.Defect] = true
				kills = append(kills, k.Defect)
			}
		}
		t.rows = append(t.rows, []string{
			c.ID, fmt.Sprint(max(1, len(c.Cases))), strings.Join(under, " "), strings.Join(needs, " "), strings.Join(kills, " "),
			strings.Join(passing(stacks, c.ID), "; "), c.Title,
		})
	}
	return t
}

func listProfiles() table {
	t := table{head: []string{"profile", "picks"}}
	for _, p := range suites.Profiles() {
		t.rows = append(t.rows, []string{p.Name, p.Title})
	}
	return t
}

func listFeatures() table {
	t := table{head: []string{"feature", "endpoint", "title"}}
	for _, f := range features.All() {
		t.rows = append(t.rows, []string{string(f.Feature), f.Endpoint, f.Title})
	}
	return t
}

func listDefects(s *suites.Suite) table {
	t := table{head: []string{"defect", "killed by", "does"}}
	by := map[string][]string{}
	for _, c := range s.Checks() {
		for _, k := range c.Kills {
			if n := len(by[k.Defect]); n == 0 || by[k.Defect][n-1] != c.ID {
				by[k.Defect] = append(by[k.Defect], c.ID)
			}
		}
	}
	for _, d := range defect.Catalogue() {
		t.rows = append(t.rows, []string{string(d.Name), strings.Join(by[string(d.Name)], " "), d.Does})
	}
	return t
}

func listFaults(s *suites.Suite) table {
	t := table{head: []string{"fault", "drivers", "checks"}}
	for _, f := range catalogue.All() {
		var drivers, checks []string
		for _, d := range f.Drivers() {
			drivers = append(drivers, d.Name())
		}
		for _, c := range s.Checks() {
			for _, u := range c.Under {
				if u.Name == f.Name() {
					checks = append(checks, c.ID)
				}
			}
		}
		t.rows = append(t.rows, []string{f.Name(), strings.Join(drivers, " "), strings.Join(checks, " ")})
	}
	return t
}

func listFormats() table {
	t := table{head: []string{"format", "file"}}
	for _, f := range reports.All() {
		t.rows = append(t.rows, []string{f.Name(), reports.File(f)})
	}
	return t
}

// complete offers check ids and profiles to the shell.
func complete(cmd *cobra.Command) {
	cmd.ValidArgsFunction = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		var out []string
		for _, p := range suites.Profiles() {
			out = append(out, p.Name)
		}
		if s, err := newSuite(); err == nil {
			for _, c := range s.Checks() {
				out = append(out, c.ID)
			}
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
}
