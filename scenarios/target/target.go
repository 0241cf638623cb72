// Package target says how a system under test is started, reached and stopped: the reference or any
// command as a child process, or an address that is already served. It may not judge: a target that
// never becomes ready, dies or answers garbage is an observation, not an error of the harness.
package target

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/assay-bench/assay/chaos"
	"github.com/assay-bench/assay/results"
)

// Endpoints maps an endpoint's name (rpc, grpc, admin, tls and so on) to its address host:port.
type Endpoints map[string]string

// Limits are bounds that a target promises. Zero means that it promises nothing; checks then use the
// default that the requirement names.
type Limits struct {
	ReadDeadlineMillis int64 `json:"readDeadlineMillis,omitempty"`
	MaxFrameBytes      int64 `json:"maxFrameBytes,omitempty"`
	MaxDepth           int   `json:"maxDepth,omitempty"`
	AnswerMillis       int64 `json:"answerMillis,omitempty"`
}

// Answer is how long an ordinary call may take to be answered, 1.5 s where nothing is said. It is no
// requirement: it tells a slow target from a silent one.
func (l Limits) Answer() time.Duration {
	if l.AnswerMillis <= 0 {
		return 1500 * time.Millisecond
	}
	return time.Duration(l.AnswerMillis) * time.Millisecond
}

// ReadDeadline is the promised read deadline, 5 s where none is promised (rpc/wire/read-deadline).
func (l Limits) ReadDeadline() time.Duration {
	if l.ReadDeadlineMillis <= 0 {
		return 5 * time.Second
	}
	return time.Duration(l.ReadDeadlineMillis) * time.Millisecond
}

// Claims is what a target says of itself.
type Claims struct {
	Name     string   `json:"name"`
	Version  string   `json:"version,omitempty"`
	Features []string `json:"features"`
	Limits   Limits   `json:"limits"`
	Defects  []string `json:"defects,omitempty"` // planted ones: such a stack can never be certified
	TLS      *TLS     `json:"tls,omitempty"`
	Sandbox  *Sandbox `json:"sandbox,omitempty"`
	Router   *Router  `json:"router,omitempty"`
}

// Sandbox is how a WebAssembly runtime or a proxy is driven beyond its endpoints.
type Sandbox struct {
	RunWasm string `json:"runWasm,omitempty"` // command line with {module}, {function} and {args}
	Load    string `json:"load,omitempty"`    // command line with {filter}: loads a Proxy-Wasm filter
	Reload  string `json:"reload,omitempty"`  // command line that makes the proxy take the loaded filter
	Folder  string `json:"-"`                 // where the commands run; empty: the current one
}

// TLS is what a prober needs to know of a target's TLS endpoints beyond their addresses.
type TLS struct {
	ServerName string `json:"serverName,omitempty"` // sent as server_name; empty: none is sent
	Roots      string `json:"roots,omitempty"`      // PEM of the roots that its chains end in; empty: chains are not judged
	App        string `json:"app,omitempty"`        // echo, http (GET / over HTTP/1.1), or empty: nothing is sent
	Client     string `json:"client,omitempty"`     // command line that makes the client under test dial once
	Folder     string `json:"-"`                    // where Client is run: that of the target file
}

// Has tells whether a feature is claimed.
func (c Claims) Has(feature string) bool {
	for _, f := range c.Features {
		if f == feature {
			return true
		}
	}
	return false
}

// Target is a system under test.
type Target interface {
	// Claims returns features and limits; it is called after Start.
	Claims(context.Context) (Claims, error)
	// Start makes the target ready. An error wrapping ErrNotReady is an observation on the target,
	// any other one is the harness's own.
	Start(context.Context) (Endpoints, error)
	// Stop ends it within its stop time-out. Stopping twice, or after a crash, is no error.
	Stop(context.Context) error
}

// Local is implemented by targets whose processes run on this host.
type Local interface {
	// Processes lists what Start started, main process first.
	Processes() []chaos.Process
	// Exited is closed when the main process ends.
	Exited() <-chan struct{}
	// ExitState describes how it ended and the end of its output; empty while it runs.
	ExitState() Exit
}

// Exit describes a process that ended.
type Exit struct {
	PID    int    `json:"pid"`
	State  string `json:"state"`  // as wait(2) told it
	Asked  bool   `json:"asked"`  // the harness had asked it to stop
	Output string `json:"output"` // the end of what it printed
}

// Observe records an observation on the target; the runner supplies it.
type Observe func(kind results.Kind, data any)

// ErrNotReady is wrapped when the target, not the harness, is at fault for a failed start.
var ErrNotReady = errors.New("target is not ready")

// NotReady is the reason of a failed start, from a closed set.
type NotReady struct {
	Reason string // exited, timeout, garbage, no-such-program
	Detail string
}

func (e *NotReady) Error() string {
	return fmt.Sprintf("target is not ready (%s): %s", e.Reason, e.Detail)
}

// Unwrap makes errors.Is(err, ErrNotReady) hold.
func (e *NotReady) Unwrap() error { return ErrNotReady }

// Remote is a target that someone else started.
type Remote struct {
	Addresses Endpoints
	Claimed   Claims
}

// Claims returns what the user's file says.
func (r *Remote) Claims(context.Context) (Claims, error) { return r.Claimed, nil }

// Start returns the addresses.
func (r *Remote) Start(context.Context) (Endpoints, error) { return r.Addresses, nil }

// Stop does nothing: the target is not ours.
func (r *Remote) Stop(context.Context) error { return nil }
