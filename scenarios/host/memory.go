// Package host reads what a target's process does to this machine: memory today. It records numbers and
// has no opinion on them.
package host

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
)

// Memory is the data of Measured evidence on a process's memory, in bytes.
type Memory struct {
	Resident int64  `json:"residentBefore"`
	Peak     int64  `json:"peakAfter"`
	Detail   string `json:"detail,omitempty"` // why there are no numbers
}

// Peak watches the peak resident memory of the target's main process.
type Peak struct {
	env    *scenarios.Env
	pid    int
	before int64
	err    error
}

// WatchPeak resets the kernel's peak mark of the process and notes where it stands. A process that can
// not be read is noted too: what that means is for a judge.
func WatchPeak(env *scenarios.Env) (*Peak, error) {
	if len(env.Processes) == 0 {
		return nil, fmt.Errorf("%s needs the target's process, and none is known", env.Key)
	}
	p := &Peak{env: env, pid: env.Processes[0].PID}
	// 5 resets VmHWM (proc_pid_clear_refs(5)); where that is refused, the peak so far stands in.
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.pid), []byte("5"), 0)
	p.before, p.err = status(p.pid, "VmRSS")
	return p, nil
}

// Record reads the peak and records both numbers.
func (p *Peak) Record() error {
	m := Memory{Resident: p.before}
	var err error
	if m.Peak, err = status(p.pid, "VmHWM"); p.err != nil {
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
