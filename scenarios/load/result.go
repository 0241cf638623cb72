package load

import (
	"time"

	"github.com/assay-bench/assay/results/histogram"
)

// Names of the histograms of a result.
const (
	ResponseOK    = "response_ok"    // end − intended of ok requests
	ResponseAll   = "response_all"   // end − intended of ok, errors and timeouts
	Service       = "service"        // end − start of ok, errors and timeouts
	Lateness      = "lateness"       // start − intended of the same
	PacerLateness = "pacer_lateness" // hand-over − intended of everything handed over
	UnsentWait    = "unsent_wait"    // how long unsent arrivals had waited at the end
)

// Histograms lists the names of the histograms of a result.
func Histograms() []string {
	return []string{ResponseOK, ResponseAll, Service, Lateness, PacerLateness, UnsentWait}
}

// Models of load.
const (
	ModelOpen   = "open"   // arrivals follow a schedule
	ModelClosed = "closed" // users wait for their replies
)

// Who says when a reply ended.
const (
	EndsKernel = "kernel" // the kernel, when it took the last byte in
	EndsRead   = "read"   // the reader of the reply, when it was woken and had read it
	EndsMixed  = "mixed"  // some the one, some the other
)

// Result is what a run measured. Times are nanoseconds.
type Result struct {
	Version   string               `json:"version"`         // of the program
	Start     time.Time            `json:"start"`           // wall clock at offset 0
	Model     string               `json:"model"`           // open or closed
	Label     string               `json:"label,omitempty"` // ClosedLabel, or empty
	Mode      string               `json:"mode"`            // async, workers or users
	Ends      string               `json:"ends,omitempty"`  // who dated the granted replies; empty: there is none
	Schedule  Played               `json:"schedule"`        // the whole one
	Segment   Segment              `json:"segment"`         // what of it was this node's
	Geometry  Geometry             `json:"geometry"`
	Clock     Clock                `json:"clock"`
	Host      Host                 `json:"host"`
	Counts    Counts               `json:"counts"`
	Quantiles map[string]Quantiles `json:"quantiles"` // by histogram name
	// Elapsed is from offset 0 to the last end or to the end of the schedule,
	// whichever is later.
	Elapsed      int64    `json:"elapsed_ns"`
	AchievedRate float64  `json:"achieved_rate"` // ok requests per second of Elapsed
	Valid        bool     `json:"valid"`
	Reasons      []Reason `json:"reasons"` // why not, empty when valid
	// LatenessBound is what p99 lateness was held against; LatenessJudged
	// names the histogram it was read from. LatenessAsked is the bound that
	// the run was given, 0 when it is 1 % of the p99 response.
	LatenessBound  int64            `json:"lateness_bound_ns"`
	LatenessAsked  int64            `json:"lateness_asked_ns"`
	LatenessJudged string           `json:"lateness_judged"`
	Overflow       int64            `json:"overflow"`      // values clamped, in all histograms
	Stray          int64            `json:"stray_replies"` // late, doubled or never asked
	Errors         map[string]int64 `json:"errors"`        // count by kind, bounded
	Intervals      []Interval       `json:"intervals"`     // by time of recording
	Notes          []string         `json:"notes"`
	Nodes          []Node           `json:"nodes,omitempty"` // of a merged result
	// Histograms holds the distributions as histogram.Encode writes them.
	Histograms map[string][]byte `json:"-"`
}

// bothEnds combines two.
func bothEnds(a, b string) string {
	switch {
	case a == "" || a == b:
		return b
	case b == "":
		return a
	}
	return EndsMixed
}

// Geometry is that of every histogram of a result.
type Geometry struct {
	Lowest  int64 `json:"lowest_ns"`
	Highest int64 `json:"highest_ns"`
	Digits  int   `json:"digits"`
}

// geometry is the only one that this program records in.
var geometry = Geometry{histogram.Lowest, histogram.Highest, histogram.Digits}

// Counts is where every arrival went: scheduled = ok + error + timeout + unsent.
type Counts struct {
	Scheduled int64 `json:"scheduled"`
	OK        int64 `json:"ok"`
	Error     int64 `json:"error"`
	Timeout   int64 `json:"timeout"`
	Unsent    int64 `json:"unsent"`
}

// sent returns how many arrivals were started.
func (c Counts) sent() int64 { return c.OK + c.Error + c.Timeout }

func (c Counts) plus(o Counts) Counts {
	return Counts{c.Scheduled + o.Scheduled, c.OK + o.OK, c.Error + o.Error, c.Timeout + o.Timeout, c.Unsent + o.Unsent}
}

// Quantiles summarises one histogram, in nanoseconds.
type Quantiles struct {
	Count int64   `json:"count"`
	Mean  float64 `json:"mean_ns"`
	P50   int64   `json:"p50_ns"`
	P75   int64   `json:"p75_ns"`
	P90   int64   `json:"p90_ns"`
	P95   int64   `json:"p95_ns"`
	P99   int64   `json:"p99_ns"`
	P999  int64   `json:"p999_ns"`
	Max   int64   `json:"max_ns"`
}

func summarise(h *histogram.Histogram) Quantiles {
	return Quantiles{
		Count: h.Count(), Mean: h.Mean(), Max: h.Max(),
		P50: h.Quantile(0.5), P75: h.Quantile(0.75), P90: h.Quantile(0.9),
		P95: h.Quantile(0.95), P99: h.Quantile(0.99), P999: h.Quantile(0.999),
	}
}

// result closes the accounts and builds the result of a played schedule. Every
// goroutine that records has ended.
func (e *engine) result(p Played, host Host) (*Result, error) {
	r, err := e.assemble(p, e.closeAccounts(), host)
	if err != nil {
		return nil, err
	}
	r.Model = ModelOpen
	r.Notes = pacerNotes(e.pacer)
	return r, nil
}

// assemble builds the result from what was recorded.
func (e *engine) assemble(p Played, unsent *histogram.Histogram, host Host) (*Result, error) {
	intervals, err := e.ledger.finish(e.endAt - e.t0)
	if err != nil {
		return nil, err
	}
	l := e.ledger
	pacer := histogram.New()
	e.pacerLateness.Drain(pacer)
	hists := map[string]*histogram.Histogram{PacerLateness: pacer, UnsentWait: unsent}
	for name, h := range l.totals {
		hists[name] = h
	}
	r := &Result{
		Version: e.opt.Version, Start: e.startAt, Schedule: p, Segment: e.opt.Segment,
		Geometry: geometry, Clock: e.opt.Clock, Host: host,
		Counts:  Counts{OK: l.counts[outcomeOK], Error: l.counts[outcomeError], Timeout: l.counts[outcomeTimeout], Unsent: unsent.Count()},
		Reasons: []Reason{}, Errors: l.kinds.all(), Intervals: intervals, Notes: []string{},
		LatenessAsked: int64(e.opt.LatenessBound),
	}
	if r.Counts.Scheduled = e.n; e.n == 0 {
		r.Counts.Scheduled = p.Count // of a closed model: what was begun
	}
	last := int64(0)
	for _, s := range l.shards {
		r.Stray += s.stray.Load()
		last = max(last, s.last.Load())
	}
	r.Elapsed = max(p.Duration, last-e.t0)
	return r, r.fill(hists)
}

// closeAccounts turns what is still in flight into timeouts and returns how
// long each arrival that was never sent had waited.
func (e *engine) closeAccounts() (unsent *histogram.Histogram) {
	unsent = histogram.New()
	if e.finished.Load() == e.n {
		return unsent
	}
	rest, from := e.recorder(), e.owned()
	for j := range e.n {
		offset, _ := from.next()
		switch start := e.table.start(j); start {
		case slotFinished:
		case slotUnsent:
			unsent.Record(max(e.endAt-e.t0-offset, 0))
		default:
			// finish shortens the time to the timeout if that came first. A
			// start can be later than endAt by the time it took to stop.
			e.finish(rest, j, max(start, e.endAt), outcomeTimeout, "")
		}
	}
	return unsent
}

// fill adds what is read from the histograms.
func (r *Result) fill(hists map[string]*histogram.Histogram) (err error) {
	r.Quantiles = make(map[string]Quantiles, len(hists))
	if r.Histograms, err = encodeAll(hists); err != nil {
		return err
	}
	for name, h := range hists {
		r.Quantiles[name] = summarise(h)
		if name != ResponseOK { // counted in ResponseAll
			r.Overflow += h.Overflow()
		}
	}
	r.rate()
	return nil
}

// rate sets AchievedRate.
func (r *Result) rate() { r.AchievedRate = float64(r.Counts.OK) / time.Duration(r.Elapsed).Seconds() }
