package target_test

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/scenarios/target"
	"github.com/assay-bench/assay/scenarios/target/targettest"
)

// routing is a router that serves already.
func routing(rest string) string {
	return "apiVersion: assay/v1\nkind: Target\nname: r\nrole: proxy\nendpoints: {openai: \"127.0.0.1:8080\"}\nclaims: [router.openai]\n" + rest
}

func TestRouterClaims(t *testing.T) {
	dir := t.TempDir()
	cases := []struct {
		name, text  string
		want        *target.Router
		base, model string
	}{
		{"nothing said", routing(""), nil, "/v1", "auto"},
		{"hook", routing("hooks: {configure: \"./c.sh {upstreams} {endpoint.openai}\"}\n"),
			&target.Router{Configure: "./c.sh {upstreams} 127.0.0.1:8080", Folder: dir}, "/v1", "auto"},
		{"configured by hand", routing("router: {path: /api/v1, model: pick, upstreams: [\"127.0.0.1:9001\", \"127.0.0.1:9002\"]}\n"),
			&target.Router{Path: "/api/v1", Model: "pick", Upstreams: []string{"127.0.0.1:9001", "127.0.0.1:9002"}}, "/api/v1", "pick"},
		{"the hook of another area", remote + "hooks: {configure: \"./c.sh {upstreams}\"}\n", nil, "/v1", "auto"},
	}
	for _, c := range cases {
		got := claimsOf(t, mustParse(t, filepath.Join(dir, "target.yaml"), c.text)).Router
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
		if got.Base() != c.base || got.Auto() != c.model {
			t.Errorf("%s: %s %s", c.name, got.Base(), got.Auto())
		}
	}
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
}

// A router whose configuration file names the harness's upstreams routes to them already.
func TestRouterToldOfUpstreamsAtStart(t *testing.T) {
	dir := t.TempDir()
	targettest.Script(t, filepath.Join(dir, "run.sh"), "#!/bin/sh\necho '{\"endpoints\":{\"openai\":\"127.0.0.1:1\"},\"claims\":{\"name\":\"r\",\"features\":[\"router.openai\"],\"router\":{\"model\":\"own\"}}}'\ncat >/dev/null\n")
	f := mustParse(t, filepath.Join(dir, "target.yaml"), "apiVersion: assay/v1\nkind: Target\nname: r\nrole: proxy\n"+
		"start: {command: [./run.sh, \"{backend.openai-2}\", \"{backend.openai-10}\"], env: {A: \"{backend.openai-1}\"}, ready: {line: json}}\n")
	tg, err := f.Target(target.Build{Backends: map[string]string{"openai-1": "127.0.0.1:11", "openai-2": "127.0.0.1:12", "openai-10": "127.0.0.1:20"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tg.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tg.Stop(t.Context()) }()
	c, err := tg.Claims(t.Context())
	want := &target.Router{Model: "own", Upstreams: []string{"127.0.0.1:11", "127.0.0.1:12"}}
	if diff := cmp.Diff(want, c.Router); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

func TestRouterConfiguring(t *testing.T) {
	dir := t.TempDir()
	targettest.Script(t, filepath.Join(dir, "c.sh"), "#!/bin/sh\ncat \"$1\"\n")
	write(t, filepath.Join(dir, "up streams.json"), "{}")
	r := &target.Router{Configure: "./c.sh {upstreams}", Folder: dir}
	h, ok := r.Configuring(filepath.Join(dir, "up streams.json"))
	if ran, err := h.Run(t.Context()); !ok || err != nil || ran.Output != "{}" {
		t.Errorf("%v %+v %v", ok, ran, err)
	}
	for _, none := range []*target.Router{nil, {}} {
		if _, ok := none.Configuring("x"); ok {
			t.Error("a router without a command is configured by one")
		}
	}
}
