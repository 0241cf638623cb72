//go:build !linux

package proc

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"

	"github.com/assay-bench/assay/chaos"
)

var errNoDriver = fmt.Errorf("proc/pause on %s: %w", runtime.GOOS, errors.ErrUnsupported)

func pauseDrivers() []chaos.Driver {
	return []chaos.Driver{absent("freezer-v2"), absent("freezer-v1"), absent("sigstop")}
}

// absent is a driver that this operating system does not have.
type absent string

func (a absent) Name() string { return string(a) }

func (a absent) Probe(context.Context) chaos.Capability {
	return chaos.Capability{Driver: string(a), Detail: errNoDriver.Error()}
}

func (absent) Plan(chaos.Point, float64, *rand.Rand) (chaos.Plan, error) {
	return chaos.Plan{}, errNoDriver
}

func (absent) Apply(context.Context, chaos.Plan) (chaos.Handle, error) { return nil, errNoDriver }
