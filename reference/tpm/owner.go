package tpm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/assay-bench/assay/reference/defect"
)

const (
	maxSends      = 3                // of one command that is answered with RETRY, YIELDED or TESTING
	firstPause    = time.Millisecond // before the second send; doubled for each further one
	lockoutRounds = 20               // only with TPMLockoutRetried
	longestPause  = 5 * time.Millisecond
)

// owner serialises all use of one TPM. One goroutine talks to the backend; callers wait for it no
// longer than their deadline. While a command hangs, every further call fails at once.
type owner struct {
	tpm     Backend
	defects defect.Set
	turn    chan struct{} // held by the operation under way
	work    chan job
	done    chan struct{} // closed by close
	loop    sync.WaitGroup
	once    sync.Once

	mu      sync.Mutex
	hung    bool                    // a caller gave up on the command that the backend still works on
	handles map[tpm2.TPMHandle]bool // ours that live in the TPM; true: kept beyond the operation
}

// job is a command and where its answer goes. The channel has room for the answer, so that the
// worker never waits for a caller that has left.
type job struct {
	command []byte
	answer  chan answer
}

type answer struct {
	response []byte
	err      error
}

func newOwner(tpm Backend, defects defect.Set) *owner {
	o := &owner{
		tpm: tpm, defects: defects, turn: make(chan struct{}, 1), work: make(chan job),
		done: make(chan struct{}), handles: make(map[tpm2.TPMHandle]bool),
	}
	o.loop.Go(o.run)
	return o
}

func (o *owner) run() {
	for {
		select {
		case <-o.done:
			return
		case j := <-o.work:
			response, err := o.tpm.Send(j.command)
			o.deliver(j, answer{response, err})
		}
	}
}

// deliver hands over an answer and ends the state of being hung, in one step: giveUp must not come
// between the two.
func (o *owner) deliver(j job, a answer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.hung = false
	o.note(j.command, a.response, a.err)
	j.answer <- a
}

// note keeps the list of our handles, also for a command that nobody waits for any more.
func (o *owner) note(command, response []byte, err error) {
	if err != nil || len(response) < headerSize || binary.BigEndian.Uint32(response[6:]) != 0 {
		return
	}
	switch commandCode(command) {
	case tpm2.TPMCCCreatePrimary, tpm2.TPMCCLoad, tpm2.TPMCCStartAuthSession, tpm2.TPMCCContextLoad:
		if len(response) >= headerSize+4 {
			o.handles[tpm2.TPMHandle(binary.BigEndian.Uint32(response[headerSize:]))] = false
		}
	case tpm2.TPMCCFlushContext:
		if len(command) >= headerSize+4 {
			delete(o.handles, tpm2.TPMHandle(binary.BigEndian.Uint32(command[headerSize:])))
		}
	}
}

func commandCode(command []byte) tpm2.TPMCC {
	if len(command) < headerSize {
		return 0
	}
	return tpm2.TPMCC(binary.BigEndian.Uint32(command[6:]))
}

// close ends the worker. A backend whose Send does not return on Close keeps its goroutine until it does.
func (o *owner) close() error {
	var err error
	o.once.Do(func() {
		close(o.done)
		err = o.tpm.Close()
		o.mu.Lock()
		hung := o.hung
		o.mu.Unlock()
		if !hung {
			o.loop.Wait()
		}
	})
	return err
}

// session is one operation's right to use the TPM: a transport.TPM whose commands share a deadline.
type session struct {
	o      *owner
	ctx    context.Context
	cancel context.CancelFunc
	padded bool // only with TPMShortResponseServed: a short answer was filled up
}

// begin waits for the right to use the TPM. The whole operation has the given time.
func (o *owner) begin(ctx context.Context, limit time.Duration) (*session, error) {
	if o.defects.On(defect.TPMWaitsForTpm) {
		return o.bounded(context.WithoutCancel(ctx), time.Hour)
	}
	return o.bounded(ctx, limit)
}

// bounded is begin whatever defect is planted: closing waits for nobody.
func (o *owner) bounded(ctx context.Context, limit time.Duration) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	if o.isHung() {
		cancel()
		return nil, &Error{Code: CodeDeadline, Op: "wait for the TPM", Err: errors.New("an earlier command still hangs")}
	}
	select {
	case o.turn <- struct{}{}:
		return &session{o: o, ctx: ctx, cancel: cancel}, nil
	case <-ctx.Done():
		cancel()
		return nil, &Error{Code: CodeDeadline, Op: "wait for the TPM", Err: ctx.Err()}
	case <-o.done:
		cancel()
		return nil, &Error{Code: CodeUnavailable, Op: "wait for the TPM", Err: errors.New("closed")}
	}
}

func (o *owner) isHung() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.hung
}

func (s *session) end() {
	s.cancel()
	<-s.o.turn
}

// Send runs one command, repeated while the TPM says that it could not begin it (TPM 2.0 Library
// part 2, TPM_RC_RETRY, TPM_RC_YIELDED, TPM_RC_TESTING). Nothing else is ever repeated here.
func (s *session) Send(command []byte) ([]byte, error) {
	pause := firstPause
	for sent := 1; ; sent++ {
		response, err := s.once(command)
		if err != nil || !s.again(sent, response) {
			return response, err
		}
		if err := s.wait(pause); err != nil {
			return nil, err
		}
		pause = min(2*pause, longestPause)
	}
}

// again tells whether a command that was sent so often goes out once more.
func (s *session) again(sent int, response []byte) bool {
	on := s.o.defects.On
	switch tpm2.TPMRC(binary.BigEndian.Uint32(response[6:])) {
	case tpm2.TPMRCRetry, tpm2.TPMRCYielded, tpm2.TPMRCTesting:
		return !on(defect.TPMTransientNotRetried) && (sent < maxSends || on(defect.TPMTransientRetriedForever))
	case tpm2.TPMRCLockout:
		return on(defect.TPMLockoutRetried) && sent < lockoutRounds
	}
	return false
}

func (s *session) wait(pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-s.ctx.Done():
		return &Error{Code: CodeDeadline, Op: "repeat command", Err: s.ctx.Err()}
	}
}

// once runs one command once and checks the frame of its answer.
func (s *session) once(command []byte) ([]byte, error) {
	if err := s.ctx.Err(); err != nil {
		return nil, &Error{Code: CodeDeadline, Op: name(command), Err: err}
	}
	j := job{command, make(chan answer, 1)}
	select {
	case s.o.work <- j:
	case <-s.ctx.Done(): // the worker is busy with a command that hangs
		return nil, &Error{Code: CodeDeadline, Op: name(command), Err: s.ctx.Err()}
	case <-s.o.done:
		return nil, &Error{Code: CodeUnavailable, Op: name(command), Err: errors.New("closed")}
	}
	select {
	case a := <-j.answer:
		return s.checked(command, a)
	case <-s.ctx.Done():
		s.o.giveUp(j)
		return nil, &Error{Code: CodeDeadline, Op: name(command), Err: s.ctx.Err()}
	case <-s.o.done:
		return nil, &Error{Code: CodeUnavailable, Op: name(command), Err: errors.New("closed")}
	}
}

// giveUp marks the TPM as hung, unless the answer came in the meantime.
func (o *owner) giveUp(j job) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.hung = len(j.answer) == 0
}

// checked refuses an answer whose length is not what it says.
func (s *session) checked(command []byte, a answer) ([]byte, error) {
	if a.err != nil {
		return nil, &Error{Code: CodeUnavailable, Op: name(command), Err: a.err}
	}
	r := a.response
	if len(r) >= headerSize && int64(len(r)) == int64(binary.BigEndian.Uint32(r[2:])) {
		return r, nil
	}
	if s.o.defects.On(defect.TPMShortResponseServed) {
		s.padded = true
		return pad(r), nil
	}
	return nil, &Error{Code: CodeShort, Op: name(command), Err: fmt.Errorf("%w: %d bytes", errShort, len(r))}
}

// pad fills a short answer with zeroes; it exists for TPMShortResponseServed.
func pad(r []byte) []byte {
	full := make([]byte, 512)
	copy(full, r)
	if len(r) >= 6 {
		if size := binary.BigEndian.Uint32(r[2:]); size >= headerSize && size <= maxMessage {
			full = append(full, make([]byte, maxMessage)...)[:size]
		}
	}
	binary.BigEndian.PutUint32(full[2:], uint32(len(full)))
	return full
}

func name(command []byte) string { return fmt.Sprintf("command %#x", uint32(commandCode(command))) }

// keep exempts a handle from the sweep at the end of an operation.
func (o *owner) keep(h tpm2.TPMHandle) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.handles[h] = true
}

// forget drops the list of handles: the TPM was reset and they are gone, or belong to somebody else.
func (o *owner) forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	clear(o.handles)
}

// ours lists our handles, in a fixed order; all includes the kept ones.
func (o *owner) ours(all bool) []tpm2.TPMHandle {
	o.mu.Lock()
	defer o.mu.Unlock()
	var handles []tpm2.TPMHandle
	for _, h := range slices.Sorted(maps.Keys(o.handles)) {
		if all || !o.handles[h] {
			handles = append(handles, h)
		}
	}
	return handles
}

// sweep flushes what an operation left in the TPM; all includes what is kept. It goes on after an
// error: what cannot be flushed now is left to the next sweep.
func (s *session) sweep(all bool) {
	for _, h := range s.o.ours(all) {
		transient := uint32(h)>>24 == uint32(tpm2.TPMHTTransient)
		if transient && s.o.defects.On(defect.TPMHandlesLeaked) {
			continue
		}
		_, err := tpm2.FlushContext{FlushHandle: h}.Execute(s)
		if isRC(err, tpm2.TPMRCHandle, tpm2.TPMRCValue, tpm2.TPMRCReferenceH0) { // gone already
			s.o.mu.Lock()
			delete(s.o.handles, h)
			s.o.mu.Unlock()
		}
		if CodeOf(err) == CodeDeadline || CodeOf(err) == CodeUnavailable {
			return
		}
	}
}
