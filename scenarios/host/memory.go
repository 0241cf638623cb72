// Package host reads what a target's process does to this machine: memory today. It records numbers and
// has no opinion on them.
package host

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/assay-bench/assay/chaos"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
)

// Memory is the data of Measured evidence on a process's memory, in bytes.
type Memory struct {
	Resident int64  `json:"residentBefore"`
	Peak     int64  `json:"peakAfter"`
	Detail   string `json:"detail,omitempty"` // why there are no numbers
}

// Peak watches the peak resident memory of the target's processes.
type Peak struct {
	env    *scenarios.Env
	tree   []chaos.Process
	before int64
	err    error
}

// WatchPeak resets the kernel's peak mark of the target's process and its descendants and notes where
// they stand. A process that can
// not be read is noted too: what that means is for a judge.
func WatchPeak(env *scenarios.Env) (*Peak, error) {
	if len(env.Processes) == 0 {
		return nil, fmt.Errorf("%s needs the target's process, and none is known", env.Key)
	}
	p := &Peak{env: env}
	if p.tree, p.err = env.Processes[0].Tree(); p.err != nil {
		return p, nil
	}
	for _, child := range p.tree {
		// 5 resets VmHWM (proc_pid_clear_refs(5)); where that is refused, the peak so far stands in.
		_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", child.PID), []byte("5"), 0)
	}
	p.before, p.err = sum(p.tree, "VmRSS")
	return p, nil
}

// sum adds a field of /proc/PID/status over processes.
func sum(tree []chaos.Process, field string) (total int64, err error) {
	for _, p := range tree {
		n, err := status(p.PID, field)
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

// Record reads the peak and records both numbers.
func (p *Peak) Record() error {
	m := Memory{Resident: p.before}
	var err error
	if m.Peak, err = sum(p.tree, "VmHWM"); p.err != nil {
		err = p.err
	}
	if err != nil {
		m = Memory{Detail: err.Error()}
	}
	return p.env.Put(results.FromHost, results.Measured, m)
}

// status reads a field of /proc/PID/status that is given in kB.
func status(pid int, field string) (int64, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		name, value, _ := strings.Cut(sc.Text(), ":")
		if name != field {
			continue
		}
		kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		return kb << 10, err
	}
	return 0, fmt.Errorf("/proc/%d/status has no %s", pid, field)
}

// Growth reads the recorded growth of the peak over the start, its evidence, and whether it is known.
func Growth(evidence []results.Evidence) (grown int64, seq uint64, ok bool) {
	for _, e := range evidence {
		var m Memory
		if e.Kind == results.Measured && e.Source == results.FromHost && e.Decode(&m) == nil {
			return m.Peak - m.Resident, e.Seq, m.Detail == "" && m.Peak > 0
		}
	}
	return 0, 0, false
}

// PeakMemory is the largest resident memory that processes have had since they began, added up, in bytes.
func PeakMemory(tree []chaos.Process) (int64, error) { return sum(tree, "VmHWM") }
