// Package load holds the requirements of the load engine. They are on the harness itself, so there are no
// checks here: a Go test that names the id proves each row, and the truth test is a command of its own.
package load

import (
	"embed"

	"github.com/assay-bench/assay/suites"
)

//go:embed catalogue.yaml
var catalogue []byte

//go:embed *.go
var sources embed.FS

// Area returns the catalogue of the load engine.
func Area() (suites.Area, error) {
	rows, err := suites.ReadCatalogue("load", catalogue)
	return suites.Area{Name: "load", Requirements: rows, Sources: sources}, err
}
