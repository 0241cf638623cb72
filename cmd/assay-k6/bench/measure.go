package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// engine is one way to make the calls.
type engine string

const viaK6 engine = "k6 JavaScript"

// row is one workload, measured: nanoseconds of CPU for each call, by engine and round.
type row struct {
	workload
	perCall map[engine][]float64
}

var natives = []engine{"assay, closed", "assay, open loop"}

// measure interleaves the engines round by round.
func (c config) measure(ctx context.Context, w workload, s *servers) (row, error) {
	r := row{workload: w, perCall: map[engine][]float64{}}
	addr := s.addr[w.name]
	dir, err := os.MkdirTemp("", "assay-bench-*")
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "service.proto"), []byte(service), 0o644); err != nil {
		return r, err
	}
	few, many := int(float64(w.few)*c.scale), int(float64(w.many)*c.scale)
	for range c.rounds {
		ns, err := slope(few, many, func(calls int) (time.Duration, error) { return c.k6Run(ctx, w, dir, addr, calls) })
		if err != nil {
			return r, err
		}
		r.perCall[viaK6] = append(r.perCall[viaK6], ns)
		for i, model := range []string{closed, open} {
			ns, err := slope(few*w.native, many*w.native, func(calls int) (time.Duration, error) {
				return c.childRun(ctx, filled(w.url, addr), model, calls)
			})
			if err != nil {
				return r, fmt.Errorf("%s: %w", natives[i], err)
			}
			r.perCall[natives[i]] = append(r.perCall[natives[i]], ns)
		}
	}
	return r, nil
}

func filled(template, addr string) string {
	if !strings.Contains(template, "%s") {
		return template
	}
	return fmt.Sprintf(template, addr)
}

// slope is the CPU of a call without what the process costs anyway.
func slope(few, many int, run func(calls int) (time.Duration, error)) (float64, error) {
	short, err := run(few)
	if err != nil {
		return 0, err
	}
	long, err := run(many)
	if err != nil {
		return 0, err
	}
	if long <= short {
		return 0, fmt.Errorf("%d calls took %s of CPU and %d took %s: raise -scale", few, short, many, long)
	}
	return float64(long-short) / float64(many-few), nil
}

func (c config) k6Run(ctx context.Context, w workload, dir, addr string, calls int) (time.Duration, error) {
	script := filepath.Join(dir, "script.js")
	if err := os.WriteFile(script, []byte(filled(w.script, addr)+w.options(c.users, calls)), 0o644); err != nil {
		return 0, err
	}
	// k6 at its best: no summary, no thresholds
	return cpu(exec.CommandContext(ctx, c.k6, "run", "--quiet", "--no-summary", "--no-thresholds", script))
}

func (c config) childRun(ctx context.Context, url, model string, calls int) (time.Duration, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	return cpu(exec.CommandContext(ctx, self, "-users", fmt.Sprint(c.users), "-child", fmt.Sprintf("%s,%s,%d", url, model, calls)))
}

// cpu runs a command and returns the CPU time of the process. What k6 logs is an error here: a call that
// failed costs something else.
func cpu(cmd *exec.Cmd) (time.Duration, error) {
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("%w: %s", err, said.Bytes())
	}
	if strings.Contains(said.String(), "level=error") {
		return 0, fmt.Errorf("%s: %s", filepath.Base(cmd.Path), said.Bytes())
	}
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), nil
}

// ratios are k6's cost over the engine's, round by round.
func (r row) ratios(e engine) []float64 {
	var all []float64
	for i, ns := range r.perCall[e] {
		all = append(all, r.perCall[viaK6][i]/ns)
	}
	slices.Sort(all)
	return all
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
