package runner

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/assay-bench/assay/chaos"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios/target"
	"github.com/assay-bench/assay/suites"
)

// maxRestarts bounds how often a target that dies is started again within a run.
const maxRestarts = 64

// supervisor starts the target, notices its death and starts it again, so that one case that kills it
// does not take the verdicts of all others with it.
type supervisor struct {
	o *Options

	mu      sync.Mutex
	starts  int
	isReady bool
	addrs   target.Endpoints
	claimed target.Claims
	buried  chan struct{} // closed when the end of the current process is recorded
}

func (s *supervisor) record(from results.Source, kind results.Kind, data any) error {
	_, err := s.o.Recorder.Record(suites.FrameKey, from, kind, data)
	return err
}

// start starts the target and records endpoints and claims. That it is not ready is evidence.
func (s *supervisor) start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.startLocked(ctx)
}

func (s *supervisor) startLocked(ctx context.Context) error {
	s.starts++
	addrs, err := s.o.Target.Start(ctx)
	var not *target.NotReady
	switch {
	case errors.As(err, &not):
		s.isReady = false
		return s.record(results.FromTarget, results.Errored, suites.Failure{Reason: not.Reason, Detail: not.Detail})
	case err != nil:
		return fmt.Errorf("start the target: %w", err)
	}
	claims, err := s.o.Target.Claims(ctx)
	if err != nil {
		return fmt.Errorf("read the target's claims: %w", err)
	}
	s.watch()
	if err := s.checkHosts(addrs); err != nil {
		s.isReady = false
		return s.record(results.FromTarget, results.Errored, suites.Failure{Reason: "garbage", Detail: err.Error()})
	}
	if err := s.reach(ctx, addrs); err != nil {
		s.isReady = false
		return s.record(results.FromTarget, results.Errored, suites.Failure{Reason: "unreachable", Detail: err.Error()})
	}
	s.isReady, s.addrs = true, addrs
	if s.starts == 1 { // the first claims hold for the whole run, as they do for the judge
		s.claimed = claims
	}
	if err := s.record(results.FromTarget, results.Ready, map[string]any{"endpoints": addrs, "start": s.starts}); err != nil {
		return err
	}
	return s.record(results.FromTarget, results.Claimed, claims)
}

// reachTime bounds the dial to a target that someone else started.
const reachTime = 3 * time.Second

// reach dials a target that someone else started: that a file names an address says nothing of whether
// anybody is there. One endpoint that answers is enough; the others have claims of their own.
func (s *supervisor) reach(ctx context.Context, addrs target.Endpoints) error {
	if _, ours := s.o.Target.(target.Local); ours || len(addrs) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	var errs []error
	for _, addr := range addrs {
		conn, err := s.o.Dialer.DialContext(ctx, "tcp", addr)
		if err == nil {
			conn.Close()
			return nil
		}
		errs = append(errs, err)
	}
	return fmt.Errorf("nobody answers: %w", errors.Join(errs...))
}

// checkHosts refuses endpoints that the run may not dial, before anything is dialled. The user named the
// hosts that are allowed; these are names that the target gave itself.
func (s *supervisor) checkHosts(addrs target.Endpoints) error {
	for _, name := range slices.Sorted(maps.Keys(addrs)) {
		if err := s.o.Dialer.Check(addrs[name]); err != nil {
			return fmt.Errorf("endpoint %s: %w", name, err)
		}
	}
	return nil
}

// watch records the end of the target's process.
func (s *supervisor) watch() {
	local, ok := s.o.Target.(target.Local)
	if !ok {
		return
	}
	exited, buried := local.Exited(), make(chan struct{})
	s.buried = buried
	go func() {
		defer close(buried)
		<-exited
		// an error of the recorder is sticky: whoever records next stops the run
		_ = s.record(results.FromTarget, results.Exited, local.ExitState())
	}()
}

// ensure starts a target again that has ended unasked.
func (s *supervisor) ensure(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.down() || !s.isReady || s.starts > maxRestarts {
		return nil
	}
	<-s.buried
	return s.startLocked(ctx)
}

// settleTime is how long a crash may take from the closed connection that a case saw to a dead process.
const settleTime = 250 * time.Millisecond

// settle waits for the end of a process that may be crashing; one that lives costs the whole time.
func (s *supervisor) settle(ctx context.Context) {
	local, ok := s.o.Target.(target.Local)
	if !ok || s.down() {
		return
	}
	timer := time.NewTimer(settleTime)
	defer timer.Stop()
	select {
	case <-local.Exited():
	case <-timer.C:
	case <-ctx.Done():
	}
}

// down tells that the target's process has ended, be it that it is still to be reaped.
func (s *supervisor) down() bool {
	local, ok := s.o.Target.(target.Local)
	if !ok {
		return false
	}
	select {
	case <-local.Exited():
		return true
	default:
	}
	for _, p := range local.Processes() {
		if p.Start != 0 && !p.Alive() {
			return true
		}
	}
	return false
}

// generation numbers the target's processes; died tells that this one has ended since.
func (s *supervisor) generation() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.starts
}

func (s *supervisor) died(generation int) bool { return s.down() || s.generation() != generation }

func (s *supervisor) ready() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.isReady
}

func (s *supervisor) endpoints() target.Endpoints {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addrs
}

func (s *supervisor) claims() target.Claims {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.claimed
}

func (s *supervisor) processes() []chaos.Process {
	if local, ok := s.o.Target.(target.Local); ok {
		return local.Processes()
	}
	return nil
}

// stop ends the target and waits until its end is recorded.
func (s *supervisor) stop(ctx context.Context) error {
	err := s.o.Target.Stop(ctx)
	s.mu.Lock()
	buried := s.buried
	s.mu.Unlock()
	if buried != nil && err == nil {
		<-buried
	}
	return err
}
