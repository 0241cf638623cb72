package gate

import (
	"embed"

	"github.com/assay-bench/assay/suites"
)

//go:embed catalogue.yaml
var catalogue []byte

//go:embed *.go
var sources embed.FS

// Area returns the catalogue of the gate. Its rows are on the harness: a Go test that names the id proves each. The
// sources make another gate another suite.
func Area() (suites.Area, error) {
	rows, err := suites.ReadCatalogue("gate", catalogue)
	return suites.Area{Name: "gate", Requirements: rows, Sources: sources}, err
}
