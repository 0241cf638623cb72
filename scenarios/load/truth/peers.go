package truth

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"time"

	"github.com/assay-bench/assay/scenarios/load"
)

// Peer is another load generator, scored on its own command line.
type Peer struct {
	Name      string
	Program   string // path
	Protocols []Protocol
	Ample     bool // can be given workers enough
	// args returns the command line for a cell; files go to dir.
	args func(e Endpoints, c Cell, dir string) ([]string, error)
	// read returns what the tool reports, from its output or its files: the
	// latencies of single requests where it has them, else its own percentiles.
	read func(out []byte, dir string) (Shape, error)
}

// does tells whether the tool can play the cell: none of them has Poisson
// arrivals.
func (p Peer) does(c Cell) bool {
	return c.Spacing == load.Const && slices.Contains(p.Protocols, c.Protocol) && (c.Workers > 0 || p.Ample)
}

// Peers returns the tools of the closed set that look finds, by program name, as
// exec.LookPath does.
func Peers(look func(program string) (string, error)) (found []Peer) {
	for _, p := range []Peer{k6(), vegeta(), fortio(), ghz(), wrk(), h2load()} {
		path, err := look(p.Program)
		if err != nil {
			continue
		}
		p.Program = path
		found = append(found, p)
	}
	return found
}

// measurePeer plays the cell once with another tool. What it does not report is
// unknown, not lost: its own gate is none of ours.
func (m *Matrix) measurePeer(ctx context.Context, p Peer, c Cell, seed uint64) (Rep, error) {
	dir, err := os.MkdirTemp("", "assay-calibrate-")
	if err != nil {
		return Rep{}, err
	}
	defer os.RemoveAll(dir)
	args, err := p.args(m.server.Endpoints, c, dir)
	if err != nil {
		return Rep{}, err
	}
	epoch, err := m.server.begin(ctx, c.Rule, seed)
	if err != nil {
		return Rep{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.Duration+30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.Program, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "K6_NO_USAGE_REPORT=true", "K6_AUTO_EXTENSION_RESOLUTION=false")
	out, runErr := cmd.Output()
	got, err := p.read(out, dir)
	if err != nil {
		return Rep{Problem: errors.Join(fmt.Errorf("%s: %w", p.Name, err), runErr).Error()}, nil
	}
	st, err := m.server.stats(ctx)
	if err != nil {
		return Rep{}, err
	}
	return peerRep(c, st, got, epoch, seed)
}

// peerRep scores what a tool reported. Its intended arrivals are taken to begin
// with the first that the server saw.
func peerRep(c Cell, st Stats, got Shape, epoch int64, seed uint64) (Rep, error) {
	rep, err := score(c.schedule(seed), newDelays(c.Rule, epoch, seed), newDelays(c.Rule, epoch, seed), c.Workers, st.First)
	if err != nil {
		return Rep{}, err
	}
	rep.report(got)
	if rep.ServerError, err = st.ownError(rep.Truth, c.judged(&rep)); err != nil {
		return Rep{}, err
	}
	rep.Scheduled = int64(c.samples())
	rep.Lost = max(rep.Scheduled-got.Count, 0)
	rep.Reasons = []load.Reason{}
	if rep.Valid = rep.ServerError <= maxServerError; !rep.Valid {
		rep.Reasons = append(rep.Reasons, load.ReasonServer)
	}
	return rep, nil
}
