package thrift

import (
	"fmt"
	"strconv"
	"strings"
)

// Bounds of a rendering: it is for a person, and what it renders may come from a hostile peer.
const (
	dumpBytes = 4096 // of one rendering
	dumpText  = 96   // of one string
	dumpItems = 16   // of one container
)

// String renders the message over several lines, at most about 4 KiB.
func (m Message) String() string {
	d := dumper{}
	d.printf("%s %s seq %d ", m.Type, clip(m.Name), m.Seq)
	d.fields(m.Body, 0)
	return d.String()
}

// String renders the fields over several lines, at most about 4 KiB.
func (s Struct) String() string {
	d := dumper{}
	d.fields(s, 0)
	return d.String()
}

// String renders the value, at most about 4 KiB.
func (v Value) String() string {
	d := dumper{}
	d.value(v, 0)
	return d.String()
}

// dumper stops adding once it holds enough, and then says so.
type dumper struct {
	strings.Builder
	full bool
}

func (d *dumper) printf(format string, args ...any) {
	if d.full {
		return
	}
	fmt.Fprintf(&d.Builder, format, args...)
	if d.Len() > dumpBytes {
		d.full = true
		d.WriteString(" … (cut)")
	}
}

func (d *dumper) fields(s Struct, depth int) {
	if len(s) == 0 {
		d.printf("{}")
		return
	}
	d.printf("{\n")
	for _, f := range s {
		if d.full {
			return
		}
		d.printf("%s%d: ", indent(depth+1), f.ID)
		d.value(f.Value, depth+1)
		d.printf("\n")
	}
	d.printf("%s}", indent(depth))
}

func (d *dumper) value(v Value, depth int) {
	switch v.Type {
	case Object:
		d.fields(v.Fields, depth)
	case String:
		d.printf("%s", clip(v.Text))
	case Bool:
		d.printf("%t", v.Num != 0)
	case Double:
		d.printf("%g", v.Float)
	case List, Set:
		d.printf("%s<%s> of %d ", v.Type, v.Elem, len(v.Items))
		d.items(v.Items, 1, depth)
	case Map:
		d.printf("map<%s,%s> of %d ", v.Key, v.Elem, len(v.Items)/2)
		d.items(v.Items, 2, depth)
	default:
		d.printf("%s %d", v.Type, v.Num)
	}
}

// items shows the first elements; group is 2 for the pairs of a map.
func (d *dumper) items(items []Value, group, depth int) {
	d.printf("[")
	for i, v := range items {
		if d.full {
			return
		}
		if i >= dumpItems*group {
			d.printf(", … %d more", (len(items)-i)/group)
			break
		}
		switch {
		case i%group != 0:
			d.printf(": ")
		case i > 0:
			d.printf(", ")
		}
		d.value(v, depth+1)
	}
	d.printf("]")
}

func indent(depth int) string { return strings.Repeat("  ", min(depth, 32)) }

// clip quotes a string and shows at most its first bytes.
func clip(s string) string {
	if len(s) <= dumpText {
		return strconv.Quote(s)
	}
	return fmt.Sprintf("%s… (%d bytes)", strconv.Quote(s[:dumpText]), len(s))
}
