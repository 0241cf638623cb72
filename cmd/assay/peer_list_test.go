package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/suites/peers"
)

// listedPasses compares the list of package peers with what a run of a stack showed. Probes of claims are no
// checks of an area. What the host's noise left open is as the list says.
func listedPasses(t *testing.T, stack string, b *results.Bundle) {
	t.Helper()
	stacks, err := peers.Stacks()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(stacks, func(s peers.Stack) bool { return s.Name == stack })
	if i < 0 {
		stacks, i = append(stacks, peers.Stack{Name: stack}), len(stacks)
	}
	var passes []string
	seen := map[string]map[results.Status]int{}
	for _, v := range b.Verdicts.Verdicts {
		if strings.HasPrefix(v.Check, "claims/") || strings.HasPrefix(v.Check, "target/") {
			continue
		}
		if seen[v.Check] == nil {
			seen[v.Check] = map[results.Status]int{}
		}
		seen[v.Check][v.Status]++
	}
	for check, got := range seen {
		open := got[results.Inconclusive] > 0 && slices.Contains(stacks[i].Passes, check)
		if got[results.Fail] == 0 && (got[results.Pass] > 0 && got[results.Inconclusive] == 0 || open) {
			passes = append(passes, check)
		}
	}
	slices.Sort(passes)
	if diff := cmp.Diff(stacks[i].Passes, passes); diff != "" {
		t.Errorf("suites/peers/peers.yaml and this run of %s differ (-list +run):\n%s\nthe run:\n- name: %s\n  passes:\n    - %s",
			stack, diff, stack, strings.Join(passes, "\n    - "))
	}
}

// TestPeersNameChecks keeps the list from naming checks that are gone.
func TestPeersNameChecks(t *testing.T) {
	stacks, err := peers.Stacks()
	if err != nil {
		t.Fatal(err)
	}
	suite, err := newSuite()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range stacks {
		for _, id := range s.Passes {
			if _, ok := suite.Check(id); !ok {
				t.Errorf("%s: there is no check %s", s.Name, id)
			}
		}
	}
}
