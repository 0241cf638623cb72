package target

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/assay-bench/assay/chaos"
	"github.com/assay-bench/assay/results"
)

const (
	defaultTimeout     = 10 * time.Second
	defaultStopTimeout = 5 * time.Second
	probeEvery         = 20 * time.Millisecond
	// settle is how long a start that went wrong waits for the exit that would explain it: a crash
	// closes the pipe before it can be waited for.
	settle = 250 * time.Millisecond
	// settleEOF is the same when the output has ended: then the exit is most likely near, also on a
	// host so loaded that it comes late.
	settleEOF = time.Second
	// killed bounds the time from SIGKILL until the kernel has let go of a process.
	killed = 10 * time.Second
)

// errLate is the cause of a start that took longer than its time-out, as opposed to a run that the
// user ended.
var errLate = errors.New("start time-out")

var errNoLine = errors.New("standard output ended before a line was complete")

// Command is a target that the harness starts as a child process. After Stop, or after a crash, Start
// may be called again and makes a new process.
type Command struct {
	Argv        []string
	Dir         string
	Env         []string      // added to the harness's own environment
	Ready       ReadyProbe    // nil: one JSON line on standard output with endpoints and claims
	Timeout     time.Duration // until ready; 0 means 10 s
	StopTimeout time.Duration // from SIGTERM to SIGKILL; 0 means 5 s
	Addresses   Endpoints     // with a Ready probe
	Claimed     Claims        // with a Ready probe
	Observe     Observe
	Own         func(chaos.Process) error // journals the child, so that it can not outlive the harness

	mu   sync.Mutex
	proc *process
	said readyMessage // the ready line of the current process
}

// ReadyProbe tells whether the target serves; it is called until it succeeds or time is up.
type ReadyProbe func(context.Context) error

// readyMessage is the JSON line of a command that speaks the contract.
type readyMessage struct {
	Endpoints Endpoints `json:"endpoints"`
	Claims    Claims    `json:"claims"`
}

// Start starts the command and waits until it is ready. A context that ends is the harness's own
// affair, not the target's, and is returned as such.
func (c *Command) Start(ctx context.Context) (Endpoints, error) {
	p, err := c.spawn()
	if err != nil {
		return nil, err
	}
	late, cancel := context.WithTimeoutCause(ctx, orDefault(c.Timeout, defaultTimeout), errLate)
	defer cancel()
	if c.Ready == nil {
		err = c.awaitLine(late, p)
	} else {
		err = c.awaitProbe(late, p)
	}
	if err != nil {
		return nil, errors.Join(err, c.Stop(context.WithoutCancel(ctx)))
	}
	return c.endpoints(), nil
}

// spawn starts the process, journals it and observes it.
func (c *Command) spawn() (*process, error) {
	p, err := c.replace()
	if err != nil {
		return nil, err
	}
	if c.Own != nil && p.id.Start != 0 {
		if err := c.Own(p.id); err != nil {
			return nil, errors.Join(fmt.Errorf("target: journal process %d: %w", p.id.PID, err), p.stop(context.Background(), 0))
		}
	}
	if c.Observe != nil {
		c.Observe(results.Started, map[string]any{"pid": p.id.PID, "command": c.Argv})
	}
	return p, nil
}

// replace launches a process in place of one that has ended.
func (c *Command) replace() (*process, error) {
	if len(c.Argv) == 0 {
		return nil, errors.New("target: no command to start")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.proc != nil && !c.proc.over() {
		return nil, fmt.Errorf("target: process %d runs already: stop it first", c.proc.id.PID)
	}
	p, err := c.launch()
	if err != nil {
		return nil, err
	}
	c.proc, c.said = p, readyMessage{}
	return p, nil
}

// launch forks on a thread that lives as long as the child, because Linux sends the parent-death
// signal when the thread that forked ends, not the process.
func (c *Command) launch() (*process, error) {
	cmd := exec.Command(c.Argv[0], c.Argv[1:]...)
	cmd.Dir, cmd.Env = c.Dir, append(os.Environ(), c.Env...)
	isolate(cmd)
	p := newProcess()
	ends, err := p.connect(cmd)
	if err != nil {
		return nil, fmt.Errorf("target: %w", err)
	}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		ends.closeChild()
		if err != nil {
			ends.closeParent()
			started <- err
			return
		}
		p.identify(cmd.Process.Pid)
		started <- nil
		p.watch(cmd, ends)
	}()
	if err := <-started; err != nil {
		return nil, startError(err)
	}
	return p, nil
}

// startError blames the target for a program that can not be run, and the host for all else (no
// memory, no process number, no descriptor).
func startError(err error) error {
	for _, targets := range []error{fs.ErrNotExist, fs.ErrPermission, exec.ErrNotFound, syscall.ENOEXEC, syscall.ENOTDIR} {
		if errors.Is(err, targets) {
			return &NotReady{"no-such-program", err.Error()}
		}
	}
	return fmt.Errorf("target: start: %w", err)
}

func (c *Command) awaitLine(ctx context.Context, p *process) error {
	select {
	case l := <-p.line:
		if errors.Is(l.err, errNoLine) {
			return p.notReady("garbage", l.err.Error(), settleEOF)
		}
		if l.err != nil {
			return p.notReady("garbage", l.err.Error(), settle)
		}
		m, err := parseReadyLine(l.text)
		if err != nil {
			return p.notReady("garbage", err.Error(), settle)
		}
		c.mu.Lock()
		c.said = m
		c.mu.Unlock()
		return nil
	case <-ctx.Done():
		return p.outOfTime(ctx, "printed no line in time")
	}
}

// parseReadyLine reads the first line of a command that speaks the contract.
func parseReadyLine(line []byte) (readyMessage, error) {
	var m readyMessage
	if err := json.Unmarshal(line, &m); err != nil || len(m.Endpoints) == 0 {
		return m, fmt.Errorf("first line is not the JSON of endpoints and claims: %.200q", line)
	}
	for _, name := range slices.Sorted(maps.Keys(m.Endpoints)) {
		addr := m.Endpoints[name]
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return m, fmt.Errorf("first line: endpoint %.40q is not host:port: %.100q", name, addr)
		}
	}
	return m, nil
}

func (c *Command) awaitProbe(ctx context.Context, p *process) error {
	attempt, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // an attempt need not outlast the process that it is made on
		select {
		case <-p.exited:
			cancel()
		case <-attempt.Done():
		}
	}()
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	last := errors.New("not probed yet")
	for {
		err := c.Ready(attempt)
		switch {
		case p.over(): // whoever answered, it was not this process
			return p.notReady("exited", last.Error(), settle)
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return p.outOfTime(ctx, last.Error())
		}
		last = err
		select {
		case <-p.exited:
			return p.notReady("exited", last.Error(), settle)
		case <-ctx.Done():
			return p.outOfTime(ctx, last.Error())
		case <-tick.C:
		}
	}
}

// endpoints returns those of the ready line, if there was one, else the configured ones.
func (c *Command) endpoints() Endpoints {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Ready == nil {
		return maps.Clone(c.said.Endpoints)
	}
	return maps.Clone(c.Addresses)
}

// Claims returns what the ready line says, or with a Ready probe what was configured.
func (c *Command) Claims(context.Context) (Claims, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Ready == nil {
		return c.said.Claims, nil
	}
	return c.Claimed, nil
}

// Stop asks the process to end and kills its group when it does not within the stop time-out.
func (c *Command) Stop(ctx context.Context) error {
	p := c.current()
	if p == nil {
		return nil
	}
	return p.stop(ctx, orDefault(c.StopTimeout, defaultStopTimeout))
}

// Processes lists the child while it runs.
func (c *Command) Processes() []chaos.Process {
	p := c.current()
	if p == nil || p.over() {
		return nil
	}
	return []chaos.Process{p.id}
}

// Exited is closed when the child ends. It must be called after Start.
func (c *Command) Exited() <-chan struct{} {
	p := c.current()
	if p == nil {
		return nil
	}
	return p.exited
}

// ExitState describes the end of the child.
func (c *Command) ExitState() Exit {
	p := c.current()
	if p == nil {
		return Exit{}
	}
	return p.exit()
}

func (c *Command) current() *process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.proc
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d <= 0 {
		return otherwise
	}
	return d
}

var _ interface {
	Target
	Local
} = (*Command)(nil)

// closeAll closes what is there; the errors say only that it was closed before.
func closeAll(closers ...io.Closer) {
	for _, c := range closers {
		_ = c.Close()
	}
}
