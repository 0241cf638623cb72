package gate

import (
	"debug/buildinfo"
	"fmt"
	"slices"
)

// BuildComparison is how the builds of the two sides differ.
type BuildComparison struct {
	Listed  []string `json:"listed,omitempty"`  // differences that are no reason to refuse, such as the toolchain
	Refused []string `json:"refused,omitempty"` // differences that make the comparison meaningless
}

// grave are build settings of Go whose difference makes a comparison meaningless.
var grave = []string{"-race", "-msan", "-asan", "-gcflags", "CGO_ENABLED", "GOARCH", "GOAMD64", "GOARM64", "-cover"}

// silent are settings that differ between any two revisions.
var silent = []string{"-ldflags", "vcs", "vcs.revision", "vcs.time", "vcs.modified"}

// CompareBuilds reads the build information that Go embeds in programs (gate.md section 3.1, step 2). Programs that
// have none differ in nothing that is known.
func CompareBuilds(baseline, candidate string) BuildComparison {
	a, aerr := buildinfo.ReadFile(baseline)
	b, berr := buildinfo.ReadFile(candidate)
	if aerr != nil || berr != nil {
		return BuildComparison{}
	}
	var out BuildComparison
	if a.GoVersion != b.GoVersion {
		out.Listed = append(out.Listed, fmt.Sprintf("toolchain: %s, then %s", a.GoVersion, b.GoVersion))
	}
	before, after := settings(a), settings(b)
	var names []string
	for name := range before {
		names = append(names, name)
	}
	for name := range after {
		if _, both := before[name]; !both {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if before[name] == after[name] || slices.Contains(silent, name) {
			continue
		}
		text := fmt.Sprintf("%s: %q, then %q", name, before[name], after[name])
		if slices.Contains(grave, name) {
			out.Refused = append(out.Refused, text)
		} else {
			out.Listed = append(out.Listed, text)
		}
	}
	return out
}

func settings(info *buildinfo.BuildInfo) map[string]string {
	out := map[string]string{}
	for _, s := range info.Settings {
		out[s.Key] = s.Value
	}
	return out
}
