// Package truth measures how true the latencies of a load generator are. A
// server answers by known delay rules and keeps its own account; what a generator
// reports is held against the exact quantiles of those delays at the intended
// arrivals. A repetition in which the server missed its own schedule is void.
//
// It measures this house's engine and, in the same turns, other tools on their
// own command lines. It may not correct anything: what it finds is printed.
package truth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/load"
)

// Format is the version of calibration files.
const Format = "assay-calibration/v1"

// maxFile bounds a calibration file.
const maxFile = 16 << 20

// Report is a calibration: every repetition of every cell.
type Report struct {
	Format   string    `json:"format"`
	Host     string    `json:"host"` // class of machines that it holds for
	Version  string    `json:"version"`
	Started  time.Time `json:"started"`
	FromSend bool      `json:"from_send,omitempty"` // the planted defect of the self-check
	Awake    bool      `json:"awake,omitempty"`     // processors were kept from sleeping
	Need     int       `json:"need"`                // valid repetitions that decide a cell
	Cells    []Trial   `json:"cells"`
}

// Trial is a cell and its repetitions.
type Trial struct {
	Cell    Cell    `json:"cell"`
	Reps    []Rep   `json:"reps"`
	Verdict Verdict `json:"verdict"`
}

// Decode reads a calibration file of any origin.
func Decode(raw []byte) (*Report, error) {
	if len(raw) > maxFile {
		return nil, fmt.Errorf("calibration: %d bytes, the limit is %d", len(raw), maxFile)
	}
	var r Report
	if err := json.Unmarshal(raw, &r); err != nil {
		return nil, fmt.Errorf("calibration: %w", err)
	}
	if r.Format != Format {
		return nil, fmt.Errorf("calibration: format %q, want %q", r.Format, Format)
	}
	for i := range r.Cells {
		t := &r.Cells[i]
		for _, rep := range t.Reps {
			if err := rep.check(); err != nil {
				return nil, fmt.Errorf("calibration: %s: %w", t.Cell.Name(), err)
			}
		}
		t.Verdict = t.Cell.judge(t.Reps, r.Need)
	}
	return &r, nil
}

// check refuses a repetition that would not be judged.
func (r Rep) check() error {
	n := len(Levels())
	if r.Problem != "" && !r.Valid {
		return nil
	}
	if len(r.Truth.Levels) != n || len(r.Reported.Levels) != n || len(r.Corners) != n || len(r.Errors) != n+1 {
		return fmt.Errorf("a repetition without the %d levels", n)
	}
	return nil
}

// Encode returns the calibration as JSON.
func (r *Report) Encode() ([]byte, error) {
	raw, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return nil, fmt.Errorf("calibration: %w", err)
	}
	return append(raw, '\n'), nil
}

// Plan says which cells to measure.
type Plan struct {
	Patterns []string      // of cell names, as of package path; none: all of assay's
	Quick    bool          // a subset that takes about a minute
	Deep     bool          // 100,000 samples, so that p99.9 is scored
	Rate     float64       // arrivals per second; 0: 500
	Duration time.Duration // 0: 8 s, quick 4 s
	Need     int           // valid repetitions a cell; 0: 3, quick 1
	Peers    []Peer        // measured beside assay where a cell is theirs
}

const (
	normalRate = 500
	deepRate   = 2_500
	overhead   = 1200 * time.Millisecond // connecting, first calls, reading the account
)

// quickCells is what the quick plan measures.
var quickCells = []string{
	"assay/stall/const/ample/tcp", "assay/stall/const/starved/tcp", "assay/stall/poisson/starved/http",
	"assay/fifo/poisson/ample/tcp", "assay/exp/poisson/ample/tcp", "assay/exp/const/ample/http",
	"assay/exp/const/ample/grpc", "assay/heavy/const/starved/tcp",
}

// withDefaults fills in zeroes.
func (p Plan) withDefaults() Plan {
	fallback := func(normal, quick int) int {
		if p.Quick {
			return quick
		}
		return normal
	}
	if p.Rate == 0 {
		p.Rate = normalRate
	}
	if p.Duration == 0 {
		p.Duration = time.Duration(fallback(8, 4)) * time.Second
	}
	if p.Need == 0 {
		p.Need = fallback(3, 1)
	}
	if len(p.Patterns) == 0 && p.Quick {
		p.Patterns = quickCells
	}
	return p
}

// Cells returns the cells of the plan in the order in which each round measures
// them: assay's, and after each those of the peers that can do the same.
func (p Plan) Cells() ([]Cell, error) {
	p = p.withDefaults()
	if err := p.validate(); err != nil {
		return nil, err
	}
	var cells []Cell
	for _, rule := range Rules() {
		for _, spacing := range []load.Kind{load.Const, load.Poisson} {
			for _, workers := range []int{0, Starved} {
				for _, protocol := range Protocols() {
					c := Cell{Tool: Assay, Rule: rule, Spacing: spacing, Workers: workers, Protocol: protocol, Rate: p.Rate, Duration: p.Duration}
					if p.Deep {
						c.deepen()
					}
					cells = append(cells, p.beside(c)...)
				}
			}
		}
	}
	if len(cells) == 0 {
		return nil, fmt.Errorf("calibrate load: %s match no cell, names are tool/rule/spacing/ample|starved/protocol", strings.Join(p.Patterns, " "))
	}
	return cells, nil
}

func (p Plan) validate() error {
	switch {
	case !(p.Rate >= 50) || p.Rate > 10_000:
		return fmt.Errorf("calibrate load: rate %v is outside 50 to 10000 per second", p.Rate)
	case p.Duration < time.Duration(period) || p.Duration > time.Hour || p.Duration%time.Duration(period) != 0:
		return fmt.Errorf("calibrate load: duration %v is no multiple of %v up to 1h", p.Duration, time.Duration(period))
	case p.Need < 1 || p.Need > 100:
		return fmt.Errorf("calibrate load: %d repetitions, want 1 to 100", p.Need)
	}
	for _, pattern := range p.Patterns {
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("calibrate load: pattern %q: %w", pattern, err)
		}
	}
	return nil
}

// beside returns the cell and those of the peers, as far as the plan wants them.
func (p Plan) beside(c Cell) (cells []Cell) {
	if p.wants(c) {
		cells = append(cells, c)
	}
	for _, peer := range p.Peers {
		c.Tool = peer.Name
		if peer.does(c) && p.wants(c) {
			cells = append(cells, c)
		}
	}
	return cells
}

func (p Plan) wants(c Cell) bool {
	if len(p.Patterns) == 0 {
		return true
	}
	name := strings.TrimSuffix(c.Name(), "/deep")
	return slices.ContainsFunc(p.Patterns, func(pattern string) bool {
		ok, _ := path.Match(pattern, name) // validated
		return ok
	})
}

// deepen makes the cell long enough for p99.9. One request at a time, 1 ms each
// and a freeze do not bear more than the normal rate.
func (c *Cell) deepen() {
	if c.Rule != FIFO && c.Workers == 0 {
		c.Rate = deepRate
	}
	periods := int64(deepSamples/c.Rate*1e9)/period + 1
	c.Duration = time.Duration(periods * period)
}

// Repetitions returns how many valid repetitions decide a cell.
func (p Plan) Repetitions() int { return p.withDefaults().Need }

// Time returns how long the plan takes when no repetition is void.
func (p Plan) Time(cells []Cell) (sum time.Duration) {
	for _, c := range cells {
		sum += (c.Duration + overhead) * time.Duration(p.Repetitions())
	}
	return sum
}

// Matrix measures cells.
type Matrix struct {
	Dial     scenarios.DialFunc
	Argv     []string // starts a truth server: a program that calls Main
	Env      []string // added to its environment
	Host     string
	Version  string
	FromSend bool // planted defect: take times from send
	Awake    bool // processors are kept from sleeping; of the report
	Peers    []Peer
	// Done, if set, is told of each repetition and saves the report; its error
	// ends the run.
	Done func(r *Report, c Cell, rep Rep) error

	server *Child
}

// tries is how many repetitions may be void for each that is needed.
const tries = 3

// Run measures the cells in rounds until each has enough valid repetitions or
// too many that are void. It goes on from what an earlier report has.
func (m *Matrix) Run(ctx context.Context, cells []Cell, need int, earlier *Report) (*Report, error) {
	r := &Report{Format: Format, Host: m.Host, Version: m.Version, Started: time.Now().UTC(), FromSend: m.FromSend, Awake: m.Awake, Need: need}
	if earlier != nil {
		if earlier.Host != r.Host || earlier.Version != r.Version || earlier.FromSend != r.FromSend || earlier.Awake != r.Awake {
			return nil, errors.New("calibrate load: the earlier report is of another host, version or mode; begin a new one")
		}
		r.Started, r.Cells = earlier.Started, earlier.Cells
	}
	for _, c := range cells {
		if r.trial(c) == nil {
			r.Cells = append(r.Cells, Trial{Cell: c, Reps: []Rep{}})
		}
	}
	var err error
	if m.server, err = Start(ctx, m.Argv, m.Env...); err != nil {
		return nil, err
	}
	err = m.rounds(ctx, r, cells, need)
	return r, errors.Join(err, m.server.Stop())
}

// trial returns the trial of an equal cell.
func (r *Report) trial(c Cell) *Trial {
	for i := range r.Cells {
		if r.Cells[i].Cell == c {
			return &r.Cells[i]
		}
	}
	return nil
}

func (m *Matrix) rounds(ctx context.Context, r *Report, cells []Cell, need int) error {
	for more := true; more; {
		more = false
		for _, c := range cells {
			t := r.trial(c)
			t.Verdict = c.judge(t.Reps, need)
			if t.Verdict.Decided || len(t.Reps) >= tries*need {
				continue
			}
			more = true
			rep, err := m.once(ctx, c, seedOf(c, len(t.Reps)))
			if err != nil {
				return fmt.Errorf("calibrate load: %s: %w", c.Name(), err)
			}
			if ctx.Err() != nil {
				return ctx.Err() // an interrupted repetition is none
			}
			t.Reps = append(t.Reps, rep)
			t.Verdict = c.judge(t.Reps, need)
			if m.Done != nil {
				if err := m.Done(r, c, rep); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (m *Matrix) once(ctx context.Context, c Cell, seed uint64) (Rep, error) {
	if c.Tool == Assay {
		return m.measure(ctx, c, seed)
	}
	for _, p := range m.Peers {
		if p.Name == c.Tool {
			return m.measurePeer(ctx, p, c, seed)
		}
	}
	return Rep{}, fmt.Errorf("no tool %s here", c.Tool)
}

// seedOf gives every repetition its own schedule and delays, the same for every
// tool.
func seedOf(c Cell, rep int) uint64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s %s %s %d %d", c.Rule, c.Spacing, c.Protocol, c.Workers, rep)
	return h.Sum64()
}
