//go:build cgo

package tpm

import (
	"context"
	"fmt"

	"github.com/google/go-tpm-tools/simulator"
)

// simulatorBuilt tells that the simulator is part of this program.
const simulatorBuilt = true

// simulated is the Microsoft reference TPM in this process.
type simulated struct{ sim *simulator.Simulator }

// openSimulator waits for the process's one simulator, which comes freshly manufactured. The C code
// keeps its state in globals: whoever has it has it alone until Close.
func openSimulator(ctx context.Context) (backend, error) {
	type got struct {
		sim *simulator.Simulator
		err error
	}
	done := make(chan got)
	go func() {
		sim, err := simulator.Get() // blocks while somebody has it
		select {
		case done <- got{sim, err}:
		case <-ctx.Done():
			if err == nil {
				_ = sim.Close() // nobody waits for it any more
			}
		}
	}()
	select {
	case g := <-done:
		if g.err != nil {
			return nil, fmt.Errorf("simulator: %w", g.err)
		}
		return &simulated{g.sim}, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("simulator: somebody else has it: %w", ctx.Err())
	}
}

func (s *simulated) Name() string { return "simulator" }

func (s *simulated) Send(command []byte) ([]byte, error) {
	if len(command) < headerBytes {
		return nil, errShortCommand // the C code would read beyond it
	}
	if _, err := s.sim.Write(command); err != nil {
		return nil, fmt.Errorf("simulator: %w", err)
	}
	response := make([]byte, 2*maxMessage)
	n, err := s.sim.Read(response)
	if err != nil {
		return nil, fmt.Errorf("simulator: %w", err)
	}
	return response[:n], nil
}

func (s *simulated) Reset() error { return s.sim.Reset() }
func (s *simulated) Wipe() error  { return s.sim.ManufactureReset() }
func (s *simulated) Close() error { return s.sim.Close() }
