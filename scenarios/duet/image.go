package duet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/assay-bench/assay/chaos"
	"github.com/assay-bench/assay/scenarios/target"
)

// Image is a container image as a side: each start is a fresh container.
type Image struct {
	ID   string   // sha256:… of its configuration; a tag may move, this does not
	Args []string // after the image; empty: its own
	Port int      // that it listens on, published on {port} of 127.0.0.1; 0: it shares the host's network and listens on {port}
}

// dockerLimit bounds one docker command that starts nothing.
const dockerLimit = 10 * time.Minute

// isImage tells a container image from a revision, whose name has no colon.
func isImage(word string) bool {
	return strings.Contains(word, ":") && !strings.HasPrefix(word, "merge-base:")
}

var imageID = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// resolveImage finds what a tag names now, pulling the image where docker has none of that name. name is the image by
// the digest of its registry, where it has one.
func resolveImage(ctx context.Context, word string) (name, id string, err error) {
	raw, err := docker(ctx, "image", "inspect", word)
	if err != nil {
		if _, pull := docker(ctx, "pull", "--quiet", word); pull != nil {
			return "", "", fmt.Errorf("image %s: %w", word, pull)
		}
		if raw, err = docker(ctx, "image", "inspect", word); err != nil {
			return "", "", fmt.Errorf("image %s: %w", word, err)
		}
	}
	return parseImage(raw, word)
}

func parseImage(raw []byte, word string) (name, id string, err error) {
	var images []struct {
		ID          string   `json:"Id"`
		RepoDigests []string `json:"RepoDigests"`
	}
	if err := json.Unmarshal(raw, &images); err != nil {
		return "", "", fmt.Errorf("image %s: %w", word, err)
	}
	if len(images) != 1 {
		return "", "", fmt.Errorf("image %s: docker describes %d images", word, len(images))
	}
	if !imageID.MatchString(images[0].ID) {
		return "", "", fmt.Errorf("image %s: %.100q is no SHA-256", word, images[0].ID)
	}
	if len(images[0].RepoDigests) > 0 {
		name = images[0].RepoDigests[0]
	}
	return name, strings.TrimPrefix(images[0].ID, "sha256:"), nil
}

func docker(ctx context.Context, args ...string) ([]byte, error) {
	limited, cancel := context.WithTimeout(ctx, dockerLimit)
	defer cancel()
	cmd := exec.CommandContext(limited, "docker", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("docker %s: %w %s", args[0], err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}

// run starts a container and waits until it serves. It is removed by its number, whatever happens; a harness that is
// killed leaves its main process to the journal, with which the container goes.
func (i *Image) run(ctx context.Context, cmd *target.Command, fill map[string]string) (running, error) {
	dir, err := os.MkdirTemp("", "assay-container-*")
	if err != nil {
		return running{}, err
	}
	file := filepath.Join(dir, "id")
	cmd.Argv = i.command(file, fill, cmd.Env)
	cmd.Env, cmd.Dir = nil, dir
	stop := func(ctx context.Context) error {
		return errors.Join(remove(ctx, file), cmd.Stop(ctx), os.RemoveAll(dir))
	}
	if _, err := cmd.Start(ctx); err != nil {
		return running{}, errors.Join(err, stop(context.WithoutCancel(ctx)))
	}
	main, err := mainProcess(ctx, file)
	if err == nil && cmd.Own != nil && main.Start != 0 {
		err = cmd.Own(main)
	}
	if err != nil {
		return running{}, errors.Join(err, stop(context.WithoutCancel(ctx)))
	}
	return running{func() []chaos.Process { return []chaos.Process{main} }, stop}, nil
}

// command is the docker command of a fresh container that is gone when its process is.
func (i *Image) command(file string, fill map[string]string, env []string) []string {
	argv := []string{"docker", "run", "--rm", "--pull", "never", "--cidfile", file}
	if i.Port > 0 {
		argv = append(argv, "--publish", fmt.Sprintf("127.0.0.1:%s:%d", fill["port"], i.Port))
	} else {
		argv = append(argv, "--network", "host")
	}
	for _, e := range env {
		argv = append(argv, "--env", e)
	}
	argv = append(argv, "sha256:"+i.ID)
	return append(argv, fillAll(i.Args, fill)...)
}

// container reads the number that docker wrote; ok is false where no container was made.
func container(file string) (id string, ok bool) {
	raw, err := os.ReadFile(file)
	return strings.TrimSpace(string(raw)), err == nil && len(raw) > 0
}

// remove ends a container. One that is gone or going is no error.
func remove(ctx context.Context, file string) error {
	id, ok := container(file)
	if !ok {
		return nil
	}
	_, err := docker(ctx, "rm", "--force", id)
	if err != nil && (strings.Contains(err.Error(), "No such container") || strings.Contains(err.Error(), "already in progress")) {
		return nil
	}
	return err
}

// mainProcess finds the container's first process on this host.
func mainProcess(ctx context.Context, file string) (chaos.Process, error) {
	id, ok := container(file)
	if !ok {
		return chaos.Process{}, errors.New("docker wrote no number of the container")
	}
	raw, err := docker(ctx, "container", "inspect", "--format", "{{.State.Pid}}", id)
	if err != nil {
		return chaos.Process{}, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil || pid <= 0 {
		return chaos.Process{}, fmt.Errorf("container %.12s: %.40q is no process", id, raw)
	}
	return chaos.FindProcess(pid)
}
