package proxywasm

import (
	"context"
	"errors"
	"time"

	"github.com/assay-bench/assay/reference/defect"
)

var (
	errPaused      = errors.New("the filter paused the stream and did not continue it")
	errStreamReset = errors.New("the filter closed the stream")
)

// phase is how far a stream has come.
type phase int

const (
	phaseRequest  phase = iota // request headers and body may be changed
	phaseUpstream              // the request is on its way
	phaseResponse              // response headers may be changed
	phaseDone                  // the response went out
	phaseLog                   // header maps may be read
	phaseOver
)

// stream is the context of one request and its response, guarded by the filter's lock.
type stream struct {
	scope
	vm       *vm
	phase    phase
	maps     [4]fields
	body     [2][]byte
	hasBody  [2]bool
	protocol string

	paused  [2]bool
	resumed [2]bool // proxy_continue_stream was called since the last callback of the direction
	reset   bool    // proxy_close_stream was called
	local   *localResponse
	wake    chan struct{}
}

// localResponse is what proxy_send_local_response asked for.
type localResponse struct {
	status  int
	headers fields
	body    []byte
}

func newStream(headers fields, protocol string) *stream {
	s := &stream{wake: make(chan struct{}, 1), protocol: protocol}
	s.maps[mapRequestHeaders] = headers
	return s
}

// wakeUp tells the request's goroutine that something changed.
func (s *stream) wakeUp() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// writable reports whether the guest may change the map now. Trailers may be changed once the body is there.
func (s *stream) writable(id int) bool {
	d := direction(id / 2)
	if d == request && s.phase != phaseRequest || d == response && s.phase != phaseResponse {
		return false
	}
	return id == headersOf(d) || s.hasBody[d]
}

// open starts a stream in the filter's instance, in a new one after a trap.
func (f *Filter) open(s *stream) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	v, err := f.living()
	if err != nil {
		return err
	}
	return v.open(s)
}

// headers runs the header callback of a direction. eos says that no body follows.
func (f *Filter) headers(s *stream, d direction, eos bool) error {
	name := [...]string{onRequestHeaders, onResponseHeaders}[d]
	return f.callback(s, d, name, func() []uint64 {
		return []uint64{uint64(len(s.maps[headersOf(d)])), flag(eos)}
	})
}

// bodyAndTrailers runs the callbacks for a body that is there in full, and for trailers if there are any.
func (f *Filter) bodyAndTrailers(s *stream, d direction, body []byte, trailers fields) error {
	f.mu.Lock()
	s.body[d], s.hasBody[d], s.maps[trailersOf(d)] = body, true, trailers
	f.mu.Unlock()
	name := [...]string{onRequestBody, onResponseBody}[d]
	err := f.callback(s, d, name, func() []uint64 { return []uint64{uint64(len(body)), flag(len(trailers) == 0)} })
	if err != nil || len(trailers) == 0 {
		return err
	}
	name = [...]string{onRequestTrailers, onResponseTrail}[d]
	return f.callback(s, d, name, func() []uint64 { return []uint64{uint64(len(s.maps[trailersOf(d)]))} })
}

func flag(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// callback runs one callback of a direction; the action that it returns pauses or continues the stream.
// A callback that the guest does not export leaves the stream as it is.
func (f *Filter) callback(s *stream, d direction, name string, args func() []uint64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := s.interrupted(); err != nil || s.local != nil {
		return err
	}
	if s.vm.functions[name] == nil {
		return nil
	}
	s.resumed[d] = false
	result, err := s.vm.enter(s, name, 0, append([]uint64{uint64(s.id)}, args()...)...)
	if err != nil {
		return err
	}
	s.paused[d] = action(result) == actionPause && !s.resumed[d] && !f.on(defect.SandboxProxyPauseIgnored)
	return nil
}

// interrupted is the reason why the stream cannot go on, or nil.
func (s *stream) interrupted() error {
	switch {
	case s.vm.dead:
		return errGone
	case s.reset:
		return errStreamReset
	}
	return nil
}

// await returns when the direction is not paused, when a local response is there or when the stream cannot
// go on. It gives up after the filter's limit and when ctx ends.
func (f *Filter) await(ctx context.Context, s *stream, d direction) error {
	limit := time.NewTimer(f.options.PauseLimit)
	defer limit.Stop()
	for {
		f.mu.Lock()
		err, held := s.interrupted(), s.paused[d] && s.local == nil
		f.mu.Unlock()
		if err != nil || !held {
			return err
		}
		select {
		case <-s.wake:
		case <-limit.C:
			return errPaused
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// enterPhase moves the stream on and returns the local response, if there is one.
func (f *Filter) enterPhase(s *stream, p phase) *localResponse {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.local == nil || f.on(defect.SandboxProxyLocalForwarded) {
		s.phase = p
	}
	return s.local
}

// localOf returns the local response of a stream, or nil.
func (f *Filter) localOf(s *stream) *localResponse {
	f.mu.Lock()
	defer f.mu.Unlock()
	return s.local
}

// receive gives the stream its response headers.
func (f *Filter) receive(s *stream, headers fields) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s.phase = phaseResponse
	s.maps[mapResponseHeaders] = headers
}

// snapshot returns the maps of a direction as the guest left them. Maps are replaced, never changed in
// place.
func (f *Filter) snapshot(s *stream, d direction) (headers, trailers fields) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return s.maps[headersOf(d)], s.maps[trailersOf(d)]
}

// sent marks that the response goes out: nothing can replace it any more.
func (f *Filter) sent(s *stream) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s.phase = phaseDone
}

// end ends the stream's context.
func (f *Filter) end(s *stream) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.vm != nil && !s.vm.dead {
		s.vm.endStream(s)
	}
	f.settle()
}
