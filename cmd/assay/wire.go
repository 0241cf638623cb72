package main

import (
	"github.com/assay-bench/assay/suites"
	"github.com/assay-bench/assay/suites/perf"
	"github.com/assay-bench/assay/suites/rpc"
	"github.com/assay-bench/assay/suites/tls"
	"github.com/assay-bench/assay/suites/tpm"
)

// newSuite puts the areas together. A new area of specification is one line here.
func newSuite() (*suites.Suite, error) {
	var areas []suites.Area
	for _, area := range []func() (suites.Area, error){suites.Frame, rpc.Claims, tls.Claims, tpm.Claims, rpc.Area, tls.Area, tpm.Area, perf.Area} {
		a, err := area()
		if err != nil {
			return nil, err
		}
		areas = append(areas, a)
	}
	return suites.New(areas...)
}
