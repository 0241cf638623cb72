package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/suites/gate"
)

func TestGuessService(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  gate.Service
	}{
		"a port in the environment": {
			map[string]string{"cmd/api/main.go": `x := os.Getenv("PORT"); mux.HandleFunc("GET /items/{id}", f); mux.HandleFunc("GET /items", f); mux.HandleFunc("POST /items", f)`},
			gate.Service{Main: "./cmd/api", Env: map[string]string{"PORT": "{port}"}, Paths: []string{"/items"}},
		},
		"an address flag, and readiness in another package": {
			map[string]string{
				"main.go":        `import "expvar"; flag.StringVar(&addr, "addr", ":80", "")`,
				"web/web.go":     `r.GET("/", home); r.Get("/readyz", ok); r.Handle("/static/", files); r.GET("/user/:id", user)`,
				"vendor/x/x.go":  `flag.String("listen", "", "")`,
				"web/a_test.go":  `flag.String("bind", "", "")`,
				"testdata/t.go":  `r.GET("/testing", x)`,
				".hidden/env.go": `os.Getenv("HIDDEN_PORT")`,
			},
			gate.Service{Main: ".", Args: []string{"-addr", "127.0.0.1:{port}"}, Ready: "/readyz", Paths: []string{"/"}, Counters: true},
		},
		"a port flag": {
			map[string]string{"main.go": `port := flag.Int("port", 80, "")`},
			gate.Service{Main: ".", Args: []string{"-port", "{port}"}},
		},
		"nothing": {nil, gate.Service{Main: "./cmd/server", Args: []string{"-listen", "127.0.0.1:{port}"}}},
	} {
		dir := filepath.Join(t.TempDir(), "shop")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for file, text := range c.files {
			path := filepath.Join(dir, file)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		c.want.Name = "shop"
		got, notes, err := guessService(dir)
		if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
		if name == "nothing" && !strings.Contains(notes[0], "port: not found") {
			t.Errorf("%q", notes)
		}
		if _, err := gate.ParsePolicy([]byte(gate.Template(got))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
