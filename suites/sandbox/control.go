package sandbox

import (
	"context"
	"fmt"
	"strconv"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/fixtures/wasm"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	scenario "github.com/assay-bench/assay/scenarios/sandbox"
	"github.com/assay-bench/assay/suites"
)

// reasonAbsent is given by the probes of features.
const reasonAbsent = "absent"

// fibOf is the n-th Fibonacci number, n at most 90.
func fibOf(n int) int64 {
	a, b := int64(0), int64(1)
	for range n {
		a, b = b, a+b
	}
	return a
}

// driveAPI makes a tenant, publishes fib and calls it with an argument that nobody could have guessed.
func driveAPI(bend ...func(*scenario.Upload)) func(context.Context, *scenarios.Env) error {
	return driving(func(ctx context.Context, b *bench) error {
		tenant, err := b.serve(ctx, "ctl", scenario.Pro, "fib", bend...)
		if err == nil {
			_, err = b.invoke(ctx, "fib", tenant, "fib", "fib", strconv.Itoa(5+b.env.Rand.IntN(15)))
		}
		return ends(err)
	})
}

// apiWorks judges driveAPI by what was asked.
func (s *story) apiWorks() (ok bool, observed string) {
	if why := s.unprepared(); why != "" {
		return false, why
	}
	asked, _ := s.asked("fib")
	if len(asked.Args) != 1 {
		return false, s.tale()
	}
	n, err := strconv.Atoi(asked.Args[0])
	if err != nil || n < 0 || n > 90 {
		return false, fmt.Sprintf("asked for fib of %q", asked.Args[0])
	}
	return s.returned("fib", strconv.FormatInt(fibOf(n), 10)), s.tale()
}

// driveRun runs fib by the command.
func driveRun(ctx context.Context, env *scenarios.Env) error {
	_, err := scenario.Run(ctx, env, wasm.Module("fib"), "fib", strconv.Itoa(5+env.Rand.IntN(15)))
	return err
}

func (s *story) runWorks() (ok bool, observed string) {
	if len(s.runs) != 1 || len(s.runs[0].Args) != 1 {
		return false, s.runTale()
	}
	r := s.runs[0]
	n, err := strconv.Atoi(r.Args[0])
	if err != nil || n < 0 || n > 90 {
		return false, fmt.Sprintf("asked for fib of %q", r.Args[0])
	}
	return ran(r, strconv.FormatInt(fibOf(n), 10)), s.runTale()
}

// control is the positive control: refusals, traps and silence mean something only where an ordinary
// module is taken and answers.
func control() *suites.Control {
	return &suites.Control{
		Drive: func(ctx context.Context, env *scenarios.Env) error {
			if byRun(env.Key.Case) {
				return driveRun(ctx, env)
			}
			return driveAPI()(ctx, env)
		},
		Judge: func(evidence []results.Evidence) (bool, string) {
			s, err := tell(evidence)
			if err != nil {
				return false, err.Error()
			}
			if len(s.runs) > 0 {
				return s.runWorks()
			}
			return s.apiWorks()
		},
	}
}

// claim probes a feature with what its control does.
func claim(f features.Feature, defect, want string, needs []features.Feature, try func(context.Context, *scenarios.Env) error, works func(*story) (bool, string)) suites.Check {
	return suites.Check{
		ID: "claims/" + string(f), Title: "the claimed feature " + string(f) + " is there",
		Covers: []string{"claims/" + string(f)}, Needs: append([]features.Feature{f}, needs...), Reasons: []string{reasonAbsent},
		Drive: try,
		Judge: told(want, func(_ suites.Trace, s *story) suites.Finding {
			ok, observed := works(s)
			if !ok {
				return s.fail(reasonAbsent, observed)
			}
			return s.pass(observed)
		}),
		Kills: kill(reasonAbsent, defect),
	}
}

var (
	_ = addClaim(claim(features.SandboxAPI, "sandbox.absent", "a tenant is made, a module published, a function called",
		nil, driveAPI(), (*story).apiWorks))
	_ = addClaim(claim(features.SandboxInterpreter, "sandbox.interpreter-absent", "a module that asks for the interpreter answers",
		[]features.Feature{features.SandboxAPI}, driveAPI(interpreted), (*story).apiWorks))
	_ = addClaim(claim(features.SandboxRun, "sandbox.run-absent", "the command calls a function and prints its result",
		nil, driveRun, (*story).runWorks))
)
