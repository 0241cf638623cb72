package duet

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/assay-bench/assay/chaos"
)

// spin takes all the time that nobody else of its session and control group wants, until its parent has gone. To other
// groups it is what any busy program is: the scheduler shares between groups first.
const spin = `while kill -0 "$PPID" 2>/dev/null; do :; done`

// awake are processes of the idle class that keep processors from sleeping. How long one takes to wake is most of a
// small service's latency, and on a virtual machine it changes twofold from minute to minute.
type awake []*exec.Cmd

// keepAwake starts one on each processor.
func keepAwake(cpus []int) (a awake, err error) {
	defer func() {
		if err != nil {
			a.stop()
		}
	}()
	for _, cpu := range cpus {
		cmd := exec.Command("/bin/sh", "-c", spin)
		if err := cmd.Start(); err != nil {
			return a, err
		}
		a = append(a, cmd)
		var set unix.CPUSet
		set.Set(cpu)
		if err := unix.SchedSetAttr(cmd.Process.Pid, &unix.SchedAttr{Policy: unix.SCHED_IDLE}, 0); err != nil {
			return a, fmt.Errorf("idle class: %w", err)
		}
		if err := place([]chaos.Process{{PID: cmd.Process.Pid}}, set); err != nil {
			return a, err
		}
	}
	return a, nil
}

func (a awake) stop() {
	for _, cmd := range a {
		_ = cmd.Process.Kill() // it ends with its parent anyway
		_ = cmd.Wait()         // says that it was killed
	}
}

// quotas are the files of a control group's share of processor time: what spins would use it up.
var quotas = []string{"/sys/fs/cgroup%s/cpu.max", "/sys/fs/cgroup/cpu%s/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu,cpuacct%s/cpu.cfs_quota_us"}

// limited tells whether a group that this process is in has a quota.
func limited() bool {
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return !errors.Is(err, os.ErrNotExist) // a kernel without groups limits nobody
	}
	for line := range strings.Lines(string(groups)) {
		_, path, _ := strings.Cut(strings.TrimSpace(line), ":")
		_, path, _ = strings.Cut(path, ":")
		for ; ; path = path[:strings.LastIndex(path, "/")] {
			path = strings.TrimSuffix(path, "/")
			for _, file := range quotas {
				text, err := os.ReadFile(fmt.Sprintf(file, path))
				if err == nil && !unlimited(string(text)) {
					return true
				}
				if err != nil && !errors.Is(err, os.ErrNotExist) {
					return true
				}
			}
			if path == "" {
				break
			}
		}
	}
	return false
}

func unlimited(quota string) bool {
	quota = strings.TrimSpace(quota)
	return strings.HasPrefix(quota, "max") || quota == "-1" || quota == ""
}
