// Package args makes a command line of k6 into one of assay-k6: nothing listens, nothing phones home, and
// a run with dropped iterations fails. What the user says in so many words stays.
package args

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Dropped is the metric that counts iterations which k6 did not start, and NoneDropped the threshold on it
// that every run has.
const (
	Dropped     = "dropped_iterations"
	NoneDropped = "count==0"
)

// guard is the output that every run has; with a folder it writes a bundle too.
const guard = "assay"

// Line is a command line and what goes with it.
type Line struct {
	Args   []string
	Env    map[string]string
	Config []byte // in place of the user's configuration file; nil: leave that alone
}

// Prepare reads args, whose first is the program, and the environment. It fails where the configuration
// file is named and can not be read as one.
func Prepare(args []string, lookup func(string) (string, bool)) (Line, error) {
	l := Line{Args: append([]string(nil), args...), Env: map[string]string{}}
	for name, value := range map[string]string{
		"K6_AUTO_EXTENSION_RESOLUTION": "false", // else an unknown import asks an online build service
		"K6_NO_USAGE_REPORT":           "true",
	} {
		if _, set := lookup(name); !set {
			l.Env[name] = value
		}
	}
	if len(args) == 0 {
		return l, errors.New("no program name in the command line")
	}
	if at, _, _ := find(args, "address", "a"); at < 0 {
		l.Args = append(l.Args[:1:1], append([]string{"--address="}, l.Args[1:]...)...)
	}
	if !runs(args) {
		return l, nil
	}
	l.guardOutput(lookup)
	return l, l.guardConfig(lookup)
}

// valued are the flags before the command whose value is a word of its own.
var valued = map[string]bool{
	"-a": true, "--address": true, "-c": true, "--config": true, "--log-output": true, "--log-format": true,
	"--secret-source": true,
}

// runs tells whether the command is k6 run.
func runs(args []string) bool {
	for i := 1; i < len(args); i++ {
		switch {
		case valued[args[i]]:
			i++
		case !strings.HasPrefix(args[i], "-"):
			return args[i] == "run"
		}
	}
	return false
}

// guardOutput adds the output unless the user did. A flag hides the outputs of the environment, so the
// guard goes where those are.
func (l *Line) guardOutput(lookup func(string) (string, bool)) {
	named := func(out string) bool { return out == guard || strings.HasPrefix(out, guard+"=") }
	flagged := false
	for rest := l.Args; ; {
		at, value, next := find(rest, "out", "o")
		if at < 0 {
			break
		}
		if named(value) {
			return
		}
		flagged, rest = true, rest[next:]
	}
	env, _ := lookup("K6_OUT")
	for _, out := range strings.Split(env, ",") {
		if named(out) && !flagged {
			return
		}
	}
	if env != "" && !flagged {
		l.Env["K6_OUT"] = env + "," + guard
		return
	}
	l.Args = append(l.Args, "--out="+guard)
}

// guardConfig gives scripts without thresholds the one on dropped iterations; those with thresholds hide
// the configuration's, and the output adds it there.
func (l *Line) guardConfig(lookup func(string) (string, bool)) error {
	at, path, next := find(l.Args, "config", "c")
	if at < 0 {
		path, _ = lookup("K6_CONFIG")
	}
	named := path != ""
	if !named {
		dir, err := os.UserConfigDir()
		if err == nil {
			path = filepath.Join(dir, "k6", "config.json")
		}
	}
	raw, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !named:
		raw = []byte("{}")
	case err != nil:
		return fmt.Errorf("configuration: %w", err)
	}
	if l.Config, err = withThreshold(raw); err != nil {
		return fmt.Errorf("configuration %s: %w", path, err)
	}
	if at >= 0 {
		l.Args = append(l.Args[:at:at], l.Args[next:]...)
	}
	return nil
}

// withThreshold adds the threshold to a configuration that has none on the metric.
func withThreshold(raw []byte) ([]byte, error) {
	var config, thresholds map[string]json.RawMessage
	if err := json.Unmarshal(raw, &config); err != nil {
		return nil, err
	}
	if config == nil {
		config = map[string]json.RawMessage{}
	}
	if old, ok := config["thresholds"]; ok {
		if err := json.Unmarshal(old, &thresholds); err != nil {
			return nil, fmt.Errorf("thresholds: %w", err)
		}
	}
	if thresholds == nil {
		thresholds = map[string]json.RawMessage{}
	}
	if _, ok := thresholds[Dropped]; !ok {
		thresholds[Dropped] = json.RawMessage(`["` + NoneDropped + `"]`)
	}
	made, err := json.Marshal(thresholds)
	if err != nil {
		return nil, err
	}
	config["thresholds"] = made
	return json.Marshal(config)
}

// find looks for a flag with a value, by its long and its short name. at is -1 where there is none, else
// the argument that the flag begins in, and next the one after its value.
func find(args []string, long, short string) (at int, value string, next int) {
	for i, a := range args {
		if a == "--" {
			break
		}
		if a == "--"+long || a == "-"+short {
			if i+1 < len(args) {
				return i, args[i+1], i + 2
			}
			return i, "", i + 1
		}
		if v, ok := strings.CutPrefix(a, "--"+long+"="); ok {
			return i, v, i + 1
		}
		if v, ok := strings.CutPrefix(a, "-"+short); ok && v != "" && !strings.HasPrefix(a, "--") {
			return i, strings.TrimPrefix(v, "="), i + 1
		}
	}
	return -1, "", len(args)
}

// Apply makes the line the process's own. The configuration goes into a file that has no name any more, so
// nothing is left behind however the process ends.
func (l Line) Apply() error {
	if l.Config != nil {
		f, err := os.CreateTemp("", "assay-k6-*.json")
		if err != nil {
			return fmt.Errorf("configuration: %w", err)
		}
		_, werr := f.Write(l.Config)
		_, serr := f.Seek(0, 0)
		if err := errors.Join(werr, serr, os.Remove(f.Name())); err != nil {
			return fmt.Errorf("configuration: %w", err)
		}
		kept = f
		l.Env["K6_CONFIG"] = fmt.Sprintf("/dev/fd/%d", f.Fd())
	}
	for name, value := range l.Env {
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	Original, os.Args = os.Args, l.Args
	return nil
}

// Original is the command line as the user gave it, once Apply has replaced it.
var Original = os.Args

// kept holds the configuration open for as long as the process lives: a file that nothing holds is closed.
//
//lint:ignore U1000 it is written for the collector to see
var kept *os.File
