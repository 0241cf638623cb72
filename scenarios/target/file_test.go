package target_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/assay-bench/assay/scenarios/target"
)

func itoa(n int) string { return strconv.Itoa(n) }

func TestParse(t *testing.T) {
	seen, bad := 0, 0
	for _, c := range fileCases() {
		seen++
		t.Run(c.name, func(t *testing.T) {
			f, err := target.Parse("t.yaml", []byte(c.text))
			var got []string
			if err != nil {
				bad++
				got = strings.Split(err.Error(), "\n")
			}
			var want []string
			for _, line := range c.want {
				want = append(want, "t.yaml:"+strings.TrimPrefix(line, ":"))
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
			if (f == nil) != (err != nil) {
				t.Errorf("file %v with error %v", f, err)
			}
		})
	}
	if seen == 0 || bad == 0 || bad == seen {
		t.Fatalf("%d cases, %d bad: this test proves nothing", seen, bad)
	}
}

func TestParseWhole(t *testing.T) {
	f, err := target.Parse("some/folder/target.yaml", []byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(whole))
	want := &target.File{
		Path:         "some/folder/target.yaml",
		Digest:       hex.EncodeToString(sum[:]),
		Name:         "my-server",
		Version:      "1.2",
		Role:         "proxy",
		Organization: "Example Ltd",
		Project:      "my-server",
		URL:          "https://example.com/my-server",
		Contact:      []string{"@team-rpc", "rpc@example.com"},
		Start: &target.Launch{
			Command: []string{"./server", "-c", "{dir}/conf/nginx.conf", "--listen", "127.0.0.1:{port.rpc}"},
			Dir:     ".",
			Env:     map[string]string{"LEVEL": "warn", "EMPTY": "", "GRPC": "{endpoint.grpc}"},
			Files: map[string]string{"conf/nginx.conf": "http { server { listen 127.0.0.1:{port.grpc} http2; set $a ${b};\n" +
				"  location / { grpc_pass grpc://{backend.grpc-interop}; } } }\n"},
			Ready:       target.Readiness{HTTP: "http://{endpoint.admin}/readyz"},
			Timeout:     10 * time.Second,
			StopTimeout: 90 * time.Second,
		},
		Endpoints:  target.Endpoints{"rpc": "127.0.0.1:{port.rpc}", "grpc": "[::1]:{port.grpc}", "admin": "localhost:9100"},
		Claims:     []string{"rpc.framed", "grpc.interop"},
		Limits:     target.Limits{ReadDeadlineMillis: 1500, AnswerMillis: 4000, MaxFrameBytes: 16777216, MaxDepth: 64},
		Hooks:      map[string]string{"reload": "./reload.sh {endpoint.admin}", "client": "./dial.sh {url} {host} {port} {sni} '{ca}'", "run-wasm": "./run-wasm --at={endpoint.grpc} {module} '{function}' {args}", "load": "./load.sh {port.rpc} {filter}", "configure": "./configure.sh {endpoint.admin} {upstreams}"},
		TLS:        &target.TLS{ServerName: "server.test", App: "echo"},
		Router:     &target.Router{Path: "/api/v1", Model: "router", Upstreams: []string{"127.0.0.1:9001", "[::1]:9002"}},
		AllowHosts: []string{"staging.example", "192.0.2.7", "2001:db8::1"},
		Rate:       0.5,
	}
	if diff := cmp.Diff(want, f, cmpopts.IgnoreUnexported(target.File{})); diff != "" {
		t.Errorf("file (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"grpc-interop"}, f.NeedsBackends()); diff != "" {
		t.Errorf("backends (-want +got):\n%s", diff)
	}
	remoteFile := mustParse(t, "r.yaml", remote)
	if n := remoteFile.NeedsBackends(); len(n) > 0 {
		t.Errorf("a remote needs %v", n)
	}
}

func TestReadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "target.yaml")
	if err := os.WriteFile(path, []byte(remote), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := target.ReadFile(path)
	if err != nil || f.Path != path || f.Name != "r" {
		t.Errorf("file = %+v, %v", f, err)
	}
	for _, missing := range []string{path + ".missing", filepath.Dir(path)} {
		if _, err := target.ReadFile(missing); err == nil || !strings.Contains(err.Error(), missing) {
			t.Errorf("read %s: %v", missing, err)
		}
	}
}

func mustParse(t *testing.T, path, text string) *target.File {
	t.Helper()
	f, err := target.Parse(path, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// quoted writes a text so that YAML reads it back.
func quoted(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}
