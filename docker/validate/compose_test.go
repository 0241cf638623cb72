package validate

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

const generators = 3

// project loads the compose file as docker compose does, all profiles on.
func project(t *testing.T, startAt string) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{"../compose/compose.yaml"},
		cli.WithEnv([]string{"START_AT=" + startAt, "RATE=300", "DURATION=3s"}), cli.WithProfiles([]string{"*"}), cli.WithResolvedPaths(true))
	if err != nil {
		t.Fatal(err)
	}
	p, err := options.LoadProject(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestComposeFile(t *testing.T) {
	at := time.Now().UTC().Format(time.RFC3339)
	p := project(t, at)
	if n := len(p.Services); n != generators+2 {
		t.Fatalf("%d services, want a target, %d generators and a merge", n, generators)
	}
	if !p.Networks["load"].Internal {
		t.Error("the network is not internal")
	}
	var merged types.ShellCommand
	if merge, ok := p.AllServices()["merge"]; ok {
		merged = merge.Command
	}
	var first types.ShellCommand
	for i := 1; i <= generators; i++ {
		command := p.Services[fmt.Sprintf("generator-%d", i)].Command
		share, path := fmt.Sprintf("%d/%d", i, generators), fmt.Sprintf("/results/%d.json", i)
		if value(command, "--segment") != share || value(command, "--save") != path || value(command, "--start-at") != at {
			t.Errorf("generator %d runs %v", i, command)
		}
		if !slices.Contains(merged, path) {
			t.Errorf("the merge does not read %s", path)
		}
		// one schedule: all else is the same
		rest := slices.DeleteFunc(slices.Clone(command), func(word string) bool { return word == share || word == path })
		if first == nil {
			first = rest
		}
		if !slices.Equal(rest, first) {
			t.Errorf("generator %d plays another load: %v and %v", i, rest, first)
		}
	}
}

// TestComposeWantsAStart: without a common start the file is refused.
func TestComposeWantsAStart(t *testing.T) {
	options, err := cli.NewProjectOptions([]string{"../compose/compose.yaml"})
	if err == nil {
		_, err = options.LoadProject(context.Background())
	}
	if err == nil {
		t.Error("generators without a common start are taken")
	}
}

func value(command []string, flag string) string {
	if at := slices.Index(command, flag); at >= 0 && at+1 < len(command) {
		return command[at+1]
	}
	return ""
}
