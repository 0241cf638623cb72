package chaos

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"syscall"
	"time"
)

func readStat(pid int) (Stat, error) {
	line, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return Stat{}, fmt.Errorf("process %d: %w", pid, ErrVanished)
	}
	if err != nil {
		return Stat{}, err
	}
	st, err := parseStat(line)
	if err != nil {
		return Stat{}, fmt.Errorf("process %d: %w", pid, err)
	}
	return st, nil
}

// everyStat reads all processes. One that goes meanwhile is left out.
func everyStat() (map[int]Stat, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	all := make(map[int]Stat, len(names))
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if st, err := readStat(pid); err == nil {
			all[pid] = st
		}
	}
	return all, nil
}

// signal sends sig to exactly this process. os.FindProcess holds a pidfd where the kernel has them,
// so that the number can not be taken over between the check of the start time and the signal.
func (p Process) signal(sig syscall.Signal) error {
	if p.PID <= 1 || p.PID == os.Getpid() {
		return fmt.Errorf("process %d: %s refused", p.PID, sig)
	}
	held, err := os.FindProcess(p.PID)
	if err != nil {
		return fmt.Errorf("process %d: %w", p.PID, err)
	}
	defer held.Release()
	if _, err := p.Stat(); err != nil {
		return err
	}
	err = held.Signal(sig)
	if errors.Is(err, os.ErrProcessDone) || errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("process %d: %w", p.PID, ErrVanished)
	}
	if err != nil {
		return fmt.Errorf("process %d: %s: %w", p.PID, sig, err)
	}
	return nil
}

// Stop sends SIGSTOP, Continue SIGCONT and Kill SIGKILL. ErrVanished is wrapped when the process has
// gone; a later process of the same number is never signalled.
func (p Process) Stop() error { return p.signal(syscall.SIGSTOP) }

// Continue sends SIGCONT.
func (p Process) Continue() error { return p.signal(syscall.SIGCONT) }

// Kill sends SIGKILL.
func (p Process) Kill() error { return p.signal(syscall.SIGKILL) }

// killAll kills the process, its descendants and, if it led one, its process group, and waits until
// they are gone. All are stopped first, so that none forks away from under the list.
func (p Process) killAll(ctx context.Context) error {
	known := map[Process]bool{}
	for grown := true; grown; {
		grown = false
		for _, q := range p.family() {
			if !known[q] {
				known[q], grown = true, true
				if err := q.Stop(); err != nil && !errors.Is(err, ErrVanished) {
					return err
				}
			}
		}
	}
	for q := range known {
		if err := q.Kill(); err != nil && !errors.Is(err, ErrVanished) {
			return err
		}
	}
	for q := range known {
		if err := q.gone(ctx); err != nil {
			return err
		}
	}
	return nil
}

// family lists the tree and the process group of p. While a group has members its number is not
// given to a new process, so members without a leader are still those of p.
func (p Process) family() []Process {
	tree, _ := p.Tree()
	if leader, err := readStat(p.PID); err == nil && leader.Start != p.Start {
		return tree
	}
	all, err := everyStat()
	if err != nil {
		return tree
	}
	for pid, st := range all {
		if st.Group == p.PID && pid != p.PID && st.Start >= p.Start && st.State != 'Z' {
			tree = append(tree, Process{pid, st.Start})
		}
	}
	return tree
}

func (p Process) gone(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, goneWithin)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for p.Alive() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("process %d: still there after SIGKILL: %w", p.PID, ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}
