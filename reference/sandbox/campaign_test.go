package sandbox

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/assay-bench/assay/fixtures/wasm"
	"github.com/assay-bench/assay/reference/sandbox/rewrite"
)

// The campaign is configured by the environment: how many executions ("1000000", or "5000+1000" to begin with
// number 5000) and the seed. Execution n of a seed is always the same module, tier and calls. A long campaign
// needs -timeout 0; with -v it says every 1,000 executions where it is.
const (
	campaignVariable = "ASSAY_SANDBOX_CAMPAIGN"
	seedVariable     = "ASSAY_SANDBOX_CAMPAIGN_SEED"
)

const (
	healthEvery   = 100
	memoryEvery   = 1_000
	campaignTime  = 2 * time.Millisecond
	campaignBytes = 512 << 20 // that the resident set may grow by
	largeModule   = 256 << 10 // such a guest takes seconds to compile and comes once in largeEvery
	largeEvery    = 5_000
)

// TestCampaign feeds the engine guests that were mutated, spliced and broken: every one is refused, or runs
// within its quota, and the neighbours notice nothing.
func TestCampaign(t *testing.T) {
	c := newCampaign(t)
	goroutines, resident := runtime.NumGoroutine(), residentBytes(t)
	c.limit = resident + campaignBytes
	began := time.Now()
	var wg sync.WaitGroup
	for worker := range c.workers {
		wg.Go(func() { c.work(worker) })
	}
	wg.Wait()
	took := time.Since(began)
	c.health(c.from + c.count)
	c.memory(c.from + c.count)
	c.accounts()
	for until := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > goroutines; runtime.Gosched() {
		if time.Now().After(until) {
			t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), goroutines)
			break
		}
	}
	if done := c.tally["executions"]; done != c.count {
		t.Errorf("%d executions, want %d", done, c.count)
	}
	if c.tally["admitted"] == 0 || c.tally["calls"] == 0 || c.tally["refused"] == 0 {
		t.Errorf("nothing was admitted, called or refused: %v", c.tally)
	}
	t.Logf("%.0f executions a second by %d workers; resident set %d MiB before, at most %d MiB at the checks",
		float64(c.count)/took.Seconds(), c.workers, resident>>20, c.most.Load()>>20)
	for _, what := range slices.Sorted(maps.Keys(c.tally)) {
		t.Logf("%-40s %d", what, c.tally[what])
	}
}

// campaign is what the workers share.
type campaign struct {
	t       *testing.T
	rig     *rig
	seed    uint64
	from    int64
	count   int64
	workers int
	guests  []seedGuest // all that are not large
	good    []seedGuest // those of them that admission takes as they are
	large   []seedGuest
	limit   int64 // of the resident set, bytes
	most    atomic.Int64
	next    atomic.Int64

	mu    sync.Mutex
	tally map[string]int64
}

// seedGuest is a fixture with its sections, none where it has no sound ones.
type seedGuest struct {
	name     string
	abi      ABI
	wasm     []byte
	sections []section
}

func newCampaign(t *testing.T) *campaign {
	t.Helper()
	c := &campaign{t: t, rig: newRig(t, Config{Models: linear43()}), seed: 1, count: 300, tally: map[string]int64{},
		workers: min(runtime.GOMAXPROCS(0), 8)}
	if raceEnabled {
		c.count = 100
	}
	c.configure()
	t.Logf("seed %d, executions %d+%d", c.seed, c.from, c.count)
	for _, f := range wasm.Guests() {
		b := wasm.Module(f.Name)
		g := seedGuest{f.Name, ABI(f.ABI), b, split(b)}
		if len(b) > largeModule {
			c.large = append(c.large, g)
			continue
		}
		c.guests = append(c.guests, g)
		if free, _ := Free.Quota(); f.Refused == "" && g.abi != Proxy && f.Pages <= free.Pages {
			c.good = append(c.good, g)
		}
	}
	for worker := range c.workers {
		for _, tier := range c.rig.tiers {
			c.tenant(tenantOf(worker, tier), tier)
		}
	}
	c.rig.publish("enterprise", "fib", Upload{})
	c.health(c.from)
	return c
}

func (c *campaign) configure() {
	text := os.Getenv(campaignVariable)
	if text != "" {
		from, count, ok := strings.Cut(text, "+")
		if !ok {
			from, count = "0", text
		}
		c.from, c.count = c.number(campaignVariable, from), c.number(campaignVariable, count)
	}
	if text := os.Getenv(seedVariable); text != "" {
		c.seed = uint64(c.number(seedVariable, text))
	}
}

func (c *campaign) number(variable, text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		c.t.Fatalf("%s: %q is no count", variable, text)
	}
	return n
}

func tenantOf(worker int, tier Tier) string { return fmt.Sprintf("%s-%d", tier, worker) }

// tenant has the memory and the places of its tier, but campaignTime: most mutants that run for long run for ever, and
// with the time of the Free tier two thirds of a campaign were spent in those.
func (c *campaign) tenant(id string, tier Tier) {
	c.t.Helper()
	if err := c.rig.SetTenant(id, Tenant{Tier: tier, Ed25519: c.rig.ed.Public().(ed25519.PublicKey)}); err != nil {
		c.t.Fatal(err)
	}
	set, err := c.rig.Sandbox.tenant(id)
	if err != nil {
		c.t.Fatal(err)
	}
	quota := *set.quota.Load()
	quota.CPU, quota.Fuel = campaignTime, campaignTime.Milliseconds()*fuelPerMilli
	set.quota.Store(&quota)
}

// work takes executions until there are no more or the test has failed.
func (c *campaign) work(worker int) {
	tally := map[string]int64{}
	for !c.t.Failed() {
		n := c.next.Add(1) - 1
		if n >= c.count {
			break
		}
		c.execute(c.from+n, worker, tally)
		if n%healthEvery == healthEvery-1 {
			c.health(c.from + n)
		}
		if n%memoryEvery == memoryEvery-1 {
			c.memory(c.from + n)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for what, n := range tally {
		c.tally[what] += n
	}
}

// execution is one module and what is done to it.
type execution struct {
	*campaign
	*rand.Rand
	n            int64
	tenant, name string
	guest        string
	tally        map[string]int64
	upload       Upload
}

func (c *campaign) execute(n int64, worker int, tally map[string]int64) {
	e := &execution{campaign: c, Rand: rand.New(rand.NewPCG(c.seed, uint64(n))), n: n, tally: tally,
		name: fmt.Sprintf("m%d", n%97)}
	tiers := [...]Tier{Free, Free, Free, Free, Pro, Enterprise}
	e.tenant = tenantOf(worker, tiers[e.IntN(len(tiers))])
	e.make()
	tally["executions"]++
	if e.upload.ABI == Proxy {
		_, err := c.rig.Admit(context.Background(), e.tenant, e.name, e.upload)
		if e.taken(err) {
			tally["admitted, for the data plane"]++
		}
		return
	}
	defer e.account()
	if _, err := c.rig.Upload(context.Background(), e.tenant, e.name, e.upload); !e.taken(err) {
		return
	}
	tally["admitted"]++
	e.calls()
	if err := c.rig.Remove(e.tenant, e.name); err != nil {
		e.fail("remove", err)
	}
}

// make chooses a guest, mostly a good one, and mutates it; one in eight stays as it is.
func (e *execution) make() {
	from := e.good
	switch {
	case e.IntN(largeEvery) == 0:
		from = e.large
	case e.IntN(4) == 0:
		from = e.guests
	}
	g := from[e.IntN(len(from))]
	e.guest = g.name
	b := g.wasm
	if e.IntN(8) > 0 {
		for range 1 + e.IntN(2) {
			b = e.mutate(b)
		}
	}
	e.upload = Upload{Wasm: b, Version: 1 + uint64(e.n), ABI: g.abi, Engine: Compiler}
	if e.IntN(4) == 0 {
		e.upload.Engine = Interpreter
	}
	e.upload.Signatures.Ed25519 = ed25519.Sign(e.rig.ed, SignedBytes(e.tenant, e.name, e.upload.Version, b))
}

func (e *execution) fail(what string, err error) {
	e.t.Errorf("seed %d, execution %d, guest %s, tenant %s, engine %s: %s: %v",
		e.seed, e.n, e.guest, e.tenant, e.upload.Engine, what, err)
}

// taken counts the answer to an upload.
func (e *execution) taken(err error) bool {
	if err == nil {
		return true
	}
	r, ok := errors.AsType[*Refusal](err)
	if !ok {
		e.fail("upload", fmt.Errorf("%T is no refusal: %w", err, err))
		return false
	}
	e.tally["refused"]++
	e.tally["refused at "+r.Step]++
	return false
}

// calls invokes up to three functions of the module.
func (e *execution) calls() {
	m, err := rewrite.Parse(e.upload.Wasm)
	if err != nil {
		e.fail("parse what was admitted", err)
		return
	}
	functions := slices.DeleteFunc(m.Exports(), func(x rewrite.Export) bool { return x.Kind != rewrite.Function })
	e.Shuffle(len(functions), func(i, j int) { functions[i], functions[j] = functions[j], functions[i] })
	for _, f := range functions[:min(len(functions), 3)] {
		call := Call{Function: f.Name}
		if e.upload.ABI == Buffer && e.IntN(2) == 0 {
			call.Input = bytes.Repeat([]byte{byte(e.n)}, e.IntN(512))
		} else {
			for range f.Params {
				call.Args = append(call.Args, strconv.Itoa(e.small()))
			}
		}
		_, err := e.rig.Invoke(context.Background(), e.tenant, e.name, call)
		e.called(f.Name, err)
	}
}

func (e *execution) small() int {
	edges := [...]int{0, 1, -1, 2, 7, 16, 255, 1024, 65_535, 65_536}
	return edges[e.IntN(len(edges))]
}

// account is zero once the module was refused or removed: nobody else uses the tenant.
func (e *execution) account() {
	t, err := e.rig.Sandbox.tenant(e.tenant)
	if err != nil {
		e.fail("account", err)
	} else if n := t.memory.Load(); n != 0 {
		t.memory.Store(0)
		e.fail("account", fmt.Errorf("%d bytes of memory are left", n))
	}
}

// called counts how a call ended. An internal trap is a panic of the engine that was contained.
func (e *execution) called(function string, err error) {
	e.tally["calls"]++
	trap, trapped := errors.AsType[*Trap](err)
	switch {
	case err == nil:
		e.tally["calls that returned"]++
	case trapped && trap.Class == ClassInternal:
		e.fail("call "+function, err)
	case trapped:
		e.tally["trapped: "+trap.Class]++
	case errors.Is(err, ErrArguments): // vectors and references cannot be given
		e.tally["calls whose arguments do not fit"]++
	default: // the module is there, its tenant has a place
		e.fail("call "+function, fmt.Errorf("%T is no trap: %w", err, err))
	}
}

// health calls a good neighbour.
func (c *campaign) health(n int64) {
	a, err := c.rig.Invoke(context.Background(), "enterprise", "fib", Call{Function: "fib", Args: []string{"10"}})
	if err != nil || !slices.Equal(a.Results, []string{"55"}) {
		c.t.Errorf("seed %d, at execution %d: neighbour's fib(10) = %v, %v", c.seed, n, a.Results, err)
	}
}

// memory compares the resident set with its bound.
func (c *campaign) memory(n int64) {
	now := residentBytes(c.t)
	for most := c.most.Load(); now > most && !c.most.CompareAndSwap(most, now); {
		most = c.most.Load()
	}
	c.t.Logf("at execution %d: resident set of %d MiB", n, now>>20)
	if now > c.limit {
		c.t.Errorf("seed %d, at execution %d: resident set of %d MiB, want at most %d", c.seed, n, now>>20, c.limit>>20)
	}
}

// accounts are zero once every module was removed.
func (c *campaign) accounts() {
	for id, s := range c.rig.Stats().Tenants {
		if strings.Contains(id, "-") && (s.Running != 0 || s.Instances != 0 || s.MemoryBytes != 0) {
			c.t.Errorf("tenant %s: %d calls, %d instances, %d bytes are left", id, s.Running, s.Instances, s.MemoryBytes)
		}
	}
}

// residentBytes is the resident set of the process; 0 where the system does not say.
func residentBytes(t *testing.T) int64 {
	if runtime.GOOS != "linux" {
		return 0
	}
	text, err := os.ReadFile(filepath.Join("/proc/self", "statm"))
	fields := strings.Fields(string(text))
	if err != nil || len(fields) < 2 {
		t.Errorf("statm: %q, %v", text, err)
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		t.Errorf("statm: %v", err)
	}
	return pages * int64(os.Getpagesize())
}

const (
	codeSection  = 10
	headerLength = 8
)

// section is one section of a module.
type section struct {
	id   byte
	body []byte
}

// split returns the sections of a module, or nothing when they do not fill it.
func split(module []byte) []section {
	if len(module) < headerLength {
		return nil
	}
	var all []section
	for rest := module[headerLength:]; len(rest) > 0; {
		size, n := binary.Uvarint(rest[1:])
		if n <= 0 || size > uint64(len(rest)-1-n) {
			return nil
		}
		all = append(all, section{rest[0], rest[1+n : 1+n+int(size)]})
		rest = rest[1+n+int(size):]
	}
	return all
}

func join(header []byte, all []section) []byte {
	out := bytes.Clone(header[:headerLength])
	for _, s := range all {
		out = binary.AppendUvarint(append(out, s.id), uint64(len(s.body)))
		out = append(out, s.body...)
	}
	return out
}

// mutate returns a changed copy of a module.
func (e *execution) mutate(module []byte) []byte {
	all := slices.Clone(split(module))
	if len(all) == 0 || e.IntN(8) == 0 {
		return e.flip(module)
	}
	at := e.IntN(len(all))
	switch e.IntN(16) {
	case 0:
		all = e.splice(all, at)
	case 1:
		all[at].body = all[at].body[:e.IntN(len(all[at].body)+1)]
	case 2:
		all = slices.Insert(all, e.IntN(len(all)+1), all[at])
	case 3:
		all[at].body = e.recount(all[at].body)
	case 4:
		return e.cut(join(module, all))
	case 5:
		all[at].body = e.flip(all[at].body)
	default: // the rest goes where most of the engine is: into code
		e.recode(all)
	}
	return join(module, all)
}

// flip changes up to four bytes.
func (e *execution) flip(b []byte) []byte {
	b = bytes.Clone(b)
	for range 1 + e.IntN(4) {
		if len(b) == 0 {
			break
		}
		if at := e.IntN(len(b)); e.IntN(2) == 0 {
			b[at] ^= 1 << e.IntN(8)
		} else {
			b[at] = byte(e.Uint32())
		}
	}
	return b
}

// splice puts a section of another guest at the place of this one, or of that with the same id.
func (e *execution) splice(all []section, at int) []section {
	other := e.guests[e.IntN(len(e.guests))].sections
	if len(other) == 0 {
		return slices.Delete(all, at, at+1)
	}
	s := other[e.IntN(len(other))]
	if same := slices.IndexFunc(all, func(x section) bool { return x.id == s.id }); same >= 0 {
		at = same
	}
	all[at] = s
	return all
}

// recount changes the number that a section begins with: how many entries it has.
func (e *execution) recount(body []byte) []byte {
	count, n := binary.Uvarint(body)
	if n <= 0 {
		return body
	}
	counts := [...]uint64{0, count - 1, count + 1, count + 128, 10_001, 1 << 20, 1<<31 - 1, 1<<32 - 1, 1<<64 - 1}
	head := binary.AppendUvarint(nil, counts[e.IntN(len(counts))])
	if e.IntN(8) == 0 { // the same number, longer than it needs to be
		head = []byte{byte(count) | 0x80, byte(count>>7) | 0x80, 0x80, 0x80, 0x00}
	}
	return append(head, body[n:]...)
}

func (e *execution) cut(module []byte) []byte { return module[:e.IntN(len(module)+1)] }

// recode changes one function body and keeps all sizes right.
func (e *execution) recode(all []section) {
	at := slices.IndexFunc(all, func(s section) bool { return s.id == codeSection })
	if at < 0 {
		return
	}
	bodies, ok := functionBodies(all[at].body)
	if !ok || len(bodies) == 0 {
		return
	}
	f := e.IntN(len(bodies))
	if e.IntN(2) == 0 {
		bodies[f] = e.prefix(bodies[f])
	} else {
		bodies[f] = e.opcodes(bodies[f])
	}
	code := binary.AppendUvarint(nil, uint64(len(bodies)))
	for _, b := range bodies {
		code = append(binary.AppendUvarint(code, uint64(len(b))), b...)
	}
	all[at].body = code
}

// functionBodies are the bodies of a code section, without their sizes.
func functionBodies(code []byte) ([][]byte, bool) {
	count, n := binary.Uvarint(code)
	if n <= 0 || count > uint64(len(code)) {
		return nil, false
	}
	var bodies [][]byte
	for code = code[n:]; len(code) > 0; {
		size, n := binary.Uvarint(code)
		if n <= 0 || size > uint64(len(code)-n) {
			return nil, false
		}
		bodies = append(bodies, code[n:n+int(size)])
		code = code[n+int(size):]
	}
	return bodies, uint64(len(bodies)) == count
}

// opcodes replaces up to three bytes of the second part of a body by opcodes, mostly of the group that the
// old one belongs to: that keeps the types right when the byte was an opcode.
func (e *execution) opcodes(body []byte) []byte {
	groups := [...][2]byte{{0x28, 0x35}, {0x36, 0x3e}, {0x46, 0x4f}, {0x51, 0x5a}, {0x67, 0x69}, {0x6a, 0x78}, {0x79, 0x7b},
		{0x7c, 0x8a}, {0x8b, 0x91}, {0x92, 0x98}, {0x99, 0x9f}, {0xa0, 0xa6}, {0xa8, 0xab}, {0x20, 0x22}}
	body = bytes.Clone(body)
	for range 1 + e.IntN(3) {
		if len(body) < 3 {
			break
		}
		at := 1 + e.IntN(len(body)-2) // not the count of locals, not the end
		group := slices.IndexFunc(groups[:], func(g [2]byte) bool { return g[0] <= body[at] && body[at] <= g[1] })
		if group < 0 || e.IntN(4) == 0 {
			body[at] = byte(e.IntN(256))
			continue
		}
		g := groups[group]
		body[at] = g[0] + byte(e.IntN(int(g[1]-g[0])+1))
	}
	return body
}

// prefix puts instructions before those of a body. They leave nothing on the stack.
func (e *execution) prefix(body []byte) []byte {
	locals, n := localsLength(body)
	if n == 0 {
		return body
	}
	var code []byte
	for range 1 + e.IntN(3) {
		code = append(code, e.snippet()...)
	}
	return slices.Concat(body[:locals], code, body[locals:])
}

// localsLength is how many bytes the locals of a body take; n is 0 when they make no sense.
func localsLength(body []byte) (length, n int) {
	groups, n := binary.Uvarint(body)
	if n <= 0 {
		return 0, 0
	}
	length = n
	for range groups {
		_, n := binary.Uvarint(body[length:])
		if n <= 0 || length+n >= len(body) {
			return 0, 0
		}
		length += n + 1
	}
	return length, n
}

// snippet is a few instructions with random operands. Some need a memory, a global or a table.
func (e *execution) snippet() []byte {
	constant := func() []byte { return append([]byte{0x41}, signed(int64(int32(e.operand())))...) }
	const drop = 0x1a
	switch e.IntN(12) {
	case 0:
		return []byte{0x01} // nop
	case 1:
		return []byte{0x00} // unreachable
	case 2: // i32.load to i64.load32_u
		return append(constant(), 0x28+byte(e.IntN(14)), 0, byte(e.IntN(128)), drop)
	case 3: // i32.store8
		return slices.Concat(constant(), constant(), []byte{0x3a, 0, byte(e.IntN(128))})
	case 4: // memory.grow
		return append(constant(), 0x40, 0, drop)
	case 5: // memory.fill
		return slices.Concat(constant(), constant(), constant(), []byte{0xfc, 11, 0})
	case 6: // memory.copy
		return slices.Concat(constant(), constant(), constant(), []byte{0xfc, 10, 0, 0})
	case 7: // i32.div_s to i32.rem_u
		return slices.Concat(constant(), constant(), []byte{0x6d + byte(e.IntN(4)), drop})
	case 8: // f32.const, i32.trunc_f32_s
		return slices.Concat([]byte{0x43}, binary.LittleEndian.AppendUint32(nil, e.Uint32()), []byte{0xa8, drop})
	case 9: // call
		return []byte{0x10, byte(e.IntN(16))}
	case 10: // loop that ends at random: a constant, br_if
		return slices.Concat([]byte{0x03, 0x40}, constant(), []byte{0x0d, 0, 0x0b})
	}
	return slices.Concat([]byte{0x23, byte(e.IntN(4)), drop}, constant(), []byte{0x11, byte(e.IntN(4)), 0}) // global.get, call_indirect
}

func (e *execution) operand() uint32 {
	if e.IntN(4) == 0 {
		return e.Uint32()
	}
	return uint32(e.small())
}

// signed is a number in signed LEB128.
func signed(v int64) []byte {
	var b []byte
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}
