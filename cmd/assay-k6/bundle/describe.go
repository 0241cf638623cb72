package bundle

import (
	"crypto/rand"
	"encoding/hex"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/assay-bench/assay/cmd/assay-k6/args"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios/k6"
)

// describe fills run.json with what is known before the run. Plan[0] only carries the command so far.
func describe(began time.Time, script, digest, dir string) results.Run {
	return results.Run{
		APIVersion: results.APIVersion, Kind: k6.Kind, ID: newID(), Tool: tool(),
		Suite:  results.Suite{Version: "k6-" + k6.Version, Digest: k6.Digest()},
		Target: results.Target{Name: script, Kind: k6.Kind, Role: "endpoint", File: script, Digest: digest},
		Host:   results.Host{Cores: runtime.NumCPU()},
		Basis:  "all", Profile: k6.Kind, Started: began.UTC().Truncate(time.Second),
		Plan: []results.Planned{{Reproduce: command(args.Original, dir)}},
	}
}

// command is the command line without the folder that this run has used up.
func command(argv []string, dir string) string {
	words := []string{"assay-k6"}
	for _, a := range argv[min(1, len(argv)):] {
		a = strings.ReplaceAll(a, Name+"="+dir, Name+"=NEW_DIR")
		if a == "" || strings.Trim(a, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-=@:,+") != "" {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}

func newID() string {
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic(err) // the system has no randomness: nothing can go on
	}
	return hex.EncodeToString(b[:])
}

// tool names this program and the k6 that it links.
func tool() results.Tool {
	t := results.Tool{Name: "assay-k6", Version: "unknown", Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return t
	}
	for _, d := range info.Deps {
		if d.Path == "go.k6.io/k6" {
			t.Version = "k6 " + d.Version
		}
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			t.Revision = s.Value
		}
	}
	return t
}

// fileName keeps a metric's name and its tags apart in a file's name.
func fileName(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_', r == '-', r == '.':
			return r
		}
		return '_'
	}, name)
}
