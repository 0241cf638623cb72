package load

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// SystemClock returns what the kernel's clock discipline says: no offset that
// it knows of, and its own maximum error when it is synchronised.
func SystemClock() Clock {
	var tx unix.Timex
	state, err := unix.Adjtimex(&tx)
	if err != nil || state == unix.TIME_ERROR || tx.Status&unix.STA_UNSYNC != 0 {
		return Clock{Source: "not synchronised"}
	}
	return Clock{Bound: time.Duration(tx.Maxerror) * time.Microsecond, Known: true, Source: "adjtimex"}
}

func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}

// readUsage reads /proc/self/task/*/schedstat (time on a processor, time waiting
// for one, turns) and the first line of /proc/stat.
func readUsage() usage {
	var u usage
	tasks, err := filepath.Glob("/proc/self/task/*/schedstat")
	if err != nil {
		return u
	}
	for _, path := range tasks {
		fields := readInts(path)
		if len(fields) < 3 {
			continue // the thread has just ended
		}
		u.known = true
		u.ran += time.Duration(fields[0])
		u.waited += time.Duration(fields[1])
		u.turns += fields[2]
	}
	// user nice system idle iowait irq softirq steal
	cpu := readInts("/proc/stat")
	for i, ticks := range cpu[:min(len(cpu), 8)] {
		u.all += ticks
		if i == 7 {
			u.steal = ticks
		}
	}
	return u
}

// readInts returns the numbers of the first line of a file.
func readInts(path string) (ints []int64) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	for _, field := range strings.Fields(line) {
		if n, err := strconv.ParseInt(field, 10, 64); err == nil {
			ints = append(ints, n)
		}
	}
	return ints
}
