package duet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/assay-bench/assay/chaos"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/target"
)

// maxCounters bounds what is read of a page of counters.
const maxCounters = 4 << 20

// Program is an artefact that is started as a command on this host, or as a container of an image.
type Program struct {
	Argv     []string // {port} is a free port, {out} the built artefact
	Image    *Image   // what is started in place of Argv
	Out      string   // what {out} stands for
	Dir      string
	Env      []string
	Setup    string // command line before each start, such as a migration; {port} and {out} as above
	Teardown string // the same after each end
	Ready    string // path that answers 2xx over HTTP when it serves; empty: a connection is enough
	Timeout  time.Duration
	Requests map[string][]Request // by scenario
	Counters Counters
	Dial     scenarios.DialFunc
	Own      func(chaos.Process) error // journals the child, so that it can not outlive the harness
}

// Counters is where a process shows its own count of heap allocations, such as expvar's memstats.Mallocs.
type Counters struct {
	Path  string // of the page, a JSON object
	Field string // dotted
}

// Start runs the set-up, starts a process on a free port and waits until it serves.
func (p *Program) Start(ctx context.Context) (Process, error) { return p.StartThen(ctx, func() {}) }

// StartThen is Start; begun is called when the set-up is done and the process was started.
func (p *Program) StartThen(ctx context.Context, begun func()) (Process, error) {
	ports, err := target.FreePorts(1)
	if err != nil {
		return Process{}, err
	}
	fill := map[string]string{"port": strconv.Itoa(ports[0]), "out": p.Out}
	if err := p.hook(ctx, p.Setup, fill); err != nil {
		return Process{}, fmt.Errorf("set-up: %w", err)
	}
	addr := net.JoinHostPort("127.0.0.1", fill["port"])
	cmd := &target.Command{
		Argv: fillAll(p.Argv, fill), Env: fillAll(p.Env, fill), Dir: p.Dir, Own: p.Own, Timeout: p.Timeout,
		Ready: target.TCPReady(target.DialFunc(p.Dial), addr), Addresses: target.Endpoints{"http": addr},
		Observe: func(results.Kind, any) { begun() },
	}
	if p.Ready != "" {
		cmd.Ready = target.HTTPReady(target.DialFunc(p.Dial), "http://"+addr+p.Ready)
	}
	run, err := p.run(ctx, cmd, fill)
	if err != nil {
		return Process{}, errors.Join(err, p.hook(context.WithoutCancel(ctx), p.Teardown, fill))
	}
	out := Process{
		Tree: func() []chaos.Process { return treeOf(run.roots()) },
		Open: func(ctx context.Context, scenario string) (Connection, error) {
			return openHTTP(ctx, p.Dial, addr, p.Requests[scenario])
		},
		Stop: func(ctx context.Context) error {
			return errors.Join(run.stop(ctx), p.hook(ctx, p.Teardown, fill))
		},
		addr: addr,
	}
	if all := run.roots(); len(all) > 0 {
		out.PID = all[0].PID
	}
	return out, nil
}

// running is a process or a container.
type running struct {
	roots func() []chaos.Process
	stop  func(context.Context) error
}

func (p *Program) run(ctx context.Context, cmd *target.Command, fill map[string]string) (running, error) {
	if p.Image != nil {
		return p.Image.run(ctx, cmd, fill)
	}
	_, err := cmd.Start(ctx)
	return running{cmd.Processes, cmd.Stop}, err
}

// treeOf adds the descendants of processes.
func treeOf(roots []chaos.Process) []chaos.Process {
	var all []chaos.Process
	for _, root := range roots {
		tree, err := root.Tree()
		if err != nil {
			tree = []chaos.Process{root}
		}
		all = append(all, tree...)
	}
	return all
}

// hook runs a command line to its end. Its failure is the artefact's, as a start that fails is.
func (p *Program) hook(ctx context.Context, line string, fill map[string]string) error {
	if line == "" {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, max(p.Timeout, time.Minute))
	defer cancel()
	ran, err := target.RunHook(limited, p.Dir, line, fill)
	if err != nil {
		return err
	}
	if ran.Exit != 0 || ran.Late {
		return &target.NotReady{Reason: "exited", Detail: fmt.Sprintf("%s: %s: %s", line, ran.State, ran.Output)}
	}
	return nil
}

func fillAll(texts []string, fill map[string]string) []string {
	out := make([]string, len(texts))
	for i, t := range texts {
		for name, v := range fill {
			t = strings.ReplaceAll(t, "{"+name+"}", v)
		}
		out[i] = t
	}
	return out
}

// Allocs reads the counter of heap allocations, where one is named.
func (p *Program) Allocs(ctx context.Context, proc Process) (float64, bool, error) {
	if p.Counters.Path == "" {
		return 0, false, nil
	}
	client := &http.Client{Transport: &http.Transport{DialContext: p.Dial, DisableKeepAlives: true}, Timeout: defaultLimit}
	url := "http://" + proc.addr + p.Counters.Path
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, false, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, false, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxCounters))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return 0, false, fmt.Errorf("%s: %w", url, err)
	}
	v, err := field(body, p.Counters.Field)
	if err != nil {
		return 0, false, fmt.Errorf("%s: %w", url, err)
	}
	return v, true, nil
}

// field returns the number at a dotted path of a JSON object.
func field(doc []byte, path string) (float64, error) {
	at := json.RawMessage(doc)
	for _, name := range strings.Split(path, ".") {
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(at, &fields); err != nil {
			return 0, fmt.Errorf("no JSON object around %q", name)
		}
		var ok bool
		if at, ok = fields[name]; !ok {
			return 0, fmt.Errorf("no field %q of %q", name, path)
		}
	}
	v, err := strconv.ParseFloat(string(at), 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		return 0, fmt.Errorf("field %q is no number: %.40q", path, at)
	}
	return v, nil
}
