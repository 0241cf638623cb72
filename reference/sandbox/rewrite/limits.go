package rewrite

import "fmt"

// Limits bounds what a module may hold. A limit of 0, and a nil KnownImport, are not checked.
type Limits struct {
	Bytes        int    // of the module
	Functions    int    // of its own
	Locals       int    // of one function, its parameters included
	DataBytes    int    // in all data segments
	TableEntries int    // initial entries of all tables, imported ones included
	Globals      int    // imported ones included
	MinPages     uint32 // initial pages of the memory
	MaxPages     uint32 // declared maximum of the memory; one that declares none is left to the engine's limit
	// KnownImport reports whether the host offers the function. Where it is set, imports of tables, memories
	// and globals are refused.
	KnownImport func(module, name string, params, results []ValueType) bool
}

// LimitError says which limit a module exceeds.
type LimitError struct {
	What     string // "bytes", "functions", "locals", "data bytes", "table entries", "globals", "initial pages", "maximum pages"
	Got, Max uint64
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("%s: %d, at most %d are allowed", e.What, e.Got, e.Max)
}

// ImportError names an import that the host does not offer.
type ImportError struct {
	Module, Name string
	Kind         Kind
	Type         string // of a function, as "(i32 i32) -> (i64)"
}

func (e *ImportError) Error() string {
	return fmt.Sprintf("unknown import %.80q %.80q (%s%s)", e.Module, e.Name, e.Kind, e.Type)
}

// Check compares the module with l. The first limit that is exceeded is reported as *LimitError, in the
// order of the fields, and an unknown import as *ImportError.
func (m *Module) Check(l Limits) error {
	var entries, initial, declared uint64
	for _, t := range m.tables {
		entries += uint64(t.min)
	}
	for _, mem := range m.memories {
		initial, declared = uint64(mem.min), uint64(mem.max)
	}
	for _, c := range []LimitError{
		{"bytes", uint64(len(m.wasm)), uint64(l.Bytes)},
		{"functions", uint64(len(m.functions)), uint64(l.Functions)},
		{"locals", m.mostLocals, uint64(l.Locals)},
		{"data bytes", m.dataBytes, uint64(l.DataBytes)},
		{"table entries", entries, uint64(l.TableEntries)},
		{"globals", uint64(len(m.globals)), uint64(l.Globals)},
		{"initial pages", initial, uint64(l.MinPages)},
		{"maximum pages", declared, uint64(l.MaxPages)},
	} {
		if c.Max != 0 && c.Got > c.Max {
			return &c
		}
	}
	return m.checkImports(l)
}

func (m *Module) checkImports(l Limits) error {
	if l.KnownImport == nil {
		return nil
	}
	for _, im := range m.Imports() {
		if im.Kind == Function && l.KnownImport(im.Module, im.Name, im.Params, im.Results) {
			continue
		}
		e := &ImportError{Module: im.Module, Name: im.Name, Kind: im.Kind}
		if im.Kind == Function {
			e.Type = " " + typeText(im.Params) + " -> " + typeText(im.Results)
		}
		return e
	}
	return nil
}

func typeText(types []ValueType) string {
	s := "("
	for i, t := range types {
		if i > 0 {
			s += " "
		}
		if i == 16 { // hostile types have thousands
			return s + "…)"
		}
		s += TypeName(t)
	}
	return s + ")"
}
