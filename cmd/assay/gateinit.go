package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/suites/gate"
)

func (a *app) gateInitCommand() *cobra.Command {
	return &cobra.Command{
		Use: "init", Args: none,
		Short: "write a commented gate.yaml for the repository around",
		Long: `init looks through the Go sources below for how the service is told its port, for a path that
says that it is ready, and for routes, and writes a gate.yaml that uses them. What it did
not find it writes as an example, and says so.`,
		RunE: func(*cobra.Command, []string) error {
			if exists(policyName) {
				return usagef("%s is there already", policyName)
			}
			s, notes, err := guessService(".")
			if err != nil {
				return err
			}
			if err := results.WriteFileAtomic(policyName, []byte(gate.Template(s))); err != nil {
				return err
			}
			for _, note := range notes {
				fmt.Fprintln(a.out, note)
			}
			fmt.Fprintf(a.out, "wrote %s: check its requests, then: assay gate --plan --probe --baseline HEAD\n", policyName)
			return nil
		},
	}
}

// Bounds on what init reads.
const (
	maxSources     = 2000
	maxSourceBytes = 1 << 20
)

// How Go services are told where to listen, and what they answer to. The first group is the name.
var (
	flagAddress = regexp.MustCompile(`\bString(?:Var)?P?\((?:&[\w.]+, *)?"(listen|addr|address|http|http-addr|listen-addr|listen-address|bind)"`)
	flagPort    = regexp.MustCompile(`\b(?:Int|Uint|String)(?:16)?(?:Var)?P?\((?:&[\w.]+, *)?"(port|http-port)"`)
	envAddress  = regexp.MustCompile(`\b(?:Getenv|LookupEnv)\("([A-Z_]*(?:ADDR|ADDRESS|LISTEN|BIND))"\)`)
	envPort     = regexp.MustCompile(`\b(?:Getenv|LookupEnv)\("([A-Z_]*PORT)"\)`)
	route       = regexp.MustCompile(`\.(?:HandleFunc|Handle|GET|Get)\("(?:GET )?(/[^"{}:*]*)"`)
	readiness   = regexp.MustCompile(`^/(?:healthz?|readyz?|livez|ping|_health|health/(?:ready|live))$`)
)

// guessService reads the sources below a folder. notes say what was found and what was not.
func guessService(dir string) (s gate.Service, notes []string, err error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return s, nil, err
	}
	s.Name, s.Main = filepath.Base(abs), mainPackage(dir)
	text, err := goSources(dir, s.Main)
	if err != nil {
		return s, nil, err
	}
	first := func(re *regexp.Regexp) string {
		if m := re.FindStringSubmatch(text); m != nil {
			return m[1]
		}
		return ""
	}
	const address = "127.0.0.1:{port}"
	how := ""
	switch {
	case first(flagAddress) != "":
		how = "the flag -" + first(flagAddress)
		s.Args = []string{"-" + first(flagAddress), address}
	case first(flagPort) != "":
		how = "the flag -" + first(flagPort)
		s.Args = []string{"-" + first(flagPort), "{port}"}
	case first(envAddress) != "":
		how = "the environment variable " + first(envAddress)
		s.Env = map[string]string{first(envAddress): address}
	case first(envPort) != "":
		how = "the environment variable " + first(envPort)
		s.Env = map[string]string{first(envPort): "{port}"}
	default:
		s.Args = []string{"-listen", address}
	}
	for _, m := range route.FindAllStringSubmatch(text, -1) {
		switch path := m[1]; {
		case readiness.MatchString(path):
			s.Ready = path
		case strings.HasPrefix(path, "/debug/") || strings.HasPrefix(path, "/metrics") || slices.Contains(s.Paths, path):
		case len(s.Paths) < 5 && (path == "/" || !strings.HasSuffix(path, "/")):
			s.Paths = append(s.Paths, path)
		}
	}
	s.Counters = strings.Contains(text, `"expvar"`)
	return s, guessed(s, how), nil
}

// guessed says what a policy rests on.
func guessed(s gate.Service, how string) []string {
	say := func(what, found, missing string) string {
		if found == "" {
			return what + ": not found; " + missing
		}
		return what + ": " + found
	}
	notes := []string{
		say("port", how, "start.command has an example: say there how the service is told its port"),
		say("ready", s.Ready, "a connection is enough"),
		say("requests", strings.Join(s.Paths, " "), "GET / is an example"),
	}
	if s.Counters {
		notes = append(notes, "allocations: counted at /debug/vars, which must be served at the same port")
	}
	return notes
}

// goSources are the Go files below a folder, tests left out, those of the main package first.
func goSources(dir, main string) (string, error) {
	var first, rest strings.Builder
	n := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if path != dir && (strings.HasPrefix(name, ".") || name == "vendor" || name == "testdata" || name == "node_modules") {
				return filepath.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if err != nil || !d.Type().IsRegular() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") || info.Size() > maxSourceBytes {
			return err
		}
		if n++; n > maxSources {
			return filepath.SkipAll
		}
		raw, err := os.ReadFile(path)
		if filepath.Dir(path) == filepath.Clean(filepath.Join(dir, main)) {
			first.Write(raw)
		} else {
			rest.Write(raw)
		}
		return err
	})
	return first.String() + rest.String(), err
}

// mainPackage guesses which package the service is: the only one below cmd, or the root.
func mainPackage(dir string) string {
	found, err := filepath.Glob(filepath.Join(dir, "cmd", "*", "main.go"))
	if err == nil && len(found) == 1 {
		return "./cmd/" + filepath.Base(filepath.Dir(found[0]))
	}
	if exists(filepath.Join(dir, "main.go")) {
		return "."
	}
	return "./cmd/server"
}
