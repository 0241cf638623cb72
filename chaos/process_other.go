//go:build !linux

package chaos

import (
	"context"
	"errors"
	"fmt"
	"runtime"
)

var errNoProc = fmt.Errorf("processes on %s: %w", runtime.GOOS, errors.ErrUnsupported)

func readStat(int) (Stat, error)              { return Stat{}, errNoProc }
func everyStat() (map[int]Stat, error)        { return nil, errNoProc }
func (Process) killAll(context.Context) error { return errNoProc }

// Stop, Continue and Kill are for Linux only.
func (Process) Stop() error { return errNoProc }

// Continue is for Linux only.
func (Process) Continue() error { return errNoProc }

// Kill is for Linux only.
func (Process) Kill() error { return errNoProc }
