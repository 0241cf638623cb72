// Command assay-k6 is k6 with assay's JavaScript module (k6/x/assay), its open-loop executor
// (assay-open-loop) and its output (assay), behind k6's own command line. It is the only program of the
// house that links k6, and therefore under AGPL-3.0 (LICENSE, NOTICE).
//
// What it changes in k6: no REST API unless --address asks for one, no usage report, no build service for
// unknown extensions, and a threshold that fails every run with dropped iterations.
package main

import (
	"fmt"
	"os"

	"go.k6.io/k6/cmd"
	"go.k6.io/k6/js/modules"
	"go.k6.io/k6/lib"
	"go.k6.io/k6/output"

	"github.com/assay-bench/assay/cmd/assay-k6/args"
	"github.com/assay-bench/assay/cmd/assay-k6/bundle"
	"github.com/assay-bench/assay/cmd/assay-k6/module"
	"github.com/assay-bench/assay/cmd/assay-k6/openloop"
)

func main() {
	modules.Register(module.Name, module.New())
	output.RegisterExtension(bundle.Name, bundle.New)
	lib.RegisterExecutorConfigType(openloop.Type, openloop.New)
	line, err := args.Prepare(os.Args, os.LookupEnv)
	if err == nil {
		err = line.Apply()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "assay-k6: %v\n", err)
		os.Exit(usageError)
	}
	cmd.Execute()
}

// usageError is the exit code of a command line that can not be run, as of every program of the house.
const usageError = 2
