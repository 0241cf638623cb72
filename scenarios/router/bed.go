package router

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/backends"
	"github.com/assay-bench/assay/scenarios/target"
)

// configureWait is how long the hook configure may take beyond what the target says of its answers.
const configureWait = 10 * time.Second

// Configuration is the evidence of how a router came to know of the upstreams.
type Configuration struct {
	By        string     `json:"by"` // hook, api, or static: it was told when it was started
	Model     string     `json:"model"`
	Fallback  string     `json:"fallback"`
	Upstreams []Upstream `json:"upstreams"`
	OK        bool       `json:"ok"`
	Broken    string     `json:"broken,omitempty"` // why not: text
}

// Arrivals is the evidence of what a request, or several at once, led to at the upstreams.
type Arrivals struct {
	For     string                 `json:"for"` // the name of the request
	Arrived []backends.ChatArrival `json:"arrived"`
	Broken  string                 `json:"broken,omitempty"` // an upstream of the target's own file could not be asked
}

// Bed is a router in front of upstreams of the harness. One goroutine uses it.
type Bed struct {
	env     *scenarios.Env
	client  *http.Client
	routing Routing
	addrs   []string           // of the upstreams, in their order
	own     *backends.Backends // nil: they were there before
	remove  func(context.Context) error
	OK      bool  // the router is configured
	seen    []int // the last arrival of each upstream that was told
}

// OpenBed puts n upstreams behind the router: those that it routes to already, or else its own, which it
// tells the router of by the hook configure, or by the HTTP API. That the router can not be told is evidence.
func OpenBed(ctx context.Context, env *scenarios.Env, n int) (*Bed, error) {
	b := &Bed{env: env, client: newClient(env), remove: func(context.Context) error { return nil }}
	c, err := b.open(ctx, n)
	if err != nil {
		return nil, errors.Join(err, b.Close(ctx))
	}
	c.Model, c.Fallback, c.Upstreams = b.routing.Model, b.routing.Fallback, b.routing.Upstreams
	b.OK = c.OK
	return b, env.Record(Configured, c)
}

// OpenUpstreams starts n upstreams that the router is not told of: the case does that itself.
func OpenUpstreams(ctx context.Context, env *scenarios.Env, n int) (b *Bed, err error) {
	b = &Bed{env: env, client: newClient(env), remove: func(context.Context) error { return nil }}
	if b.addrs, err = b.start(ctx, n); err != nil {
		return nil, errors.Join(err, b.Close(ctx))
	}
	b.routing.Model = env.Claims.Router.Auto()
	b.OK = true
	return b, nil
}

// Addr is where upstream i (from 0) listens.
func (b *Bed) Addr(i int) string { return b.addrs[i] }

func (b *Bed) open(ctx context.Context, n int) (c Configuration, err error) {
	r := b.env.Claims.Router
	if r != nil && len(r.Upstreams) > 0 {
		c.By = "static"
		if len(r.Upstreams) < n {
			c.Broken = fmt.Sprintf("the target names %d upstreams, the case needs %d", len(r.Upstreams), n)
			return c, nil
		}
		b.addrs = slices.Clone(r.Upstreams[:min(len(r.Upstreams), len(Intents()))])
	} else if b.addrs, err = b.start(ctx, n); err != nil {
		return c, err
	}
	if b.routing, err = NewRouting(r.Auto(), b.addrs); err != nil {
		return c, err
	}
	switch {
	case c.By == "static":
		c.Broken = b.greet(ctx)
	case r != nil && r.Configure != "":
		c.By = "hook"
		c.Broken, err = b.byHook(ctx)
	case b.env.Claims.Has(string(features.RouterAPI)):
		c.By = "api"
		c.Broken, err = b.byAPI(ctx)
	default:
		c.Broken = "the target names neither upstreams that it routes to nor a hook configure"
	}
	c.OK = c.Broken == "" && err == nil
	return c, err
}

// start starts upstreams of the case's own.
func (b *Bed) start(ctx context.Context, n int) (addrs []string, err error) {
	if b.own, err = backends.Start(context.WithoutCancel(ctx), backends.Options{OpenAI: n, Only: true}); err != nil {
		return nil, err
	}
	b.seen = make([]int, n)
	all := b.own.Endpoints()
	for i := range n {
		addrs = append(addrs, all[fmt.Sprintf("%s%d", backends.OpenAIPrefix, i+1)])
	}
	return addrs, nil
}

// greet asks upstreams that were there before for what they have seen, and takes their faults away.
func (b *Bed) greet(ctx context.Context) (broken string) {
	b.seen = make([]int, len(b.addrs))
	for i := range b.addrs {
		told, err := b.ask(ctx, i)
		if err == nil {
			err = b.fault(ctx, i, backends.FaultNone)
		}
		if err != nil {
			return clip("upstream " + b.routing.Upstreams[i].Name + ": " + err.Error() + ": is assay backends --openai running there?")
		}
		b.seen[i] = told.Last
	}
	return ""
}

func (b *Bed) byHook(ctx context.Context) (broken string, err error) {
	dir, err := os.MkdirTemp("", "assay-router-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	raw, err := results.MarshalIndent(b.routing)
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "upstreams.json")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		return "", err
	}
	hook, _ := b.env.Claims.Router.Configuring(file)
	within, cancel := context.WithTimeout(ctx, configureWait+b.env.Claims.Limits.Answer())
	defer cancel()
	ran, err := hook.Run(within)
	switch {
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case errors.Is(err, target.ErrNotReady):
		return clip(err.Error()), nil
	case err != nil:
		return "", err
	case ran.Late:
		return "the hook configure did not end in time", nil
	case ran.Exit != 0:
		return clip(fmt.Sprintf("the hook configure: %s: %s", ran.State, ran.Output)), nil
	}
	return "", nil
}

// Routing is what the router was told.
func (b *Bed) Routing() Routing { return b.routing }

// Ask makes a request for the router's choice.
func (b *Bed) Ask(ctx context.Context, name, text string, stream bool) (Chat, error) {
	return b.Send(ctx, name, Ask{Model: b.routing.Model, Messages: User(text), Stream: stream})
}

// Send makes a request of chat completions, with a body that is marshalled, or raw as a []byte, and records
// it with what it led to at the upstreams.
func (b *Bed) Send(ctx context.Context, name string, body any) (Chat, error) {
	return b.SendWith(ctx, name, body, nil)
}

// SendWith is Send with headers of the request.
func (b *Bed) SendWith(ctx context.Context, name string, body any, headers http.Header) (Chat, error) {
	c, err := b.post(ctx, name, body, headers)
	if err != nil {
		return c, err
	}
	if err := b.env.Record(Chatted, c); err != nil {
		return c, err
	}
	return c, b.Look(ctx, name)
}

func (b *Bed) post(ctx context.Context, name string, body any, headers http.Header) (Chat, error) {
	c := Chat{Name: name, Method: http.MethodPost, Path: b.env.Claims.Router.Base() + "/chat/completions", Asked: headers}
	raw, ok := body.([]byte)
	if !ok {
		var err error
		if raw, err = results.Marshal(body); err != nil {
			return c, fmt.Errorf("chat %s: %w", name, err)
		}
	}
	return c, c.exchange(ctx, b.env, b.client, raw)
}

// Together makes requests at once and records them, then what all of them led to under the name.
func (b *Bed) Together(ctx context.Context, name string, asks []Ask) error {
	chats, errs := make([]Chat, len(asks)), make([]error, len(asks))
	var all sync.WaitGroup
	for i, q := range asks {
		all.Go(func() { chats[i], errs[i] = b.post(ctx, fmt.Sprintf("%s-%d", name, i), q, nil) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, c := range chats {
		if err := b.env.Record(Chatted, c); err != nil {
			return err
		}
	}
	return b.Look(ctx, name)
}

// Models asks for the list of models and records the answer.
func (b *Bed) Models(ctx context.Context, name string) (Chat, error) {
	c := Chat{Name: name, Method: http.MethodGet, Path: b.env.Claims.Router.Base() + "/models"}
	if err := c.exchange(ctx, b.env, b.client, nil); err != nil {
		return c, err
	}
	return c, b.env.Record(Chatted, c)
}

// Look records what has arrived at the upstreams since the last look.
func (b *Bed) Look(ctx context.Context, name string) error {
	a := Arrivals{For: name, Arrived: []backends.ChatArrival{}}
	for i := range b.addrs {
		told, err := b.ask(ctx, i)
		if err != nil {
			if b.own != nil {
				return fmt.Errorf("upstream %d: %w", i+1, err)
			}
			a.Broken = clip(err.Error())
			continue
		}
		a.Arrived = append(a.Arrived, told.Arrived...)
		b.seen[i] = told.Last
	}
	return b.env.Put(results.FromUpstream, Arrived, a)
}

// Count is how many requests have arrived at upstream i (from 0) since it was started.
func (b *Bed) Count(ctx context.Context, i int) (int, error) {
	told, err := b.ask(ctx, i)
	return told.Last, err
}

// Fault makes upstream i (from 0) do something wrong, or, with FaultNone, nothing any more.
func (b *Bed) Fault(ctx context.Context, i int, f backends.Fault) error {
	if err := b.fault(ctx, i, f); err != nil && b.own != nil {
		return fmt.Errorf("upstream %d: %w", i+1, err)
	}
	return nil
}

func (b *Bed) fault(ctx context.Context, i int, f backends.Fault) error {
	method, path := http.MethodPut, "/assay/fault/"+string(f)
	if f == backends.FaultNone {
		method, path = http.MethodDelete, "/assay/fault"
	}
	_, err := b.control(ctx, i, method, path)
	return err
}

func (b *Bed) ask(ctx context.Context, i int) (told backends.Told, err error) {
	raw, err := b.control(ctx, i, http.MethodGet, fmt.Sprintf("/assay/arrivals?after=%d", b.seen[i]))
	if err == nil {
		err = json.Unmarshal(raw, &told)
	}
	return told, err
}

// control asks an upstream of the harness, not the target.
func (b *Bed) control(ctx context.Context, i int, method, path string) ([]byte, error) {
	within, cancel := context.WithTimeout(ctx, chatWait)
	defer cancel()
	request, err := http.NewRequestWithContext(within, method, "http://"+b.addrs[i]+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := b.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }() // all of it that matters is read
	raw, err := io.ReadAll(io.LimitReader(response.Body, 64<<20))
	if err == nil && response.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: status %d %.100q", method, path, response.StatusCode, raw)
	}
	return raw, err
}

// Close takes faults away, and ends upstreams of the case's own. It is done also when the drive's time is
// over: other cases meet the same router.
func (b *Bed) Close(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	err := b.remove(ctx)
	if b.own != nil {
		err = errors.Join(err, b.own.Stop())
	} else {
		for i := range b.seen {
			_ = b.fault(ctx, i, backends.FaultNone) // one that is gone has none
		}
	}
	b.client.CloseIdleConnections()
	return err
}
