package proc

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// hierarchy is a mounted cgroup tree that can freeze.
type hierarchy struct {
	version int
	mount   string // where it is mounted
	root    string // which of its cgroups the mount shows as its root
}

// findHierarchy looks for the unified hierarchy (version 2) or the freezer of version 1.
func findHierarchy(version int) (hierarchy, error) {
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return hierarchy{}, err
	}
	h, ok := parseMountinfo(string(info), version)
	if !ok {
		return hierarchy{}, fmt.Errorf("no cgroup version %d with a freezer is mounted", version)
	}
	return h, nil
}

// parseMountinfo reads /proc/PID/mountinfo, see proc_pid_mountinfo(5): fields 4 and 5 are root and
// mount point; type, source and super options follow a lone hyphen.
func parseMountinfo(info string, version int) (hierarchy, bool) {
	for line := range strings.Lines(info) {
		f := strings.Fields(line)
		dash := slices.Index(f, "-")
		if dash < 6 || len(f) < dash+4 || strings.Contains(f[3]+f[4], `\`) {
			continue
		}
		kind, options := f[dash+1], strings.Split(f[dash+3], ",")
		if version == 2 && kind == "cgroup2" || version == 1 && kind == "cgroup" && slices.Contains(options, "freezer") {
			return hierarchy{version, f[4], f[3]}, true
		}
	}
	return hierarchy{}, false
}

// of returns the directory of the cgroup that a process is in.
func (h hierarchy) of(pid int) (string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return "", err
	}
	path, ok := parseCgroup(string(text), h.version)
	if !ok {
		return "", fmt.Errorf("process %d: in no cgroup of version %d", pid, h.version)
	}
	below, err := filepath.Rel(h.root, path)
	if err != nil || strings.HasPrefix(below, "..") {
		return "", fmt.Errorf("process %d: cgroup %s is not below the mounted %s", pid, path, h.root)
	}
	return filepath.Join(h.mount, below), nil
}

// parseCgroup reads /proc/PID/cgroup, see cgroups(7): "ID:controllers:path", with id 0 and no
// controllers for version 2.
func parseCgroup(text string, version int) (string, bool) {
	for line := range strings.Lines(text) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) != 3 {
			continue
		}
		unified := f[0] == "0" && f[1] == ""
		if version == 2 && unified || version == 1 && slices.Contains(strings.Split(f[1], ","), "freezer") {
			return f[2], true
		}
	}
	return "", false
}

// freeze writes the order; frozen reads back whether it has been carried out.
func (h hierarchy) freeze(dir string) error {
	if h.version == 2 {
		return os.WriteFile(filepath.Join(dir, "cgroup.freeze"), []byte("1"), 0)
	}
	return os.WriteFile(filepath.Join(dir, "freezer.state"), []byte("FROZEN"), 0)
}

func (h hierarchy) frozen(dir string) (bool, error) {
	file, want := "freezer.state", "FROZEN"
	if h.version == 2 {
		file, want = "cgroup.events", "frozen 1"
	}
	text, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return false, err
	}
	return strings.Contains(string(text), want), nil
}
