package target

import (
	_ "embed" // for the schema
	"slices"
)

//go:embed target.schema.json
var schema []byte

// Schema returns the JSON Schema (draft 2020-12) of target.yaml, for editors. What spans several
// fields, such as a claim without its endpoint, only Parse finds.
func Schema() []byte { return slices.Clone(schema) }
