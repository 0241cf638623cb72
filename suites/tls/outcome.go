package tls

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios/rpc"
	"github.com/assay-bench/assay/scenarios/target"
	drive "github.com/assay-bench/assay/scenarios/tls"
	wire "github.com/assay-bench/assay/scenarios/wire/tls"
	"github.com/assay-bench/assay/suites"
)

// answerWait is how long a check waits for each answer. It is short enough that a server which hangs fails
// in time, and not shorter than what the target says of itself.
func answerWait(c target.Claims) time.Duration { return max(1500*time.Millisecond, c.Limits.Answer()) }

// Reasons that are shared.
const (
	reasonAccepted   = "accepted"    // what must be refused was answered with a ServerHello, a retry or service
	reasonWrongAlert = "wrong-alert" // refused by another alert than the clause names
	reasonNoAlert    = "no-alert"    // closed or reset without an alert
	reasonSilent     = "silent"      // neither an answer nor a close within the wait
	reasonGarbled    = "garbled"     // an answer that can not be read, or no evidence
	reasonRefused    = "refused"     // what must be served was refused
	reasonWrongGroup = "wrong-group" // served with another group than is due
	reasonFlight     = "flight-corrupt"
)

// seen finds a recorded handshake.
func seen(t suites.Trace, name string) (drive.Seen, bool) {
	all, err := drive.Handshakes(t.Evidence)
	if err != nil {
		return drive.Seen{}, false
	}
	s, ok := all[name]
	return s, ok
}

// missing is the finding where a handshake is not in the evidence.
func missing(want, name string) suites.Finding {
	return suites.Failing(reasonGarbled, want, "no handshake "+name+" is in the evidence", nil)
}

// answered tells whether the server took the hello: it sent a ServerHello, of any version.
func answered(o wire.Outcome) bool {
	return o.Server != nil || o.Legacy != nil || o.Ending == wire.Answered || o.Ending == wire.Completed
}

// served tells why a handshake did not complete as it is due, or nothing. A group of 0 means any.
func served(o wire.Outcome, group wire.Group) (reason string) {
	if o.Server != nil && group != 0 && o.Server.Group != group {
		return reasonWrongGroup
	}
	switch o.Ending {
	case wire.Completed:
		return ""
	case wire.Silent:
		return reasonSilent
	case wire.Alerted, wire.EOF, wire.Reset, wire.Refused:
		return reasonRefused
	case wire.WrongFinished, wire.Unreadable:
		return reasonFlight
	}
	return reasonGarbled
}

// begun is served for a prober that stops at the first answer, and for TLS 1.2, of which it reads the
// first flight alone.
func begun(o wire.Outcome, group wire.Group) (reason string) {
	r := served(o, group)
	if r != reasonWrongGroup && o.Ending == wire.Answered {
		return ""
	}
	return r
}

// serviceReasons are what served gives.
func serviceReasons() []string {
	return []string{reasonRefused, reasonSilent, reasonWrongGroup, reasonFlight, reasonGarbled}
}

// refusalReasons are what refusedBy gives.
func refusalReasons() []string {
	return []string{reasonAccepted, reasonWrongAlert, reasonNoAlert, reasonSilent, reasonGarbled}
}

// reasonsOf joins sets of reasons.
func reasonsOf(sets ...[]string) []string {
	var out []string
	for _, s := range sets {
		for _, r := range s {
			if !slices.Contains(out, r) {
				out = append(out, r)
			}
		}
	}
	return out
}

// refusedBy tells why an outcome is not a refusal by one of the alerts, or nothing. No alerts mean that any
// fatal one counts.
func refusedBy(o wire.Outcome, alerts []string) (reason string) {
	switch {
	case answered(o), o.Ending == wire.Retried:
		return reasonAccepted
	case o.Ending == wire.Alerted && o.Alert != nil:
		return alertFits(*o.Alert, alerts)
	case o.Ending == wire.EOF, o.Ending == wire.Reset, o.Ending == wire.Refused:
		return reasonNoAlert
	case o.Ending == wire.Silent:
		return reasonSilent
	}
	return reasonGarbled
}

func alertFits(a wire.Alert, alerts []string) string {
	if len(alerts) == 0 && a.Code != 0 { // close_notify refuses nothing
		return ""
	}
	if !a.Unread && slices.Contains(alerts, a.Name) {
		return ""
	}
	return reasonWrongAlert
}

// alertsNamed writes alerts as a report names them: with their numbers.
func alertsNamed(names []string) string {
	if len(names) == 0 {
		return "a fatal alert"
	}
	var out []string
	for _, n := range names {
		if code, ok := wire.AlertNamed(n); ok {
			n = fmt.Sprintf("%s (%d)", n, code)
		}
		out = append(out, n)
	}
	return strings.Join(out, " or ")
}

// judged turns a reason into a finding: none passes, and silence of a noisy host is undecided.
func judged(t suites.Trace, reason, want, observed string, cites []uint64) suites.Finding {
	switch {
	case reason == "":
		return suites.Passing(want, observed, cites)
	case reason == reasonSilent && t.Noisy(answerWait(t.Claims)):
		return suites.TooNoisy(want, observed, cites)
	}
	return suites.Failing(reason, want, observed, cites)
}

// describe says in a line what an outcome was.
func describe(o wire.Outcome) string {
	var parts []string
	if r := o.Retry; r != nil {
		parts = append(parts, fmt.Sprintf("HelloRetryRequest for %s", r.Group))
	}
	if s := o.Server; s != nil {
		parts = append(parts, serverHello(*s))
	}
	if l := o.Legacy; l != nil && l.Group != 0 {
		parts = append(parts, fmt.Sprintf("ServerKeyExchange with %s", l.Group))
	}
	return strings.Join(append(parts, ending(o)), ", then ")
}

func serverHello(s wire.ServerSeen) string {
	if s.Version != 0 && s.Version <= version12 {
		return fmt.Sprintf("ServerHello of version 0x%04x", s.Version)
	}
	text := "ServerHello with " + s.Group.String()
	if s.Group == 0 {
		text = "ServerHello without key_share"
	}
	if s.Share > 0 {
		text += fmt.Sprintf(" and a share of %d bytes", s.Share)
	}
	if s.PSK {
		text += " and the PSK"
	}
	return text
}

// ending says how an outcome ended.
func ending(o wire.Outcome) string {
	text := string(o.Ending)
	switch o.Ending {
	case wire.Alerted:
		if o.Alert != nil {
			text = fmt.Sprintf("alert %s (%d)", o.Alert.Name, o.Alert.Code)
			if o.Alert.Unread {
				text = "a protected alert that can not be read"
			}
		}
	case wire.EOF:
		text = "closed without an alert"
	case wire.Reset:
		text = "reset without an alert"
	case wire.Silent:
		text = "silence"
	case wire.Completed:
		text = "the handshake completed"
	case wire.Answered, wire.Retried:
		text = "the prober stopped"
	case wire.Refused:
		text = "the connection was not made"
	case wire.Unreadable:
		text = "a flight that does not decrypt"
	case wire.WrongFinished:
		text = "a Finished that does not verify"
	}
	if o.Stage != "" && o.Ending != wire.Completed {
		text += " (stage " + o.Stage + ")"
	}
	if o.Detail != "" {
		text += ": " + o.Detail
	}
	return text
}

// explain decodes recorded traffic for reports.
func explain(e results.Evidence) string {
	switch e.Kind {
	case drive.Handshaken:
		var h drive.Handshake
		if e.Decode(&h) != nil {
			return ""
		}
		return fmt.Sprintf("handshake %s at endpoint %s: %s", h.Name, h.Endpoint, describe(h.Outcome)) + inside(h.Outcome.Flight, h.Outcome.KeyLog)
	case drive.Overheard:
		var h drive.Heard
		if e.Decode(&h) != nil {
			return ""
		}
		return fmt.Sprintf("connection %d of trap %s: %s", h.N, h.Name, describeOne(h.Heard)) + inside(nil, h.Heard.KeyLog)
	case results.Sent, results.Received, results.Closed, results.Silent, results.Dialed:
		return explainStep(e)
	}
	return ""
}

// inside tells what the prober read in protected records, which the bytes of a connection alone do not show,
// and the secrets to read them with another program.
func inside(f *wire.FlightSeen, keyLog []string) string {
	var b strings.Builder
	if f != nil {
		b.WriteString("\n  decrypted:")
		for _, m := range f.Messages[:min(len(f.Messages), 16)] {
			b.WriteString(" " + wire.MessageName(m))
		}
		fmt.Fprintf(&b, "; %d certificates, signature scheme 0x%04x, signature valid %t, Finished valid %t, padding %d",
			len(f.Certificates), uint16(f.Scheme), f.SignatureValid, f.FinishedValid, f.Padding)
	}
	for _, line := range keyLog[:min(len(keyLog), 4)] {
		b.WriteString("\n  key log: " + line)
	}
	return b.String()
}

func explainStep(e results.Evidence) string {
	var s rpc.Step
	if e.Decode(&s) != nil {
		return ""
	}
	switch e.Kind {
	case results.Sent, results.Received:
		b, _ := s.Bytes.Whole()
		// what the prober sent is the client's, unless the prober was the server
		direction := wire.FromServer
		if (e.Kind == results.Sent) != (e.Source == results.FromPeer) {
			direction = wire.FromClient
		}
		return wire.Describe(direction, b, nil)
	case results.Closed:
		return fmt.Sprintf("%s: the peer ended the connection (%s)", s.Conn, s.How)
	case results.Silent:
		return fmt.Sprintf("%s: nothing came within %s", s.Conn, s.Waited.Round(time.Millisecond))
	}
	return fmt.Sprintf("dial %s: %s %s", s.Conn, s.How, s.Detail)
}

// joined puts citations together, in order and without repetition.
func joined(lists ...[]uint64) []uint64 {
	var out []uint64
	for _, l := range lists {
		for _, n := range l {
			if !slices.Contains(out, n) {
				out = append(out, n)
			}
		}
	}
	return out
}

// killsIn repeats a kill for several cases.
func killsIn(defect, reason string, cases ...string) []suites.Kill {
	var out []suites.Kill
	for _, c := range cases {
		out = append(out, suites.Kill{Defect: defect, Reason: reason, Case: c})
	}
	return out
}

func kills(lists ...[]suites.Kill) []suites.Kill { return slices.Concat(lists...) }
