//go:build linux

package chaos

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/results"
)

func TestParseSpec(t *testing.T) {
	good := map[string]Spec{
		"net/delay=0.05":          {"net/delay", 0.05},
		"proc/kill":               {"proc/kill", 0},
		"net/partition-one-way=2": {"net/partition-one-way", 2},
	}
	seen := 0
	for text, want := range good {
		seen++
		got, err := ParseSpec(text)
		if err != nil || got != want || got.String() != text {
			t.Errorf("%q: %+v (%s), %v", text, got, got, err)
		}
	}
	for _, text := range []string{
		"", "net", "=1", "net/=1", "/delay", "Net/delay", "net/delay=", "net/delay=-1", "net/delay=-0",
		"net/delay=NaN", "net/delay=Inf", "net/delay=0x1p2", "net/delay=1_0", "net/delay=1s",
		"net/delay=1=2", "net//delay", "net/-delay", "net/delay=1e999", strings.Repeat("a/", 100) + "a",
	} {
		seen++
		if got, err := ParseSpec(text); err == nil {
			t.Errorf("%q: %+v, want an error", text, got)
		}
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
}

func FuzzParseSpec(f *testing.F) {
	for _, seed := range []string{"net/delay=0.05", "proc/kill", "net/delay=1e-09", "a/b=NaN", "=", "a/b=-0"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		spec, err := ParseSpec(text)
		if err != nil {
			return
		}
		again, err := ParseSpec(spec.String())
		if err != nil || again != spec {
			t.Fatalf("%q: %+v, then %+v, %v", text, spec, again, err)
		}
	})
}

func TestParseStat(t *testing.T) {
	line := "42 (a) b (c)) T 7 9 9 0 -1 4194560 1 2 3 4 30 12 0 0 20 0 5 0 987654 1 2\n"
	got, err := parseStat([]byte(line))
	if want := (Stat{State: 'T', Parent: 7, Group: 9, CPU: 42, Start: 987654}); err != nil || got != want {
		t.Fatalf("%+v, %v", got, err)
	}
	for _, bad := range []string{"", "42 (a", "42 (a) T 1", strings.Replace(line, " 7 ", " x ", 1)} {
		if got, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q: %+v", bad, got)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("42 (a b) T 7 9 9 0 -1 4194560 1 2 3 4 30 12 0 0 20 0 5 0 987654 1 2\n"))
	f.Add([]byte("1 ()) R"))
	f.Fuzz(func(_ *testing.T, line []byte) { _, _ = parseStat(line) })
}

func TestReadJournal(t *testing.T) {
	text := strings.Join([]string{
		`{"state":"planned","id":1,"fault":"own","undo":[{"op":"proc.kill","pid":5,"start":6}]}`,
		`{"state":"planned","id":2,"fault":"a/b","deadline":10,"grace":1}`,
		`{"state":"applied","id":2,"deadline":20,"grace":2}`,
		`not json`,
		`{"state":"planned","id":2,"undo":[{"op":"proc.cont","pid":7,"start":8}]}`,
		`{"state":"planned","id":3}`,
		`{"state":"clean","id":3}`,
		`{"state":"witnessed","id":3}`, // by a harness that woke up after the watchdog reverted
		`{"state":"planned","id":4,"undo":[{"op":"proc.cont","pi`,
	}, "\n")
	open, err := readJournal(strings.NewReader(text))
	if err == nil || !strings.Contains(err.Error(), "line 4") || strings.Contains(err.Error(), "line 9") {
		t.Errorf("error %v", err)
	}
	want := []*entry{
		{record{State: "planned", ID: 1, Fault: "own", Undo: []Step{{Op: "proc.kill", PID: 5, Start: 6}}}},
		{record{State: "planned", ID: 2, Fault: "a/b", Deadline: 20, Grace: 2, Undo: []Step{{Op: "proc.cont", PID: 7, Start: 8}}}},
	}
	if d := cmp.Diff(want, open, cmp.AllowUnexported(entry{})); d != "" {
		t.Error(d)
	}
	long := `{"state":"planned","id":1,"fault":"` + strings.Repeat("x", maxLine) + "\"}\n"
	if open, err := readJournal(strings.NewReader(long)); err == nil || len(open) != 0 {
		t.Errorf("a line of %d bytes: %d entries, %v", len(long), len(open), err)
	}
}

// What is open is the same after it has been written and read again.
func FuzzReadJournal(f *testing.F) {
	f.Add([]byte(`{"state":"planned","id":1,"undo":[{"op":"proc.kill","pid":5,"start":6}]}` + "\n" + `{"state":"clean","id":1}` + "\n"))
	f.Add([]byte(`{"state":"planned","id":2,"deadline":5}` + "\n" + `{"state":"applied","id":2}` + "\n" + `{"sta`))
	f.Add([]byte("\n\x00\n{}\n[1]\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		open, _ := readJournal(bytes.NewReader(text))
		var again bytes.Buffer
		for _, e := range open {
			first := e.record
			first.State = statePlanned
			for _, r := range []record{first, {State: e.State, ID: e.ID}} {
				line, err := results.Marshal(r)
				if err != nil {
					t.Fatal(err)
				}
				again.Write(append(line, '\n'))
			}
		}
		if again.Len() > maxLine {
			return
		}
		reread, err := readJournal(&again)
		if err != nil || len(reread) != len(open) {
			t.Fatalf("%d entries, then %d, %v", len(open), len(reread), err)
		}
	})
}

// A journal that somebody forged leads nowhere.
func TestStepsRefuse(t *testing.T) {
	seen := 0
	for _, s := range []Step{
		{Op: "rm", Path: "/"}, {},
		{Op: "proc.kill", PID: 1, Start: startOf(t, 1)},
		{Op: "cgroup.rmdir", Path: "/sys/fs/cgroup"},
		{Op: "cgroup.rmdir", Path: t.TempDir()},
		{Op: "cgroup.rmdir", Path: mkdir(t, "assay-x")},
		{Op: "cgroup.thaw", Path: "assay-relative"},
		{Op: "cgroup.thaw", Path: "/tmp/../assay-x"},
		{Op: "cgroup.empty", Path: mkdir(t, "assay-y"), To: "/"},
	} {
		seen++
		if err := s.run(t.Context()); err == nil {
			t.Errorf("%s: no error", s)
		}
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
}

func mkdir(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func startOf(t *testing.T, pid int) uint64 {
	t.Helper()
	p, err := FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	return p.Start
}
