package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/sandbox/nn"
)

// errRunAbsent is what Run says where it is planted away.
var errRunAbsent = errors.New("run-wasm is not there")

// RunOptions say what Run calls.
type RunOptions struct {
	Engine   Engine // Compiler
	Module   []byte
	Function string
	Args     []string // decimal, by the function's types
	Tier     Tier     // Enterprise
	Defects  defect.Set
	Models   nn.Models // nil is none
}

// Run calls one function of a module without tenants, signatures or a cache, and prints a result a line
// after it returned. The module is metered and bounded as a tenant's. The error is a *Refusal, a *Trap, or
// wraps ErrUnknown or ErrArguments; nothing was printed then.
func Run(ctx context.Context, o RunOptions, stdout io.Writer) error {
	if o.Defects.On(defect.SandboxRunAbsent) {
		return errRunAbsent
	}
	if o.Engine == "" {
		o.Engine = Compiler
	}
	if o.Tier == "" {
		o.Tier = Enterprise
	}
	s, err := newSandbox(ctx, Config{Defects: o.Defects, Models: o.Models})
	if err != nil {
		return err
	}
	const name = "run"
	if err := s.SetTenant(name, Tenant{Tier: o.Tier}); err != nil {
		return err
	}
	c := &candidate{
		Upload: Upload{Wasm: o.Module, Version: 1, ABI: Plain, Engine: o.Engine},
		tenant: s.tenants[name], name: name, unsigned: true,
	}
	v, err := s.build(ctx, c)
	if err != nil {
		return err
	}
	defer v.release()
	a, err := v.call(ctx, Call{Function: o.Function, Args: o.Args})
	if err != nil {
		return err
	}
	for _, r := range a.Results {
		if _, err := fmt.Fprintln(stdout, r); err != nil {
			return fmt.Errorf("print result: %w", err)
		}
	}
	return nil
}
