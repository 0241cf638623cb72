package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
)

// Tier is what a tenant pays for: processor time of a call, pages of memory, instances at once.
type Tier string

// The tiers.
const (
	Free       Tier = "free"       // 50 ms, 16 pages, 1 instance
	Pro        Tier = "pro"        // 200 ms, 64 pages, 3 instances
	Enterprise Tier = "enterprise" // 1,000 ms, 256 pages, 10 instances
)

// CPU is the processor time that a call may take.
func (t Tier) CPU() time.Duration {
	return time.Duration(map[Tier]int{Free: 50, Pro: 200, Enterprise: 1000}[t]) * time.Millisecond
}

// Pages are those that a memory may have.
func (t Tier) Pages() int { return map[Tier]int{Free: 16, Pro: 64, Enterprise: 256}[t] }

// Instances are those that may run at once.
func (t Tier) Instances() int { return map[Tier]int{Free: 1, Pro: 3, Enterprise: 10}[t] }

// Export is a function that a module must export.
type Export struct {
	Name    string   `json:"name"`
	Params  []string `json:"params,omitempty"`
	Results []string `json:"results,omitempty"`
}

// Canary is a call that a new version must answer before it is published.
type Canary struct {
	Function string   `json:"function"`
	Args     []string `json:"args,omitempty"`
	Results  []string `json:"results,omitempty"`
}

// Upload is a version of a module.
type Upload struct {
	Tenant     string     `json:"-"`
	Module     string     `json:"-"`
	Wasm       []byte     `json:"wasm"`
	Version    uint64     `json:"version"`
	ABI        string     `json:"abi,omitempty"`    // plain, buffer or proxy
	Engine     string     `json:"engine,omitempty"` // compiler or interpreter
	Exports    []Export   `json:"exports,omitempty"`
	Signatures Signatures `json:"signatures,omitzero"`
	Canary     *Canary    `json:"canary,omitempty"`
}

// Invocation is a call of a function.
type Invocation struct {
	Function string   `json:"function"`
	Args     []string `json:"args,omitempty"`
	Input    []byte   `json:"input,omitempty"`
}

// Published is the answer to an upload.
type Published struct {
	Version   uint64 `json:"version"`
	Digest    string `json:"digest"`
	FuelSites int    `json:"fuelSites"`
	FromCache bool   `json:"compiledFromCache"`
}

// Invoked is the answer to a call.
type Invoked struct {
	Results   []string `json:"results"`
	Output    []byte   `json:"output"`
	Version   uint64   `json:"version"`
	Instance  string   `json:"instance"`
	Fuel      int64    `json:"fuel"`
	CPUMicros int64    `json:"cpuMicros"`
	Pages     int      `json:"memoryPages"`
	Pooled    bool     `json:"pooled"`
}

// Problem is an error of the API (RFC 9457).
type Problem struct {
	Title    string `json:"title"`
	Status   int    `json:"status"`
	Detail   string `json:"detail"`
	Step     string `json:"step"`
	Reason   string `json:"reason"`
	Class    string `json:"class"`
	Instance string `json:"instance"`
}

// TenantStats are the counters of a tenant.
type TenantStats struct {
	Running    int            `json:"running"`
	RunningMax int            `json:"runningMax"`
	Instances  int            `json:"instances"`
	Memory     int64          `json:"memoryBytes"`
	Calls      int64          `json:"calls"`
	Fuel       int64          `json:"fuel"`
	CPUMicros  int64          `json:"cpuMicros"`
	Traps      map[string]int `json:"traps"`
	Refused    map[string]int `json:"refused"`
}

// CacheStats are the counters of the folder of compiled modules.
type CacheStats struct {
	Dir     string          `json:"dir"`
	Mode    json.RawMessage `json:"mode,omitempty"` // in whichever form the target writes it
	Hits    int64           `json:"hits"`
	Misses  int64           `json:"misses"`
	Corrupt int64           `json:"corrupt"`
}

// Stats are the counters of a sandbox.
type Stats struct {
	Tenants        map[string]TenantStats `json:"tenants"`
	Cache          CacheStats             `json:"cache"`
	Engine         string                 `json:"engine"`
	GCPauseMaxUsec int64                  `json:"gcPauseMaxMicros"`
	ParserCalls    int64                  `json:"parserCalls"`
}

// Event is an entry of the audit log.
type Event struct {
	Seq    uint64 `json:"seq"`
	Tenant string `json:"tenant"`
	Module string `json:"module"`
	Event  string `json:"event"`
	Detail string `json:"detail"`
}

// ColdStarts is the answer to a measurement of cold starts.
type ColdStarts struct {
	Rows      []ColdStart `json:"rows"`
	Overheads []Overhead  `json:"overheads"`
	Wazero    string      `json:"wazero"`
}

// Overhead is what it costs to be able to stop a guest: a warm call by fuel, and in the naive way (a runtime that
// watches the caller's context), as ratios to a call that nothing stops.
type Overhead struct {
	Guest      string  `json:"guest"`
	Engine     string  `json:"engine"`
	N          int     `json:"n"` // rounds in which all three answered right
	PlainNanos int64   `json:"plainNanos"`
	FuelNanos  int64   `json:"fuelNanos"`
	NaiveNanos int64   `json:"naiveNanos"`
	Fuel       float64 `json:"fuelRatio"`
	Naive      float64 `json:"naiveRatio"`
}

// ColdStart is a row of it: a start point, an end point, and how long lay between them.
type ColdStart struct {
	Guest       string `json:"guest"`
	Engine      string `json:"engine"`
	Start       string `json:"start"` // bytes, disk, compiled or pooled
	End         string `json:"end"`   // instantiated or first-result
	N           int    `json:"n"`
	P50Nanos    int64  `json:"p50Nanos"`
	P99Nanos    int64  `json:"p99Nanos"`
	ModuleBytes int    `json:"moduleBytes"`
	Threads     int    `json:"threads"`
	Checked     bool   `json:"checked"`
}

// Call is the evidence of a call of the HTTP API. A module stands in it as Digest.
type Call struct {
	Name    string          `json:"name"` // within the case
	Method  string          `json:"method"`
	Path    string          `json:"path"`
	Request json.RawMessage `json:"request,omitempty"`
	Status  int             `json:"status,omitempty"`
	Answer  json.RawMessage `json:"answer,omitempty"`
	Broken  string          `json:"broken,omitempty"` // it did not answer as its API says: text
	Took    time.Duration   `json:"took"`
}

// Answered tells whether the target answered at all as its API says, if only with a refusal.
func (c Call) Answered() bool { return c.Broken == "" && c.Status != 0 }

// Good tells whether it answered with success.
func (c Call) Good() bool { return c.Answered() && c.Status >= 200 && c.Status < 300 }

// Read decodes a good answer.
func (c Call) Read(into any) bool { return c.Good() && json.Unmarshal(c.Answer, into) == nil }

// Problem decodes an answer that is an error of the API. ok is false for anything else, also for an error
// status without the members of a problem.
func (c Call) Problem() (p Problem, ok bool) {
	if !c.Answered() || c.Good() || json.Unmarshal(c.Answer, &p) != nil {
		return Problem{}, false
	}
	return p, p.Status == c.Status
}

// How long the target may take. These tell a slow target from a silent one and are no requirements; what
// the target says of its answers is added.
const (
	setWait    = 1 * time.Second
	uploadWait = 12 * time.Second
	invokeWait = 15 * time.Second
	coldWait   = 60 * time.Second
)

// maxAnswer bounds what is read of an answer.
const maxAnswer = 4 << 20

// API calls the HTTP API of a sandbox and records each call. After one that got no answer in time nothing
// more is asked: the calls are recorded as broken. It may be used by several goroutines.
type API struct {
	env    *scenarios.Env
	client *http.Client

	mu      sync.Mutex
	tenants map[string]bool // those of this case: no other one's counters are recorded
	mute    bool            // a call got no answer in time
}

// NewAPI returns a client of the endpoint. Close it.
func NewAPI(env *scenarios.Env) *API {
	return &API{env: env, tenants: map[string]bool{}, client: &http.Client{
		Transport:     &http.Transport{DialContext: env.Dial, MaxResponseHeaderBytes: 64 << 10, MaxIdleConnsPerHost: 16},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close ends the connections that are kept.
func (a *API) Close() { a.client.CloseIdleConnections() }

// SetTenant makes a tenant, or changes its tier and keys.
func (a *API) SetTenant(ctx context.Context, name, tenant string, tier Tier, keys Keys) (Call, error) {
	a.mu.Lock()
	a.tenants[tenant] = true
	a.mu.Unlock()
	body := struct {
		Tier Tier `json:"tier"`
		Keys Keys `json:"keys"`
	}{tier, keys}
	return a.call(ctx, ask{name: name, method: http.MethodPut, path: "/tenants/" + url.PathEscape(tenant), wait: setWait, body: body})
}

// Drop removes a tenant with all that it has. A sandbox need not know how to.
func (a *API) Drop(ctx context.Context, name, tenant string) (Call, error) {
	return a.call(ctx, ask{name: name, method: http.MethodDelete, path: "/tenants/" + url.PathEscape(tenant), wait: setWait})
}

// Upload publishes a version of a module.
func (a *API) Upload(ctx context.Context, name string, u Upload) (Call, error) {
	told := struct {
		Upload
		Wasm Digest `json:"wasm"`
	}{u, DigestOf(u.Wasm)}
	return a.call(ctx, ask{name: name, method: http.MethodPut, path: modulePath(u.Tenant, u.Module), wait: uploadWait, body: u, told: told})
}

// Remove takes a module out of service.
func (a *API) Remove(ctx context.Context, name, tenant, module string) (Call, error) {
	return a.call(ctx, ask{name: name, method: http.MethodDelete, path: modulePath(tenant, module), wait: invokeWait})
}

// Invoke calls a function. A call without a name is not recorded.
func (a *API) Invoke(ctx context.Context, name, tenant, module string, in Invocation) (Call, error) {
	told := struct {
		Invocation
		Input *Digest `json:"input,omitempty"`
	}{Invocation: in}
	if len(in.Input) > 256 {
		d := DigestOf(in.Input)
		told.Input = &d
		return a.call(ctx, ask{name: name, method: http.MethodPost, path: modulePath(tenant, module) + "/invoke", wait: invokeWait, body: in, told: told})
	}
	return a.call(ctx, ask{name: name, method: http.MethodPost, path: modulePath(tenant, module) + "/invoke", wait: invokeWait, body: in})
}

// Stats reads the counters, of the case's own tenants and of the whole.
func (a *API) Stats(ctx context.Context, name string) (Stats, error) {
	var out Stats
	_, err := a.call(ctx, ask{name: name, method: http.MethodGet, path: "/stats", wait: setWait, into: &out, own: a.own})
	return out, err
}

// own keeps of GET /stats what concerns this case.
func (a *API) own(raw []byte) []byte {
	var all map[string]json.RawMessage
	if json.Unmarshal(raw, &all) != nil {
		return raw
	}
	var tenants map[string]json.RawMessage
	if json.Unmarshal(all["tenants"], &tenants) != nil {
		return raw
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for t := range tenants {
		if !a.tenants[t] {
			delete(tenants, t)
		}
	}
	kept, err := results.Marshal(tenants)
	if err != nil {
		return raw
	}
	all["tenants"] = kept
	if kept, err = results.Marshal(all); err != nil {
		return raw
	}
	return kept
}

// Audit reads the events after a number.
func (a *API) Audit(ctx context.Context, name string, since uint64) ([]Event, error) {
	var out struct {
		Events []Event `json:"events"`
	}
	_, err := a.call(ctx, ask{name: name, method: http.MethodGet, path: fmt.Sprintf("/audit?since=%d", since), wait: setWait, into: &out})
	return out.Events, err
}

// Collect makes the target collect garbage and say how long that took.
func (a *API) Collect(ctx context.Context, name string) (Call, error) {
	return a.call(ctx, ask{name: name, method: http.MethodPost, path: "/gc", wait: invokeWait})
}

// ColdStart makes the target measure cold starts.
func (a *API) ColdStart(ctx context.Context, name string, samples int) (Call, error) {
	body := struct {
		Samples int `json:"samples"`
	}{samples}
	return a.call(ctx, ask{name: name, method: http.MethodPost, path: "/coldstart", wait: coldWait, body: body})
}

func modulePath(tenant, module string) string {
	return "/tenants/" + url.PathEscape(tenant) + "/modules/" + url.PathEscape(module)
}

// ask is a request.
type ask struct {
	name, method, path string
	wait               time.Duration
	body               any                 // nil: none
	told               any                 // recorded in place of body
	into               any                 // where a good answer goes; may be nil
	own                func([]byte) []byte // what of the answer is recorded; nil: all
}

// call makes a request and records it unless its name is empty.
func (a *API) call(ctx context.Context, q ask) (Call, error) {
	c := Call{Name: q.name, Method: q.method, Path: q.path}
	var body []byte
	if q.body != nil {
		var err error
		if body, err = results.Marshal(q.body); err != nil {
			return c, fmt.Errorf("%s %s: %w", q.method, q.path, err)
		}
		told := body
		if q.told != nil {
			if told, err = results.Marshal(q.told); err != nil {
				return c, fmt.Errorf("%s %s: %w", q.method, q.path, err)
			}
		}
		c.Request = clipped(told)
	}
	began := a.env.Clock.Now()
	raw, err := a.send(ctx, &c, body, q.wait+a.env.Claims.Limits.Answer())
	c.Took = a.env.Elapsed(began)
	if err != nil {
		return c, err
	}
	c.take(raw, q.into)
	if q.name == "" {
		return c, nil
	}
	told := c
	if q.own != nil && len(c.Answer) > 0 {
		told.Answer = q.own(c.Answer)
	}
	told.Answer = clipped(told.Answer)
	return c, a.env.Record(Called, told)
}

// take keeps an answer that is JSON, or none at all.
func (c *Call) take(raw []byte, into any) {
	switch {
	case c.Broken != "" || len(raw) == 0:
	case !json.Valid(raw):
		c.Broken = clip(fmt.Sprintf("answers %d with what is not JSON: %.100q", c.Status, raw))
	default:
		c.Answer = raw
		if into == nil || !c.Good() {
			return
		}
		if err := json.Unmarshal(raw, into); err != nil {
			c.Broken = clip(fmt.Sprintf("answers what is not its JSON: %v: %.100q", err, raw))
		}
	}
}

// send returns the body of the answer; what is wrong with the target goes to c.
func (a *API) send(ctx context.Context, c *Call, body []byte, wait time.Duration) ([]byte, error) {
	if a.muted(false) {
		c.Broken = "not asked: an earlier call got no answer in time"
		return nil, nil
	}
	within, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	request, err := http.NewRequestWithContext(within, c.Method, "http://"+a.env.Endpoints[Endpoint]+c.Path, bytes.NewReader(body))
	if err != nil {
		c.Broken = clip(err.Error()) // the address is the target's own
		return nil, nil
	}
	if len(body) > 0 {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := a.client.Do(request)
	if errors.Is(err, scenarios.ErrNotAllowed) {
		return nil, err
	}
	var raw []byte
	if err == nil {
		defer func() { _ = response.Body.Close() }() // all of it that matters is read
		c.Status = response.StatusCode
		raw, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
		if len(raw) > maxAnswer {
			err = fmt.Errorf("answers more than %d bytes", maxAnswer)
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		c.Broken = clip(err.Error())
		a.muted(within.Err() != nil)
	}
	return raw, nil
}

// muted tells whether a call got no answer in time, and remembers that this one did not.
func (a *API) muted(now bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mute = a.mute || now
	return a.mute
}
