package args

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func lookup(env map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { v, ok := env[name]; return v, ok }
}

func TestPrepare(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	tests := []struct {
		line string
		env  map[string]string
		want string
		out  string // of K6_OUT
	}{
		{"k6 run x.js", nil, "k6 --address= run x.js --out=assay", ""},
		{"k6 run -o json=x.json x.js", nil, "k6 --address= run -o json=x.json x.js --out=assay", ""},
		{"k6 run -oassay=D x.js", nil, "k6 --address= run -oassay=D x.js", ""},
		{"k6 run --out=json=x --out assay=D x.js", nil, "k6 --address= run --out=json=x --out assay=D x.js", ""},
		{"k6 run x.js", map[string]string{"K6_OUT": "json=x"}, "k6 --address= run x.js", "json=x,assay"},
		{"k6 run x.js", map[string]string{"K6_OUT": "assay=D"}, "k6 --address= run x.js", ""},
		{"k6 -a localhost:1 run x.js", nil, "k6 -a localhost:1 run x.js --out=assay", ""},
		{"k6 --address=:1 --quiet run x.js", nil, "k6 --address=:1 --quiet run x.js --out=assay", ""},
		{"k6 version", nil, "k6 --address= version", ""},
	}
	for _, tt := range tests {
		l, err := Prepare(strings.Fields(tt.line), lookup(tt.env))
		if err != nil {
			t.Errorf("%s: %v", tt.line, err)
			continue
		}
		if got := strings.Join(l.Args, " "); got != tt.want {
			t.Errorf("%s: became %q, want %q", tt.line, got, tt.want)
		}
		if l.Env["K6_OUT"] != tt.out {
			t.Errorf("%s: K6_OUT %q, want %q", tt.line, l.Env["K6_OUT"], tt.out)
		}
		if l.Env["K6_AUTO_EXTENSION_RESOLUTION"] != "false" || l.Env["K6_NO_USAGE_REPORT"] != "true" {
			t.Errorf("%s: environment %v", tt.line, l.Env)
		}
	}
}

func TestConfigGetsTheThreshold(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	own := filepath.Join(t.TempDir(), "own.json")
	tests := []struct {
		name, content string
		want          map[string][]string
		fails         bool
	}{
		{"none", `{"vus":3}`, map[string][]string{Dropped: {NoneDropped}}, false},
		{"others", `{"thresholds":{"checks":["rate>0.9"]}}`, map[string][]string{"checks": {"rate>0.9"}, Dropped: {NoneDropped}}, false},
		{"its own", `{"thresholds":{"dropped_iterations":["count<9"]}}`, map[string][]string{Dropped: {"count<9"}}, false},
		{"not JSON", `vus: 3`, nil, true},
	}
	for _, tt := range tests {
		if err := os.WriteFile(own, []byte(tt.content), 0o644); err != nil {
			t.Fatal(err)
		}
		l, err := Prepare([]string{"k6", "run", "-c", own, "x.js"}, lookup(nil))
		if (err != nil) != tt.fails {
			t.Errorf("%s: error %v", tt.name, err)
		}
		if tt.fails {
			continue
		}
		var got struct{ Thresholds map[string][]string }
		if err := json.Unmarshal(l.Config, &got); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(tt.want, got.Thresholds); d != "" {
			t.Errorf("%s: %s", tt.name, d)
		}
		if got := strings.Join(l.Args, " "); got != "k6 --address= run x.js --out=assay" {
			t.Errorf("%s: line %q", tt.name, got)
		}
	}
	if _, err := Prepare([]string{"k6", "run", "--config=/no/such/file", "x.js"}, lookup(nil)); err == nil {
		t.Error("a configuration that is not there is taken")
	}
}
