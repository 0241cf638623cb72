package gate

import (
	_ "embed"
	"encoding/json"
	"slices"
	"strings"
)

//go:embed template.yaml
var template string

//go:embed gate.schema.json
var schema []byte

// Schema returns the JSON Schema (draft 2020-12) of gate.yaml, for editors. What spans several fields, such as a metric that its
// mode can not measure, only ParsePolicy finds.
func Schema() []byte { return slices.Clone(schema) }

// Service is what is known of a service before it has a policy. Empty fields are written as examples.
type Service struct {
	Name     string
	Main     string            // package
	Args     []string          // of the program; {port} is the port
	Env      map[string]string // the same
	Ready    string            // path
	Paths    []string          // that answer to GET
	Counters bool              // it serves expvar
}

// Template returns a commented policy for a service.
func Template(s Service) string {
	ready := "  # ready: /healthz      # a path that answers 2xx when the service serves; without it a connection is enough"
	if s.Ready != "" {
		ready = "  ready: " + inline(s.Ready) + "  # a path that answers 2xx when the service serves; without it a connection is enough"
	}
	env := "  # env: {LOG_LEVEL: error}"
	if len(s.Env) > 0 {
		env = "  env: " + inline(s.Env)
	}
	counters := "counters: {path: /debug/vars, allocs: memstats.Mallocs}"
	if !s.Counters {
		counters = "# " + counters
	}
	paths := s.Paths
	if len(paths) == 0 {
		paths = []string{"/"}
	}
	var requests []string
	for _, p := range paths {
		requests = append(requests, "      - {method: GET, path: "+inline(p)+"}")
	}
	return strings.NewReplacer("NAME", inline(s.Name), "MAIN", s.Main, "COMMAND", inline(append([]string{"{out}"}, s.Args...)),
		"READY", ready, "ENV", env, "COUNTERS", counters, "REQUESTS", strings.Join(requests, "\n")).Replace(template)
}

// inline writes a value as JSON, which YAML reads on one line.
func inline(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings, and lists and maps of them
	}
	return string(raw)
}
