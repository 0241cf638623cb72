package main

import (
	"github.com/assay-bench/assay/suites"
	"github.com/assay-bench/assay/suites/gate"
	"github.com/assay-bench/assay/suites/load"
	"github.com/assay-bench/assay/suites/perf"
	"github.com/assay-bench/assay/suites/prove"
	"github.com/assay-bench/assay/suites/router"
	"github.com/assay-bench/assay/suites/rpc"
	"github.com/assay-bench/assay/suites/sandbox"
	"github.com/assay-bench/assay/suites/tls"
	"github.com/assay-bench/assay/suites/tpm"
)

// newSuite puts the areas together. A new area of specification is one line here.
func newSuite() (*suites.Suite, error) {
	var areas []suites.Area
	for _, area := range []func() (suites.Area, error){
		suites.Frame, rpc.Claims, tls.Claims, tpm.Claims, sandbox.Claims, router.Claims,
		rpc.Area, tls.Area, tpm.Area, sandbox.Area, router.Area, perf.Area, load.Area, gate.Area,
	} {
		a, err := area()
		if err != nil {
			return nil, err
		}
		areas = append(areas, a)
	}
	return suites.New(areas...)
}

// sentinels are one case of each face. A defect may not touch the other faces.
func sentinels() []prove.Sentinel {
	return []prove.Sentinel{
		{Face: "rpc", Case: "rpc/wire/four-transports#framed"},
		{Face: "grpc", Case: "rpc/wire/grpc-interop#empty_unary"},
		{Face: "tls", Case: "tls/kex/hybrid-negotiated#x25519mlkem768"},
		{Face: "router", Case: "router/decide/tie-stable"},
	}
}
