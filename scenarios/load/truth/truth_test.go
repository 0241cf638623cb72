package truth

import (
	"bytes"
	"cmp"
	"context"
	"encoding/gob"
	"math"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/assay-bench/assay/results/histogram"
	"github.com/assay-bench/assay/scenarios/load"
)

// serverEnv makes this test binary a truth server: the generator and the server
// must not share a process.
const serverEnv = "ASSAY_TEST_TRUTH_SERVER"

func TestMain(m *testing.M) {
	runtime.GOMAXPROCS(runtime.NumCPU() + 1)
	if slower, ok := os.LookupEnv(serverEnv); ok {
		d, err := time.ParseDuration(slower)
		if err == nil {
			err = Main(os.Stdin, os.Stdout, d)
		}
		if err != nil {
			println(err.Error())
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, addr)
}

func matrix(slower string) *Matrix {
	return &Matrix{Dial: dial, Argv: []string{os.Args[0]}, Env: []string{serverEnv + "=" + slower}, Host: "test host", Version: "test"}
}

func cells(t *testing.T, p Plan) []Cell {
	t.Helper()
	list, err := p.Cells()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// The table of the published truth: 500 arrivals a second, constant, averaged
// over the phases of the freeze.
func TestTruthTable(t *testing.T) {
	const ms = 1e6
	cases := []struct {
		rule    Rule
		workers int
		mean    float64
		levels  []float64 // p50, p75, p90, p95, p99, p99.9 in ms; 0: a corner
	}{
		{Stall, 0, 11.0, []float64{1, 1, 0, 101, 181, 199.05}},
		{Stall, 20, 11.2, []float64{1, 1, 0, 103, 181, 199}},
		{FIFO, 0, 20.9, []float64{1, 1, 100.5, 150.5, 190.5, 199.55}},
		{Exp, 0, 10, []float64{6.93, 13.86, 23.03, 29.96, 46.05, 69.08}},
		{Heavy, 0, 3.30, []float64{2, 3.93, 7.20, 10.36, 20.48, 43.96}},
	}
	const phases = 40
	for _, c := range cases {
		var all []int64
		for phase := range int64(phases) {
			var intended []int64
			for k := range int64(4000) {
				intended = append(intended, k*2_000_000)
			}
			epoch := phase * period / phases
			// Whole cycles only: what the first cycle inherits is not there yet.
			all = append(all, responses(newDelays(c.rule, epoch, uint64(2000+phase)), intended, c.workers)[1000:]...)
		}
		got, corner := shapeOf(all), corners(all)
		tolerance := 0.01
		if c.rule == Exp || c.rule == Heavy {
			tolerance = 0.05 // draws
		}
		if math.Abs(got.Mean/ms/c.mean-1) > tolerance {
			t.Errorf("%s, %d workers: mean %.2f ms, want %.2f", c.rule, c.workers, got.Mean/ms, c.mean)
		}
		for i, want := range c.levels {
			if corner[i] != (want == 0) {
				t.Errorf("%s, %d workers: p%v is a corner: %v", c.rule, c.workers, 100*Levels()[i], corner[i])
			}
			if want != 0 && math.Abs(got.Levels[i]/ms/want-1) > tolerance {
				t.Errorf("%s, %d workers: p%v is %.2f ms, want %.2f", c.rule, c.workers, 100*Levels()[i], got.Levels[i]/ms, want)
			}
		}
	}
}

// load/truth/detects: a generator that times from the send is caught, by the
// very cell that the engine passes.
func TestTimingFromSendIsCaught(t *testing.T) {
	list := cells(t, Plan{Quick: true, Duration: 2 * time.Second, Patterns: []string{"assay/stall/const/starved/tcp"}})
	m := matrix("0s")
	m.FromSend = true
	p95 := func(r Rep) float64 { return r.Errors[1+slices.Index(Levels(), 0.95)] }
	var rep Rep
	// a server that gets no processor is slow for this clock, too: on a busy host once more
	for try := 0; try < 4 && (try == 0 || p95(rep) > -0.8); try++ {
		r, err := m.Run(t.Context(), list, 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		rep = slices.MinFunc(r.Cells[0].Reps, func(a, b Rep) int { return cmp.Compare(p95(a), p95(b)) })
	}
	if got := p95(rep); got > -0.8 {
		t.Errorf("p95 error %+.1f %%, want about -98 %%", 100*got)
	}
	v := list[0].judge([]Rep{{Valid: true, Truth: rep.Truth, Corners: rep.Corners, Errors: rep.Errors}}, 1)
	if len(v.Broken) == 0 {
		t.Errorf("no bound is broken: %+v", v)
	}
}

// load/truth/self-check: a server that is late by 3 ms says so itself, and the
// cell is void.
func TestSlowServerVoidsTheCell(t *testing.T) {
	list := cells(t, Plan{Quick: true, Duration: 2 * time.Second, Patterns: []string{"assay/exp/const/ample/tcp"}})
	r, err := matrix("3ms").Run(t.Context(), list, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := r.Cells[0]
	if len(c.Reps) != tries || c.Verdict.Decided || c.Verdict.Voided != tries {
		t.Errorf("%d repetitions, verdict %+v: a late server decides nothing", len(c.Reps), c.Verdict)
	}
	for _, rep := range c.Reps {
		if !slices.Contains(rep.Reasons, load.ReasonServer) || rep.ServerError < 0.2 {
			t.Errorf("server error %.3f, reasons %v", rep.ServerError, rep.Reasons)
		}
	}
	if s := r.Summary(); len(s.Undecided) != 1 || s.Decided != 0 {
		t.Errorf("summary %+v", s)
	}
}

// load/truth/run, load/truth/starved, load/truth/bound: every protocol, ample and
// starved, ends with truth, reported value and error for each arrival. How large
// the error is depends on the machine and is judged by assay calibrate load.
func TestCellsAreMeasured(t *testing.T) {
	list := cells(t, Plan{Quick: true, Duration: 2 * time.Second, Patterns: []string{"assay/stall/const/ample/*", "assay/stall/const/starved/tcp"}})
	if len(list) != 4 {
		t.Fatalf("%d cells, want one for each of three protocols and a starved one", len(list))
	}
	m := matrix("0s")
	saved := 0
	m.Done = func(*Report, Cell, Rep) error { saved++; return nil }
	r, err := m.Run(t.Context(), list, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, c := range r.Cells {
		for _, rep := range c.Reps {
			seen++
			t.Logf("%-28s valid %-5v %v server %.3f lateness p50 %v p99 %v", c.Cell.Name(), rep.Valid, rep.Reasons, rep.ServerError, time.Duration(rep.LatenessP50), time.Duration(rep.LatenessP99))
			t.Logf("   errors %.3f", rep.Errors)
			if rep.Scheduled != 1000 || rep.Unaccounted != 0 || rep.Lost != 0 || rep.Reported.Count != 1000 {
				t.Errorf("%s: %+v", c.Cell.Name(), rep)
			}
			if err := rep.check(); err != nil {
				t.Error(err)
			}
		}
	}
	if seen < 4 || saved != seen {
		t.Fatalf("%d repetitions, %d saved", seen, saved)
	}
	raw, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := Decode(raw)
	if err != nil || len(back.Cells) != len(r.Cells) {
		t.Fatalf("read back %v, %v", back, err)
	}
	var b strings.Builder
	if err := back.Markdown(&b); err != nil || strings.Count(b.String(), "| stall/const/") != 4 {
		t.Errorf("markdown: %v\n%s", err, b.String())
	}
	t.Log(b.String())
}

// A report goes on where it stopped, but not on another host.
func TestRunGoesOn(t *testing.T) {
	list := cells(t, Plan{Quick: true, Duration: 2 * time.Second, Patterns: []string{"assay/exp/const/ample/tcp"}})
	done := Trial{Cell: list[0]}
	for range tries {
		done.Reps = append(done.Reps, Rep{Problem: "none"})
	}
	m := matrix("0s")
	m.Done = func(_ *Report, c Cell, _ Rep) error { t.Errorf("%s was measured again", c.Name()); return nil }
	earlier := &Report{Host: m.Host, Version: m.Version, Cells: []Trial{done}}
	r, err := m.Run(t.Context(), list, 1, earlier)
	if err != nil || len(r.Cells) != 1 || len(r.Cells[0].Reps) != tries {
		t.Errorf("report %+v, error %v", r, err)
	}
	earlier.Host = "another"
	if _, err := m.Run(t.Context(), list, 1, earlier); err == nil {
		t.Error("goes on from another host's report")
	}
}

// load/truth/peers, and the plan: which cells are measured, for how long.
func TestPlan(t *testing.T) {
	if n := len(cells(t, Plan{})); n != 4*2*2*3 {
		t.Errorf("%d cells, want 48", n)
	}
	if n := len(cells(t, Plan{Quick: true})); n != len(quickCells) {
		t.Errorf("%d quick cells, want %d", n, len(quickCells))
	}
	for _, c := range cells(t, Plan{Deep: true}) {
		if c.samples() < deepSamples || c.Duration%time.Duration(period) != 0 || !strings.HasSuffix(c.Name(), "/deep") {
			t.Errorf("%s: %g samples in %v", c.Name(), c.samples(), c.Duration)
		}
	}
	peers := Peers(func(program string) (string, error) { return "/bin/" + program, nil })
	if len(peers) != 6 {
		t.Fatalf("%d peers", len(peers))
	}
	names := map[string]int{}
	for _, c := range cells(t, Plan{Patterns: []string{"*/stall/const/*/*"}, Peers: peers}) {
		names[c.Tool]++
	}
	if names[Assay] != 6 || names["k6"] != 2 || names["vegeta"] != 2 || names["wrk"] != 1 || names["ghz"] != 1 || names["fortio"] != 1 || names["h2load"] != 1 {
		t.Errorf("cells by tool: %v", names)
	}
	for _, p := range []Plan{{Rate: 1}, {Duration: time.Second}, {Need: -1}, {Patterns: []string{"["}}, {Patterns: []string{"nothing"}}} {
		if _, err := p.Cells(); err == nil {
			t.Errorf("%+v is accepted", p)
		}
	}
}

func TestScore(t *testing.T) {
	want := Shape{Count: 1000, Mean: 10, Levels: []float64{1e6, 1e6, 1e6, 1e8, 2e8, 3e8}}
	rep := Rep{Truth: want, Corners: []bool{false, false, true, false, false, false}}
	rep.report(Shape{Mean: 10.1, Levels: []float64{1.05e6, 1.2e6, 5e6, 1.03e8, 2e8, 9e8}})
	at := func(p Protocol, workers int) Verdict {
		rep.Valid = true
		return Cell{Tool: Assay, Protocol: p, Workers: workers}.judge([]Rep{rep}, 1)
	}
	// The mean is below the service time of the class here; p90 is a corner,
	// p99.9 has too few samples.
	if v := at(TCP, 0); len(v.Broken) != 3 || math.Abs(v.Median-0.03) > 1e-9 {
		t.Errorf("tcp, ample: %+v", v)
	}
	if v := at(TCP, 20); len(v.Broken) != 0 {
		t.Errorf("tcp, starved: %+v", v)
	}
	if v := at(HTTP, 0); len(v.Broken) != 1 || !strings.Contains(v.Broken[0], "3.00 %") {
		t.Errorf("http: %+v", v)
	}
	rep.Unaccounted = 1
	if v := at(HTTP, 20); len(v.Broken) != 1 || !strings.Contains(v.Broken[0], "unaccounted") {
		t.Errorf("lost arrivals: %+v", v)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"format":"assay-calibration/v1","need":1,"cells":[{"cell":{"tool":"assay"},"reps":[{"valid":true}]}]}`))
	f.Add([]byte(`{"format":"assay-calibration/v1","cells":[{"reps":[{"valid":true,"truth":{"levels_ns":[1,1,1,1,1,1]},"reported":{"levels_ns":[1,1,1,1,1,1]},"corners":[true,false,true,false,true,true],"errors":[0,0,0,0,0,0,0]}]}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := Decode(raw)
		if err != nil {
			return
		}
		_ = r.Summary().String()
		if err := r.Markdown(&strings.Builder{}); err != nil {
			t.Error(err)
		}
	})
}

func FuzzReadTools(f *testing.F) {
	f.Add([]byte(`{"DurationHistogram":{"Count":5,"Avg":0.1,"Percentiles":[{"Percentile":50,"Value":1}]}}`))
	f.Add([]byte(`{"details":[{"latency":5}]}`))
	f.Add([]byte("assay 5 1 1 1 1 1 1 1\n"))
	f.Add(vegetaResults(f, 200, 503))
	f.Fuzz(func(t *testing.T, raw []byte) {
		readHits := func(raw []byte, _ string) (Shape, error) { return hits(bytes.NewReader(raw)) }
		for _, read := range []func([]byte, string) (Shape, error){readFortio, readGHZ, readWrk, readHits} {
			if s, err := read(raw, ""); err == nil && s.check() != nil {
				t.Errorf("%+v was read", s)
			}
		}
	})
}

// vegetaResults are results as vegeta writes them, with the fields that are not read.
func vegetaResults(t testing.TB, codes ...uint16) []byte {
	t.Helper()
	type Result struct {
		Attack    string
		Seq       uint64
		Code      uint16
		Timestamp time.Time
		Latency   time.Duration
		Headers   http.Header
	}
	var b bytes.Buffer
	enc := gob.NewEncoder(&b)
	for i, code := range codes {
		if err := enc.Encode(&Result{"a", uint64(i), code, time.Unix(1, 0), time.Duration(i+1) * time.Millisecond, http.Header{"A": {"b"}}}); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func TestVegetaResults(t *testing.T) {
	raw := vegetaResults(t, 200, 503, 200)
	s, err := hits(bytes.NewReader(raw))
	if err != nil || s.Count != 2 || s.Mean != 2e6 || s.Levels[0] != 1e6 || s.Levels[5] != 3e6 {
		t.Errorf("%+v, %v", s, err)
	}
	for _, bad := range [][]byte{nil, raw[:len(raw)-3], vegetaResults(t, 503)} {
		if s, err := hits(bytes.NewReader(bad)); err == nil {
			t.Errorf("%d bytes: %+v", len(bad), s)
		}
	}
}

// The server's own schedule counts where the cell is scored: what stacks do to 1 ms over HTTP is told by a dash.
func TestServerIsJudgedWhereTheCellIs(t *testing.T) {
	rep := Rep{Truth: Shape{Count: 1000, Mean: 1e7, Levels: []float64{1e6, 1e6, 1e6, 1e8, 2e8, 3e8}}, Corners: []bool{false, false, true, false, false, false}}
	for p, want := range map[Protocol][]bool{
		TCP:  {true, true, true, false, true, true, false},
		HTTP: {true, false, false, false, true, true, false},
	} {
		for i, w := range want {
			if got := (Cell{Protocol: p}).judged(&rep)(i); got != w {
				t.Errorf("%v: error %d is judged: %v, want %v", p, i, got, w)
			}
		}
	}
}

func TestStatsOwnError(t *testing.T) {
	h := histogram.New()
	h.Record(1e6)
	text, err := h.Encode()
	if err != nil {
		t.Fatal(err)
	}
	all, none := func(int) bool { return true }, Shape{Levels: make([]float64, len(Levels()))}
	if e, err := (Stats{Asked: string(text), Given: string(text)}).ownError(none, all); err != nil || e != 0 {
		t.Errorf("error %v, %v", e, err)
	}
	for _, st := range []Stats{{}, {Asked: string(text)}, {Asked: string(text), Given: "x"}} {
		if _, err := st.ownError(none, all); err == nil {
			t.Errorf("%+v has an account", st)
		}
	}
}
