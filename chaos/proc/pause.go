// Package proc disturbs the processes of a target. It starts no process but throw-away children to
// probe with, and touches none outside the point it is given.
package proc

import (
	"github.com/assay-bench/assay/chaos"
)

// Pause is the fault proc/pause: the whole process tree of the target stands still for the magnitude,
// in seconds, and then goes on. The kernel still accepts connections for it, so that a paused target
// is a hang and not a refusal.
//
// Drivers, in order: "freezer-v2" and "freezer-v1", a cgroup below the one that the processes are in,
// into which they are moved, so that no process can see it coming or fork away; then "sigstop",
// SIGSTOP to every process until the tree is stable, which a parent can see through its wait status.
// What version 1 has frozen dies of SIGKILL only when thawed: a scenario must not kill and await a
// paused target.
//
// The witness wants three things at once: each process reads as stopped, the processor time of the
// tree stands still over a window of 60 ms, and a probe that was answered before the fault is not
// answered now. Observed is the time in seconds since the fault came into force; it may exceed the
// magnitude by 0.5 s and 2 %, beyond which the fault is not the one that was asked for.
func Pause() chaos.Fault { return pause{} }

type pause struct{}

func (pause) Name() string { return "proc/pause" }

func (pause) Drivers() []chaos.Driver { return pauseDrivers() }
