package host

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// spin takes all the time that nobody else of its session and control group wants, until its parent has gone. To other
// groups it is what any busy program is: the scheduler shares between groups first.
const spin = `while kill -0 "$PPID" 2>/dev/null; do :; done`

// Awake are processes of the idle class that keep processors from sleeping. How long one takes to wake is most of a
// small service's latency, and on a virtual machine it changes twofold from minute to minute. The zero value is none.
type Awake struct{ spins []*exec.Cmd }

// KeepAwake starts one on each processor. Processes of the usual class give way to them now and then, those of a real-time
// class never.
func KeepAwake(cpus []int) (a Awake, err error) {
	defer func() {
		if err != nil {
			a.Stop()
		}
	}()
	for _, cpu := range cpus {
		cmd := exec.Command("/bin/sh", "-c", spin)
		if err := cmd.Start(); err != nil {
			return a, err
		}
		a.spins = append(a.spins, cmd)
		var set unix.CPUSet
		set.Set(cpu)
		if err := unix.SchedSetAttr(cmd.Process.Pid, &unix.SchedAttr{Policy: unix.SCHED_IDLE}, 0); err != nil {
			return a, fmt.Errorf("idle class: %w", err)
		}
		if err := unix.SchedSetaffinity(cmd.Process.Pid, &set); err != nil {
			return a, fmt.Errorf("place on processor %d: %w", cpu, err)
		}
	}
	return a, nil
}

// Any tells whether there is one.
func (a Awake) Any() bool { return len(a.spins) > 0 }

// Stop ends them. Twice is as good as once.
func (a Awake) Stop() {
	for _, cmd := range a.spins {
		_ = cmd.Process.Kill() // it ends with its parent anyway
		_ = cmd.Wait()         // says that it was killed
	}
}

// quotas are the files of a control group's share of processor time: what spins would use it up.
var quotas = []string{"/sys/fs/cgroup%s/cpu.max", "/sys/fs/cgroup/cpu%s/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu,cpuacct%s/cpu.cfs_quota_us"}

// Limited tells whether a control group that this process is in has a quota of processor time.
func Limited() bool {
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

// RealTime tells whether this process was started in a real-time class (chrt(1)).
func RealTime() bool {
	attr, err := unix.SchedGetAttr(os.Getpid(), 0)
	return err == nil && (attr.Policy == unix.SCHED_RR || attr.Policy == unix.SCHED_FIFO)
}

// Processors lists those that this process may run on.
func Processors() (cpus []int, err error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("ask for the processors of this process: %w", err)
	}
	for i, left := 0, set.Count(); left > 0; i++ {
		if set.IsSet(i) {
			cpus = append(cpus, i)
			left--
		}
	}
	return cpus, nil
}

func unlimited(quota string) bool {
	quota = strings.TrimSpace(quota)
	return strings.HasPrefix(quota, "max") || quota == "-1" || quota == ""
}
