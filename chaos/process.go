package chaos

import (
	"bytes"
	"errors"
	"fmt"
	"sort"
	"strconv"
	"time"
)

// ErrVanished says that a process is gone, even if another one has got its number since.
var ErrVanished = errors.New("process has vanished")

// Process is a process that can not be confused with a later one of the same number. Start is field
// 22 of /proc/PID/stat: clock ticks since boot.
type Process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"`
}

// Stat is the part of /proc/PID/stat that faults need; see proc_pid_stat(5).
type Stat struct {
	State  byte // R, S, D, T (stopped), Z (dead, not yet waited for) and others
	Parent int
	Group  int
	CPU    uint64 // user and system time of all threads, in clock ticks
	Start  uint64
}

// FindProcess returns the process of that number, as it is now.
func FindProcess(pid int) (Process, error) {
	st, err := readStat(pid)
	if err != nil {
		return Process{}, err
	}
	return Process{pid, st.Start}, nil
}

// Stat reads the process' state; ErrVanished is wrapped when it has gone.
func (p Process) Stat() (Stat, error) {
	st, err := readStat(p.PID)
	if err != nil {
		return Stat{}, err
	}
	if st.Start != p.Start {
		return Stat{}, fmt.Errorf("process %d: %w", p.PID, ErrVanished)
	}
	return st, nil
}

// Alive says whether the process runs or could run again; one that only waits to be reaped does not.
func (p Process) Alive() bool {
	st, err := p.Stat()
	return err == nil && st.State != 'Z' && st.State != 'X'
}

// Tree returns the process and all of its descendants that are alive, the process first and the rest
// by number. A tree that forks meanwhile has to be read again until it is stable.
func (p Process) Tree() ([]Process, error) {
	if !p.Alive() {
		return nil, fmt.Errorf("process %d: %w", p.PID, ErrVanished)
	}
	all, err := everyStat()
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	for pid, st := range all {
		children[st.Parent] = append(children[st.Parent], pid)
	}
	tree := []Process{p}
	for queue := children[p.PID]; len(queue) > 0; queue = queue[1:] {
		st := all[queue[0]]
		queue = append(queue, children[queue[0]]...)
		if st.State != 'Z' && st.State != 'X' {
			tree = append(tree, Process{queue[0], st.Start})
		}
	}
	below := tree[1:]
	sort.Slice(below, func(i, j int) bool { return below[i].PID < below[j].PID })
	return tree, nil
}

// parseStat reads a line of /proc/PID/stat. The name, field 2, may hold spaces and parentheses, so
// that the fields are counted from the last one.
func parseStat(line []byte) (Stat, error) {
	end := bytes.LastIndexByte(line, ')')
	if end < 0 {
		return Stat{}, errors.New("no name in stat line")
	}
	f := bytes.Fields(line[end+1:]) // f[0] is field 3
	if len(f) < 20 || len(f[0]) != 1 {
		return Stat{}, fmt.Errorf("stat line has %d fields after the name", len(f))
	}
	var n [5]uint64
	for i, at := range []int{1, 2, 11, 12, 19} { // ppid, pgrp, utime, stime, starttime
		v, err := strconv.ParseInt(string(f[at]), 10, 64)
		if err != nil || v < -1 {
			return Stat{}, fmt.Errorf("stat field %d: %q", at+3, f[at])
		}
		n[i] = uint64(v)
	}
	return Stat{State: f[0][0], Parent: int(n[0]), Group: int(n[1]), CPU: n[2] + n[3], Start: n[4]}, nil
}

const (
	goneWithin = 3 * time.Second // from SIGKILL to gone; loaded hosts have taken 1.4 s
	pollEvery  = 2 * time.Millisecond
)
