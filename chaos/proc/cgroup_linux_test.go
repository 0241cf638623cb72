package proc

import "testing"

func TestParseCgroupFiles(t *testing.T) {
	const info = `31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime shared:9 - cgroup cgroup rw,freezer
41 31 0:38 /pod /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
torn`
	for version, want := range map[int]hierarchy{
		1: {1, "/sys/fs/cgroup/freezer", "/"},
		2: {2, "/sys/fs/cgroup/unified", "/pod"},
	} {
		if got, ok := parseMountinfo(info, version); !ok || got != want {
			t.Errorf("version %d: %+v, %v", version, got, ok)
		}
	}
	if got, ok := parseMountinfo("31 23 0:28 / /sys - tmpfs tmpfs rw", 2); ok {
		t.Errorf("found %+v", got)
	}
	const groups = "9:name=systemd:/\n6:cpu,freezer:/a:b\n0::/pod/x\n"
	for version, want := range map[int]string{1: "/a:b", 2: "/pod/x"} {
		if got, ok := parseCgroup(groups, version); !ok || got != want {
			t.Errorf("version %d: %q, %v", version, got, ok)
		}
	}
}

func TestRun8(t *testing.T) {
	for id, want := range map[string]string{"": "", "2026-01-02T03": "20260102", "../..": "", "AB": "ab"} {
		if got := run8(id); got != want {
			t.Errorf("run8(%q) = %q, want %q", id, got, want)
		}
	}
}
