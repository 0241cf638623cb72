package validate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
)

// need makes a missing docker daemon a failure.
const need = "ASSAY_NEED_DOCKER"

// TestComposeRuns plays the compose file with the docker command: the target and three generators in
// containers of their own on an internal network, then the merge.
func TestComposeRuns(t *testing.T) {
	if out, err := exec.Command("docker", "info").CombinedOutput(); err != nil {
		if os.Getenv(need) == "true" {
			t.Fatalf("no docker daemon answers: %v\n%s", err, out)
		}
		t.Skipf("SKIPPED: no docker daemon answers, so the compose file was validated and not run: %v", err)
	}
	s := &stage{t: t, id: fmt.Sprintf("assay-test-%d", os.Getpid()), results: t.TempDir()}
	if err := os.Chmod(s.results, 0o777); err != nil {
		t.Fatal(err)
	}
	s.build()
	s.docker("network", "create", "--internal", s.id)
	t.Cleanup(func() { s.remove("network", "rm", s.id) })
	p := project(t, time.Now().Add(8*time.Second).UTC().Format(time.RFC3339))
	s.start(p.Services["target"])
	var all sync.WaitGroup
	for i := 1; i <= generators; i++ {
		service := p.Services[fmt.Sprintf("generator-%d", i)]
		all.Go(func() { s.run(service) })
	}
	all.Wait()
	s.run(p.AllServices()["merge"])
	s.check(900) // 300 a second for 3 s
}

// stage is what the test made, to be taken away by its names.
type stage struct {
	t           *testing.T
	id, results string
}

// build makes the image from the static binary of this tree.
func (s *stage) build() {
	dir := s.t.TempDir()
	cmd := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(dir, "assay"), "./cmd/assay")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("%v\n%s", err, out)
	}
	file, err := filepath.Abs("../Dockerfile")
	if err != nil {
		s.t.Fatal(err)
	}
	s.docker("build", "--quiet", "--tag", s.id, "--file", file, dir)
	s.t.Cleanup(func() { s.remove("image", "rm", "--force", s.id) })
}

func (s *stage) docker(args ...string) string {
	s.t.Helper()
	cmd := exec.Command("docker", args...)
	cmd.Env = append(os.Environ(), "DOCKER_BUILDKIT=0") // an empty image needs no builder of its own
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("docker %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func (s *stage) remove(args ...string) {
	if out, err := exec.Command("docker", args...).CombinedOutput(); err != nil {
		s.t.Errorf("docker %v: %v\n%s", args, err, out)
	}
}

// arguments are those of docker run for a service.
func (s *stage) arguments(service types.ServiceConfig, more ...string) []string {
	args := append([]string{"run", "--name", s.id + "-" + service.Name, "--network", s.id, "--network-alias", service.Name}, more...)
	if service.User != "" {
		args = append(args, "--user", service.User)
	}
	if len(service.Volumes) > 0 {
		args = append(args, "--volume", s.results+":/results")
	}
	return append(append(args, s.id), service.Command...)
}

// start starts the target and waits until it says where it listens.
func (s *stage) start(service types.ServiceConfig) {
	s.docker(s.arguments(service, "--detach")...)
	name := s.id + "-" + service.Name
	s.t.Cleanup(func() { s.remove("rm", "--force", name) })
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if strings.Contains(s.docker("logs", name), "endpoints") {
			return
		}
	}
	s.t.Fatal("the target did not start within a minute")
}

// run runs a service to its end: 0, or 3 where the host was too noisy for a VALID result.
func (s *stage) run(service types.ServiceConfig) {
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Minute)
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, "docker", s.arguments(service, "--rm")...)
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 3) {
		s.t.Errorf("%s: %v\n%s", service.Name, err, out.Bytes())
	}
}

// counts are the part of a saved result that this test reads.
type counts struct {
	Segment struct{ Node, Of int }
	Counts  struct{ Scheduled, OK, Error, Timeout, Unsent int64 }
}

// check holds the merged result against the shares.
func (s *stage) check(arrivals int64) {
	read := func(name string) (c counts) {
		raw, err := os.ReadFile(filepath.Join(s.results, name))
		if err != nil {
			s.t.Fatal(err)
		}
		var file struct{ Result json.RawMessage }
		if err := errors.Join(json.Unmarshal(raw, &file), json.Unmarshal(raw, &c)); err != nil {
			s.t.Fatalf("%s: %v", name, err)
		}
		if file.Result != nil {
			if err := json.Unmarshal(file.Result, &c); err != nil {
				s.t.Fatalf("%s: %v", name, err)
			}
		}
		return c
	}
	var sum counts
	for i := 1; i <= generators; i++ {
		c := read(fmt.Sprintf("%d.json", i))
		if c.Segment.Node != i || c.Segment.Of != generators || c.Counts.OK == 0 {
			s.t.Errorf("share %d: %+v", i, c)
		}
		sum.Counts.Scheduled += c.Counts.Scheduled
		sum.Counts.OK += c.Counts.OK
	}
	merged := read("merged.json")
	if m := merged.Counts; m.Scheduled != sum.Counts.Scheduled || m.OK != sum.Counts.OK || m.Scheduled != m.OK+m.Error+m.Timeout+m.Unsent {
		s.t.Errorf("merged %+v, the shares %+v", m, sum.Counts)
	}
	// Poisson arrivals: 900 on average, and the seed is fixed
	if n := merged.Counts.Scheduled; n < arrivals/2 || n > 2*arrivals {
		s.t.Errorf("%d arrivals, want about %d", n, arrivals)
	}
}
