package tls

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	prober "github.com/assay-bench/assay/scenarios/tls"
	wire "github.com/assay-bench/assay/scenarios/wire/tls"
	"github.com/assay-bench/assay/suites"
)

// trapCase is one misbehaving server that a client under test is pointed at, as data.
type trapCase struct {
	id     string
	title  string
	server wire.Server             // complete but for its identity
	kind   string                  // authority of its identity; empty: ecdsa
	with   []prober.Option         // of the identity
	dial   prober.DialRequest      // what the client is asked, beyond address, name and roots
	accept []string                // names of the alerts that pass; none: any fatal alert
	fits   func(wire.Heard) string // why the client's hello does not let the case be judged; nil: it does
}

// trapRow is a check of cases that must all be refused by the client.
type trapRow struct {
	clause string // of the alert, for the reader of a failure
	cases  []trapCase
}

// Reasons of checks on clients.
const (
	reasonWentOn     = "went-on"       // it took what it had to refuse
	reasonNoDial     = "no-dial"       // no hello came
	reasonBelowTrap  = "no-such-share" // the client's hello does not let the case be judged
	reasonClientOdd  = "odd-alert"     // refused with another alert
	reasonClientMute = "no-client-alert"
	reasonClientHang = "client-silent"
	reasonEarlyEnd   = "ended-early" // the client gave up before the trap's fault
)

func trapReasons() []string {
	return []string{reasonWentOn, reasonNoDial, reasonBelowTrap, reasonClientOdd, reasonClientMute, reasonClientHang, reasonEarlyEnd}
}

const clientWait = 1500 * time.Millisecond

// groupsOfDial are asked of a client that can be told: two shares, and two groups offered without one.
func groupsOfDial() []string { return []string{"X25519MLKEM768", "X25519", "P-256", "P-384"} }

// check completes a Check with the frame's control, drive and judge.
func (r trapRow) check(c suites.Check) suites.Check {
	c.Needs = append([]features.Feature{features.TLSClient}, c.Needs...)
	for _, k := range r.cases {
		c.Cases = append(c.Cases, suites.Case{ID: k.id, Title: k.title})
	}
	c.Control, c.Reasons, c.Explain = clientControl(""), trapReasons(), explainClient
	if len(r.cases) > 0 && r.cases[0].kind == "mldsa" {
		c.Control = clientControl("mldsa")
	}
	c.Drive = func(ctx context.Context, env *scenarios.Env) error {
		k, err := r.find(env.Key.Case)
		if err != nil {
			return err
		}
		return springTrap(ctx, env, k)
	}
	c.Judge = func(t suites.Trace) suites.Finding {
		k, err := r.find(t.Key.Case)
		if err != nil {
			return suites.Failing(reasonNoDial, "a case that exists", err.Error(), nil)
		}
		return r.judge(t, k)
	}
	if c.Cost.Time == 0 {
		c.Cost.Time = 200 * time.Millisecond
	}
	return c
}

func (r trapRow) find(id string) (trapCase, error) {
	i := slices.IndexFunc(r.cases, func(k trapCase) bool { return k.id == id })
	if i < 0 {
		return trapCase{}, fmt.Errorf("no case %q", id)
	}
	return r.cases[i], nil
}

// springTrap serves the case once and makes the client dial it.
func springTrap(ctx context.Context, env *scenarios.Env, k trapCase) error {
	kind := k.kind
	if kind == "" {
		kind = "ecdsa"
	}
	s := k.server
	s.Identity = prober.Authority(kind).Identity(k.with...)
	s.Wait = clientWait
	trap, err := prober.Listen(env, "trap", func(int) wire.Server { return s })
	if err != nil {
		return err
	}
	req := k.dial
	if len(req.Groups) == 0 {
		req.Groups = groupsOfDial()
	}
	_, err = prober.Dial(ctx, env, request(trap, "trap", kind, req))
	if cerr := trap.Close(); err == nil {
		err = cerr
	}
	return err
}

// request completes a dial with what every one needs. Roots that are given are kept.
func request(trap *prober.Trap, name, kind string, req prober.DialRequest) prober.DialRequest {
	req.Name, req.Address, req.ServerName, req.Reached = name, trap.Addr(), "server.test", trap.Reached()
	if req.Roots == "" {
		req.Roots = prober.RootsPEM(kind)
	}
	if req.Policy == "" {
		req.Policy = "any"
	}
	if req.Send == "" {
		req.Send = "assay"
	}
	if req.DeadlineMillis == 0 {
		req.DeadlineMillis = 3000
	}
	return req
}

// clientControl shows that the client completes a handshake with a server that does nothing wrong.
func clientControl(kind string) *suites.Control {
	if kind == "" {
		kind = "ecdsa"
	}
	return &suites.Control{
		Drive: func(ctx context.Context, env *scenarios.Env) error {
			s := wire.Server{Identity: prober.Authority(kind).Identity(), Echo: true, Wait: clientWait}
			trap, err := prober.Listen(env, "control", func(int) wire.Server { return s })
			if err != nil {
				return err
			}
			_, err = prober.Dial(ctx, env, request(trap, "control", kind, prober.DialRequest{Groups: groupsOfDial()}))
			if cerr := trap.Close(); err == nil {
				err = cerr
			}
			return err
		},
		Judge: func(evidence []results.Evidence) (bool, string) {
			heard, err := prober.Heards(evidence)
			if err != nil {
				return false, err.Error()
			}
			for _, h := range heard["control"] {
				if h.Heard.FinishedValid {
					return true, "the client completed a handshake"
				}
			}
			return false, describeHeard(heard["control"])
		},
	}
}

// judge passes the case only by an alert that the clause names. A client may dial several times; none of its
// connections may go on, and the one that got furthest is judged.
func (r trapRow) judge(t suites.Trace, k trapCase) suites.Finding {
	heard, err := prober.Heards(t.Evidence)
	if err != nil {
		return suites.Failing(reasonNoDial, "evidence that can be read", err.Error(), nil)
	}
	hs := heard["trap"]
	want := "the client refuses with " + r.wanted(k)
	cites, observed := citesOf(hs), describeHeard(hs)
	best, said := furthest(hs)
	switch {
	case !said:
		return suites.Failing(reasonNoDial, want, observed, cites)
	case k.unfit(best) != "":
		return suites.Finding{
			Status: results.Inconclusive, Reason: reasonBelowTrap, Expected: want, Observed: k.unfit(best), Cites: cites,
		}
	case wentOn(hs):
		return suites.Failing(reasonWentOn, want, observed, cites)
	case best.Alert != nil && accepted(k.accept, *best.Alert):
		return suites.Passing(want, observed, cites)
	case best.Alert != nil:
		return suites.Failing(reasonClientOdd, want, observed, cites)
	case best.Ending == wire.Silent && t.Noisy(clientWait):
		return suites.TooNoisy(want, observed, cites)
	case best.Ending == wire.Silent:
		return suites.Failing(reasonClientHang, want, observed, cites)
	case best.Stage == "hello":
		return suites.Failing(reasonEarlyEnd, want, observed, cites)
	}
	return suites.Failing(reasonClientMute, want, observed, cites)
}

// unfit says why a client's hello does not let the case be judged, or nothing. A client may lack the groups
// that the trap speaks: then the trap's fault never reached it.
func (k trapCase) unfit(h wire.Heard) string {
	if k.fits != nil {
		if why := k.fits(h); why != "" {
			return why
		}
	}
	offered := func(g wire.Group) bool { return slices.Contains(h.Hello.Groups, g) }
	asks := k.server.Retry != nil || k.server.Bend.Group != 0 // the trap names a group whatever is offered
	if !asks && len(k.server.Groups) > 0 && !slices.ContainsFunc(k.server.Groups, offered) {
		return fmt.Sprintf("the client offers none of %v", k.server.Groups)
	}
	return ""
}

func (r trapRow) wanted(k trapCase) string {
	if len(k.accept) == 0 {
		return "a fatal alert (" + r.clause + ")"
	}
	var names []string
	for _, n := range k.accept {
		code, _ := wire.AlertNamed(n)
		names = append(names, fmt.Sprintf("%s (%d)", n, code))
	}
	return strings.Join(names, " or ") + ", " + r.clause
}

// accepted tells whether an alert is one that the clause names. One that could not be read passes where any
// is allowed.
func accepted(names []string, a wire.Alert) bool {
	if len(names) == 0 {
		return a.Unread || a.Level == 2
	}
	return !a.Unread && a.Level == 2 && slices.Contains(names, a.Code.String())
}

const clientKeyExchange = 16 // handshake type of TLS 1.2

// wentOn tells whether any connection was continued as if nothing were wrong: by protected records, by a key
// exchange of TLS 1.2, or by one more hello than a client may send.
func wentOn(hs []prober.SeenHeard) bool {
	return slices.ContainsFunc(hs, func(h prober.SeenHeard) bool {
		return h.Heard.FinishedValid || len(h.Heard.App) > 0 || h.Heard.Protected > 0 ||
			h.Heard.Ending == wire.Retried || slices.Contains(h.Heard.Messages, clientKeyExchange)
	})
}

// furthest picks the connection with an alert, otherwise the first that said hello.
func furthest(hs []prober.SeenHeard) (wire.Heard, bool) {
	var out wire.Heard
	said := false
	for _, h := range hs {
		if h.Heard.Hello == nil {
			continue
		}
		if !said || (out.Alert == nil && h.Heard.Alert != nil) {
			out, said = h.Heard, true
		}
	}
	return out, said
}

func citesOf(hs []prober.SeenHeard) []uint64 {
	var out []uint64
	for _, h := range hs {
		out = append(out, h.Cites...)
	}
	return out
}

// describeHeard says in one line what a client did.
func describeHeard(hs []prober.SeenHeard) string {
	if len(hs) == 0 {
		return "the client opened no connection"
	}
	var all []string
	times := map[string]int{}
	for _, h := range hs {
		one := describeOne(h.Heard)
		if times[one]++; times[one] == 1 {
			all = append(all, one)
		}
	}
	if len(hs) == 1 {
		return all[0]
	}
	for i, one := range all {
		all[i] = fmt.Sprintf("%d× %s", times[one], one)
	}
	return fmt.Sprintf("%d connections: %s", len(hs), strings.Join(all, "; "))
}

func describeOne(h wire.Heard) string {
	var b strings.Builder
	if h.Hello == nil {
		fmt.Fprintf(&b, "no hello (%s)", h.Ending)
	} else {
		fmt.Fprintf(&b, "hello, then at stage %s %s", h.Stage, h.Ending)
	}
	if h.Alert != nil {
		switch {
		case h.Alert.Unread:
			b.WriteString(", an encrypted alert that can not be read")
		default:
			fmt.Fprintf(&b, ", alert %s (%d)", h.Alert.Code, uint8(h.Alert.Code))
			if h.Alert.Encrypted {
				b.WriteString(", encrypted")
			}
		}
	}
	if h.FinishedValid {
		b.WriteString(", a valid Finished")
	}
	if h.Protected > 0 {
		fmt.Fprintf(&b, ", %d protected records", h.Protected)
	}
	if len(h.App) > 0 {
		fmt.Fprintf(&b, ", %d bytes of application data", len(h.App))
	}
	if h.Detail != "" {
		fmt.Fprintf(&b, " (%s)", h.Detail)
	}
	return b.String()
}

// explainClient decodes recorded traffic between a trap and the client.
func explainClient(e results.Evidence) string { return explain(e) }
