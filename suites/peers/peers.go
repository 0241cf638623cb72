// Package peers says which checks stacks of other projects pass. The list is data that the tests on those stacks
// (cmd/assay, peer_*_test.go) compare with what they see: one that no longer agrees fails them.
package peers

import (
	_ "embed"
	"fmt"
	"slices"

	"github.com/goccy/go-yaml"
)

//go:embed peers.yaml
var list []byte

// Stack is a stack of another project with the checks that pass on it: at least one case does, and none fails.
type Stack struct {
	Name   string   `yaml:"name"`
	Passes []string `yaml:"passes"` // ids of checks, sorted
}

// Stacks returns the list, sorted by name. The error names what is wrong with it.
func Stacks() ([]Stack, error) { return read(list) }

func read(raw []byte) ([]Stack, error) {
	var stacks []Stack
	if err := yaml.UnmarshalWithOptions(raw, &stacks, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("list of peers: %w", err)
	}
	for i, s := range stacks {
		switch {
		case s.Name == "" || len(s.Passes) == 0:
			return nil, fmt.Errorf("list of peers: entry %d (%s): name and passes must both be given", i+1, s.Name)
		case i > 0 && stacks[i-1].Name >= s.Name:
			return nil, fmt.Errorf("list of peers: %s stands behind %s: sort them by name", s.Name, stacks[i-1].Name)
		case !slices.IsSorted(s.Passes) || len(slices.Compact(slices.Clone(s.Passes))) != len(s.Passes):
			return nil, fmt.Errorf("list of peers: %s: the checks are not sorted, or one is named twice", s.Name)
		}
	}
	return stacks, nil
}
