package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/assay-bench/assay/results/histogram"
	"github.com/google/go-cmp/cmp"
)

// TestMain gives the pacer the spare processor that the engine asks for: with
// none it waits for its turn behind the test servers.
func TestMain(m *testing.M) {
	runtime.GOMAXPROCS(runtime.NumCPU() + 1)
	os.Exit(m.Run())
}

func constant(rate float64, d time.Duration) Schedule {
	return Schedule{Kind: Const, Rate: rate, Duration: d}
}

// play runs and checks what must hold for every result: load/pacer/lateness, that
// every sent arrival has one, is among it.
func play(t *testing.T, ctx context.Context, s Schedule, via Via, opt Options) *Result {
	t.Helper()
	opt.HostLimit = 1 // other tests take the processors
	r, err := Run(ctx, s, via, opt)
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(r.Reasons, ReasonAccounting) || r.Counts.sent()+r.Counts.Unsent != r.Counts.Scheduled {
		t.Errorf("accounts do not add up: %+v, quantiles %+v", r.Counts, r.Quantiles)
	}
	if late := r.Quantiles[Lateness].Count; late != r.Counts.sent() {
		t.Errorf("%d arrivals were sent, %d have a lateness", r.Counts.sent(), late)
	}
	if r.Valid != (len(r.Reasons) == 0) {
		t.Errorf("valid %v with reasons %v", r.Valid, r.Reasons)
	}
	if want := Digest(slices.Values(mustOffsets(t, s))); r.Schedule.Digest != want {
		t.Errorf("digest %s, want %s", r.Schedule.Digest, want)
	}
	for name, q := range r.Quantiles {
		h, err := histogram.Decode(r.Histograms[name])
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if d := cmp.Diff(q, summarise(h)); d != "" {
			t.Errorf("%s: quantiles and histogram differ (-quantiles +histogram):\n%s", name, d)
		}
	}
	if len(r.Quantiles) != 6 {
		t.Errorf("%d histograms, want 6", len(r.Quantiles))
	}
	return r
}

func wantCounts(t *testing.T, r *Result, want Counts) {
	t.Helper()
	if d := cmp.Diff(want, r.Counts); d != "" {
		t.Errorf("counts (-want +got):\n%s\nerrors: %v, notes: %v", d, r.Errors, r.Notes)
	}
}

// load/account/sum, load/record/timeouts-count
// Row load/pacer/lateness is held by play, as in every test here.
func TestEveryOutcomeIsCounted(t *testing.T) {
	const n = 400
	mixed := func(_ int, id uint64, send reply) bool {
		switch id % 20 {
		case 3: // dropped: a timeout
		case 7, 11:
			send(id, flagRefused)
		case 13: // doubled, and one nobody asked for
			send(id, flagOK)
			send(id, flagOK)
			send(math.MaxUint64-id, flagOK)
		default:
			send(id, flagOK)
		}
		return true
	}
	want := Counts{Scheduled: n, OK: n * 17 / 20, Error: n * 2 / 20, Timeout: n / 20}
	opt := Options{Timeout: time.Second, LatenessBound: time.Hour}
	for _, wrapped := range []bool{false, true} {
		t.Run(fmt.Sprintf("wrapped=%v", wrapped), func(t *testing.T) {
			t.Parallel()
			s := serve(t, mixed)
			m := s.mux(3)
			if wrapped {
				m.Dial = dialWrapped
			}
			r := play(t, t.Context(), constant(1000, n*time.Millisecond), m, opt)
			wantCounts(t, r, want)
			if !r.Valid {
				t.Errorf("INVALID: %v", r.Reasons)
			}
			if s.seen.Load() != n {
				t.Errorf("server saw %d of %d", s.seen.Load(), n)
			}
			if r.Stray != 2*n/20 {
				t.Errorf("%d stray replies, want %d", r.Stray, 2*n/20)
			}
			if d := cmp.Diff(map[string]int64{"refused by the server": want.Error}, r.Errors); d != "" {
				t.Errorf("errors (-want +got):\n%s", d)
			}
			if p99 := r.Quantiles[ResponseAll].P99; p99 < int64(opt.Timeout) {
				t.Errorf("5 %% of timeouts, but p99 of all is %d", p99)
			}
			if q := r.Quantiles[Service]; q.Max > int64(opt.Timeout)*1001/1000 {
				t.Errorf("service max %d exceeds the timeout", q.Max)
			}
		})
	}
}

func TestPoolOutcomes(t *testing.T) {
	t.Parallel()
	const n = 300
	p := repeat(func(ctx context.Context, id uint64) error {
		switch id % 10 {
		case 1:
			return errors.New("no luck")
		case 2:
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}, 40)
	r := play(t, t.Context(), constant(3000, n*time.Second/3000), p,
		Options{Timeout: time.Second, Drain: 5 * time.Second, LatenessBound: time.Hour})
	wantCounts(t, r, Counts{Scheduled: n, OK: n * 8 / 10, Error: n / 10, Timeout: n / 10})
	if d := cmp.Diff(map[string]int64{"no luck": n / 10}, r.Errors); d != "" {
		t.Errorf("errors (-want +got):\n%s", d)
	}
	if !r.Valid || r.Mode != "workers" {
		t.Errorf("mode %s, reasons %v", r.Mode, r.Reasons)
	}
}

// frozen returns a handler that answers at once, except that from request
// `from` on it holds every reply for `freeze`.
func frozen(from uint64, freeze time.Duration) handler {
	var once sync.Once
	thaw := make(chan struct{})
	return func(_ int, id uint64, send reply) bool {
		if id >= from {
			once.Do(func() { time.AfterFunc(freeze, func() { close(thaw) }) })
			<-thaw
		}
		send(id, flagOK)
		return true
	}
}

// load/record/from-intended, load/dispatch/no-drop: one freeze in a run hits few
// requests of a small pool but a fifth of the arrivals.
func TestOmissionIsVisible(t *testing.T) {
	const n = 500
	s := serve(t, frozen(n/2, 400*time.Millisecond))
	r := play(t, t.Context(), constant(500, time.Second), s.pool(t, 4), Options{LatenessBound: time.Hour})
	wantCounts(t, r, Counts{Scheduled: n, OK: n})
	response, service := r.Quantiles[ResponseOK], r.Quantiles[Service]
	if response.P95 < 3*service.P95 {
		t.Errorf("response p95 %d is not well above service p95 %d", response.P95, service.P95)
	}
	if response.P95 < int64(150*time.Millisecond) {
		t.Errorf("response p95 %d: two fifths of the run stood still for 400 ms", response.P95)
	}
	if late := r.Quantiles[Lateness].P95; late < response.P95/2 {
		t.Errorf("lateness p95 %d does not show the queue (response p95 %d)", late, response.P95)
	}
	if s.seen.Load() != n {
		t.Errorf("server saw %d of %d", s.seen.Load(), n)
	}
}

// load/dispatch/async: a mux keeps sending while replies are held back.
func TestMuxKeepsManyInFlight(t *testing.T) {
	const n = 300
	var held []uint64
	hold := func(_ int, id uint64, send reply) bool {
		held = append(held, id)
		if len(held) == n {
			for _, id := range slices.Backward(held) { // out of order, too
				send(id, flagOK)
			}
		}
		return true
	}
	r := play(t, t.Context(), constant(1000, n*time.Millisecond), serve(t, hold).mux(1), Options{LatenessBound: time.Hour})
	wantCounts(t, r, Counts{Scheduled: n, OK: n}) // no reply came before request n
}

// load/pacer/never-blocks: one of two connections stops reading. A pacer that
// waits for its socket would never hand the last arrival over.
func TestFullSocketDoesNotBlockThePacer(t *testing.T) {
	const n, pad = 600, 64 << 10
	for _, wrapped := range []bool{false, true} {
		t.Run(fmt.Sprintf("wrapped=%v", wrapped), func(t *testing.T) {
			t.Parallel()
			quit := make(chan struct{})
			s := serve(t, func(_ int, id uint64, send reply) bool {
				if id%2 == 1 {
					<-quit
					return false
				}
				send(id, flagOK)
				return true
			})
			t.Cleanup(func() { close(quit) })
			m := s.mux(2)
			m.Codec = frames{pad: pad}
			if wrapped {
				m.Dial = dialWrapped
			}
			r := play(t, t.Context(), constant(2000, n*time.Second/2000), m,
				Options{Timeout: time.Minute, Drain: 2 * time.Second, LatenessBound: time.Hour})
			if r.Counts.OK != n/2 {
				t.Errorf("%d of %d requests of the reading connection were ok: %+v", r.Counts.OK, n/2, r.Counts)
			}
			if r.Counts.Unsent == 0 || r.Counts.Timeout == 0 || !slices.Contains(r.Reasons, ReasonUnsent) {
				t.Errorf("a connection stopped reading, but counts are %+v, reasons %v", r.Counts, r.Reasons)
			}
			pacer, wait := r.Quantiles[PacerLateness], r.Quantiles[UnsentWait]
			if pacer.Count != n || pacer.P50 > wait.P50/2 {
				t.Errorf("pacer handed %d of %d over, p50 late by %d ns; unsent waited %d ns", pacer.Count, n, pacer.P50, wait.P50)
			}
		})
	}
}

// A socket that is full for a while: the outbox sends everything, in order, and
// the start is when the bytes went in.
func TestOutboxDrains(t *testing.T) {
	t.Parallel()
	const n, pad = 400, 64 << 10
	allHanded := make(chan struct{})
	var last uint64
	s := serve(t, func(_ int, id uint64, send reply) bool {
		<-allHanded
		if id != 0 && id != last+1 {
			t.Errorf("request %d after %d", id, last)
		}
		last = id
		send(id, flagOK)
		return true
	})
	m := s.mux(1)
	m.Codec = frames{pad: pad}
	var once sync.Once
	r := play(t, t.Context(), constant(2000, n*time.Second/2000), m, Options{
		LatenessBound: time.Hour,
		Progress: func(p Progress) {
			if p.Handed == n {
				once.Do(func() { close(allHanded) })
			}
		},
	})
	wantCounts(t, r, Counts{Scheduled: n, OK: n})
	// The look came a second after the start, most arrivals were due in the
	// first fifth of it and did not fit into the socket.
	late, pacer := r.Quantiles[Lateness], r.Quantiles[PacerLateness]
	if late.P75 < int64(700*time.Millisecond) || late.Mean <= pacer.Mean {
		t.Errorf("lateness %+v, pacer %+v: the wait for the socket does not show", late, pacer)
	}
}

func TestLostConnectionMakesErrors(t *testing.T) {
	const n = 400
	for name, c := range map[string]struct {
		end  func(id uint64, send reply) bool
		kind string
	}{
		"closed":  {func(uint64, reply) bool { return false }, ""},
		"garbage": {func(id uint64, send reply) bool { send(id, flagGarbage); return true }, "malformed reply: garbage"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, func(_ int, id uint64, send reply) bool {
				if id == 101 {
					return c.end(id, send)
				}
				send(id, flagOK)
				return true
			})
			r := play(t, t.Context(), constant(2000, n*time.Second/2000), s.mux(2), Options{LatenessBound: time.Hour})
			if r.Counts.OK < n/2 || r.Counts.Error < 100 || r.Counts.Timeout+r.Counts.Unsent != 0 {
				t.Errorf("one of two connections lost at a quarter: %+v", r.Counts)
			}
			if c.kind != "" && r.Errors[c.kind] != r.Counts.Error {
				t.Errorf("errors %v, want %d of %q", r.Errors, r.Counts.Error, c.kind)
			}
			if len(r.Errors) == 0 || len(r.Errors) > 3 {
				t.Errorf("kinds of errors: %v", r.Errors)
			}
		})
	}
}

// load/account/unsent
func TestInterrupt(t *testing.T) {
	t.Parallel() // mostly waiting
	const n = 10_000
	for name, via := range map[string]func(t *testing.T, cancel func()) Via{
		"mux": func(t *testing.T, cancel func()) Via {
			return serve(t, func(_ int, id uint64, send reply) bool {
				if id == 100 {
					cancel()
				}
				return echo(0, id, send)
			}).mux(2)
		},
		"pool": func(t *testing.T, cancel func()) Via {
			return repeat(func(ctx context.Context, id uint64) error {
				if id == 100 {
					cancel()
				}
				if id > 80 { // the queue fills up behind these
					<-ctx.Done()
				}
				return ctx.Err()
			}, 30)
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			begin := time.Now()
			r := play(t, ctx, constant(500, n*2*time.Millisecond), via(t, cancel), Options{LatenessBound: time.Hour})
			if r.Counts.Scheduled != n || r.Counts.Unsent == 0 {
				t.Errorf("interrupted: %+v", r.Counts)
			}
			if d := cmp.Diff([]Reason{ReasonUnsent, ReasonInterrupted}, r.Reasons); d != "" || r.Valid {
				t.Errorf("valid %v, reasons (-want +got):\n%s", r.Valid, d)
			}
			if e := time.Since(begin); e > 10*time.Second {
				t.Errorf("an interrupted run of 20 s took %v", e)
			}
		})
	}
}

func TestCancelledBeforeTheStart(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := play(t, ctx, constant(100, time.Second), repeat(func(context.Context, uint64) error { return nil }, 1), Options{})
	wantCounts(t, r, Counts{Scheduled: 100, Unsent: 100})
}

// The drain limit ends a run whose queue is not empty.
func TestDrainLimit(t *testing.T) {
	r := play(t, t.Context(), constant(1000, 100*time.Millisecond), repeat(func(ctx context.Context, _ uint64) error {
		<-ctx.Done()
		return ctx.Err()
	}, 3), Options{Timeout: time.Minute, Drain: 50 * time.Millisecond, LatenessBound: time.Hour})
	wantCounts(t, r, Counts{Scheduled: 100, Timeout: 3, Unsent: 97})
	if d := cmp.Diff([]Reason{ReasonUnsent}, r.Reasons); d != "" {
		t.Errorf("reasons (-want +got):\n%s", d)
	}
}

// load/record/overflow: the clock jumps two hours during a call.
func TestOverflowIsInvalid(t *testing.T) {
	var jump atomic.Int64
	real := monotonic()
	opt := Options{Timeout: time.Hour, LatenessBound: time.Hour, now: func() int64 { return real() + jump.Load() }}
	r := play(t, t.Context(), constant(10, time.Second), repeat(func(_ context.Context, id uint64) error {
		if id == 2 {
			jump.Store(int64(2 * time.Hour))
		}
		return nil
	}, 1), opt)
	if !slices.Contains(r.Reasons, ReasonOverflow) || r.Overflow == 0 {
		t.Errorf("overflow %d, reasons %v", r.Overflow, r.Reasons)
	}
	if r.Counts.sent() != 10 {
		t.Errorf("clamped samples are lost: %+v", r.Counts)
	}
}

func TestJudge(t *testing.T) {
	good := func() *Result {
		q := Quantiles{Count: 8, P99: 1000}
		r := &Result{
			Model:  ModelOpen,
			Counts: Counts{Scheduled: 8, OK: 5, Error: 2, Timeout: 1},
			Quantiles: map[string]Quantiles{
				ResponseOK: {Count: 5}, ResponseAll: q, Service: q, Lateness: {Count: 8, P99: 10},
				PacerLateness: {Count: 8, P99: 5}, UnsentWait: {},
			},
			Intervals: []Interval{{Count: 3}, {Count: 5}},
		}
		return r
	}
	set := func(r *Result, name string, q Quantiles) { r.Quantiles[name] = q }
	cases := map[string]struct {
		edit func(*Result, *gate)
		want []Reason
	}{
		"good":        {func(*Result, *gate) {}, nil},
		"sum":         {func(r *Result, _ *gate) { r.Counts.Scheduled++ }, []Reason{ReasonAccounting}},
		"response ok": {func(r *Result, _ *gate) { set(r, ResponseOK, Quantiles{Count: 4}) }, []Reason{ReasonAccounting}},
		"service":     {func(r *Result, _ *gate) { set(r, Service, Quantiles{Count: 4}) }, []Reason{ReasonAccounting}},
		"intervals":   {func(r *Result, _ *gate) { r.Intervals = r.Intervals[1:] }, []Reason{ReasonAccounting}},
		"handed":      {func(_ *Result, g *gate) { g.handed-- }, []Reason{ReasonAccounting}},
		"unsent": {func(r *Result, _ *gate) {
			r.Counts.Scheduled++
			r.Counts.Unsent++
			set(r, UnsentWait, Quantiles{Count: 1})
		}, []Reason{ReasonUnsent}},
		"late by 1 %":      {func(r *Result, _ *gate) { set(r, Lateness, Quantiles{Count: 8, P99: 11}) }, []Reason{ReasonLateness}},
		"late but bounded": {func(r *Result, _ *gate) { set(r, Lateness, Quantiles{Count: 8, P99: 11}); r.LatenessAsked = 11 }, nil},
		"pool declared":    {func(r *Result, g *gate) { set(r, Lateness, Quantiles{Count: 8, P99: 11}); g.opt.BoundedPool = true }, nil},
		"pacer late": {func(r *Result, g *gate) {
			set(r, PacerLateness, Quantiles{Count: 8, P99: 11})
			g.opt.BoundedPool = true
		}, []Reason{ReasonLateness}},
		"host steals":  {func(r *Result, _ *gate) { r.Host.Steal = 0.6 }, []Reason{ReasonHost}},
		"host waits":   {func(r *Result, _ *gate) { r.Host.Waited = 0.6 }, []Reason{ReasonHost}},
		"host suffers": {func(r *Result, _ *gate) { r.Host.Waited = 0.4 }, nil},
		"overflow":     {func(r *Result, _ *gate) { r.Overflow = 1 }, []Reason{ReasonOverflow}},
		"interrupted":  {func(_ *Result, g *gate) { g.interrupted = true }, []Reason{ReasonInterrupted}},
	}
	if len(cases) == 0 {
		t.Fatal("no cases: this test proves nothing")
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r, g := good(), gate{handed: 8, opt: Options{HostLimit: DefaultHostLimit}}
			c.edit(r, &g)
			r.judge(g)
			if d := cmp.Diff(append([]Reason{}, c.want...), r.Reasons); d != "" || r.Valid != (len(c.want) == 0) {
				t.Errorf("valid %v, reasons (-want +got):\n%s", r.Valid, d)
			}
		})
	}
}

func TestIntervalsAndProgress(t *testing.T) {
	t.Parallel() // mostly waiting
	const n = 260
	s := serve(t, func(_ int, id uint64, send reply) bool { send(id, id%10/9); return true })
	var looks []Progress
	r := play(t, t.Context(), constant(200, n*5*time.Millisecond), s.mux(1),
		Options{LatenessBound: time.Hour, Progress: func(p Progress) { looks = append(looks, p) }})
	var count, failed int64
	for i, v := range r.Intervals {
		count, failed = count+v.Count, failed+v.Errors
		if v.Start != int64(i)*second || v.Width != second || v.P50 > v.P99 || v.Count > 0 && v.P50 <= 0 {
			t.Errorf("interval %d: %+v", i, v)
		}
	}
	if count != n || failed != n/10 || len(r.Intervals) < 2 {
		t.Errorf("%d intervals with %d ends and %d errors, want at least 2 with %d and %d", len(r.Intervals), count, failed, n, n/10)
	}
	if len(looks) == 0 {
		t.Fatal("no progress in more than a second")
	}
	if p := looks[0]; p.Scheduled != n || p.Elapsed <= 0 || p.OK+p.Errors+p.Timeouts > p.Handed {
		t.Errorf("progress %+v", p)
	}
}

func TestResultIsJSON(t *testing.T) {
	r := play(t, t.Context(), constant(1000, 10*time.Millisecond), repeat(func(context.Context, uint64) error { return nil }, 2), Options{LatenessBound: time.Hour})
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back Result
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	back.Histograms, back.Start = r.Histograms, r.Start
	for i := range back.Intervals {
		back.Intervals[i].Histograms = r.Intervals[i].Histograms
	}
	if d := cmp.Diff(r, &back); d != "" {
		t.Errorf("through JSON (-want +got):\n%s", d)
	}
	if strings.Contains(string(text), "null") {
		t.Errorf("result has a null: %s", text)
	}
	if runtime.GOOS == "linux" && !strings.Contains(r.Notes[0], "clock_nanosleep") {
		t.Errorf("notes %q do not name the pacer", r.Notes)
	}
}

func TestRunRefuses(t *testing.T) {
	calls := repeat(func(context.Context, uint64) error { return nil }, 1)
	closed := serve(t, echo)
	cases := map[string]struct {
		s   Schedule
		via Via
		opt Options
	}{
		"rate 0":          {constant(0, time.Second), calls, Options{}},
		"timeout -1s":     {constant(1, time.Second), calls, Options{Timeout: -time.Second}},
		"timeout 2h":      {constant(1, time.Second), calls, Options{Timeout: 2 * time.Hour}},
		"drain -1s":       {constant(1, time.Second), calls, Options{Drain: -time.Second}},
		"lateness bound":  {constant(1, time.Second), calls, Options{LatenessBound: -1}},
		"0 workers":       {constant(1, time.Second), &Pool{}, Options{}},
		"0 connections":   {constant(1, time.Second), closed.mux(0), Options{}},
		"dial connection": {constant(1, time.Second), &Mux{Codec: frames{}, Dial: dialTCP, Addr: "127.0.0.1:0", Conns: 1}, Options{}},
	}
	if len(cases) == 0 {
		t.Fatal("no cases: this test proves nothing")
	}
	for want, c := range cases {
		if r, err := Run(t.Context(), c.s, c.via, c.opt); r != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: result %v, error %v", want, r, err)
		}
	}
}

// A caller that ignores its context costs the result, not the process.
func TestCallThatNeverReturns(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	stuck := repeat(func(context.Context, uint64) error { <-release; return nil }, 1)
	r, err := Run(t.Context(), constant(100, 50*time.Millisecond), stuck,
		Options{Timeout: time.Millisecond, abandon: 20 * time.Millisecond})
	if r != nil || err == nil || !strings.Contains(err.Error(), "calls still running 20ms") {
		t.Errorf("result %v, error %v", r, err)
	}
}

// oddCodec answers Reply as told.
type oddCodec struct {
	frames
	n func(buf []byte) int
}

func (o oddCodec) Reply(buf []byte) (int, uint64, bool, error) { return o.n(buf), 0, true, nil }

func TestOddRepliesEndTheConnection(t *testing.T) {
	cases := map[string]struct {
		n       func(buf []byte) int
		replies int
	}{
		"codec took -1 of":              {func([]byte) int { return -1 }, 1},
		"codec took ":                   {func(buf []byte) int { return len(buf) + 1 }, 1},
		"reply of more than 1048576 by": {func([]byte) int { return 0 }, maxReplySize/frameSize + 1},
	}
	if len(cases) == 0 {
		t.Fatal("no cases: this test proves nothing")
	}
	for want, c := range cases {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			s := serve(t, func(_ int, id uint64, send reply) bool {
				for range c.replies {
					send(id, flagOK)
				}
				return true
			})
			m := s.mux(1)
			m.Codec = oddCodec{n: c.n}
			r := play(t, t.Context(), constant(100, 30*time.Millisecond), m, Options{LatenessBound: time.Hour})
			wantCounts(t, r, Counts{Scheduled: 3, Error: 3})
			if len(r.Errors) != 1 {
				t.Errorf("errors %v, want one kind", r.Errors)
			}
			for kind := range r.Errors {
				if !strings.HasPrefix(kind, want) {
					t.Errorf("error %q, want %q", kind, want)
				}
			}
		})
	}
}

// load/record/memory: pages go when their arrivals have ended.
func TestTablePagesRetire(t *testing.T) {
	const n = 3*pageSize + 10
	tab := newTable(n)
	ended := int64(0)
	for j := range int64(n) {
		if tab.start(j) != slotUnsent {
			t.Fatalf("arrival %d is not unsent", j)
		}
		if j%pageSize == 0 {
			p := new(page)
			for slot := range p.offsets {
				p.offsets[slot] = 7 * (j + int64(slot))
			}
			tab.put(j/pageSize, p)
		}
		if _, _, _, ok := tab.finish(j); ok {
			t.Fatalf("arrival %d ended before it began", j)
		}
		tab.stamp(j, j+1)
		tab.unstamp(j)
		tab.stamp(j, j+2)
		offset, start, over, ok := tab.finish(j)
		if !ok || start != j+2 || offset != 7*j {
			t.Fatalf("finish(%d) = %d, %d, %v", j, offset, start, ok)
		}
		if ended += over; (over > 0) != (ended == j+1) {
			t.Fatalf("with arrival %d %d are over, %d in all", j, over, ended)
		}
		tab.unstamp(j) // too late: must change nothing
		tab.stamp(j, 9)
		if _, _, _, ok := tab.finish(j); ok || tab.start(j) != slotFinished {
			t.Fatalf("arrival %d ended twice", j)
		}
	}
	for i := range tab.pages {
		if tab.pages[i].Load() != tab.retired {
			t.Errorf("page %d is kept", i)
		}
	}
}

// hostile fails as a peer may: with a text of any length and any bytes.
type hostile string

func (h hostile) Call(context.Context, uint64) error { return errors.New(string(h)) }

// A result whose errors a peer has worded can be read again.
func TestWordsOfAPeerCanBeRead(t *testing.T) {
	for _, text := range []string{strings.Repeat("é", 300), strings.Repeat("\xff", 300), "\x1b[2J\x00", ""} {
		r := play(t, t.Context(), constant(1000, 10*time.Millisecond), &Pool{Callers: []Caller{hostile(text)}}, Options{})
		raw, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Decode(raw)
		if err != nil {
			t.Errorf("%.10q: %v", text, err)
		} else if d := cmp.Diff(r.Errors, again.Errors); d != "" {
			t.Errorf("%.10q (-written +read):\n%s", text, d)
		}
	}
}

func TestErrorKindsAreBounded(t *testing.T) {
	var kinds errorKinds
	r := newRecorder(&kinds)
	for i := range 1000 {
		r.add(0, 0, 1, outcomeError, strings.Repeat("x", i))
	}
	if all := kinds.all(); len(all) != maxKinds+1 || all[otherKind] != 1000-maxKinds {
		t.Errorf("%d kinds, %d other", len(all), all[otherKind])
	}
	worded := errorKinds{}
	for _, text := range []string{strings.Repeat("y", 1000), strings.Repeat("é", 100) + "x", strings.Repeat("\xff", 200), "\x1b[2Jgone", ""} {
		worded.add(text, 1)
	}
	for kind := range worded.all() {
		if len(kind) > maxKindText || !utf8.ValidString(kind) || strings.ContainsRune(kind, '\x1b') {
			t.Errorf("kind %q of %d bytes", kind, len(kind))
		}
	}
	if got := errorKind(io.ErrUnexpectedEOF); got != "unexpected EOF" {
		t.Errorf("kind %q", got)
	}
	_, err := dialTCP(t.Context(), "127.0.0.1:0")
	if got := errorKind(err); got != "dial: connection refused" {
		t.Errorf("kind %q of %v", got, err)
	}
}
