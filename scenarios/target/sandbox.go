package target

import (
	"fmt"
	"slices"
	"strings"

	"github.com/assay-bench/assay/fixtures/features"
)

// The hooks of a sandbox and what their placeholders are called.
const (
	hookRunWasm = "run-wasm"
	hookLoad    = "load"

	fillModule   = "module"
	fillFunction = "function"
	fillArgs     = "args"
	fillFilter   = "filter"

	fillUpstream      = "upstream"
	fillConfiguration = "configuration"
	fillVM            = "vmconfiguration"
)

// Call is the hook that calls a function of the module in a file, its standard error apart. A sandbox
// that names no command has none: ok is false.
func (s *Sandbox) Call(file, function string, args ...string) (h Hook, ok bool) {
	if s == nil || s.RunWasm == "" {
		return Hook{}, false
	}
	return Hook{
		Folder: s.Folder, Line: s.RunWasm, Apart: true,
		Fill:  map[string]string{fillModule: file, fillFunction: function},
		Lists: map[string][]string{fillArgs: args},
	}, true
}

// Loading is the hook that loads the Proxy-Wasm filter in a file in front of an upstream, host:port, with the
// configurations of the plugin and of its VM in two more files; ok is false where none is named.
func (s *Sandbox) Loading(file, upstream, configuration, vm string) (h Hook, ok bool) {
	if s == nil || s.Load == "" {
		return Hook{}, false
	}
	return Hook{Folder: s.Folder, Line: s.Load, Fill: map[string]string{
		fillFilter: file, fillUpstream: upstream, fillConfiguration: configuration, fillVM: vm,
	}}, true
}

// badSandboxHook tells what the words of a sandbox's hook lack, or nothing.
func badSandboxHook(name string, words []string) string {
	switch name {
	case hookRunWasm:
		line := strings.Join(words, " ")
		for _, fill := range []string{fillModule, fillFunction} {
			if !strings.Contains(line, "{"+fill+"}") {
				return fmt.Sprintf("does not use {%s}: write \"./run-wasm {module} {function} {args}\"", fill)
			}
		}
		if !slices.Contains(words, "{"+fillArgs+"}") {
			return "needs {args} as a word of its own: it becomes one word for each argument"
		}
	case hookLoad:
		if !strings.Contains(strings.Join(words, " "), "{"+fillFilter+"}") {
			return "does not use {filter}: write \"./load.sh {filter}\""
		}
	}
	return ""
}

// mergeSandbox lays the hooks of the file over the commands that the target names itself, each where the
// feature is claimed that it serves.
func (f *File) mergeSandbox(said Claims, s scope) *Sandbox {
	var b Sandbox
	if said.Sandbox != nil {
		b = *said.Sandbox
	}
	if hook := f.Hooks[hookRunWasm]; hook != "" && said.Has(string(features.SandboxRun)) {
		b.RunWasm, b.Folder = s.expand(hook), f.folder()
	}
	if hook := f.Hooks[hookLoad]; hook != "" && said.Has(string(features.SandboxProxy)) {
		b.Load, b.Reload, b.Folder = s.expand(hook), s.expand(f.Hooks["reload"]), f.folder()
	}
	if b == (Sandbox{}) && said.Sandbox == nil {
		return nil
	}
	return &b
}
