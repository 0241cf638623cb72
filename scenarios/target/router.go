package target

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/assay-bench/assay/fixtures/features"
)

// The hook of a router and what its placeholder is called.
const (
	hookConfigure = "configure"

	fillUpstreams = "upstreams"
)

// openAIBackend begins the names of the harness's upstreams with the OpenAI chat API.
const openAIBackend = "openai-"

// maxRouterUpstreams bounds the upstreams that a file may name.
const maxRouterUpstreams = 16

// basePaths is the path in front of /chat/completions.
var basePaths = regexp.MustCompile(`^(/[A-Za-z0-9._~-]+)+$`)

// Router is how an AI router is driven beyond its endpoints.
type Router struct {
	Path      string   `json:"path,omitempty"`      // in front of /chat/completions; empty: /v1
	Model     string   `json:"model,omitempty"`     // the model that stands for a choice of the router; empty: auto
	Upstreams []string `json:"upstreams,omitempty"` // host:port of the harness's upstreams that it routes to already, in their order
	Configure string   `json:"configure,omitempty"` // command line with {upstreams}: makes it route to the upstreams of a file
	Folder    string   `json:"-"`                   // where the command runs; empty: the current one
}

// Base is the path in front of /chat/completions and /models.
func (r *Router) Base() string {
	if r == nil || r.Path == "" {
		return "/v1"
	}
	return r.Path
}

// Auto is the model that stands for a choice of the router.
func (r *Router) Auto() string {
	if r == nil || r.Model == "" {
		return "auto"
	}
	return r.Model
}

// Configuring is the hook that makes the router route to the upstreams in a file; ok is false where none is
// named.
func (r *Router) Configuring(file string) (h Hook, ok bool) {
	if r == nil || r.Configure == "" {
		return Hook{}, false
	}
	return Hook{Folder: r.Folder, Line: r.Configure, Fill: map[string]string{fillUpstreams: file}}, true
}

func (f *File) readRouter(o object) {
	v, ok := o.fields["router"]
	if !ok {
		return
	}
	r, _ := v.object("path", "model", "upstreams")
	f.Router = &Router{
		Path:  r.matching("path", matches(basePaths, "is not a path such as /v1 or /api/v1")),
		Model: r.matching("model", plainName),
	}
	if list := r.fields["upstreams"]; len(r.list("upstreams")) > maxRouterUpstreams {
		list.fail("holds more than %d addresses", maxRouterUpstreams)
	}
	f.Router.Upstreams = r.distinct("upstreams", func(s string) string {
		if strings.Contains(s, "{") {
			return "holds a placeholder: write the port that \"assay backends --openai N --port openai-1=9001\" serves"
		}
		return badAddress(s)
	})
}

// badRouterHook tells what the words of a router's hook lack, or nothing.
func badRouterHook(name string, words []string) string {
	if name == hookConfigure && !strings.Contains(strings.Join(words, " "), "{"+fillUpstreams+"}") {
		return fmt.Sprintf("does not use {%s}: write \"./configure.sh {%s}\"", fillUpstreams, fillUpstreams)
	}
	return ""
}

// mergeRouter lays what the file says of the router over what the target says of itself. Upstreams whose
// addresses stand in the file as {backend.openai-N} are those that it routes to already.
func (f *File) mergeRouter(said Claims, s scope) *Router {
	var r Router
	if said.Router != nil {
		r = *said.Router
	}
	if own := f.Router; own != nil {
		r.Path, r.Model = either(own.Path, r.Path), either(own.Model, r.Model)
		if len(own.Upstreams) > 0 {
			r.Upstreams = slices.Clone(own.Upstreams)
		}
	}
	if told := openAIBackends(s.backends); len(told) > 0 {
		r.Upstreams = told
	}
	if hook := f.Hooks[hookConfigure]; hook != "" && said.Has(string(features.RouterOpenAI)) {
		r.Configure, r.Folder = s.expand(hook), f.folder()
	}
	if said.Router == nil && r.Path == "" && r.Model == "" && len(r.Upstreams) == 0 && r.Configure == "" {
		return nil
	}
	return &r
}

// openAIBackends are the addresses of openai-1, openai-2 and so on, in the order of their numbers.
func openAIBackends(all map[string]string) []string {
	numbered := map[int]string{}
	for name, addr := range all {
		if rest, ok := strings.CutPrefix(name, openAIBackend); ok {
			if n, err := strconv.Atoi(rest); err == nil {
				numbered[n] = addr
			}
		}
	}
	var out []string
	for n := 1; numbered[n] != ""; n++ {
		out = append(out, numbered[n])
	}
	return out
}
