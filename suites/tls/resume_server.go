package tls

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	drive "github.com/assay-bench/assay/scenarios/tls"
	wire "github.com/assay-bench/assay/scenarios/wire/tls"
	"github.com/assay-bench/assay/suites"
)

const (
	reasonTicketless   = "no-ticket"
	reasonResumed      = "class-unbound" // resumed in another group class than the one that issued the ticket
	reasonUnresumed    = "not-resumed"
	reasonWithoutShare = "without-share" // resumed without a key share
)

// resumeCase takes a ticket with one group and offers it with another. X25519 stands for the classical
// groups: which of them a server has is its own choice.
type resumeCase struct {
	id, title    string
	issued, used wire.Group
	resumed      bool // is due
}

func classCases() []resumeCase {
	return []resumeCase{
		{"hybrid-under-classical", "a ticket of X25519MLKEM768 under a classical group", wire.X25519MLKEM768, wire.X25519, false},
		{"classical-under-hybrid", "a ticket of a classical group under X25519MLKEM768", wire.X25519, wire.X25519MLKEM768, false},
		{"hybrid", "a ticket of X25519MLKEM768 under X25519MLKEM768", wire.X25519MLKEM768, wire.X25519MLKEM768, true},
		{"classical", "a ticket of a classical group under a classical group", wire.X25519, wire.X25519, true},
	}
}

// shareCases are resumptions in one class.
func shareCases() []resumeCase { return classCases()[2:] }

func resumeNamed(cases []resumeCase, id string) (resumeCase, bool) {
	for _, k := range cases {
		if k.id == id {
			return k, true
		}
	}
	return resumeCase{}, false
}

// resumable asks for a ticket.
func resumable(env *scenarios.Env, g wire.Group) wire.Client {
	return wire.Client{Offer: inClass(g), Tickets: 1, Wait: answerWait(env.Claims)}
}

// inClass offers a post-quantum group alone, and for X25519 all classical groups.
func inClass(g wire.Group) wire.Offer {
	if g == wire.X25519 {
		return wire.Offer{Groups: classicalGroups(), Shares: classicalGroups()}
	}
	return alone(g)
}

// servedInClass is served for a hello of inClass.
func servedInClass(o wire.Outcome, g wire.Group) string {
	if g == wire.X25519 && o.Server != nil && slices.Contains(classicalGroups(), o.Server.Group) {
		g = o.Server.Group
	}
	return served(o, g)
}

// resume takes a ticket with one group in the handshake name-ticket, and offers it with another in the
// handshake name. Without a ticket there is no second handshake.
func resume(ctx context.Context, env *scenarios.Env, name string, issued, used wire.Group) error {
	first, err := drive.Probe(ctx, env, endpoint, name+"-ticket", resumable(env, issued))
	if err != nil || len(first.Sessions) == 0 {
		return err
	}
	c := wire.Client{Offer: inClass(used), Wait: answerWait(env.Claims)}
	c.Offer.Session = first.Sessions[0]
	c.Send, c.Want = drive.App(env)
	_, err = drive.Probe(ctx, env, endpoint, name, c)
	return err
}

// secondOf finds both handshakes of resume and tells why the second can not be judged, or nothing.
func secondOf(t suites.Trace, name string) (h drive.Seen, cites []uint64, reason, observed string) {
	first, ok := seen(t, name+"-ticket")
	if !ok {
		return drive.Seen{}, nil, reasonGarbled, "no handshake " + name + "-ticket is in the evidence"
	}
	if len(first.Outcome.Tickets) == 0 {
		reason := reasonTicketless
		if r := served(first.Outcome, 0); r != "" {
			reason = r
		}
		return drive.Seen{}, first.Cites, reason, "the first connection got no ticket: " + describe(first.Outcome)
	}
	h, ok = seen(t, name)
	if !ok {
		return drive.Seen{}, first.Cites, reasonGarbled, "no handshake " + name + " is in the evidence"
	}
	return h, joined(h.Cites, first.Cites), "", describe(h.Outcome)
}

func resumeReasons(more ...string) []string {
	return reasonsOf(serviceReasons(), []string{reasonTicketless, reasonUnresumed}, more)
}

func casesOfResumption(cases []resumeCase) (out []suites.Case) {
	for _, k := range cases {
		out = append(out, suites.Case{ID: k.id, Title: k.title})
	}
	return out
}

func driveResumption(ctx context.Context, env *scenarios.Env) error {
	k, ok := resumeNamed(classCases(), env.Key.Case)
	if !ok {
		return fmt.Errorf("no case %q", env.Key.Case)
	}
	return resume(ctx, env, "probe", k.issued, k.used)
}

var _ = add(suites.Check{
	ID: "tls/resume/class-bound", Title: "a ticket resumes only in the group class that issued it",
	Covers: []string{"tls/resume/class-bound"}, Needs: []features.Feature{features.TLSServer, features.TLSTickets, features.TLSX25519},
	Cases: casesOfResumption(classCases()), Cost: suites.Cost{Time: 200 * time.Millisecond}, Explain: explain,
	Reasons: resumeReasons(reasonResumed), Drive: driveResumption, Judge: judgeClass,
	Kills: killsIn("tls.ticket-class-unbound", reasonResumed, "hybrid-under-classical", "classical-under-hybrid"),
})

func judgeClass(t suites.Trace) suites.Finding {
	k, ok := resumeNamed(classCases(), t.Key.Case)
	if !ok {
		return missing("a case that exists", t.Key.Case)
	}
	want := "a full handshake: assay TLS rules"
	if k.resumed {
		want = "a resumption: assay TLS rules"
	}
	h, cites, reason, observed := secondOf(t, "probe")
	if reason == "" {
		reason = classReason(k, h.Outcome)
	}
	return judged(t, reason, want, observed, cites)
}

func classReason(k resumeCase, o wire.Outcome) string {
	took := o.Resumed || (o.Server != nil && o.Server.PSK)
	if took && !k.resumed {
		return reasonResumed
	}
	if r := servedInClass(o, k.used); r != "" {
		return r
	}
	if k.resumed && !took {
		return reasonUnresumed
	}
	return ""
}

const clauseDHE = "RFC 9846 section 4.3.9, psk_dhe_ke"

var _ = add(keptCheck())

func keptCheck() suites.Check {
	return suites.Check{
		ID: "tls/resume/dhe-kept", Title: "a resumption keeps a fresh key share",
		Covers: []string{"tls/resume/dhe-kept"}, Needs: []features.Feature{features.TLSServer, features.TLSTickets, features.TLSX25519},
		Cases: casesOfResumption(shareCases()), Cost: suites.Cost{Time: 200 * time.Millisecond}, Explain: explain,
		Reasons: resumeReasons(reasonWithoutShare, reasonWrongLength), Drive: driveResumption, Judge: judgeKept,
		Kills: killsIn("tls.psk-without-dhe", reasonWithoutShare, "hybrid", "classical"),
	}
}

func judgeKept(t suites.Trace) suites.Finding {
	k, ok := resumeNamed(shareCases(), t.Key.Case)
	if !ok {
		return missing("a case that exists", t.Key.Case)
	}
	want := "a resumption whose ServerHello holds a share of its group's length: " + clauseDHE
	h, cites, reason, observed := secondOf(t, "probe")
	if reason == "" {
		reason = keptReason(h.Outcome, k.used)
	}
	if reason == reasonTicketless || reason == reasonUnresumed { // both are a server's right, and leave nothing to judge
		return suites.Finding{Status: results.Inconclusive, Reason: reason, Expected: want, Observed: observed, Cites: cites}
	}
	return judged(t, reason, want, observed, cites)
}

// keptReason tells why a resumption did not keep a share of its group, or nothing.
func keptReason(o wire.Outcome, g wire.Group) string {
	if s := o.Server; s != nil && s.PSK {
		switch {
		case s.Share == 0:
			return reasonWithoutShare
		case s.Share != s.Group.ServerShare():
			return reasonWrongLength
		}
	}
	if r := servedInClass(o, g); r != "" {
		return r
	}
	if !o.Resumed {
		return reasonUnresumed
	}
	return ""
}
