package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/sandbox"
	"github.com/assay-bench/assay/results"
)

// runWasmFlags are the flags of assay run-wasm.
type runWasmFlags struct {
	engine  string
	defects []string
}

// maxWasmFile bounds the module that is read, in bytes. What the sandbox takes is less.
const maxWasmFile = 16 << 20

func (a *app) runWasmCommand() *cobra.Command {
	var f runWasmFlags
	cmd := &cobra.Command{
		Use: "run-wasm [--engine ENGINE] MODULE FUNCTION [ARG...]", Hidden: true, DisableFlagsInUseLine: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 {
				return usagef("%s takes a module, a function and its arguments, got %d; see: %s --help",
					cmd.CommandPath(), len(args), cmd.CommandPath())
			}
			return nil
		},
		Short: "call a function of a WebAssembly module in the reference sandbox",
		Long: `run-wasm instantiates a module, calls an exported function and prints one result a
line. Arguments and results are decimal numbers of the function's own types: signed
integers; the shortest decimal that is the float, nan or inf.

Exit codes:  0 results, 1 a trap (nothing on standard output), 2 the module or the call is refused`,
		Example: "  assay run-wasm fib.wasm fib 24\n  assay run-wasm --engine interpreter math.wasm add -1 2",
		RunE:    func(cmd *cobra.Command, args []string) error { return a.runWasm(cmd.Context(), f, args) },
	}
	fl := cmd.Flags()
	fl.SetInterspersed(false) // arguments of the function may be negative
	fl.StringVar(&f.engine, "engine", string(sandbox.Compiler), "compiler or interpreter")
	fl.StringArrayVar(&f.defects, "defect", nil, "plant a defect (repeatable)")
	return cmd
}

func (a *app) runWasm(ctx context.Context, f runWasmFlags, args []string) error {
	set, err := defect.Parse(f.defects)
	if err != nil {
		return usage(err)
	}
	engine := sandbox.Engine(f.engine)
	if engine != sandbox.Compiler && engine != sandbox.Interpreter {
		return usagef("--engine is %q, want compiler or interpreter", f.engine)
	}
	wasm, err := readWasm(args[0])
	if err != nil {
		return usage(err)
	}
	var out bytes.Buffer // an error leaves nothing on standard output
	err = sandbox.Run(ctx, sandbox.RunOptions{
		Engine: engine, Module: wasm, Function: args[1], Args: args[2:], Defects: set,
	}, &out)
	if _, ok := errors.AsType[*sandbox.Trap](err); ok {
		return coded{results.ExitFail, err}
	}
	if err != nil {
		return usage(err)
	}
	_, err = out.WriteTo(a.out)
	return err
}

func readWasm(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // read only
	wasm, err := io.ReadAll(io.LimitReader(file, maxWasmFile+1))
	if err != nil {
		return nil, err
	}
	if len(wasm) > maxWasmFile {
		return nil, fmt.Errorf("%s: more than %d bytes", path, maxWasmFile)
	}
	return wasm, nil
}
