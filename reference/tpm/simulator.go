package tpm

import (
	"errors"
	"fmt"
	"sync"

	"github.com/google/go-tpm-tools/simulator"
)

// ErrSimulatorBusy is the error of a second simulator in one process.
var ErrSimulatorBusy = errors.New("the process has one simulator and it is in use")

// simulatorSlot guards the simulator's C globals, of which a process has one set: a second
// simulator.Get blocks until the first is closed.
var simulatorSlot = make(chan struct{}, 1)

// Simulator is the Microsoft reference TPM inside this process. It needs cgo.
type Simulator struct {
	mu  sync.Mutex
	sim *simulator.Simulator
}

// OpenSimulator returns a freshly manufactured simulator. In a binary without cgo, and while another
// one is open, it returns an error.
func OpenSimulator() (*Simulator, error) {
	select {
	case simulatorSlot <- struct{}{}:
	default:
		return nil, &Error{Code: CodeUnavailable, Op: "open simulator", Err: ErrSimulatorBusy}
	}
	sim, err := simulator.Get()
	if err != nil { // without cgo the package compiles to a stub that fails here
		<-simulatorSlot
		return nil, &Error{Code: CodeUnavailable, Op: "open simulator", Err: fmt.Errorf("no simulator: %w", err)}
	}
	return &Simulator{sim: sim}, nil
}

// Backend returns "simulator".
func (*Simulator) Backend() string { return LabelSimulator }

// Send runs one command.
func (s *Simulator) Send(command []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(command) == 0 {
		return nil, errors.New("empty command") // the C code would read beyond it
	}
	if _, err := s.sim.Write(command); err != nil {
		return nil, err
	}
	response := make([]byte, 2*maxMessage)
	n, err := s.sim.Read(response)
	return response[:n], err
}

// Reset is a reboot: PCRs go to zero, objects and sessions are gone, what was sealed stays.
func (s *Simulator) Reset() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sim.Reset()
}

// ManufactureReset makes it another TPM: seeds and NV memory are gone.
func (s *Simulator) ManufactureReset() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sim.ManufactureReset()
}

// Close frees the process's simulator. A second call does nothing.
func (s *Simulator) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sim.IsClosed() {
		return nil
	}
	defer func() { <-simulatorSlot }()
	return s.sim.Close()
}
