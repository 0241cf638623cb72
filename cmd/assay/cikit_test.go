package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/goccy/go-yaml"
)

// comments is the part of GitHub's API that ci/gate.sh speaks, with the comments of one pull request.
type comments struct {
	mu       sync.Mutex
	bodies   []string // id = index + 1
	requests []string
	readOnly bool // as with the token of a fork
}

func (c *comments) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests = append(c.requests, r.Method+" "+r.URL.Path)
	if r.Header.Get("Authorization") != "Bearer s3cret" {
		http.Error(w, "who?", http.StatusUnauthorized)
		return
	}
	if r.Method == http.MethodGet {
		type comment struct {
			ID   int    `json:"id"`
			Body string `json:"body"`
		}
		page := []comment{}
		var number int
		_, _ = fmt.Sscan(r.URL.Query().Get("page"), &number)
		for i := (number - 1) * 100; i < min(number*100, len(c.bodies)); i++ {
			page = append(page, comment{i + 1, c.bodies[i]})
		}
		_ = json.NewEncoder(w).Encode(page)
		return
	}
	if c.readOnly {
		http.Error(w, "resource not accessible by integration", http.StatusForbidden)
		return
	}
	var in struct {
		Body string `json:"body"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var id int
	switch n, _ := fmt.Sscanf(r.URL.Path, "/repos/acme/shop/issues/comments/%d", &id); {
	case r.Method == http.MethodPatch && n == 1 && id >= 1 && id <= len(c.bodies):
		c.bodies[id-1] = in.Body
	case r.Method == http.MethodPost && r.URL.Path == "/repos/acme/shop/issues/12/comments":
		c.bodies = append(c.bodies, in.Body)
	default:
		http.NotFound(w, r)
	}
}

// ciRunner is a fake runner of a CI, with a real assay.
type ciRunner struct {
	dir string
	env []string
}

// run runs ci/gate.sh and returns its exit code and what it said.
func (r ciRunner) run(t *testing.T, args ...string) (int, string) {
	t.Helper()
	script, err := filepath.Abs("../../ci/gate.sh")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(script, args...)
	cmd.Dir, cmd.Env = r.dir, append([]string{"PATH=" + os.Getenv("PATH"), "ASSAY=" + program, "XDG_CACHE_HOME=" + filepath.Join(r.dir, ".cache"), "TMPDIR=" + r.dir}, r.env...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

func (r ciRunner) file(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(r.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

const kitPolicy = `apiVersion: assay/v1
kind: Gate
start: {command: ["{out}", sample-service, -listen, "127.0.0.1:{port}"], ready: /healthz, warmup: 100ms}
scenarios:
  - name: echo
    requests: [{method: POST, path: /echo, body: hello}]
    metrics: {p50: {failAbove: 20%, passBelow: 80%}}
`

func newRunner(t *testing.T, env ...string) ciRunner {
	t.Helper()
	for _, tool := range []string{"curl", "jq"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("no %s here", tool)
		}
	}
	r := ciRunner{dir: t.TempDir(), env: env}
	for name, text := range map[string]string{
		"gate.yaml": kitPolicy,
		"base.sh":   "#!/bin/sh\nexec " + program + " \"$@\" -work 50\n",
		"slow.sh":   "#!/bin/sh\nenv >>seen.txt\nexec " + program + " \"$@\" -work 500\n",
	} {
		if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// A regression is red in the job, stands in the summary, and is one comment that the next run renews. The code under test
// sees no token.
func TestCIKit(t *testing.T) {
	api := &comments{}
	for range 130 { // the comment may lie on a later page
		api.bodies = append(api.bodies, "looks good")
	}
	server := httptest.NewServer(api)
	defer server.Close()
	r := newRunner(t, "GITHUB_API_URL="+server.URL, "GITHUB_REPOSITORY=acme/shop", "GITHUB_REF=refs/pull/12/merge",
		"GITHUB_EVENT_NAME=pull_request", "GITHUB_TOKEN=s3cret", "GITHUB_STEP_SUMMARY=summary.md", "GITHUB_OUTPUT=output", "GATE_BASELINE=base.sh")
	code, said := r.run(t, "--candidate", "slow.sh", "--seed", "7")
	if code != 1 {
		t.Fatalf("exit %d:\n%s", code, said)
	}
	if got := r.file(t, "output"); got != "exit=1\nverdict=regression\nbundle=assay-gate\n" {
		t.Errorf("outputs %q", got)
	}
	if got := r.file(t, "summary.md"); !strings.Contains(got, "| echo/p50 |") || !strings.Contains(got, "regression") {
		t.Errorf("summary:\n%s", got)
	}
	if env := r.file(t, "seen.txt"); !strings.Contains(env, "PATH=") || strings.Contains(env, "s3cret") {
		t.Errorf("the candidate saw:\n%s", env)
	}
	if len(api.bodies) != 131 || !strings.HasPrefix(api.bodies[130], "<!-- assay gate: gate -->\n") || !strings.Contains(api.bodies[130], "| echo/p50 |") {
		t.Fatalf("%d comments, the last one %q; it said:\n%s", len(api.bodies), api.bodies[len(api.bodies)-1], said)
	}
	api.bodies[130] += "old"
	if code, said := r.run(t, "--report", "assay-gate", "1"); code != 1 || len(api.bodies) != 131 || strings.HasSuffix(api.bodies[130], "old") {
		t.Errorf("exit %d, %d comments; it said:\n%s", code, len(api.bodies), said)
	}
	api.readOnly = true
	code, said = r.run(t, "--report", "assay-gate", "1")
	if code != 1 || !strings.Contains(said, "the comment was refused") || strings.Contains(said, "s3cret") {
		t.Errorf("a fork: exit %d; it said:\n%s", code, said)
	}
	api.requests = nil
	r.env = append(r.env, "GITHUB_TOKEN=")
	if code, said = r.run(t, "--report", "assay-gate", "1"); code != 1 || !strings.Contains(said, "no token: no comment") || len(api.requests) > 0 {
		t.Errorf("no token: exit %d, %v; it said:\n%s", code, api.requests, said)
	}
}

// What never gets as far as a bundle is in the summary too, and a trigger that would give a fork the secrets is refused.
func TestCIKitRefusals(t *testing.T) {
	r := newRunner(t, "GATE_SUMMARY=summary.md", "GATE_FETCH=no")
	code, said := r.run(t, "--policy", "missing.yaml")
	if got := r.file(t, "summary.md"); code != 2 || !strings.Contains(got, "**assay gate: refused.**") || !strings.Contains(got, "no policy missing.yaml") {
		t.Errorf("exit %d; it said:\n%s\nsummary:\n%s", code, said, got)
	}
	if code, said := r.run(t, "--report", "nowhere", "0"); code != 2 || !strings.Contains(said, "nowhere holds no report.md") {
		t.Errorf("exit %d; it said:\n%s", code, said)
	}
	r.env = append(r.env, "GITHUB_EVENT_NAME=pull_request_target")
	if code, said := r.run(t); code != 2 || !strings.Contains(said, "use pull_request") {
		t.Errorf("exit %d; it said:\n%s", code, said)
	}
}

// TestAction reads action.yml as a runner would: every input that its step uses is declared and the other way round, no
// input stands in the script itself, and the step runs ci/gate.sh.
func TestAction(t *testing.T) {
	raw, err := os.ReadFile("../../ci/action/action.yml")
	if err != nil {
		t.Fatal(err)
	}
	var action struct {
		Inputs map[string]struct{ Default string }
		Runs   struct {
			Using string
			Steps []struct {
				Shell, Run string
				Env        map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(raw, &action); err != nil {
		t.Fatal(err)
	}
	if action.Runs.Using != "composite" || len(action.Runs.Steps) != 1 || len(action.Inputs) == 0 {
		t.Fatalf("%+v", action)
	}
	step := action.Runs.Steps[0]
	if strings.Contains(step.Run, "${{") {
		t.Error("an expression in the script is code that an input can inject")
	}
	used := map[string]bool{}
	for _, v := range step.Env {
		if name, is := strings.CutPrefix(v, "${{ inputs."); is {
			used[strings.TrimSuffix(name, " }}")] = true
		}
	}
	for name := range action.Inputs {
		if !used[name] {
			t.Errorf("input %s is not used", name)
		}
		delete(used, name)
	}
	if len(used) > 0 {
		t.Errorf("not declared: %v", used)
	}
	actionDir, err := filepath.Abs("../../ci/action")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", step.Run)
	r := newRunner(t)
	cmd.Dir = r.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "ASSAY=" + program, "GATE_ACTION=" + actionDir, "GATE_POLICY=missing.yaml",
		"GATE_INCONCLUSIVE=warn", "GATE_ARGS=--plan", "GITHUB_STEP_SUMMARY=summary.md", "GATE_FETCH=no", "HOME=" + r.dir, "GATE_COMMENT=yes"}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), "no policy missing.yaml") {
		t.Errorf("%v: %s", err, out)
	}
}

// The shell part keeps to POSIX, as far as shellcheck sees.
func TestShellcheck(t *testing.T) {
	tool, err := exec.LookPath("shellcheck")
	if err != nil {
		t.Skip("no shellcheck here")
	}
	if out, err := exec.Command(tool, "--shell=sh", "--severity=style", "../../ci/gate.sh").CombinedOutput(); err != nil {
		t.Errorf("%s", out)
	}
}
