package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/suites"
)

// All output follows four rules. What a machine may read goes to standard output, everything else to
// standard error. Errors are one line: lower case, what, where, what to do. A verdict line comes last.
// Nothing but the functions of this file and the progress display prints.

// version is set by the release build; a development build says so.
var version = "0.3.0-dev"

// app carries the streams of one invocation.
type app struct {
	in       io.Reader
	out, err io.Writer
}

// coded is an error that knows its exit code.
type coded struct {
	code results.Exit
	err  error
}

func (e coded) Error() string { return e.err.Error() }
func (e coded) Unwrap() error { return e.err }

// outcome ends a command with an exit code and without a message.
type outcome results.Exit

func (o outcome) Error() string { return fmt.Sprintf("exit %d", int(o)) }

func usage(err error) error {
	if err == nil {
		return nil
	}
	return coded{results.ExitUsage, err}
}

func usagef(format string, args ...any) error { return usage(fmt.Errorf(format, args...)) }

// finish turns an exit code into the error that a command returns.
func finish(code results.Exit) error {
	if code == results.ExitPass {
		return nil
	}
	return outcome(code)
}

// run executes one command line.
func run(ctx context.Context, args []string, in io.Reader, out, errw io.Writer) results.Exit {
	a := &app{in: in, out: out, err: errw}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errw)
	return a.exit(root.ExecuteContext(ctx))
}

// exit prints an error and maps it to its code.
func (a *app) exit(err error) results.Exit {
	var o outcome
	var c coded
	switch {
	case err == nil:
		return results.ExitPass
	case errors.As(err, &o):
		return results.Exit(o)
	case errors.As(err, &c):
		a.complain(err)
		return c.code
	case errors.Is(err, results.ErrNoBundle), errors.Is(err, results.ErrVersion), errors.Is(err, suites.ErrNoMatch):
		a.complain(err)
		return results.ExitUsage
	}
	a.complain(err)
	return results.ExitHarness
}

func (a *app) complain(err error) { fmt.Fprintf(a.err, "assay: %s\n", printable(err.Error())) }

// printable escapes control characters: what a target said may be in a message.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if (r < 0x20 && r != '\n' && r != '\t') || (r >= 0x7f && r < 0xa0) {
			return '\uFFFD'
		}
		return r
	}, s)
}

// oneLine is printable for what stands inside a line: a target must not be able to forge one.
func oneLine(s string) string {
	return strings.NewReplacer("\n", "\uFFFD", "\t", "\uFFFD").Replace(printable(s))
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "assay",
		Short: "benchmark and conformance harness for the service edge",
		Long: `assay drives a target (the reference stack, or yours) through conformance and
latency suites, under faults too, judges the recorded evidence and writes reports.

Start with:  assay run                      the reference stack, in about a minute
             assay run --target my.yaml     your own implementation
             assay prove                    show that every check can fail

Exit codes:  0 pass, 1 fail, 2 usage or configuration, 3 inconclusive, 4 harness error`,
		SilenceUsage: true, SilenceErrors: true,
		Version: version,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command %q; see: assay help", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%w; see: %s --help", err, cmd.CommandPath())
	})
	root.AddGroup(
		&cobra.Group{ID: "conformance", Title: "Conformance:"},
		&cobra.Group{ID: "publish", Title: "Reports and proofs:"},
		&cobra.Group{ID: "target", Title: "Targets:"},
		&cobra.Group{ID: "about", Title: "About:"},
	)
	root.AddCommand(
		a.runCommand(), a.gateCommand(), a.loadCommand(), a.k6Command(), a.proveCommand(), a.listCommand(),
		a.judgeCommand(), a.verifyCommand(), a.signCommand(), a.keysCommand(), a.reportCommand(), a.compareCommand(), a.calibrateCommand(),
		a.targetCommand(), a.backendsCommand(), a.upCommand(), a.costCommand(), a.schemaCommand(),
		a.doctorCommand(), a.chaosCommand(), a.watchdogCommand(), a.runWasmCommand(), a.sampleCommand(), a.truthServerCommand(),
		a.modelsCommand(),
	)
	root.SetHelpCommandGroupID("about")
	root.SetCompletionCommandGroupID("about")
	return root
}

// exactly is cobra.ExactArgs with this program's kind of message.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return usagef("%s takes %s, got %d arguments; see: %s --help", cmd.CommandPath(), what, len(args), cmd.CommandPath())
		}
		return nil
	}
}

func none(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%s takes no arguments, got %q; see: %s --help", cmd.CommandPath(), args[0], cmd.CommandPath())
	}
	return nil
}
