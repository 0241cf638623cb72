package tpm

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// backend is a TPM that the harness has alone. Its methods are called one at a time.
type backend interface {
	Name() string
	Send(command []byte) ([]byte, error)
	Reset() error // reboot: PCRs to zero, objects and sessions gone, what was sealed stays
	Wipe() error  // another TPM: seeds and NV memory are gone
	Close() error
}

const (
	headerBytes = 10   // of a command or response: tag, size, code
	maxMessage  = 4096 // of a command or response in bytes, as the kernel's TPM_BUFSIZE
)

var errShortCommand = errors.New("a command shorter than its header")

// patience is how long a case waits for its turn at the simulator before it takes swtpm, where there is
// one: a turn lasts less than a second, but many cases may wait.
const patience = 6 * time.Second

// openBackend takes the simulator, swtpm where there is none or where it stays taken.
func openBackend(ctx context.Context, dir string) (backend, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("TPM device: %w", err)
	}
	program, missing := findSwtpm()
	if !simulatorBuilt {
		if missing != nil {
			return nil, &Missing{[]string{noSimulator, missing.Error()}}
		}
		return openSwtpm(ctx, program, dir)
	}
	if missing != nil {
		return openSimulator(ctx)
	}
	inside, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	sim, err := openSimulator(inside)
	if err != nil && inside.Err() != nil && ctx.Err() == nil {
		return openSwtpm(ctx, program, dir)
	}
	return sim, err
}
