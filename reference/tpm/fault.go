package tpm

import (
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// Forever as a number of times means: until Clear.
const Forever = -1

// AnyCommand as a command code matches every command.
const AnyCommand tpm2.TPMCC = 0

// Fault wraps a backend and misbehaves on demand. It counts what was sent to it. All methods may be
// called concurrently with Send.
type Fault struct {
	inner Backend
	ended chan struct{} // closed by Close
	once  sync.Once

	mu    sync.Mutex
	rules []*rule
	sent  []tpm2.TPMCC
	hold  chan struct{} // closed by Clear: ends delays
}

// rule is one misbehaviour. Its function gets the command and the way on, and returns the answer.
type rule struct {
	code  tpm2.TPMCC
	skip  int // matching commands that pass first
	times int // matching commands that it then applies to; Forever
	act   func(command []byte, send func([]byte) ([]byte, error)) ([]byte, error)
}

// NewFault wraps a backend; it forwards everything until told otherwise.
func NewFault(inner Backend) *Fault {
	return &Fault{inner: inner, ended: make(chan struct{}), hold: make(chan struct{})}
}

// Backend returns fault(inner).
func (f *Fault) Backend() string { return "fault(" + f.inner.Backend() + ")" }

// Respond answers the next times commands of a code with a response code; they do not reach the TPM.
func (f *Fault) Respond(code tpm2.TPMCC, rc tpm2.TPMRC, times int) {
	f.add(&rule{code: code, times: times, act: func([]byte, func([]byte) ([]byte, error)) ([]byte, error) {
		response := []byte{0x80, 0x01, 0, 0, 0, headerSize}
		return binary.BigEndian.AppendUint32(response, uint32(rc)), nil
	}})
}

// Delay holds the next times commands of a code back for d, or until Clear or Close.
func (f *Fault) Delay(code tpm2.TPMCC, d time.Duration, times int) {
	f.add(&rule{code: code, times: times, act: func(command []byte, send func([]byte) ([]byte, error)) ([]byte, error) {
		f.pause(d)
		return send(command)
	}})
}

// Truncate cuts the answers to the next times commands of a code to keep bytes; 0 makes them empty.
func (f *Fault) Truncate(code tpm2.TPMCC, keep, times int) {
	f.add(&rule{code: code, times: times, act: func(command []byte, send func([]byte) ([]byte, error)) ([]byte, error) {
		response, err := send(command)
		return response[:min(keep, len(response))], err
	}})
}

// Before calls hook with the wrapped TPM before the n-th command of a code from now on, counted from 1.
func (f *Fault) Before(code tpm2.TPMCC, n int, hook func(transport.TPM)) {
	f.add(&rule{code: code, skip: n - 1, times: 1, act: func(command []byte, send func([]byte) ([]byte, error)) ([]byte, error) {
		hook(f.inner)
		return send(command)
	}})
}

func (f *Fault) add(r *rule) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = append(f.rules, r)
}

// Clear drops every rule, ends delays under way and forgets the counts.
func (f *Fault) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules, f.sent = nil, nil
	close(f.hold)
	f.hold = make(chan struct{})
}

// Sent lists the codes of the commands since the last Clear, in order, also of those held back.
func (f *Fault) Sent() []tpm2.TPMCC {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.sent)
}

// Count tells how many commands of a code were sent since the last Clear.
func (f *Fault) Count(code tpm2.TPMCC) int {
	n := 0
	for _, c := range f.Sent() {
		if c == code || code == AnyCommand {
			n++
		}
	}
	return n
}

func (f *Fault) pause(d time.Duration) {
	f.mu.Lock()
	hold := f.hold
	f.mu.Unlock()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-hold:
	case <-f.ended:
	}
}

// Send applies the first rule that fits.
func (f *Fault) Send(command []byte) ([]byte, error) {
	if r := f.match(commandCode(command)); r != nil {
		return r.act(command, f.inner.Send)
	}
	return f.inner.Send(command)
}

func (f *Fault) match(code tpm2.TPMCC) *rule {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sent = append(f.sent, code)
	for _, r := range f.rules {
		if r.times == 0 || r.code != AnyCommand && r.code != code {
			continue
		}
		if r.skip > 0 {
			r.skip--
			continue
		}
		if r.times > 0 {
			r.times--
		}
		return r
	}
	return nil
}

// Close ends delays and closes the wrapped TPM.
func (f *Fault) Close() error {
	f.once.Do(func() { close(f.ended) })
	return f.inner.Close()
}
