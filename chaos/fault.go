package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/assay-bench/assay/results"
)

// Fault is one kind of disturbance. Its drivers are in order of preference.
type Fault interface {
	Name() string
	Drivers() []Driver
}

// Driver brings a fault about by one mechanism.
//
// Probe finds out by doing it in a scope that is thrown away, within two seconds, and never infers.
// Plan is pure: it reads the host but changes nothing, and draws every random choice from the given
// source. Apply that fails leaves nothing but what the plan's undo steps undo.
type Driver interface {
	Name() string
	Probe(context.Context) Capability
	Plan(p Point, magnitude float64, random *rand.Rand) (Plan, error)
	Apply(context.Context, Plan) (Handle, error)
}

// Handle is a fault in force. Witness looks on another path than the one Apply used and returns
// evidence made by [Plan.Evidence]; its error means that nothing could be seen, not that the harness
// is broken. Revert is idempotent and tolerates targets that have gone.
type Handle interface {
	Witness(context.Context) (results.Evidence, error)
	Revert(context.Context) error
}

// Router is the second interface of a Handle whose driver sits in front of addresses. While the
// fault is on, the scenario dials Route(endpoint) in place of the endpoint of that name; ok is false
// when the driver does not front it.
type Router interface {
	Route(endpoint string) (addr string, ok bool)
}

// Inspector is the second interface of a Handle that knows of residue beyond its undo steps. It is
// asked after Revert and names each thing that is left.
type Inspector interface {
	Residue(context.Context) []string
}

// Idler is the second interface of a Driver that can set up everything but the disturbance: the
// control whose witness must come out negative. See [Null].
type Idler interface {
	Idle(context.Context, Plan) (Handle, error)
}

// Capability is what Driver.Probe found out on this host.
type Capability struct {
	Driver    string        `json:"driver"`
	Available bool          `json:"available"`
	Took      time.Duration `json:"took"`
	Detail    string        `json:"detail,omitempty"` // what is used, or the error text
}

// Injected is the data of evidence of kind results.Injected: one look of the witness at a fault.
// From is when Apply had returned and To when the witness had looked, both since the run began.
// Asked and Observed are in Unit.
type Injected struct {
	Fault     string        `json:"fault"`
	Driver    string        `json:"driver"`
	Unit      string        `json:"unit"`
	Asked     float64       `json:"asked"`
	Observed  float64       `json:"observed"`
	From      time.Duration `json:"from"`
	To        time.Duration `json:"to"`
	Witnessed bool          `json:"witnessed"`
	Detail    string        `json:"detail,omitempty"`
}

// Reverted is the data of evidence of kind results.Reverted. At is when Revert had returned.
type Reverted struct {
	Fault  string        `json:"fault"`
	Driver string        `json:"driver"`
	At     time.Duration `json:"at"`
	Took   time.Duration `json:"took"`
}

// Null returns a driver that reports success and does nothing, with the real driver's witness: a
// planted defect. Every run under it must come out as not witnessed. The wrapped driver has to be an
// [Idler]; otherwise Apply fails.
func Null(d Driver) Driver { return nullDriver{d} }

type nullDriver struct{ Driver }

func (n nullDriver) Name() string { return "null(" + n.Driver.Name() + ")" }

func (n nullDriver) Apply(ctx context.Context, p Plan) (Handle, error) {
	idler, ok := n.Driver.(Idler)
	if !ok {
		return nil, fmt.Errorf("driver %s: has no idle form", n.Driver.Name())
	}
	return idler.Idle(ctx, p)
}
