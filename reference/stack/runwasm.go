package stack

import (
	"strings"

	"github.com/assay-bench/assay/reference/defect"
)

// runWasm is the command line that runs a module in a process of its own: that of the program at path,
// with those planted defects that are the sandbox's. It is empty where the path can not be said.
func runWasm(path string, defects defect.Set) string {
	program, ok := quoted(path)
	if !ok {
		return ""
	}
	words := []string{program, "run-wasm"}
	for _, name := range defects.Names() {
		if strings.HasPrefix(string(name), "sandbox.") {
			words = append(words, "--defect", string(name))
		}
	}
	return strings.Join(append(words, "{module}", "{function}", "{args}"), " ")
}

// quoted makes one word of a path for a reader that knows quotes and no escapes.
func quoted(path string) (string, bool) {
	switch {
	case path == "" || strings.ContainsAny(path, "{}"): // placeholders are replaced wherever they stand
		return "", false
	case !strings.ContainsAny(path, " \t\r\n\"'"):
		return path, true
	case !strings.Contains(path, `"`):
		return `"` + path + `"`, true
	case !strings.Contains(path, "'"):
		return "'" + path + "'", true
	}
	return "", false
}
