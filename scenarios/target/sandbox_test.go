package target_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/scenarios/target"
	"github.com/assay-bench/assay/scenarios/target/targettest"
)

// commanded claims a runtime and a proxy by what follows.
func commanded(claims, hooks string) string {
	return "apiVersion: assay/v1\nkind: Target\nname: w\nrole: endpoint\nendpoints: {sandbox-proxy: \"127.0.0.1:8080\"}\nclaims: [" +
		claims + "]\nhooks: {" + hooks + "}\n"
}

func TestSandboxClaims(t *testing.T) {
	dir := t.TempDir()
	const run, load = `run-wasm: "./run {module} {function} {args} {endpoint.sandbox-proxy}"`, `load: "./load {filter}", reload: "./reload {endpoint.sandbox-proxy}"`
	cases := []struct {
		name, text string
		want       *target.Sandbox
	}{
		{"runtime", commanded("sandbox.run", run), &target.Sandbox{RunWasm: "./run {module} {function} {args} 127.0.0.1:8080", Folder: dir}},
		{"proxy", commanded("sandbox.proxy", load), &target.Sandbox{Load: "./load {filter}", Reload: "./reload 127.0.0.1:8080", Folder: dir}},
		{"both hooks, one claim", commanded("sandbox.proxy", run+", "+load), &target.Sandbox{Load: "./load {filter}", Reload: "./reload 127.0.0.1:8080", Folder: dir}},
		{"only reload", commanded("sandbox.proxy", `reload: "./r"`), nil},
		{"nothing", remote, nil},
	}
	for _, c := range cases {
		got := claimsOf(t, mustParse(t, filepath.Join(dir, "target.yaml"), c.text)).Sandbox
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
}

// What the file says replaces what the ready line says, command by command.
func TestSandboxOverReadyLine(t *testing.T) {
	t.Parallel()
	line := `{"endpoints":{"sandbox":"127.0.0.1:1","sandbox-proxy":"127.0.0.1:2"},"claims":{"name":"l","features":["sandbox.run","sandbox.proxy"],"sandbox":{"runWasm":"own {module} {function} {args}"}}}`
	dir := t.TempDir()
	targettest.Script(t, filepath.Join(dir, "run.sh"), "#!/bin/sh\necho '"+line+"'\ncat >/dev/null\n")
	seen := 0
	for hooks, want := range map[string]target.Sandbox{
		`reload: "./r"`:                              {RunWasm: "own {module} {function} {args}"},
		`load: "./l {filter}"`:                       {RunWasm: "own {module} {function} {args}", Load: "./l {filter}", Folder: dir},
		`run-wasm: "./w {module} {function} {args}"`: {RunWasm: "./w {module} {function} {args}", Folder: dir},
	} {
		seen++
		f := mustParse(t, filepath.Join(dir, "target.yaml"), "apiVersion: assay/v1\nkind: Target\nname: l\nrole: endpoint\n"+
			"start: {command: [./run.sh], ready: {line: json}}\nhooks: {"+hooks+"}\n")
		tg, err := f.Target(target.Build{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tg.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		c, err := tg.Claims(t.Context())
		if diff := cmp.Diff(&want, c.Sandbox); diff != "" || err != nil {
			t.Errorf("%q: %v (-want +got):\n%s", hooks, err, diff)
		}
		if err := tg.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
}

func TestSandboxCall(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	targettest.Script(t, filepath.Join(dir, "run.sh"), "#!/bin/sh\nfor a; do echo \"<$a>\"; done\necho trouble >&2\nexit 3\n")
	s := &target.Sandbox{RunWasm: "./run.sh {module} x{function} {args} {else}", Load: "./run.sh {filter}", Folder: dir}
	h, ok := s.Call("/a b/m.wasm", "f{args}", "1", "", "-2 3")
	if !ok {
		t.Fatal("there is no command")
	}
	ran, err := h.Run(t.Context())
	want := target.Ran{Exit: 3, State: "exit status 3", Output: "</a b/m.wasm>\n<xf{args}>\n<1>\n<>\n<-2 3>\n<{else}>", Errors: "trouble"}
	if want.PID = ran.PID; ran.PID == 0 {
		t.Error("the process has no id")
	}
	if diff := cmp.Diff(want, ran); diff != "" || err != nil {
		t.Errorf("run-wasm: %v (-want +got):\n%s", err, diff)
	}
	h, _ = s.Call("m", "f")
	if ran, err := h.Run(t.Context()); err != nil || ran.Output != "<m>\n<xf>\n<{else}>" {
		t.Errorf("without arguments: %+v, %v", ran, err)
	}
	h, _ = s.Loading("f.wasm", "127.0.0.1:1", "c", "v")
	if ran, err := h.Run(t.Context()); err != nil || ran.Output != "<f.wasm>\ntrouble" || ran.Errors != "" {
		t.Errorf("load: %+v, %v", ran, err)
	}
	for _, none := range []*target.Sandbox{nil, {}} {
		if _, ok := none.Call("m", "f"); ok {
			t.Error("a sandbox without a command calls one")
		}
		if _, ok := none.Loading("f", "", "", ""); ok {
			t.Error("a sandbox without a command loads one")
		}
	}
	if _, err := (target.Hook{Line: "{args}", Lists: map[string][]string{"args": nil}}).Run(t.Context()); err == nil {
		t.Error("a command of no words ran")
	}
}

// A runtime that is a command needs no address.
func TestRuntimeWithoutEndpoints(t *testing.T) {
	raw := "apiVersion: assay/v1\nkind: Target\nname: V8\nrole: endpoint\nhooks: {run-wasm: \"./run {module} {function} {args}\"}\nclaims: [sandbox.run]\n"
	f, err := target.Parse("target.yaml", []byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Endpoints) != 0 || f.Hooks["run-wasm"] == "" {
		t.Errorf("endpoints %v, hooks %v", f.Endpoints, f.Hooks)
	}
	if _, err := target.Parse("target.yaml", []byte(strings.Replace(raw, "sandbox.run]", "sandbox.run, sandbox.api]", 1))); err == nil {
		t.Error("sandbox.api without an endpoint is taken")
	}
}
