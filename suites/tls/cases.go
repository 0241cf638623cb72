package tls

import (
	"context"
	"fmt"
	"time"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	drive "github.com/assay-bench/assay/scenarios/tls"
	wire "github.com/assay-bench/assay/scenarios/wire/tls"
	"github.com/assay-bench/assay/suites"
)

// serverCase is one hello to a server and what is due for it. Where the offer names no groups, those of
// ordinary are offered.
type serverCase struct {
	id, title string
	needs     []features.Feature
	group     wire.Group // that the positive control must negotiate; 0: any
	lacking   wire.Group // that a server need not have: then it refuses the case for want of a common group
	client    wire.Client
	app       bool // exchanges application data, as far as the target has any
	due       due
}

// due is what a case demands: a refusal, service, or one of the two.
type due struct {
	alerts  []string   // of a refusal; none: any fatal one
	clause  string     // that demands it
	serve   bool       // the hello must be served
	group   wire.Group // with this group; 0: any
	begin   bool       // it need only begin: the prober stops at the ServerHello, or speaks TLS 1.2
	either  bool       // refused or served, both conform: MAY
	retried bool       // the refusal comes after a HelloRetryRequest
	also    func(wire.Outcome) (reason, want string)
}

// refuse demands a refusal by one of the alerts.
func refuse(clause string, alerts ...string) due { return due{alerts: alerts, clause: clause} }

// serve demands service with a group.
func serve(clause string, g wire.Group) due { return due{serve: true, group: g, clause: clause} }

// begin demands a ServerHello with a group.
func begin(clause string, g wire.Group) due {
	return due{serve: true, begin: true, group: g, clause: clause}
}

// either takes a refusal by one of the alerts as well as service.
func either(clause string, alerts ...string) due {
	return due{alerts: alerts, clause: clause, either: true}
}

// want says what is due, for reports.
func (d due) want() string {
	service := "the hello served"
	if d.group != 0 {
		service += " with " + d.group.String()
	}
	text := service
	switch {
	case d.either:
		text = service + ", or " + alertsNamed(d.alerts)
	case !d.serve:
		text = alertsNamed(d.alerts)
		if d.retried {
			text = "a HelloRetryRequest, then " + text
		}
	}
	if d.also != nil {
		_, more := d.also(wire.Outcome{})
		text += " and " + more
	}
	return text + ": " + d.clause
}

// noCommonGroup are the alerts of RFC 9846 section 4.2.1 where both sides have no group in common.
func noCommonGroup() []string { return []string{"handshake_failure", "insufficient_security"} }

const reasonNotRetried = "not-retried"

// reason tells why an outcome is not what is due, or nothing.
func (d due) reason(o wire.Outcome) string {
	switch {
	case d.either && d.also != nil:
		if r, _ := d.also(o); r != "" {
			return r
		}
		return eitherReason(o, d.alerts)
	case d.either:
		return eitherReason(o, d.alerts)
	case !d.serve && d.retried && o.Retry == nil:
		return reasonNotRetried
	case !d.serve:
		return refusedBy(o, d.alerts)
	}
	service := served
	if d.begin {
		service = begun
	}
	if r := service(o, d.group); r != "" {
		return r
	}
	if d.also != nil {
		r, _ := d.also(o)
		return r
	}
	return ""
}

// eitherReason tells why an outcome is neither service nor a refusal, or nothing. A close without an alert
// refuses too: RFC 9846 section 6.2 asks for an alert by a SHOULD alone.
func eitherReason(o wire.Outcome, alerts []string) string {
	r := begun(o, 0)
	switch {
	case r != reasonRefused:
		return r
	case o.Ending == wire.Alerted && o.Alert != nil:
		return alertFits(*o.Alert, alerts)
	case o.Ending == wire.EOF, o.Ending == wire.Reset:
		return ""
	}
	return reasonNoAlert
}

// serverCases is the frame of checks that send one hello each: one drive, one judge, and a positive
// control with a well-formed hello on the same endpoint.
type serverCases struct {
	endpoint string // empty: tls
	cases    []serverCase
	control  func(wire.Client) wire.Client // changes the control's hello; nil: it stays
	extra    []string                      // reasons beyond those of refusal and service
}

// check completes a Check with the frame's drive and judge.
func (s serverCases) check(c suites.Check) suites.Check {
	c.Covers = append(c.Covers, c.ID)
	if s.endpoint == "" {
		s.endpoint = endpoint
		c.Needs = append(c.Needs, features.TLSServer)
	}
	for _, k := range s.cases {
		c.Cases = append(c.Cases, suites.Case{ID: k.id, Title: k.title, Needs: k.needs})
	}
	c.Control = &suites.Control{Drive: s.driveControl, Judge: s.judgeControl(c.ID)}
	c.Drive, c.Judge, c.Explain = s.drive, s.judge, explain
	c.Reasons = reasonsOf(s.reasons(), s.extra)
	if c.Cost.Time == 0 {
		c.Cost.Time = 100 * time.Millisecond
	}
	return c
}

// reasons are those that the cases can give.
func (s serverCases) reasons() []string {
	var out []string
	for _, k := range s.cases {
		set := refusalReasons()
		switch {
		case k.due.either:
			set = reasonsOf(set, serviceReasons())
		case k.due.serve:
			set = serviceReasons()
		}
		if k.due.retried {
			set = append(set, reasonNotRetried)
		}
		out = reasonsOf(out, set)
	}
	return out
}

func (s serverCases) find(id string) (serverCase, error) {
	for _, k := range s.cases {
		if k.id == id {
			return k, nil
		}
	}
	return serverCase{}, fmt.Errorf("no case %q", id)
}

// driveControl completes a handshake with a well-formed hello.
func (s serverCases) driveControl(ctx context.Context, env *scenarios.Env) error {
	k, err := s.find(env.Key.Case)
	if err != nil {
		return err
	}
	c := wire.Client{Offer: s.commonOffer(env)}
	if k.group != 0 {
		c.Offer = alone(k.group)
	}
	if s.control != nil {
		c = s.control(c)
	}
	c.Wait = answerWait(env.Claims)
	_, err = drive.Probe(ctx, env, s.endpoint, "control", c)
	return err
}

// commonOffer is ordinary, without post-quantum groups where the endpoint has none.
func (s serverCases) commonOffer(env *scenarios.Env) wire.Offer {
	if s.endpoint == endpointClassical {
		return wire.Offer{Groups: classicalGroups(), Shares: classicalGroups()}
	}
	return ordinary(env.Claims)
}

// judgeControl tells whether the control's handshake completed with the group that its case is about.
func (s serverCases) judgeControl(check string) func([]results.Evidence) (bool, string) {
	return func(evidence []results.Evidence) (bool, string) {
		all, err := drive.Handshakes(evidence)
		if err != nil {
			return false, err.Error()
		}
		h, ok := all["control"]
		if !ok {
			return false, "no handshake of the control of " + check + " is in the evidence"
		}
		o := h.Outcome
		return o.Ending == wire.Completed && o.Flight != nil && o.Flight.FinishedValid, describe(o)
	}
}

func (s serverCases) drive(ctx context.Context, env *scenarios.Env) error {
	k, err := s.find(env.Key.Case)
	if err != nil {
		return err
	}
	c := k.client
	if c.Offer.Groups == nil {
		o := s.commonOffer(env)
		c.Offer.Groups, c.Offer.Shares = o.Groups, o.Shares
	}
	if k.app {
		c.Send, c.Want = drive.App(env)
	}
	c.Wait = answerWait(env.Claims)
	if k.lacking != 0 {
		has := wire.Client{Offer: alone(k.lacking), StopAtHello: true, Wait: c.Wait}
		if _, err := drive.Probe(ctx, env, s.endpoint, "group", has); err != nil {
			return err
		}
	}
	_, err = drive.Probe(ctx, env, s.endpoint, "probe", c)
	return err
}

func (s serverCases) judge(t suites.Trace) suites.Finding {
	k, err := s.find(t.Key.Case)
	if err != nil {
		return suites.Failing(reasonGarbled, "a case that exists", err.Error(), nil)
	}
	h, ok := seen(t, "probe")
	if !ok {
		return missing(k.due.want(), "probe")
	}
	d, observed, cites := k.due, describe(h.Outcome), h.Cites
	if d.either {
		observed = "informational: " + observed
	}
	if k.lacking != 0 {
		g, ok := seen(t, "group")
		if !ok {
			return missing(d.want(), "group")
		}
		if cites = joined(h.Cites, g.Cites); refusedBy(g.Outcome, noCommonGroup()) == "" {
			d.alerts = append(noCommonGroup(), d.alerts...)
			observed += "; the server does not have " + k.lacking.String()
		}
	}
	return judged(t, d.reason(h.Outcome), d.want(), observed, cites)
}

// completing is the control of a check without cases of its own: a well-formed hello is served.
func completing(at string, client func(*scenarios.Env) wire.Client) *suites.Control {
	return &suites.Control{
		Drive: func(ctx context.Context, env *scenarios.Env) error {
			c := client(env)
			c.Wait = answerWait(env.Claims)
			_, err := drive.Probe(ctx, env, at, "control", c)
			return err
		},
		Judge: serverCases{}.judgeControl("this check"),
	}
}
