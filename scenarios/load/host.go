package load

import (
	"runtime/debug"
	"time"
)

// Clock estimates a machine's wall clock against that of the other nodes.
type Clock struct {
	Offset time.Duration `json:"offset_ns"` // how far it is ahead
	Bound  time.Duration `json:"bound_ns"`  // largest error of Offset
	Known  bool          `json:"known"`     // false: the bound is not known either
	Source string        `json:"source"`    // who says so
}

// Host is what the machine did to the generator.
type Host struct {
	// Boot identifies the running kernel: nodes with the same share a clock.
	Boot string `json:"boot,omitempty"`
	// Waited is the share of its time on a processor, or waiting for one, that
	// the process waited for longer than waking up takes; Steal the share that
	// the hypervisor took of all.
	Waited float64 `json:"waited"`
	Steal  float64 `json:"steal"`
	Known  bool    `json:"known"` // false: this system does not tell
	Limit  float64 `json:"limit"` // above which a run is INVALID
}

// starved notes the limit and tells whether it is exceeded.
func (h *Host) starved(limit float64) bool {
	h.Limit = limit
	return h.Waited > limit || h.Steal > limit
}

// usage is a reading of the counters behind Host.
type usage struct {
	ran, waited time.Duration // of all threads of this process
	turns       int64         // times that a processor took one of them up
	steal, all  int64         // ticks of all processors
	known       bool
}

// wakeUp is what a thread may wait at each turn with nobody in its way. A generator that does little for a request waits as
// long as it runs for that alone: 3 to 5 µs each on a virtual machine.
const wakeUp = 20 * time.Microsecond

// hostWatch is a run under way.
type hostWatch struct{ before usage }

func watchHost() hostWatch { return hostWatch{readUsage()} }

// end returns what happened since the watch began.
func (w hostWatch) end() Host {
	now := readUsage()
	h := Host{Boot: bootID(), Known: w.before.known && now.known}
	if !h.Known {
		return h
	}
	// Threads that ended in between take their counts with them.
	h.Waited = waitedShare(max(now.ran-w.before.ran, 0), max(now.waited-w.before.waited, 0), max(now.turns-w.before.turns, 0))
	if all := now.all - w.before.all; all > 0 {
		h.Steal = float64(now.steal-w.before.steal) / float64(all)
	}
	return h
}

// waitedShare is Host.Waited of so many turns.
func waitedShare(ran, waited time.Duration, turns int64) float64 {
	waited = max(waited-time.Duration(turns)*wakeUp, 0)
	if ran+waited == 0 {
		return 0
	}
	return float64(waited) / float64(ran+waited)
}

// buildVersion names the program as it was built.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	version := info.Main.Path + " " + info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" || s.Key == "vcs.modified" && s.Value == "true" {
			version += " " + s.Key[len("vcs."):] + " " + s.Value
		}
	}
	return version
}
