package tpm

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/target"
	scenario "github.com/assay-bench/assay/scenarios/tpm"
)

const (
	// tpmTime is the deadline for the TPM that sessions are opened with, where a check needs no other. It
	// is wide, so that a busy host does not look like a slow TPM.
	tpmTime = 2 * time.Second
	// openWait and callWait are how long the API may take to answer. They tell a slow target from a
	// silent one, and are no requirement.
	openWait = 5 * time.Second
	callWait = 4 * time.Second
	// lifetime is how long stored responses are valid, within the four hours that a cache may take.
	lifetime = time.Hour
	// nowhere is the responder of sessions that must do without one: nobody listens there.
	nowhere = "http://127.0.0.1:1/"
)

// setup says what session a drive works in.
type setup struct {
	mode      string        // entry where empty
	deadline  time.Duration // of the TPM; tpmTime where zero
	serve     bool          // with a TLS listener
	responder bool          // with the harness's OCSP responder
}

// bench is a TPM, a folder and a session of the target on both.
type bench struct {
	env       *scenarios.Env
	setup     setup
	lab       *scenario.Lab
	device    *scenario.Device
	folder    *scenario.Folder
	responder *scenario.Responder // nil without one
	opened    scenario.Opened
	dead      bool // the target stopped answering: nothing more is asked of it
}

// driving makes a drive that works in a session. Where the target opens none, f is not called: the
// judge finds that in the evidence.
func driving(s setup, f func(context.Context, *bench) error) func(context.Context, *scenarios.Env) error {
	return func(ctx context.Context, env *scenarios.Env) error {
		return drive(ctx, env, s, f)
	}
}

func drive(ctx context.Context, env *scenarios.Env, s setup, f func(context.Context, *bench) error) (err error) {
	b := &bench{env: env, setup: s, lab: scenario.NewLab(env)}
	// A target that does not answer at all must not take up the one TPM that all cases share.
	var alive scenario.Status
	if err := b.call(ctx, "alive", "/status", map[string]string{"session": "none"}, &alive); err != nil || b.dead {
		return err
	}
	if b.folder, err = scenario.NewFolder(env); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.folder.Remove()) }()
	if s.responder {
		if b.responder, err = scenario.StartResponder(ctx, env); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, b.responder.Close()) }()
	}
	if b.device, err = scenario.Open(ctx, env); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.device.Close()) }()
	if err := b.open(ctx, "open"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.leave(ctx)) }()
	if b.opened.Session == "" {
		return nil
	}
	return f(ctx, b)
}

// open opens a session on the device and the folder.
func (b *bench) open(ctx context.Context, name string) error {
	q := scenario.OpenRequest{
		Socket: b.device.Socket(), Dir: b.folder.Dir(), Mode: "entry", Responder: nowhere,
		Deadline: tpmTime.Milliseconds(), Serve: b.setup.serve,
	}
	if b.setup.mode != "" {
		q.Mode = b.setup.mode
	}
	if b.setup.deadline > 0 {
		q.Deadline = b.setup.deadline.Milliseconds()
	}
	if b.responder != nil {
		q.Responder = b.responder.URL()
	}
	b.opened = scenario.Opened{}
	if b.dead {
		return nil
	}
	ok, err := b.lab.Do(ctx, name, "/open", openWait, q, &b.opened)
	if !ok || b.opened.Error != nil {
		b.opened.Session = ""
	}
	b.dead = b.dead || !ok
	return err
}

// leave closes the session, with a TPM that behaves. It is done also when the drive's time is over: the
// target has room for few sessions.
func (b *bench) leave(ctx context.Context) error {
	if b.opened.Session == "" {
		return nil
	}
	b.device.Clear()
	return b.close(context.WithoutCancel(ctx), "close")
}

func (b *bench) close(ctx context.Context, name string) error {
	var a scenario.Stored
	q := map[string]string{"session": b.opened.Session}
	b.opened.Session = ""
	return b.call(ctx, name, "/close", q, &a)
}

// call posts a request, unless the target has stopped answering.
func (b *bench) call(ctx context.Context, name, path string, request, answer any) error {
	if b.dead {
		return nil
	}
	ok, err := b.lab.Do(ctx, name, path, callWait, request, answer)
	b.dead = !ok
	return err
}

// store stores a response for an hour.
func (b *bench) store(ctx context.Context, name, id string, response []byte) error {
	return b.storeUntil(ctx, name, id, response, time.Now().Add(lifetime))
}

func (b *bench) storeUntil(ctx context.Context, name, id string, response []byte, next time.Time) error {
	var a scenario.Stored
	return b.call(ctx, name, "/store", map[string]any{
		"session": b.opened.Session, "id": id, "response": response, "nextUpdate": next.UTC().Truncate(time.Second),
	}, &a)
}

func (b *bench) get(ctx context.Context, name, id string) (got scenario.Got, err error) {
	err = b.call(ctx, name, "/get", map[string]string{"session": b.opened.Session, "id": id}, &got)
	return got, err
}

func (b *bench) status(ctx context.Context, name string) error {
	var a scenario.Status
	return b.call(ctx, name, "/status", map[string]string{"session": b.opened.Session}, &a)
}

// response makes n random bytes in the shape of DER, n at least 8.
func (b *bench) response(n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(b.env.Rand.Uint32())
	}
	copy(out, "\x30\x82")
	binary.BigEndian.PutUint16(out[2:], uint16(n-4))
	return out
}

// digest is a value to extend PCRs with.
func (b *bench) digest() (d [32]byte) {
	copy(d[:], b.response(32))
	return d
}

// within returns the environment with one endpoint more, without changing that of other cases.
func within(env *scenarios.Env, name, addr string) *scenarios.Env {
	out := *env
	out.Endpoints = map[string]string{name: addr}
	for k, v := range env.Endpoints {
		if k != name {
			out.Endpoints[k] = v
		}
	}
	if out.Claims.TLS == nil || out.Claims.TLS.ServerName == "" {
		claims := target.TLS{}
		if out.Claims.TLS != nil {
			claims = *out.Claims.TLS
		}
		claims.ServerName = serverName
		out.Claims.TLS = &claims
	}
	return &out
}

// serverName is the name of every leaf that a session's listener has.
const serverName = "server.test"
