// Package reports renders a bundle as the views that people and machines read. A format is a pure
// function of the bundle: it may read no clock, no environment, no network and no file, it may not
// judge, and it never sees the suites, so that a report can be rebuilt from a bundle years later.
//
// A new format is one file: a type with Name and Write, a File method where it belongs into the
// bundle, and one line var _ = add(…).
//
// Tried: one template language for all formats. Lost: each format has its own way of being broken
// by a hostile string, and only code of its own closes it.
package reports

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/assay-bench/assay/results"
)

// Format renders a bundle. Write is deterministic: equal bundles give equal bytes. Its errors are
// those of the writer, and of a bundle that can not be rendered at all; damaged parts of a bundle
// are named in the output instead.
type Format interface {
	// Name is what --format takes.
	Name() string
	Write(io.Writer, *results.Bundle) error
}

var registry = map[string]Format{}

// add registers a format of this package. Two formats of one name are a bug that every test finds.
func add(f Format) Format {
	if _, twice := registry[f.Name()]; twice {
		panic("reports: two formats are named " + f.Name())
	}
	registry[f.Name()] = f
	return f
}

// All returns every format, sorted by name.
func All() []Format {
	all := make([]Format, 0, len(registry))
	for _, f := range registry {
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b Format) int { return cmp.Compare(a.Name(), b.Name()) })
	return all
}

// Find returns the format of a name; the error lists the names there are.
func Find(name string) (Format, error) {
	if f, ok := registry[name]; ok {
		return f, nil
	}
	var names []string
	for _, f := range All() {
		names = append(names, f.Name())
	}
	return nil, fmt.Errorf("unknown report format %q: there are %s", name, strings.Join(names, ", "))
}

// File returns the name under which the view is kept in a bundle, and nothing for a format that is
// only printed.
func File(f Format) string {
	if kept, ok := f.(interface{ File() string }); ok {
		return kept.File()
	}
	return ""
}
