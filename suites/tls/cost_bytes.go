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

// byteSlack is by how much a count of bytes may differ: an ECDSA signature varies by as much.
const byteSlack = 2

func within(got, want int) bool { return got >= want-byteSlack && got <= want+byteSlack }

// byteRounds is how many handshakes of each kind are counted; the shortest of each counts, so that the
// varying length of ECDSA signatures matters less.
const byteRounds = 4

const (
	reasonPadded = "padded" // records of the flight hold padding
	reasonBytes  = "bytes-differ"
)

// byteCase is a key exchange and how many bytes more than X25519 it takes from the server.
type byteCase struct {
	id, title  string
	needs      []features.Feature
	offer      wire.Offer
	difference int
}

func byteCases() []byteCase {
	out := []byteCase{
		{id: "p256", title: "P-256", offer: alone(wire.P256), difference: 33},
		{id: "retry", title: "X25519 after a HelloRetryRequest", offer: unshared(wire.X25519), difference: 94},
	}
	for _, g := range pqGroups() {
		out = append(out, byteCase{
			id: g.id, title: g.group.String(), needs: []features.Feature{g.feature}, offer: alone(g.group),
			difference: g.group.ServerShare() - wire.X25519.ServerShare(),
		})
	}
	for i := range out {
		out[i].offer.Schemes = classicalSchemes() // the same certificate, whichever the server prefers
	}
	return out
}

func byteNamed(id string) (byteCase, bool) {
	for _, k := range byteCases() {
		if k.id == id {
			return k, true
		}
	}
	return byteCase{}, false
}

var _ = add(bytesExact())

func bytesExact() suites.Check {
	c := suites.Check{
		ID: "tls/kex/bytes-exact", Title: "a key exchange costs its exact number of bytes, and no padding",
		Covers: []string{"tls/kex/bytes-exact"}, Needs: []features.Feature{features.TLSServer, features.TLSDual},
		Cost: suites.Cost{Time: 300 * time.Millisecond}, Explain: explain,
		Reasons: reasonsOf(serviceReasons(), []string{reasonPadded, reasonBytes}),
		Drive:   driveBytes, Judge: judgeBytes,
		Kills: killsIn("tls.padded-flight", reasonPadded, "p256", "retry", "x25519mlkem768", "secp256r1mlkem768", "secp384r1mlkem1024", "mlkem1024"),
	}
	for _, k := range byteCases() {
		c.Cases = append(c.Cases, suites.Case{ID: k.id, Title: k.title, Needs: k.needs})
	}
	return c
}

func driveBytes(ctx context.Context, env *scenarios.Env) error {
	k, ok := byteNamed(env.Key.Case)
	if !ok {
		return fmt.Errorf("no case %q", env.Key.Case)
	}
	base := alone(wire.X25519)
	base.Schemes = k.offer.Schemes
	for i := range byteRounds {
		for _, x := range []struct {
			name  string
			offer wire.Offer
		}{{"base", base}, {"probe", k.offer}} {
			c := wire.Client{Offer: x.offer, Wait: answerWait(env.Claims)}
			c.Send, c.Want = drive.App(env) // what the server sends after its flight has then been read
			o, err := drive.Probe(ctx, env, endpoint, fmt.Sprintf("%s-%d", x.name, i), c)
			if err != nil || o.Ending != wire.Completed {
				return err // one that failed is enough to judge
			}
		}
	}
	return nil
}

func judgeBytes(t suites.Trace) suites.Finding {
	k, ok := byteNamed(t.Key.Case)
	if !ok {
		return missing("a case that exists", t.Key.Case)
	}
	want := fmt.Sprintf("%d bytes more from the server than with X25519, ±%d, without padding: assay TLS rules", k.difference, byteSlack)
	base, one, reason, observed := fewest(t, "base")
	if reason != "" && reason != reasonGarbled { // the other kind may tell why this one is not complete
		return judged(t, reason, want, observed, one)
	}
	probe, two, also, more := fewest(t, "probe")
	cites := joined(one, two)
	if also != "" {
		return judged(t, also, want, more, cites)
	}
	if reason != "" {
		return judged(t, reason, want, observed, cites)
	}
	observed = fmt.Sprintf("%d bytes, and %d with X25519: %+d", probe, base, probe-base)
	if !within(probe-base, k.difference) {
		reason = reasonBytes
	}
	f := judged(t, reason, want, observed, cites)
	f.Figures = []results.Figure{
		{Name: "bytes down", Value: float64(probe), Unit: "bytes"},
		{Name: "bytes down with X25519", Value: float64(base), Unit: "bytes"},
	}
	return f
}

// fewest is the least number of bytes that the server sent in the handshakes of a name, but for what is in
// EncryptedExtensions: a server should name there the groups that it likes better than the one at hand (RFC
// 9846 section 4.3.7). A reason tells why they can not be compared.
func fewest(t suites.Trace, name string) (down int, cites []uint64, reason, observed string) {
	for i := range byteRounds {
		h, ok := seen(t, fmt.Sprintf("%s-%d", name, i))
		if !ok {
			return 0, cites, reasonGarbled, fmt.Sprintf("no handshake %s-%d is in the evidence", name, i)
		}
		cites = joined(cites, h.Cites[:1])
		o := h.Outcome
		if r := served(o, 0); r != "" || o.Flight == nil {
			return 0, joined(cites, h.Cites), orGarbled(r), describe(o)
		}
		if o.Flight.Padding > 0 {
			return 0, joined(cites, h.Cites), reasonPadded, fmt.Sprintf("%s; %d bytes of padding", describe(o), o.Flight.Padding)
		}
		if n := o.Down - o.Flight.Parameters; i == 0 || n < down {
			down = n
		}
	}
	return down, cites, "", ""
}

// resumedDifference is how many bytes more a resumption with X25519MLKEM768 takes from the server than one
// with X25519: its share is that much longer.
const resumedDifference = 1088

var _ = add(suites.Check{
	ID: "tls/resume/bytes-exact", Title: "a resumption with X25519MLKEM768 costs its longer share, and no padding",
	Covers: []string{"tls/kex/bytes-exact"}, Needs: []features.Feature{features.TLSServer, features.TLSTickets, features.TLSX25519},
	Cost: suites.Cost{Time: 300 * time.Millisecond}, Explain: explain,
	Reasons: resumeReasons(reasonWithoutShare, reasonWrongLength, reasonWrongGroup, reasonPadded, reasonBytes),
	Drive: func(ctx context.Context, env *scenarios.Env) error {
		if err := resume(ctx, env, "classical", wire.X25519, wire.X25519); err != nil {
			return err
		}
		return resume(ctx, env, "hybrid", wire.X25519MLKEM768, wire.X25519MLKEM768)
	},
	Judge: judgeResumedBytes,
	Kills: killsIn("tls.padded-flight", reasonPadded, ""),
})

func judgeResumedBytes(t suites.Trace) suites.Finding {
	want := fmt.Sprintf("%d bytes more from the server than with X25519, ±%d, tickets and EncryptedExtensions apart, without padding: assay TLS rules",
		resumedDifference, byteSlack)
	classical, one, reason, observed := resumedDown(t, "classical", wire.X25519)
	if reason != "" {
		return judged(t, reason, want, observed, one)
	}
	hybrid, two, reason, observed := resumedDown(t, "hybrid", wire.X25519MLKEM768)
	cites := joined(one, two)
	if reason != "" {
		return judged(t, reason, want, observed, cites)
	}
	observed = fmt.Sprintf("%d bytes, and %d with X25519: %+d", hybrid, classical, hybrid-classical)
	if !within(hybrid-classical, resumedDifference) {
		reason = reasonBytes
	}
	return judged(t, reason, want, observed, cites)
}

// resumedDown is the number of bytes that the server sent in a resumption, counted as by fewest, and without
// the tickets themselves: how long one is depends on what a server keeps in it. A share of another classical group than X25519
// counts as one of X25519.
func resumedDown(t suites.Trace, name string, g wire.Group) (down int, cites []uint64, reason, observed string) {
	h, cites, reason, observed := secondOf(t, name)
	if reason == "" {
		reason = keptReason(h.Outcome, g)
	}
	o := h.Outcome
	if reason != "" {
		return 0, cites, reason, observed
	}
	if o.Server == nil || o.Flight == nil {
		return 0, cites, reasonGarbled, observed
	}
	if o.Flight.Padding > 0 {
		return 0, cites, reasonPadded, fmt.Sprintf("%s; %d bytes of padding", observed, o.Flight.Padding)
	}
	down = o.Down - o.Flight.Parameters - o.Server.Share + g.ServerShare()
	for _, ticket := range o.Tickets {
		down -= ticket.Bytes
	}
	return down, cites, "", ""
}
