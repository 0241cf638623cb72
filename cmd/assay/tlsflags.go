package main

import (
	"fmt"
	"slices"

	"github.com/assay-bench/assay/scenarios/target"
)

// tlsFlags are what may be said beside a tls:// address.
type tlsFlags struct{ serverName, roots, app string }

// apply puts the options into the target. Only tls:// addresses take them.
func (t tlsFlags) apply(file *target.File) error {
	if t == (tlsFlags{}) {
		return nil
	}
	if file.TLS == nil {
		return fmt.Errorf("--sni, --ca and --app go with a tls:// address, not with %s", file.Path)
	}
	if t.serverName != "" {
		file.TLS.ServerName = t.serverName
	}
	if !slices.Contains([]string{"", "echo", "http", "none"}, t.app) {
		return fmt.Errorf("--app is %q, want echo, http or none", t.app)
	}
	if t.app != "none" {
		file.TLS.App = t.app
	}
	if t.roots == "" {
		return nil
	}
	roots, err := target.ReadRoots(t.roots)
	if err != nil {
		return fmt.Errorf("--ca: %w", err)
	}
	file.TLS.Roots = roots
	return nil
}

// words repeats the options for a command that reproduces a case.
func (t tlsFlags) words() []string {
	var out []string
	for _, o := range []struct{ flag, value string }{{"--sni", t.serverName}, {"--ca", t.roots}, {"--app", t.app}} {
		if o.value != "" {
			out = append(out, o.flag, quote(o.value))
		}
	}
	return out
}
