package gate

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/results/stats"
	"github.com/assay-bench/assay/scenarios/duet"
)

// Life is how long a calibration holds on one host class (gate.md section 2).
const Life = 30 * 24 * time.Hour

// confidence is that of every bound on an error rate, one-sided.
const confidence = 0.95

// TrialKind is what is known of a pair before it is judged.
type TrialKind string

// The kinds of trial.
const (
	SameBuild TrialKind = "a/a"    // one program twice
	Layout    TrialKind = "layout" // one source, linked in two orders
	Slower    TrialKind = "slower" // every request does more work
	Tail      TrialKind = "tail"   // a few requests do
	Before    TrialKind = "pre-flight"
)

// Trial is one run of the gate on a pair of which the truth is known: a line of a calibration's file.
type Trial struct {
	Kind      TrialKind     `json:"kind"`
	Effect    float64       `json:"effect,omitempty"`  // relative, planted in every request
	Work      float64       `json:"work,omitempty"`    // share of further work that plants it
	Variant   string        `json:"variant,omitempty"` // of a layout: the seed of the linker
	Source    string        `json:"source,omitempty"`  // the run that a pre-flight was part of
	Seed      uint64        `json:"seed"`
	At        time.Time     `json:"at"`
	Took      time.Duration `json:"took"`
	HostClass string        `json:"hostClass"`
	// Instrument is how epochs were measured; the rates of another one are not this one's.
	Instrument string             `json:"instrument,omitempty"`
	Version    string             `json:"version"`
	Harness    string             `json:"harness,omitempty"` // digest of the program that ran it
	End        End                `json:"end"`
	Outcomes   map[string]Outcome `json:"outcomes"`            // by metric
	Epochs     map[string]int     `json:"epochs"`              // at the stop
	Estimates  map[string]float64 `json:"estimates,omitempty"` // relative change, all epochs
	// Metrics and Ratios replay it: the log-ratios of valid epochs by metric, positive for the worse.
	Metrics []Metric             `json:"metrics,omitempty"`
	Ratios  map[string][]float64 `json:"ratios,omitempty"`
	Void    int                  `json:"void,omitempty"` // epochs that did not count
}

// Alarm tells whether any metric was called a regression.
func (t Trial) Alarm() bool {
	for _, o := range t.Outcomes {
		if o == Regression {
			return true
		}
	}
	return false
}

// open tells that the run ended without a verdict.
func (t Trial) open() bool {
	undecided := t.End != Complete
	for _, o := range t.Outcomes {
		undecided = undecided || o == Open
	}
	return undecided && !t.Alarm()
}

// HostClass names the hosts that one calibration holds for: processor, cores, kernel.
func HostClass(h results.Host) string {
	return fmt.Sprintf("%s, %d cores, %s", h.CPU, h.Cores, h.Kernel)
}

// Coarse is the class that pre-flights are pooled by: of the kernel only major and minor version.
func Coarse(hostClass string) string {
	i := strings.LastIndex(hostClass, ", ")
	if i < 0 {
		return hostClass
	}
	version := strings.SplitN(hostClass[i:], ".", 3)
	return hostClass[:i] + strings.Join(version[:min(2, len(version))], ".")
}

// maxTrials bounds what is read of a calibration.
const (
	maxTrials     = 100_000
	maxTrialBytes = 1 << 20 // a line
)

// ReadTrials reads a calibration's file. A last line that was cut off is left out; a file that is not there has none.
func ReadTrials(path string) ([]Trial, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	trials, err := decodeTrials(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return trials, nil
}

func decodeTrials(r io.Reader) ([]Trial, error) {
	br := bufio.NewReaderSize(r, maxTrialBytes)
	var out []Trial
	for n := 1; n <= maxTrials; n++ {
		line, err := br.ReadSlice('\n')
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		var t Trial
		if err := json.Unmarshal(line, &t); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		out = append(out, t)
	}
	return nil, fmt.Errorf("more than %d trials", maxTrials)
}

// AppendTrial adds a trial to a calibration's file, one write(2), and makes its folder.
func AppendTrial(path string, t Trial) error {
	raw, err := results.Marshal(t)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(append(raw, '\n'))
	return errors.Join(err, f.Close())
}

// Rate is a share of trials with its exact bounds, each one-sided at 95 %.
type Rate struct {
	Kind   TrialKind `json:"kind"`
	Effect float64   `json:"effect,omitempty"`
	Metric string    `json:"metric"` // empty: any metric of the run
	Events int       `json:"events"` // runs in which it was called a regression
	Trials int       `json:"trials"` // runs that gave a verdict; of a planted change all of them
	Open   int       `json:"open"`   // runs that were inconclusive
	Lower  float64   `json:"lower"`
	Upper  float64   `json:"upper"`
}

// Calibration is what trials on one host class say of the gate.
type Calibration struct {
	HostClass string        `json:"hostClass"`
	Newest    time.Time     `json:"newest"`
	Rates     []Rate        `json:"rates"`
	Shifts    []Shift       `json:"shifts,omitempty"` // that link orders made
	P95       time.Duration `json:"p95"`              // of the time of a run that measures, 95th percentile
	Builds    int           `json:"builds"`           // of assay that ran the trials
}

// cell is what trials are counted by.
type cell struct {
	kind   TrialKind
	effect float64
	metric string
}

// census counts trials.
type census struct {
	counts map[cell]*Rate
	took   []float64
	builds map[string]bool
	newest time.Time
}

func (y *census) count(k cell, event, open bool) {
	r := y.counts[k]
	if r == nil {
		r = &Rate{Kind: k.kind, Effect: k.effect, Metric: k.metric}
		y.counts[k] = r
	}
	if open {
		r.Open++
	}
	if event {
		r.Events++
	}
	// An open pair of unchanged code proves nothing; an open pair with a planted change was not found.
	if !open || k.kind == Slower || k.kind == Tail {
		r.Trials++
	}
}

func (y *census) add(t Trial) {
	if t.At.After(y.newest) {
		y.newest = t.At
	}
	if t.Took > 0 {
		y.took = append(y.took, float64(t.Took))
	}
	y.builds[t.Harness] = true
	y.count(cell{t.Kind, t.Effect, ""}, t.Alarm(), t.open())
	for id, o := range t.Outcomes {
		y.count(cell{t.Kind, t.Effect, id}, o == Regression, o == Open)
	}
}

// rates are the shares with their bounds.
func (y *census) rates() ([]Rate, error) {
	var out []Rate
	for _, r := range y.counts {
		out = append(out, *r)
	}
	slices.SortFunc(out, compareRates)
	for i := range out {
		if err := out[i].bound(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// bound computes the exact bounds of a rate.
func (r *Rate) bound() (err error) {
	if r.Lower, r.Upper = 0, 1; r.Trials > 0 {
		r.Lower, r.Upper, err = stats.ClopperPearson(float64(r.Events), float64(r.Trials), confidence)
	}
	return err
}

// Calibrate sums up the trials of a host class that are not too old at a time and were measured as this program
// measures; pre-flights also those of its coarse class. ok is false where there is none.
func Calibrate(trials []Trial, hostClass string, now time.Time) (c Calibration, ok bool, err error) {
	y := &census{counts: map[cell]*Rate{}, builds: map[string]bool{}}
	var before, layouts []Trial
	for _, t := range trials {
		switch {
		case now.Sub(t.At) > Life || t.At.After(now) || t.Instrument != duet.Instrument:
		case t.Kind == Before && Coarse(t.HostClass) == Coarse(hostClass):
			before = append(before, t)
		case t.HostClass != hostClass || t.Kind == Before:
		default:
			y.add(t)
			if t.Kind == Layout {
				layouts = append(layouts, t)
			}
		}
	}
	pairs, err := chain(before)
	if err != nil {
		return c, false, err
	}
	for _, t := range pairs {
		y.add(t)
	}
	c = Calibration{HostClass: hostClass, Newest: y.newest, Builds: len(y.builds)}
	if len(y.counts) == 0 {
		return c, false, nil
	}
	if len(y.took) > 0 {
		slices.Sort(y.took)
		c.P95 = time.Duration(stats.Quantile(0.95, y.took))
	}
	if c.Shifts, err = shifts(layouts); err != nil {
		return c, false, err
	}
	c.Rates, err = y.rates()
	return c, err == nil, err
}

func compareRates(a, b Rate) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Effect, b.Effect), cmp.Compare(a.Metric, b.Metric))
}

// FalseAlarms is the rate of pairs of unchanged code that alarmed, those from pre-flights among them; ok is false where
// none was judged.
func (c Calibration) FalseAlarms() (Rate, bool) {
	sum := Rate{Kind: SameBuild}
	for _, kind := range []TrialKind{SameBuild, Before} {
		if r, ok := c.rate(kind, 0, ""); ok {
			sum.Events, sum.Trials, sum.Open = sum.Events+r.Events, sum.Trials+r.Trials, sum.Open+r.Open
		}
	}
	err := sum.bound()
	return sum, err == nil && sum.Trials > 0
}

func (c Calibration) rate(kind TrialKind, effect float64, metric string) (Rate, bool) {
	i := slices.IndexFunc(c.Rates, func(r Rate) bool { return r.Kind == kind && r.Effect == effect && r.Metric == metric })
	if i < 0 {
		return Rate{}, false
	}
	return c.Rates[i], true
}

// planted are the kinds of pairs in which something is to be found, with what it is a change of.
var planted = map[TrialKind]string{Slower: "", Tail: " of p99"}

// Text says what is known of the gate's error rates, in one sentence. It never claims more than its trials allow.
func (c Calibration) Text() string {
	r, ok := c.FalseAlarms()
	if !ok {
		return "not calibrated"
	}
	text := fmt.Sprintf("%d false alarms in %d pairs of unchanged code (below %.2g %% with 95 %% confidence)", r.Events, r.Trials, 100*r.Upper)
	if p, ok := c.rate(Before, 0, ""); ok {
		text += fmt.Sprintf(", %d of them chained from pre-flights", p.Trials)
	}
	if r.Open > 0 {
		text += fmt.Sprintf(", %d more inconclusive", r.Open)
	}
	for _, p := range c.Rates {
		if of, ok := planted[p.Kind]; ok && p.Metric == "" && p.Trials > 0 && p.Effect > 0 {
			text += fmt.Sprintf("; +%.3g %%%s found in %d of %d (above %.3g %%)", 100*p.Effect, of, p.Events, p.Trials, 100*p.Lower)
		}
	}
	return text + "; newest " + c.Newest.UTC().Format(time.DateOnly)
}
