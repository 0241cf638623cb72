package main

import (
	"context"
	"net"
	"os"
	"strings"
	"time"

	"github.com/assay-bench/assay/chaos"
	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/target"
	"github.com/assay-bench/assay/suites"
	"github.com/assay-bench/assay/suites/runner"
)

// chosenTarget is what --target came to.
type chosenTarget struct {
	meta      results.Target
	owned     bool // the harness starts its process
	ours      bool // it is the reference in this very program
	local     bool // it is reached over loopback
	hosts     []string
	rate      float64
	endpoints target.Endpoints // of a bare address, which has no others; nil: not known before it starts
	claims    target.Claims    // known once it has been started to look at it
	build     builder
}

// chooseTarget reads --target: nothing is the reference, a URL an address, all else a file.
func chooseTarget(ctx context.Context, suite *suites.Suite, f runFlags) (*chosenTarget, error) {
	switch {
	case f.target == "":
		if _, err := defect.Parse(f.defects); err != nil {
			return nil, err
		}
		return referenceTarget(f.defects, "", f.readDeadline), nil
	case len(f.defects) > 0:
		return nil, usagef("--defect plants in the reference stack: it does not go with --target")
	case strings.Contains(f.target, "://"):
		return addressTarget(ctx, suite, f)
	case f.tls != (tlsFlags{}):
		return nil, usagef("--sni, --ca and --app go with a tls:// address: a target file says it under tls")
	}
	return fileTarget(f.target)
}

// referenceTarget starts this very binary as `assay up`.
func referenceTarget(defects []string, hollow string, readDeadline time.Duration) *chosenTarget {
	meta := results.Target{Name: "assay reference stack", Version: version, Kind: "reference", Role: "endpoint", Defects: defects}
	args := []string{"up", "--watch-stdin", "--read-deadline", readDeadline.String()}
	for _, d := range defects {
		args = append(args, "--defect", d)
	}
	if hollow != "" {
		meta.Name = "hollow target " + hollow
		args = append(args, "--hollow", hollow)
	}
	return &chosenTarget{
		meta: meta, owned: true, ours: hollow == "", local: true,
		build: func(own func(chaos.Process) error, record put) (target.Target, error) {
			exe, err := os.Executable()
			if err != nil {
				return nil, err
			}
			return &target.Command{Argv: append([]string{exe}, args...), Own: own, Observe: record.observe}, nil
		},
	}
}

func fileTarget(path string) (*chosenTarget, error) {
	file, err := target.ReadFile(path)
	if err != nil {
		return nil, err
	}
	c := &chosenTarget{
		meta: results.Target{
			Name: file.Name, Version: file.Version, Kind: "remote", Role: file.Role, File: path, Digest: file.Digest,
		},
		local: true, hosts: file.AllowHosts, rate: file.Rate,
	}
	if file.Start != nil {
		c.meta.Kind, c.owned = "command", true
	}
	for _, addr := range file.Endpoints {
		if host, _, err := net.SplitHostPort(addr); err == nil && !loopbackAddr(addr) {
			c.hosts = append(c.hosts, host) // an endpoint of the user's own file is named by the user
			c.local = false
		}
	}
	c.build = func(own func(chaos.Process) error, record put) (target.Target, error) {
		dial := scenarios.NewDialer(c.hosts, c.rate).DialContext
		return front(file, target.Build{Own: own, Observe: record.observe, Dial: target.DialFunc(dial)}, record)
	}
	return c, nil
}

// addressTarget takes a bare address. What its scheme could offer is probed, and what answers is judged;
// when nothing answers, all of it counts as claimed, so that the run says so in red.
func addressTarget(ctx context.Context, suite *suites.Suite, f runFlags) (*chosenTarget, error) {
	url := f.target
	file, err := target.ParseAddress(url)
	if err != nil {
		return nil, err
	}
	if err := f.tls.apply(file); err != nil {
		return nil, err
	}
	c := &chosenTarget{
		meta:  results.Target{Name: url, Kind: "remote", Role: file.Role, File: url},
		hosts: file.AllowHosts, rate: file.Rate, local: true, endpoints: file.Endpoints,
	}
	for _, addr := range file.Endpoints {
		c.local = c.local && loopbackAddr(addr)
	}
	dial := scenarios.NewDialer(c.hosts, c.rate).DialContext
	found, err := runner.Discover(ctx, suite, file.Endpoints, target.Claims{Features: file.Offered, Limits: file.Limits, TLS: file.TLS}, dial)
	if err != nil {
		return nil, err
	}
	for _, d := range found {
		if d.Present {
			file.Claims = append(file.Claims, d.Feature)
		}
	}
	if len(file.Claims) == 0 {
		file.Claims = file.Offered
	}
	c.build = func(own func(chaos.Process) error, record put) (target.Target, error) {
		return file.Target(target.Build{Own: own, Observe: record.observe, Dial: target.DialFunc(dial)})
	}
	return c, nil
}

// loopbackAddr tells whether an address, or a template of one, stays on this machine.
func loopbackAddr(addr string) bool {
	host, _, _ := strings.Cut(addr, ":")
	if strings.HasPrefix(addr, "[::1]") || host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
