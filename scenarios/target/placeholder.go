package target

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Placeholders of a target file:
//
//	{port.NAME}      a free loopback port, the same one at every start
//	{backend.NAME}   the address of an upstream that the harness owns
//	{endpoint.NAME}  the address of one of the target's endpoints
//	{dir}            a fresh folder, made before each start and removed after it
//	{url}            in hooks.client: what to dial; its parts are {host} and {port}
//	{sni}            in hooks.client: the name to ask for and to verify
//	{ca}             in hooks.client: a PEM file of the roots to trust
//	{module}         in hooks.run-wasm: the file of a WebAssembly module
//	{function}       in hooks.run-wasm: the exported function to call
//	{args}           in hooks.run-wasm: a word of its own, which becomes one word for each argument
//	{filter}         in hooks.load: the file of a Proxy-Wasm filter
//	{upstream}       in hooks.load: the address that the proxy shall forward to
//	{configuration}  in hooks.load: the file of the filter's configuration; {vmconfiguration}: of its VM
//	{upstreams}      in hooks.configure: a JSON file of the upstreams to route to
//
// ${NAME} belongs to the shell and is left alone.
var placeholders = regexp.MustCompile(`\$?\{([a-z]+)(?:\.([A-Za-z0-9_-]+))?\}`)

// usage collects which names a file's placeholders use.
type usage struct {
	ports, backends map[string]value // where first used
	dir             bool
}

func newUsage() *usage { return &usage{ports: map[string]value{}, backends: map[string]value{}} }

// usable says which placeholders a field may hold, and whether other text in braces is left alone.
type usable struct {
	kinds     []string // with a name: {port.NAME}
	bare      []string // without: {dir}
	endpoints []string // the names that {endpoint.NAME} may have
	lenient   bool
}

// note checks the placeholders of a text and remembers them.
func (u *usage) note(v value, text string, may usable) {
	for _, m := range placeholders.FindAllStringSubmatch(text, -1) {
		whole, kind, name := m[0], m[1], m[2]
		if whole[0] == '$' {
			continue
		}
		allowed := may.kinds
		if name == "" {
			allowed = may.bare
		}
		if !slices.Contains(allowed, kind) {
			if !may.lenient {
				v.fail("%.60s is not known here: use %s", whole, may.spelled())
			}
			continue
		}
		if name == "" {
			u.dir = u.dir || kind == "dir"
			continue
		}
		switch kind {
		case "port":
			remember(u.ports, name, v)
		case "backend":
			remember(u.backends, name, v)
		case "endpoint":
			if !slices.Contains(may.endpoints, name) {
				v.fail("%s names no endpoint of this file%s", whole, suggest(name, may.endpoints))
			}
		}
	}
}

func remember(m map[string]value, name string, v value) {
	if _, ok := m[name]; !ok {
		m[name] = v
	}
}

func (may usable) spelled() string {
	var all []string
	for _, k := range may.kinds {
		all = append(all, "{"+k+".NAME}")
	}
	for _, k := range may.bare {
		all = append(all, "{"+k+"}")
	}
	return strings.Join(all, ", ")
}

// scope holds what placeholders stand for in one start.
type scope struct {
	ports     map[string]int
	backends  map[string]string
	endpoints Endpoints
	dir       string
}

// expand replaces the placeholders that the scope knows and leaves all other text alone.
func (s scope) expand(text string) string {
	return placeholders.ReplaceAllStringFunc(text, func(whole string) string {
		if whole[0] == '$' {
			return whole
		}
		m := placeholders.FindStringSubmatch(whole)
		switch kind, name := m[1], m[2]; kind {
		case "port":
			if port, ok := s.ports[name]; ok {
				return fmt.Sprint(port)
			}
		case "backend":
			if addr, ok := s.backends[name]; ok {
				return addr
			}
		case "endpoint":
			if addr, ok := s.endpoints[name]; ok {
				return addr
			}
		case "dir":
			if name == "" && s.dir != "" {
				return s.dir
			}
		}
		return whole
	})
}

func (s scope) expandAll(texts []string) []string {
	out := make([]string, len(texts))
	for i, t := range texts {
		out[i] = s.expand(t)
	}
	return out
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
