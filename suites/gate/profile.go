package gate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/google/pprof/profile"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios/duet"
	"github.com/assay-bench/assay/scenarios/duet/gobench"
	"github.com/assay-bench/assay/scenarios/duet/profiles"
)

// Profiled is the kind of evidence that a profile of both sides leaves.
const Profiled results.Kind = "profiled"

// ProfileDir is the folder of a bundle's profiles.
const ProfileDir = "profiles"

// profileFiles names the files of a pair, relative to the bundle.
func profileFiles(n int, kind profiles.Kind) [2]string {
	var out [2]string
	for _, arm := range duet.Arms {
		out[arm] = fmt.Sprintf("%s/%03d-%s-%s.pb.gz", ProfileDir, n, kind, arm)
	}
	return out
}

// keep writes the profiles of both sides into the bundle and records how they differ.
func keep(w *results.Writer, rec *results.Recorder, n int, scenario string, kind profiles.Kind, raw [2][]byte, calls [2]float64) error {
	d := profiles.Comparison{Scenario: scenario, Of: kind, Files: profileFiles(n, kind), Calls: calls}
	for _, arm := range duet.Arms {
		if err := w.WriteFile(d.Files[arm], raw[arm]); err != nil {
			return err
		}
	}
	var err error
	if d.Functions, d.Total, err = profiles.Compare(kind, raw, calls); err != nil {
		return fmt.Errorf("profile of %s: %w", scenario, err)
	}
	_, err = rec.Record(scenarioKey(scenario), results.FromTarget, Profiled, d)
	return err
}

// CheckProfiles computes the differences between the profiles of a bundle again.
func CheckProfiles(dir string, evidence []results.Evidence) error {
	for _, e := range evidence {
		if e.Kind != Profiled {
			continue
		}
		var d profiles.Comparison
		if err := e.Decode(&d); err != nil {
			return err
		}
		var raw [2][]byte
		for _, arm := range duet.Arms {
			name := filepath.FromSlash(d.Files[arm])
			if !filepath.IsLocal(name) || !strings.HasPrefix(d.Files[arm], ProfileDir+"/") {
				return fmt.Errorf("evidence %d names a profile outside the bundle: %q", e.Seq, d.Files[arm])
			}
			var err error
			if raw[arm], err = os.ReadFile(filepath.Join(dir, name)); err != nil {
				return fmt.Errorf("evidence %d: %w", e.Seq, err)
			}
		}
		again, total, err := profiles.Compare(d.Of, raw, d.Calls)
		if err != nil {
			return fmt.Errorf("evidence %d: %w", e.Seq, err)
		}
		if !profiles.Same(d.Functions, again) || !profiles.Near(d.Total, total) {
			return fmt.Errorf("evidence %d: the functions are not what the profiles of %s give", e.Seq, d.Scenario)
		}
	}
	return nil
}

// Extra epochs for profiles: each side three times, in turn, for about a second.
const (
	profileRuns    = 3
	profileSeconds = 1.0
)

// profile runs each function with a regression again on both sides, with profiles of processor time and allocations.
func (s BenchSession) profile(ctx context.Context, course *BenchCourse, w *results.Writer, rec *results.Recorder) error {
	done, n := map[string]bool{}, 0
	for _, d := range course.Decisions() {
		b := course.at[d.Metric.Scenario].Bench
		if d.Outcome != Regression || done[b.ID()] {
			continue
		}
		done[b.ID()] = true
		n++
		if err := s.profileOne(ctx, w, rec, n, b); err != nil {
			return fmt.Errorf("profile of %s: %w", b.ID(), err)
		}
	}
	return nil
}

func (s BenchSession) profileOne(ctx context.Context, w *results.Writer, rec *results.Recorder, n int, b Bench) error {
	dir, err := os.MkdirTemp("", "assay-profile-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	filter := exactly(b.Name)
	iterations := s.iterations(b, rec)
	kinds := []profiles.Kind{profiles.CPU, profiles.Allocs}
	collected := map[profiles.Kind]*[2][]*profile.Profile{profiles.CPU: {}, profiles.Allocs: {}}
	var calls [2]float64
	for range profileRuns {
		for _, arm := range duet.Arms {
			cpu, mem := filepath.Join(dir, "cpu"), filepath.Join(dir, "mem")
			ran, err := s.process(ctx, arm, BenchStep{Function: b.Function(), Benches: []Bench{b}}, gobench.Command{
				Filter: filter, Time: fmt.Sprintf("%dx", iterations[arm]), Procs: s.Policy.Procs,
				Flags: []string{"-test.cpuprofile=" + cpu, "-test.memprofile=" + mem, "-test.memprofilerate=4096"},
			})
			if err != nil {
				return err
			}
			calls[arm] += float64(ran.Results[b.Name].Iterations + 1) // and the first call, with which Go's runner begins
			files := map[profiles.Kind]string{profiles.CPU: cpu, profiles.Allocs: mem}
			for _, kind := range kinds {
				p, err := profiles.ReadFile(files[kind])
				if err != nil {
					return err
				}
				collected[kind][arm] = append(collected[kind][arm], p)
			}
		}
	}
	for _, kind := range kinds {
		var raw [2][]byte
		for _, arm := range duet.Arms {
			if raw[arm], err = profiles.Merge(collected[kind][arm]); err != nil {
				return err
			}
		}
		if err := keep(w, rec, n, b.ID(), kind, raw, calls); err != nil {
			return err
		}
	}
	return nil
}

// exactly is the filter that picks one benchmark, sub-benchmarks by all of their names.
func exactly(name string) string {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	parts[0] = "^Benchmark" + strings.TrimPrefix(parts[0], "^")
	return strings.Join(parts, "/")
}

// iterations are how often each side runs in about a second, from its last recorded epoch.
func (s BenchSession) iterations(b Bench, rec *results.Recorder) [2]int {
	out := [2]int{1, 1}
	for _, e := range rec.Of(scenarioKey(b.ID())) {
		var epoch duet.Epoch
		if e.Kind != results.Measured || e.Decode(&epoch) != nil || epoch.Phase != duet.Duet {
			continue
		}
		for _, arm := range duet.Arms {
			if ns := epoch.Arms[arm].Figures[gobench.Time]; ns > 0 {
				out[arm] = max(1, min(1_000_000_000, int(profileSeconds*float64(time.Second)/ns)))
			}
		}
	}
	return out
}

// profile asks both sides for profiles of every scenario with a metric that regressed, where the session wants them.
func (s Session) profile(ctx context.Context, p Policy, course *Course, w *results.Writer, rec *results.Recorder) error {
	if !s.Profile {
		return nil
	}
	red := map[string]bool{}
	for _, d := range course.seq.Decisions() {
		red[d.Metric.Scenario] = red[d.Metric.Scenario] || d.Outcome == Regression
	}
	n := 0
	for _, scenario := range p.Scenarios {
		if !red[scenario.Name] {
			continue
		}
		n++
		if err := s.profileScenario(ctx, p, scenario.Name, w, rec, n); err != nil {
			return fmt.Errorf("profile of %s: %w", scenario.Name, err)
		}
	}
	return nil
}

// Extra epochs for the profiles of a service: each side so often, in turn, for so long.
const (
	serviceRuns = 2
	serviceTime = 3 * time.Second
)

func (s Session) profileScenario(ctx context.Context, p Policy, name string, w *results.Writer, rec *results.Recorder, n int) error {
	taken, err := duet.TakeProfiles(ctx, s.Programs, name, p.Profile, serviceRuns, serviceTime)
	if err != nil {
		return err
	}
	for _, kind := range []profiles.Kind{profiles.CPU, profiles.Allocs} {
		raw := [2][]byte{taken[0].Raw[kind], taken[1].Raw[kind]}
		if raw[0] == nil {
			continue
		}
		if err := keep(w, rec, n, name, kind, raw, [2]float64{taken[0].Calls, taken[1].Calls}); err != nil {
			return err
		}
	}
	return nil
}

// ErrNoProfile says that --profile has nothing to ask.
var ErrNoProfile = errors.New("the policy names no profile: add for Go services  profile: {cpu: \"/debug/pprof/profile?seconds={seconds}\", allocs: \"/debug/pprof/heap?gc=1\"}")

// CanProfile tells whether the policy says where a side serves its profiles.
func (p Policy) CanProfile() error {
	if p.Profile == (duet.ProfilePaths{}) {
		return ErrNoProfile
	}
	return nil
}
