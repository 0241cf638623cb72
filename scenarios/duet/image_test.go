package duet_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/assay-bench/assay/scenarios/duet"
	"github.com/assay-bench/assay/scenarios/target"
)

// needDocker makes a missing docker daemon a failure.
const needDocker = "ASSAY_NEED_DOCKER"

// image builds the sample service into an image without anything else, and returns its tag.
func image(t *testing.T) string {
	t.Helper()
	if out, err := exec.Command("docker", "info").CombinedOutput(); err != nil {
		if os.Getenv(needDocker) == "true" {
			t.Fatalf("no docker daemon answers: %v\n%s", err, out)
		}
		t.Skipf("SKIPPED: no docker daemon answers, so that no container was started: %v", err)
	}
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "echo"), "../../fixtures/services/cmd/echo")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	file := "FROM scratch\nCOPY echo /echo\nENTRYPOINT [\"/echo\", \"-work\", \"20\", \"-listen\", \"0.0.0.0:8080\"]\n"
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	tag := fmt.Sprintf("assay-test-duet-%d:now", os.Getpid())
	dockerDo(t, "build", "--quiet", "--tag", tag, dir)
	t.Cleanup(func() { dockerDo(t, "image", "rm", "--force", tag) })
	return tag
}

func dockerDo(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("docker", args...)
	cmd.Env = append(os.Environ(), "DOCKER_BUILDKIT=0") // an empty image needs no builder of its own
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("docker %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func contained(id string, port int, args ...string) *duet.Program {
	p := program()
	p.Argv, p.Out = nil, ""
	p.Image = &duet.Image{ID: id, Port: port, Args: args}
	p.Dial = (&net.Dialer{}).DialContext
	p.Requests = map[string][]duet.Request{"echo": {{Method: http.MethodPost, Path: "/echo", Body: []byte("hello")}}}
	return p
}

// A tag is resolved to the digest of the image that it names now; each epoch is a fresh container of both sides, measured like a
// process and gone afterwards.
//
// Rows: gate/baseline/by-digest.
func TestContainersOfAnImage(t *testing.T) {
	tag := image(t)
	built, err := duet.Sources{}.Resolve(t.Context(), "baseline", tag)
	if err != nil || !built.Image || "sha256:"+built.Digest != dockerDo(t, "image", "inspect", "--format", "{{.Id}}", tag) {
		t.Fatalf("%+v, %v", built, err)
	}
	// The tag moves to another image; what was resolved does not.
	other := dockerDo(t, "commit", dockerDo(t, "create", tag))
	t.Cleanup(func() { dockerDo(t, "image", "rm", "--force", other) })
	for _, id := range strings.Fields(dockerDo(t, "ps", "--all", "--quiet", "--filter", "ancestor="+tag)) {
		dockerDo(t, "rm", "--force", id)
	}
	dockerDo(t, "tag", other, tag)
	again, err := duet.Sources{}.Resolve(t.Context(), "candidate", tag)
	if err != nil || again.Digest == built.Digest {
		t.Fatalf("the tag moved, and is still %s: %v", again.Digest, err)
	}
	r, err := duet.New(duet.Config{
		Scenarios: []duet.Scenario{{Name: "echo", Metrics: []string{duet.P50, duet.CPU, duet.Peak}}},
		Artefacts: [2]duet.Artefact{contained(built.Digest, 8080), contained(again.Digest, 0, "-listen", "127.0.0.1:{port}", "-slower", "9")}, Seed: 2,
	})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for n := range 2 {
		epochs, err := r.Epoch(t.Context(), duet.Duet, n+1, 0)
		if err != nil {
			t.Fatal(err)
		}
		e := epochs[0]
		for _, s := range e.Arms {
			if seen[s.PID] || s.PID == 0 || alive(s.PID) {
				t.Errorf("process %d is not fresh, or still there", s.PID)
			}
			seen[s.PID] = true
			if s.Errors > 0 || !(s.Figures[duet.CPU] > 0) || !(s.Figures[duet.Peak] > 1e6) {
				t.Errorf("%d errors, figures %v", s.Errors, s.Figures)
			}
		}
		if !(e.Ratios[duet.CPU] > 0.3) {
			t.Errorf("ten times the work is %v of processor time", e.Ratios[duet.CPU])
		}
	}
	for _, id := range []string{built.Digest, again.Digest} {
		if left := dockerDo(t, "ps", "--all", "--quiet", "--filter", "ancestor=sha256:"+id); left != "" {
			t.Errorf("containers left: %s", left)
		}
	}
}

// A container that ends before it serves says why, and leaves nothing.
func TestContainerThatIsNotReady(t *testing.T) {
	tag := image(t)
	built, err := duet.Sources{}.Resolve(t.Context(), "baseline", tag)
	if err != nil {
		t.Fatal(err)
	}
	_, err = contained(built.Digest, 8080, "-refuse").Start(t.Context())
	if !errors.Is(err, target.ErrNotReady) || !strings.Contains(err.Error(), "told to end before serving") {
		t.Errorf("%v", err)
	}
	if left := dockerDo(t, "ps", "--all", "--quiet", "--filter", "ancestor="+tag); left != "" {
		t.Errorf("containers left: %s", left)
	}
	if _, err := (duet.Sources{}).Resolve(t.Context(), "baseline", "assay-test-no-such-image.invalid/x:1"); err == nil {
		t.Error("an image that is nowhere was resolved")
	}
}
