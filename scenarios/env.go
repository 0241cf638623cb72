// Package scenarios drives a target and records what happens. It has no opinions: what a target does
// (refuses, resets, is silent, sends garbage) is evidence, and only a failure of the harness itself is
// an error.
package scenarios

import (
	"context"
	"math/rand/v2"
	"net"
	"time"

	"github.com/assay-bench/assay/chaos"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios/target"
)

// DialFunc connects to an address that the run is allowed to reach.
type DialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// Env is all that a drive may use of the world: clock, randomness, network, the target, and the
// recorder of its own case.
type Env struct {
	Key       results.Key
	Token     string // this case's own name in the target, never used by another case
	Endpoints target.Endpoints
	Claims    target.Claims
	Dial      DialFunc
	Clock     results.Clock
	Rand      *rand.Rand
	Processes []chaos.Process // of the target, where it runs on this host
	Save      func(name string, data []byte) error
	// Terminate asks the target to end, as its operator would, and returns at once. Only checks that
	// declare that they stop the target have it; it is started again after the case.
	Terminate func()
	Put       func(from results.Source, kind results.Kind, data any) error
}

// Record writes evidence that the scenario itself observed.
func (e *Env) Record(kind results.Kind, data any) error {
	return e.Put(results.FromScenario, kind, data)
}

// Elapsed returns the time since an earlier reading of the clock.
func (e *Env) Elapsed(since time.Duration) time.Duration { return e.Clock.Now() - since }
