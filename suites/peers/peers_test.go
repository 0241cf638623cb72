package peers

import (
	"strings"
	"testing"
)

func TestList(t *testing.T) {
	stacks, err := Stacks()
	if err != nil || len(stacks) == 0 {
		t.Fatalf("%d stacks, %v", len(stacks), err)
	}
}

func TestBadLists(t *testing.T) {
	for _, c := range []struct{ name, yaml, want string }{
		{"no name", "- passes: [a]\n", "must both be given"},
		{"no checks", "- name: x\n", "must both be given"},
		{"unknown key", "- name: x\n  passes: [a]\n  fails: [b]\n", "fails"},
		{"stacks out of order", "- {name: y, passes: [a]}\n- {name: x, passes: [a]}\n", "x stands behind y"},
		{"a stack twice", "- {name: x, passes: [a]}\n- {name: x, passes: [a]}\n", "x stands behind x"},
		{"checks out of order", "- {name: x, passes: [b, a]}\n", "not sorted"},
		{"a check twice", "- {name: x, passes: [a, a]}\n", "named twice"},
	} {
		if _, err := read([]byte(c.yaml)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}
