package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/target"
)

// runTime is how long the command may take beyond what the target says of its answers. It tells a slow
// runtime from one that hangs, and is no requirement.
const runTime = 8 * time.Second

// Execution is the evidence of a run of the command run-wasm.
type Execution struct {
	Module   Digest        `json:"module"`
	Function string        `json:"function"`
	Args     []string      `json:"args,omitempty"`
	Exit     int           `json:"exit"` // -1: a signal ended it
	State    string        `json:"state,omitempty"`
	Output   string        `json:"stdout,omitempty"` // its end, at most 4 KiB, without blanks around it
	Errors   string        `json:"stderr,omitempty"` // likewise
	Late     bool          `json:"late,omitempty"`   // it did not end in time and was killed
	Broken   string        `json:"broken,omitempty"` // the command could not be run: text
	Took     time.Duration `json:"took"`
}

// Call writes what was called as people do: add(1, 2).
func (e Execution) Call() string { return e.Function + "(" + strings.Join(e.Args, ", ") + ")" }

// Results are the lines that the command printed.
func (e Execution) Results() []string {
	if e.Output == "" {
		return nil
	}
	lines := strings.Split(e.Output, "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return lines
}

// Run calls a function of a module by the command run-wasm of the target's claims, and records how that
// ended. A target without the command is evidence, as one is whose command does not start.
func Run(ctx context.Context, env *scenarios.Env, module []byte, function string, args ...string) (Execution, error) {
	e := Execution{Module: DigestOf(module), Function: function, Args: args}
	began := env.Clock.Now()
	err := e.run(ctx, env, module)
	if err != nil {
		return e, fmt.Errorf("run-wasm: %w", err)
	}
	e.Took = env.Elapsed(began)
	return e, env.Put(results.FromScenario, Ran, e)
}

func (e *Execution) run(ctx context.Context, env *scenarios.Env, module []byte) (err error) {
	dir, err := os.MkdirTemp("", "assay-wasm-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	file := filepath.Join(dir, "module.wasm")
	hook, ok := env.Claims.Sandbox.Call(file, e.Function, e.Args...)
	if !ok {
		e.Exit, e.Broken = -1, "the target names no command run-wasm"
		return nil
	}
	if err := os.WriteFile(file, module, 0o600); err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, runTime+env.Claims.Limits.Answer())
	defer cancel()
	ran, err := hook.Run(within)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, target.ErrNotReady):
		e.Exit, e.Broken = -1, clip(err.Error())
		return nil
	}
	e.Exit, e.State, e.Output, e.Errors, e.Late = ran.Exit, ran.State, ran.Output, ran.Errors, ran.Late
	return err
}

// Executions collects the runs of a case, in order, and the evidence of each.
func Executions(evidence []results.Evidence) (all []Execution, cites []uint64, err error) {
	for _, e := range evidence {
		if e.Kind != Ran {
			continue
		}
		var x Execution
		if err := e.Decode(&x); err != nil {
			return nil, nil, err
		}
		all, cites = append(all, x), append(cites, e.Seq)
	}
	return all, cites, nil
}
