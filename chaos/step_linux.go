package chaos

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// settleWithin bounds how long the kernel may take to thaw or to let go of a cgroup.
const settleWithin = 2 * time.Second

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// ourCgroup makes sure that a journal, whoever wrote it, can only lead to cgroups that assay made.
// It reports false for one that has gone.
func ourCgroup(path string) (bool, error) {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return false, fmt.Errorf("%q is not a clean absolute path", path)
	}
	if !strings.HasPrefix(filepath.Base(path), "assay-") {
		return false, fmt.Errorf("%q is not a cgroup of assay", path)
	}
	return isCgroup(path)
}

func isCgroup(path string) (bool, error) {
	var st unix.Statfs_t
	err := unix.Statfs(path, &st)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("statfs %s: %w", path, err)
	}
	if t := int64(st.Type); t != unix.CGROUP_SUPER_MAGIC && t != unix.CGROUP2_SUPER_MAGIC {
		return false, fmt.Errorf("%q is not in a cgroup file system", path)
	}
	return true, nil
}

// cgroupThaw thaws and waits for it: version 1 by freezer.state, version 2 by cgroup.freeze.
func cgroupThaw(ctx context.Context, path string) error {
	if there, err := ourCgroup(path); !there {
		return err
	}
	file, word, readBack, want := "cgroup.freeze", "0", "cgroup.events", "frozen 0"
	if exists(filepath.Join(path, "freezer.state")) {
		file, word, readBack, want = "freezer.state", "THAWED", "freezer.state", "THAWED"
	}
	if err := tolerateMissing(os.WriteFile(filepath.Join(path, file), []byte(word), 0)); err != nil {
		return err
	}
	return settle(ctx, path+" to thaw", func() (bool, error) {
		text, err := os.ReadFile(filepath.Join(path, readBack))
		if err != nil {
			return true, tolerateMissing(err)
		}
		return strings.Contains(string(text), want), nil
	})
}

// cgroupEmpty moves every process of the cgroup to another one, until none is left. One that forks
// or ends meanwhile is met again or is gone.
func cgroupEmpty(path, to string) error {
	if there, err := ourCgroup(path); !there {
		return err
	}
	if there, err := isCgroup(to); !there {
		return errors.Join(err, fmt.Errorf("no cgroup %q to go back to", to))
	}
	for range 100 {
		pids, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		if err != nil {
			return tolerateMissing(err)
		}
		moved := 0
		for _, pid := range strings.Fields(string(pids)) {
			err := os.WriteFile(filepath.Join(to, "cgroup.procs"), []byte(pid), 0)
			if err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("move process %s to %s: %w", pid, to, err)
			}
			moved++
		}
		if moved == 0 {
			return nil
		}
	}
	return fmt.Errorf("cgroup %s does not become empty", path)
}

// cgroupRemove removes the cgroup. Processes that are just ending may hold it for a moment.
func cgroupRemove(ctx context.Context, path string) error {
	if there, err := ourCgroup(path); !there {
		return err
	}
	return settle(ctx, path+" to be removable", func() (bool, error) {
		err := unix.Rmdir(path)
		if errors.Is(err, unix.EBUSY) {
			return false, nil
		}
		return true, tolerateMissing(err)
	})
}

func settle(ctx context.Context, what string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited for %s: %w", what, ctx.Err())
		case <-tick.C:
		}
	}
}

func tolerateMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}
