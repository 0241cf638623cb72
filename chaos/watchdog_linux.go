package chaos

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// Watchdog is the harness' hold on its watchdog process. One that is dropped goes on holding until
// the harness ends: the descriptor is a bare one, since the garbage collector closes an os.File that
// nobody refers to, which the watchdog would take for the harness' death.
type Watchdog struct {
	cmd  *exec.Cmd
	hold int
}

// StartWatchdog starts exe with args, which has to call [Watch] with its standard input and the
// journal's path. It runs in its own session, so that a terminal's signal does not reach it. The
// end of the pipe that stays here is closed on exec, or other children would keep it open after the
// harness has died.
func StartWatchdog(exe string, args []string, journalPath string) (*Watchdog, error) {
	if _, err := os.Stat(journalPath); err != nil {
		return nil, fmt.Errorf("watchdog: %w", err)
	}
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("watchdog: pipe: %w", err)
	}
	read, write := os.NewFile(uintptr(ends[0]), "watchdog"), ends[1]
	defer read.Close() // the child has a copy of it as descriptor 0
	cmd := exec.Command(exe, args...)
	cmd.Stdin = read
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("watchdog: %w", err), unix.Close(write))
	}
	return &Watchdog{cmd: cmd, hold: write}, nil
}

// Close lets go of the watchdog, which then replays what is not clean, and waits for its end. It may
// be called once.
func (w *Watchdog) Close() error {
	if w.hold < 0 {
		return fmt.Errorf("watchdog: %w", os.ErrClosed)
	}
	err := unix.Close(w.hold)
	w.hold = -1
	if waited := w.cmd.Wait(); waited != nil {
		err = errors.Join(err, fmt.Errorf("watchdog: %w", waited))
	}
	return err
}
