package rpc

import (
	"context"
	"encoding/binary"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/assay-bench/assay/chaos"
	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/host"
	"github.com/assay-bench/assay/scenarios/rpc"
	"github.com/assay-bench/assay/scenarios/target"
	"github.com/assay-bench/assay/scenarios/wire/behave"
	"github.com/assay-bench/assay/scenarios/wire/rpcframe"
	"github.com/assay-bench/assay/scenarios/wire/thrift"
	"github.com/assay-bench/assay/scenarios/wire/ttheader"
	"github.com/assay-bench/assay/suites"
)

func TestCatalogue(t *testing.T) {
	area, err := Area()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, r := range area.Requirements {
		if seen[r.ID] {
			t.Errorf("requirement %s stands twice", r.ID)
		}
		seen[r.ID] = true
		if !strings.HasPrefix(r.ID, "rpc/") {
			t.Errorf("requirement %s is not of this area", r.ID)
		}
	}
	if len(seen) != 72 {
		t.Errorf("%d requirements, want 72: a row goes only with a note in the changelog", len(seen))
	}
}

// thriftChecks are the checks of this folder that send and read Thrift, and leave the target's process
// alone.
func thriftChecks(t testing.TB) []suites.Check {
	t.Helper()
	area, err := Area()
	if err != nil {
		t.Fatal(err)
	}
	probes, err := Claims()
	if err != nil {
		t.Fatal(err)
	}
	speaksThrift := func(f features.Feature) bool { return strings.HasPrefix(string(f), "rpc.") }
	var out []suites.Check
	for _, c := range append(area.Checks, probes.Checks...) {
		wire := strings.HasPrefix(c.ID, "rpc/wire/") || strings.HasPrefix(c.ID, "claims/") || c.ID == "rpc/resilience/panic-contained"
		if wire && slices.ContainsFunc(c.Needs, speaksThrift) {
			out = append(out, c)
		}
	}
	if len(out) < 25 {
		t.Fatalf("saw %d checks: this test proves nothing", len(out))
	}
	return out
}

// fact is one piece of evidence under construction.
type fact struct {
	kind results.Kind
	from results.Source
	data any
}

func step(kind results.Kind, s rpc.Step) fact {
	s.Conn = "c"
	return fact{kind, results.FromScenario, s}
}

func sent(label string, b []byte) fact {
	return step(results.Sent, rpc.Step{Label: label, Bytes: results.BytesOf(b)})
}

// got is an answer after 2 ms.
func got(label string, pieces ...[]byte) fact { return gotAfter(2*time.Millisecond, label, pieces...) }

func gotAfter(d time.Duration, label string, pieces ...[]byte) fact {
	return step(results.Received, rpc.Step{Label: label, Bytes: results.BytesOf(slices.Concat(pieces...)), Waited: d})
}

func closedAfter(d time.Duration, label string) fact {
	return step(results.Closed, rpc.Step{Label: label, How: "eof", Waited: d})
}

func closedAtOnce(label string) fact { return closedAfter(time.Millisecond, label) }
func silence(label string) fact {
	return step(results.Silent, rpc.Step{Label: label, Waited: time.Second})
}

func refusedDial(name string) fact {
	return fact{results.Dialed, results.FromScenario, rpc.Step{Conn: name, How: "refused"}}
}

func memory(before, after int64) fact {
	return fact{results.Measured, results.FromHost, host.Memory{Resident: before, Peak: after}}
}

func record(t testing.TB, facts []fact) []results.Evidence {
	t.Helper()
	var out []results.Evidence
	for _, f := range facts {
		raw, err := results.Marshal(f.data)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, results.Evidence{Seq: uint64(len(out) + 1), Source: f.from, Kind: f.kind, Data: raw})
	}
	return out
}

func wrapped(form rpcframe.Form, m thrift.MessageType, name string, seq, headerSeq int32, body []byte) []byte {
	var w thrift.Writer
	w.Message(name, m, seq)
	b, err := rpcframe.Wrap(form, append(w.Bytes, body...), ttheader.Header{Seq: headerSeq})
	if err != nil {
		panic(err) // of a form that the table names
	}
	return b
}

// reply is an ordinary reply with sequence id 7.
func reply(form rpcframe.Form, m behave.Msg) []byte { return replySeq(form, 7, m) }

func replySeq(form rpcframe.Form, seq int32, m behave.Msg) []byte {
	return wrapped(form, thrift.Reply, behave.MethodEcho, seq, seq, behave.Result{Success: &m}.Encode())
}

func hi(form rpcframe.Form) []byte { return reply(form, behave.Msg{Body: "hi"}) }

// control is the reply to an ordinary call.
func control(form rpcframe.Form) []byte {
	return replySeq(form, controlSeq, behave.Msg{Body: "control"})
}

func declared(form rpcframe.Form, code int32) []byte {
	return wrapped(form, thrift.Reply, behave.MethodEcho, 7, 7, behave.Result{Fault: &behave.Fault{Code: code}}.Encode())
}

func fault(form rpcframe.Form, code int32, name, text string) []byte {
	return faultSeq(form, 7, code, name, text)
}

func faultSeq(form rpcframe.Form, seq, code int32, name, text string) []byte {
	var w thrift.Writer
	w.Field(thrift.String, 1)
	w.String(text)
	w.Field(thrift.I32, 2)
	w.I32(code)
	w.Stop()
	return wrapped(form, thrift.Exception, name, seq, seq, w.Bytes)
}

// ran is the answer to the question how often the handler ran.
func ran(form rpcframe.Form, n int64) fact {
	return got("count", reply(form, behave.Msg{Report: &behave.Report{Count: &n}}))
}

var garbage = []byte("\x16\x03\x01 this is no Thrift at all")

// judged is a hand-made trace and what its judge has to say.
type judged struct {
	check, kase string
	what        string
	facts       []fact
	status      results.Status
	reason      string
	stall       time.Duration
}

func pass(check, kase, what string, facts ...fact) judged {
	return judged{check: check, kase: kase, what: what, facts: facts, status: results.Pass}
}

func fails(reason, check, kase, what string, facts ...fact) judged {
	return judged{check: check, kase: kase, what: what, facts: facts, status: results.Fail, reason: reason}
}

// noisy is a trace of a harness that stalled.
func noisy(stall time.Duration, check, kase, what string, facts ...fact) judged {
	return judged{check: check, kase: kase, what: what, facts: facts, status: results.Inconclusive, reason: suites.ReasonHostNoise, stall: stall}
}

const (
	buffered  = rpcframe.Buffered
	framed    = rpcframe.Framed
	tthFramed = rpcframe.TTHeaderFramed
)

func transportTraces(t *testing.T) []judged {
	const id = "rpc/wire/four-transports"
	message, err := goldenBytes("buffered-reply")
	if err != nil {
		t.Fatal(err)
	}
	in := func(form rpcframe.Form) fact {
		b, err := rpcframe.Wrap(form, message, ttheader.Header{Seq: 7})
		if err != nil {
			t.Fatal(err)
		}
		return got("probe", b)
	}
	return []judged{
		pass(id, "buffered", "", in(buffered)), pass(id, "framed", "", in(framed)),
		pass(id, "ttheader", "", in(rpcframe.TTHeader)), pass(id, "ttheader-framed", "", in(tthFramed)),
		fails("wrong-form", id, "buffered", "framed", in(framed)),
		fails("wrong-form", id, "ttheader", "with a frame too many", in(tthFramed)),
		fails("wrong-form", id, "framed", "garbage", got("probe", garbage)),
		fails("wrong-payload", id, "framed", "another body", got("probe", hi(framed))),
		fails("wrong-payload", id, "framed", "an exception", got("probe", fault(framed, 6, "Echo", ""))),
		fails("no-reply", id, "framed", "silence", silence("probe")),
		fails("no-reply", id, "framed", "a close", closedAtOnce("probe")),
		fails("no-reply", id, "framed", "no connection", refusedDial("probe")),
	}
}

func replyTraces() []judged {
	const seq, pad, order = "rpc/wire/seq-echo", "rpc/wire/padding-skipped", "rpc/wire/header-order-free"
	meta := func(m map[string]string) fact {
		return got("probe", reply(tthFramed, behave.Msg{Report: &behave.Report{Meta: m}}))
	}
	whole := map[string]string{"isn": behave.Service, "RPC_PERSIST_k": "v", "#9": behave.MethodEcho}
	without := maps.Clone(whole)
	delete(without, "RPC_PERSIST_k")
	echoed := func(m, h int32) fact {
		return got("probe", wrapped(tthFramed, thrift.Reply, "Echo", m, h, behave.Result{Success: &behave.Msg{}}.Encode()))
	}
	return []judged{
		pass(seq, "equal", "", echoed(7, 7)), pass(seq, "header-differs", "", echoed(7, 7)), pass(seq, "negative", "", echoed(-2, -2)),
		pass(seq, "framed", "", got("probe", hi(framed))),
		fails(reasonMessageSeq, seq, "equal", "0", echoed(0, 7)),
		fails(reasonMessageSeq, seq, "header-differs", "the header's", echoed(8, 8)),
		fails(reasonMessageSeq, seq, "negative", "2", echoed(2, 2)),
		fails(reasonHeaderSeq, seq, "header-differs", "8 in the header", echoed(7, 8)),
		fails(reasonNoReply, seq, "equal", "an exception", got("probe", fault(tthFramed, 6, "Echo", ""))),
		fails(reasonNoReply, seq, "equal", "a call", got("probe", wrapped(tthFramed, thrift.Call, "Echo", 7, 7, behave.Args(behave.Msg{})))),
		noisy(time.Second, seq, "equal", "silence while the harness stalled", silence("probe")),
		pass(pad, "behind-blocks", "", got("probe", hi(tthFramed))),
		fails(reasonNoReply, pad, "behind-blocks", "more than was asked for", got("probe", hi(tthFramed), garbage)),
		fails(reasonNoReply, pad, "before-blocks", "another body", got("probe", reply(tthFramed, behave.Msg{Body: "ho"}))),
		fails(reasonNoReply, pad, "before-blocks", "a declared exception", got("probe", declared(tthFramed, 1))),
		pass(order, "reversed", "", meta(whole)),
		fails(reasonMetaDiffers, order, "usual", "a key is missing", meta(without)),
		fails(reasonNoReply, order, "usual", "no report", got("probe", hi(tthFramed))),
	}
}

func exceptionTraces() []judged {
	const method, service, keeps = "rpc/wire/unknown-method", "rpc/wire/unknown-service", "rpc/wire/unknown-keeps-connection"
	const throws, errs, leak, contained, stays = "rpc/wire/declared-exception", "rpc/wire/undeclared-error", "rpc/wire/no-panic-leak", "rpc/resilience/panic-contained", "rpc/wire/error-keeps-connection"
	ex := func(code int32, name string) fact { return got("probe", fault(framed, code, name, "x")) }
	next := got("next", control(framed))
	text := func(s string) fact { return got("probe", fault(framed, 6, "Echo", s)) }
	mark := sent("probe", []byte("...assay-marker-0123ABCD-00000000..."))
	out := []judged{
		pass(method, "framed", "", ex(1, noSuchMethod)),
		fails(reasonNameNotEchoed, method, "framed", "", ex(1, "Echo")),
		pass(service, "ttheader-framed", "", got("probe", fault(tthFramed, 20, "Echo", ""))),
		fails(reasonServed, service, "ttheader-framed", "", got("probe", hi(tthFramed))),
		fails(reasonWrongException, service, "ttheader-framed", "", got("probe", fault(tthFramed, 1, "Echo", ""))),
		fails(reasonNoException, service, "ttheader-framed", "in another form", got("probe", fault(framed, 20, "Echo", ""))),
		pass(keeps, "method", "", ex(1, noSuchMethod), next),
		fails(reasonNoException, keeps, "method", "", closedAtOnce("probe")),
		fails(reasonNotKept, keeps, "method", "closed afterwards", ex(1, noSuchMethod), closedAtOnce("next")),
		fails(reasonNotKept, keeps, "method", "an exception afterwards", ex(1, noSuchMethod), got("next", fault(framed, 6, "Echo", ""))),
		fails(reasonNotKept, keeps, "method", "nothing afterwards", ex(1, noSuchMethod)),
		pass(throws, "framed", "", got("probe", declared(framed, 7))),
		fails(reasonMessageType, throws, "framed", "", ex(7, "Echo")),
		fails(reasonWrongFault, throws, "framed", "another code", got("probe", declared(framed, 8))),
		fails(reasonWrongFault, throws, "framed", "success", got("probe", hi(framed))),
		fails(reasonNoReply, throws, "framed", "", silence("probe")),
		pass(errs, "framed", "", ex(6, "Echo")),
		pass(stays, "framed", "", ex(6, "Echo"), next),
		fails(reasonNotKept, stays, "framed", "", ex(6, "Echo"), closedAtOnce("next")),
		fails(reasonNotKept, stays, "framed", "the answer to something else", ex(6, "Echo"), got("next", hi(framed))),
		pass(leak, "framed", "", mark, text("internal error")),
		fails(reasonLeaked, leak, "framed", "the marker", mark, text("panic: assay-marker-0123ABCD-00000000")),
		fails(reasonLeaked, leak, "framed", "a stack", mark, text("goroutine 7 [running]")),
		fails(reasonLeaked, leak, "framed", "a file name", mark, text("at server.go:7")),
		fails(reasonLeaked, leak, "framed", "the marker in a reply", mark, got("probe", reply(framed, behave.Msg{Body: "assay-marker-0123ABCD"}))),
		pass(contained, "framed", "", ex(6, "Echo"), next),
		fails(reasonNotKept, contained, "framed", "", ex(6, "Echo"), silence("next")),
	}
	for _, id := range []string{method, errs, stays, leak, contained} {
		out = append(out,
			fails(reasonServed, id, "framed", "", got("probe", hi(framed)), next),
			fails(reasonNoException, id, "framed", "a close", closedAtOnce("probe")),
			fails(reasonNoException, id, "framed", "garbage", got("probe", garbage)),
			fails(reasonWrongException, id, "framed", "", ex(2, noSuchMethod), next),
			noisy(time.Second, id, "framed", "silence while the harness stalled", silence("probe")))
	}
	return out
}

func boundTraces() []judged {
	const nest, container, limit, deadline = "rpc/wire/nesting-bound", "rpc/wire/container-bound", "rpc/wire/length-limit", "rpc/wire/read-deadline"
	seven := fault(framed, 7, "Echo", "")
	lean, fat := memory(10<<20, 10<<20+1000), memory(10<<20, 12<<20)
	return []judged{
		pass(nest, "within", "", got("probe", hi(framed))), pass(nest, "undeclared", "", got("probe", seven)),
		fails(reasonNoReply, nest, "within", "refused", got("probe", seven)),
		fails(reasonServed, nest, "declared", "", got("probe", hi(framed))),
		fails(reasonNoException, nest, "declared", "", closedAtOnce("probe")),
		fails(reasonWrongException, nest, "declared", "", got("probe", fault(framed, 6, "Echo", ""))),
		fails(reasonSlow, nest, "declared", "", gotAfter(101*time.Millisecond, "probe", seven)),
		{check: nest, kase: "declared", what: "slow, but the harness stalled as long", facts: []fact{gotAfter(150*time.Millisecond, "probe", seven)}, status: results.Pass, stall: 60 * time.Millisecond},

		pass(container, "list-of-structs", "", got("probe", seven), lean),
		fails(reasonMemoryGrew, container, "list-of-structs", "", got("probe", seven), fat),
		fails(reasonMemoryUnknown, container, "list-of-structs", "", got("probe", seven)),
		fails(reasonServed, container, "list-of-structs", "", got("probe", hi(framed)), lean),
		fails(reasonNoException, container, "list-of-structs", "", closedAtOnce("probe"), lean),
		fails(reasonWrongException, container, "list-of-structs", "", got("probe", fault(framed, 6, "Echo", "")), lean),

		pass(limit, "framed-2-gib", "", closedAtOnce("probe"), lean),
		pass(limit, "framed-2-gib", "an exception first", got("probe", seven), closedAtOnce("probe"), lean),
		fails(reasonNotClosed, limit, "framed-2-gib", "silence", silence("probe"), lean),
		fails(reasonNotClosed, limit, "framed-2-gib", "late", closedAfter(3*time.Second, "probe"), lean),
		fails(reasonNotClosed, limit, "framed-2-gib", "refused", refusedDial("probe"), lean),
		fails(reasonNotClosed, limit, "framed-2-gib", "an exception only", got("probe", seven), lean),
		fails(reasonAnswered, limit, "framed-2-gib", "", got("probe", hi(framed)), closedAtOnce("probe"), lean),
		fails(reasonAnswered, limit, "framed-2-gib", "garbage", got("probe", garbage), closedAtOnce("probe"), lean),
		fails(reasonMemoryGrew, limit, "framed-2-gib", "", closedAtOnce("probe"), fat),
		fails(reasonMemoryUnknown, limit, "framed-2-gib", "", closedAtOnce("probe")),
		noisy(time.Second, limit, "framed-2-gib", "silence while the harness stalled", silence("probe"), lean),

		pass(deadline, "none", "", closedAfter(5100*time.Millisecond, "probe")),
		pass(deadline, "four-bytes", "an exception first", got("probe", seven), closedAfter(5*time.Second, "probe")),
		fails("early", deadline, "none", "", closedAfter(4400*time.Millisecond, "probe")),
		fails("late", deadline, "none", "", closedAfter(5600*time.Millisecond, "probe")),
		fails(reasonNotClosed, deadline, "none", "silence", silence("probe")),
		fails(reasonNotClosed, deadline, "none", "refused", refusedDial("probe")),
		fails(reasonNotClosed, deadline, "none", "an exception only", got("probe", seven)),
		fails(reasonAnswered, deadline, "twenty-bytes", "", got("probe", hi(framed)), closedAfter(5*time.Second, "probe")),
		fails(reasonAnswered, deadline, "twenty-bytes", "garbage", got("probe", garbage), closedAfter(5*time.Second, "probe")),
		noisy(200*time.Millisecond, deadline, "none", "near a bound", closedAfter(5400*time.Millisecond, "probe")),
	}
}

func orderTraces() []judged {
	const id, silent, silentType = "rpc/wire/pipelining-order", "rpc/wire/oneway-silent", "rpc/wire/oneway-type-silent"
	slow, fast := replySeq(framed, 11, behave.Msg{}), replySeq(framed, 12, behave.Msg{})
	next := got("next", control(framed))
	out := []judged{
		pass(id, "framed", "", got("probe", slow, fast)), pass(id, "framed", "in two reads", got("probe", slow), got("probe", fast)),
		fails("out-of-order", id, "framed", "", got("probe", fast, slow)),
		fails("out-of-order", id, "framed", "one twice", got("probe", slow, slow)),
		fails("out-of-order", id, "framed", "three", got("probe", slow, fast, fast)),
		fails("lost", id, "framed", "the second", got("probe", slow), silence("probe")),
		fails("lost", id, "framed", "the second's end", got("probe", slow, fast[:9]), closedAtOnce("probe")),
		fails("lost", id, "framed", "both", refusedDial("probe")),
		fails("lost", id, "framed", "an exception in place of a reply", got("probe", slow, faultSeq(framed, 12, 6, "Echo", ""))),
		fails(reasonGarbled, id, "framed", "", got("probe", slow, garbage)),
		fails(reasonGarbled, id, "framed", "calls", got("probe", wrapped(framed, thrift.Call, "Echo", 11, 0, behave.Args(behave.Msg{})), fast)),
		noisy(time.Second, id, "framed", "the second is late while the harness stalled", got("probe", slow)),

		pass(silent, "type-4", "", silence("probe"), next, ran(framed, 1)),
		fails(reasonNotRun, silent, "type-4", "not at all", silence("probe"), next, ran(framed, 0)),
		fails(reasonNotRun, silent, "type-4", "twice", silence("probe"), next, ran(framed, 2)),
		fails(reasonNotRun, silent, "type-4", "not said", silence("probe"), next, closedAtOnce("count")),
		pass(silentType, "framed", "", silence("probe"), next),
	}
	for _, s := range []string{silent, silentType} {
		kase := map[string]string{silent: "type-1", silentType: "framed"}[s]
		out = append(out,
			fails(reasonAnswered, s, kase, "a reply", got("probe", hi(framed)), next, ran(framed, 1)),
			fails(reasonAnswered, s, kase, "an exception", got("probe", fault(framed, 6, "Echo", "")), next, ran(framed, 1)),
			fails(reasonAnswered, s, kase, "garbage", got("probe", garbage), next, ran(framed, 1)),
			fails(reasonNotKept, s, kase, "closed", closedAtOnce("probe"), ran(framed, 1)),
			fails(reasonNotKept, s, kase, "no connection", refusedDial("probe"), next, ran(framed, 1)),
			fails(reasonNotKept, s, kase, "nobody waited for an answer", sent("probe", garbage), next, ran(framed, 1)),
			fails(reasonNotKept, s, kase, "closed afterwards", silence("probe"), closedAtOnce("next"), ran(framed, 1)))
	}
	return out
}

func claimTraces() []judged {
	var out []judged
	forms := map[string]rpcframe.Form{
		"claims/rpc.buffered": buffered, "claims/rpc.framed": framed, "claims/rpc.ttheader": rpcframe.TTHeader,
		"claims/rpc.ttheader-framed": tthFramed, "claims/rpc.behave": buffered, // the first form that is claimed
	}
	for id, form := range forms {
		out = append(out,
			pass(id, "", "", got("probe", hi(form))),
			fails(reasonAbsent, id, "", "an exception", got("probe", fault(form, 1, "Echo", ""))),
			fails(reasonAbsent, id, "", "a close", closedAtOnce("probe")),
			fails(reasonAbsent, id, "", "no connection", refusedDial("probe")),
			fails(reasonAbsent, id, "", "silence", silence("probe")),
			noisy(time.Second, id, "", "silence while the harness stalled", silence("probe")))
	}
	return out
}

// refusals are the checks that stand on the frame refusal.
func refusals() map[string]refusal {
	return map[string]refusal{
		"rpc/wire/info-id-unknown": infoID, "rpc/wire/strict-only": strictOnly, "rpc/wire/header-size-nonzero": headerSize,
		"rpc/wire/length-consistent": lengthConsistent, "rpc/wire/protocol-id-known": protocolID,
		"rpc/wire/transform-refused": transformRefused, "rpc/wire/client-message-types": messageTypes,
	}
}

func refusalTraces() []judged {
	var out []judged
	for id, r := range refusals() {
		for _, v := range r.variants {
			count := ran(v.form, 0)
			reply, wrong := got("probe", hi(v.form)), got("probe", fault(v.form, 6, "Echo", ""))
			for _, code := range r.codes {
				out = append(out, pass(id, v.id, "an exception", got("probe", fault(v.form, code, "Echo", "")), closedAtOnce("next"), count))
			}
			ended := pass(id, v.id, "a close", closedAtOnce("probe"), count)
			if !r.closing {
				ended.status, ended.reason = results.Fail, reasonNotRefused
			}
			out = append(out, ended,
				fails(reasonServed, id, v.id, "", reply, count),
				fails(reasonHandlerRan, id, v.id, "", closedAtOnce("probe"), ran(v.form, 1)),
				fails(reasonWrongException, id, v.id, "", wrong, count),
				fails(reasonNotRefused, id, v.id, "silence", silence("probe"), count),
				fails(reasonNotRefused, id, v.id, "no connection", refusedDial("probe"), count),
				fails(reasonGarbled, id, v.id, "", got("probe", garbage), closedAtOnce("probe"), count),
				fails(reasonNoCount, id, v.id, "a close", closedAtOnce("probe"), closedAtOnce("count")),
				fails(reasonNoCount, id, v.id, "no answer", closedAtOnce("probe")),
				noisy(time.Second, id, v.id, "silence while the harness stalled", silence("probe"), count))
			next := fails(reasonStillOpen, id, v.id, "", closedAtOnce("probe"), got("next", hi(v.form)), count)
			if !r.ends { // not asked
				next.status, next.reason = results.Pass, ""
			}
			out = append(out, next)
		}
	}
	return out
}

func allClaims() target.Claims {
	c := target.Claims{}
	for _, f := range features.All() {
		c.Features = append(c.Features, string(f.Feature))
	}
	return c
}

func TestThriftJudges(t *testing.T) {
	byID := map[string]suites.Check{}
	for _, c := range thriftChecks(t) {
		byID[c.ID] = c
	}
	traces := slices.Concat(transportTraces(t), replyTraces(), exceptionTraces(), boundTraces(), orderTraces(), claimTraces(), refusalTraces())
	seen := map[string]bool{}
	for _, tt := range traces {
		c, ok := byID[tt.check]
		if !ok {
			t.Errorf("there is no check %s", tt.check)
			continue
		}
		name := tt.check + "#" + tt.kase + " " + tt.reason + " " + tt.what
		evidence := record(t, append([]fact{step(results.Dialed, rpc.Step{How: "ok"})}, tt.facts...))
		f := c.Judge(suites.Trace{Key: results.Key{Check: c.ID, Case: tt.kase}, Evidence: evidence, Claims: allClaims(), Stall: tt.stall})
		if f.Status != tt.status || f.Reason != tt.reason {
			t.Errorf("%s: %s %q (%s), want %s %q", name, f.Status, f.Reason, f.Observed, tt.status, tt.reason)
		}
		sound(t, name, c, f, evidence)
		seen[tt.check+" "+tt.reason] = true
	}
	for id, c := range byID {
		for _, reason := range append([]string{""}, c.Reasons...) {
			optional := reason == reasonStillOpen && !refusals()[id].ends
			if !seen[id+" "+reason] && !optional {
				t.Errorf("no trace shows %s with reason %q", id, reason)
			}
		}
	}
}

// sound demands of a finding what the frame demands.
func sound(t *testing.T, name string, c suites.Check, f suites.Finding, evidence []results.Evidence) {
	t.Helper()
	switch f.Status {
	case results.Pass:
		if len(f.Cites) == 0 || f.Reason != "" {
			t.Errorf("%s: a pass with reason %q that cites %v", name, f.Reason, f.Cites)
		}
	case results.Fail, results.Inconclusive:
		if !slices.Contains(c.Reasons, f.Reason) && f.Reason != suites.ReasonHostNoise {
			t.Errorf("%s: reason %q is not in the check's set", name, f.Reason)
		}
	default:
		t.Errorf("%s: the judge says %s (%s)", name, f.Status, f.Observed)
	}
	for _, n := range f.Cites {
		if !slices.ContainsFunc(evidence, func(e results.Evidence) bool { return e.Seq == n }) {
			t.Errorf("%s: cites evidence %d, which the judge was not shown", name, n)
		}
	}
	if f.Expected == "" {
		t.Errorf("%s: nothing says what was expected", name)
	}
}

func TestThriftJudgesNeverPassWithoutEvidence(t *testing.T) {
	n := 0
	for _, c := range thriftChecks(t) {
		for _, key := range c.Keys() {
			n++
			for name, tr := range map[string]suites.Trace{
				"nothing":    {},
				"only dials": {Evidence: record(t, []fact{step(results.Dialed, rpc.Step{How: "ok"})})},
				"only sent":  {Evidence: record(t, []fact{sent("probe", garbage), sent("next", garbage), sent("count", garbage)})},
				"unreadable": {Evidence: []results.Evidence{{Seq: 1, Kind: results.Received, Data: []byte("7")}}},
				"stalled":    {Stall: time.Hour},
			} {
				tr.Key, tr.Claims = key, allClaims()
				if f := c.Judge(tr); f.Status == results.Pass || f.Status == results.Unproven {
					t.Errorf("%s with %s is %s", key, name, f.Status)
				} else {
					sound(t, key.String()+" with "+name, c, f, tr.Evidence)
				}
			}
		}
	}
	if n < 60 {
		t.Fatalf("saw %d cases: this test proves nothing", n)
	}
}

func TestThriftJudgesKnowTheirCases(t *testing.T) {
	for _, c := range thriftChecks(t) {
		if len(c.Cases) == 0 {
			continue
		}
		f := c.Judge(suites.Trace{Key: results.Key{Check: c.ID, Case: "no-such-case"}, Claims: allClaims()})
		if f.Status == results.Pass {
			t.Errorf("%s passes a case that does not exist", c.ID)
		}
	}
}

func TestThriftControl(t *testing.T) {
	call, err := goodCall(framed)
	if err != nil {
		t.Fatal(err)
	}
	c := controlFor([]variant{{id: "k", form: framed}})
	good := control(framed)
	tests := []struct {
		name  string
		facts []fact
		ok    bool
	}{
		{"answered", []fact{sent("control", call), got("control", good)}, true},
		{"answered, then closed", []fact{sent("control", call), got("control", good), closedAtOnce("control")}, true},
		{"nothing", nil, false},
		{"no connection", []fact{refusedDial("control")}, false},
		{"silence", []fact{sent("control", call), silence("control")}, false},
		{"closed", []fact{sent("control", call), closedAtOnce("control")}, false},
		{"garbage", []fact{sent("control", call), got("control", garbage)}, false},
		{"our own bytes", []fact{sent("control", call), got("control", call)}, false},
		{"another body", []fact{sent("control", call), got("control", hi(framed))}, false},
		// rpc/wire/seq-echo asks which id comes back; its control must not decide before it
		{"another sequence id", []fact{sent("control", call), got("control", reply(framed, behave.Msg{Body: "control"}))}, true},
		{"more than was asked for", []fact{sent("control", call), got("control", good, garbage)}, false},
		{"a declared exception", []fact{sent("control", call), got("control", declared(framed, 1))}, false},
		{"an exception", []fact{sent("control", call), got("control", fault(framed, 6, "Echo", ""))}, false},
		{"in another form", []fact{sent("control", call), got("control", control(buffered))}, false},
		{"of another exchange", []fact{sent("control", call), got("probe", good)}, false},
		{"unreadable", []fact{{results.Received, results.FromScenario, 7}}, false},
	}
	for _, tt := range tests {
		if ok, observed := c.Judge(record(t, tt.facts)); ok != tt.ok || observed == "" {
			t.Errorf("%s: %t (%s)", tt.name, ok, observed)
		}
	}
}

// hollow servers implement nothing.
var hollow = map[string]func(net.Conn){
	"closes at once":    func(net.Conn) {},
	"reads and closes":  func(c net.Conn) { c.Read(make([]byte, 4096)) },
	"sends garbage":     func(c net.Conn) { c.Read(make([]byte, 4096)); c.Write(garbage) },
	"sends it all back": func(c net.Conn) { io.Copy(c, c) },
	"claims a reply of 1 GiB": func(c net.Conn) {
		c.Read(make([]byte, 4096))
		c.Write(append(binary.BigEndian.AppendUint32(nil, 1<<30), 0x80, 1, 0, 2))
	},
}

// TestHollowTargetsPassNoThriftCheck drives every case, its control included, against such servers.
func TestHollowTargetsPassNoThriftCheck(t *testing.T) {
	pid, err := chaos.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for name, peer := range hollow {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := hollowServer(t, peer)
			var wg sync.WaitGroup
			for _, c := range thriftChecks(t) {
				for _, key := range c.Keys() {
					wg.Go(func() {
						tr, ok := driven(t, c, key, addr, pid)
						if f := c.Judge(tr); ok && f.Status == results.Pass {
							t.Errorf("%s passes: %s", key, f.Observed)
						} else {
							sound(t, key.String(), c, f, tr.Evidence)
						}
					})
				}
			}
			wg.Wait()
		})
	}
}

func hollowServer(t *testing.T, peer func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				peer(c)
			}()
		}
	}()
	return l.Addr().String()
}

// driven runs control and drive of a case. ok tells whether the control allows a judge to pass.
func driven(t *testing.T, c suites.Check, key results.Key, addr string, pid chaos.Process) (tr suites.Trace, ok bool) {
	claims := allClaims()
	claims.Limits.ReadDeadlineMillis = 50
	var all []results.Evidence
	env := &scenarios.Env{
		Key: key, Token: "0123abcd-01234567", Endpoints: target.Endpoints{"rpc": addr}, Claims: claims,
		Dial: scenarios.NewDialer(nil, 0).DialContext, Clock: results.ClockSince(time.Now()), Processes: []chaos.Process{pid},
		Put: func(from results.Source, kind results.Kind, data any) error {
			raw, err := results.Marshal(data)
			all = append(all, results.Evidence{Seq: uint64(len(all) + 1), Source: from, Kind: kind, Data: raw})
			return err
		},
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ok = true
	if c.Control != nil {
		if err := c.Control.Drive(ctx, env); err != nil {
			t.Errorf("%s: control: %v", key, err)
		}
		ok, _ = c.Control.Judge(all)
	}
	before := len(all)
	if err := c.Drive(ctx, env); err != nil {
		t.Errorf("%s: %v", key, err)
	}
	for _, e := range all {
		if e.Kind == results.Received || e.Kind == results.Closed {
			c.Explain(e)
		}
	}
	return suites.Trace{Key: key, Evidence: all[before:], Claims: claims}, ok
}

// FuzzThriftJudges puts arbitrary bytes where a target's answers stand.
func FuzzThriftJudges(f *testing.F) {
	f.Add(garbage, uint8(0))
	f.Add(hi(framed), uint8(1))
	f.Add(fault(tthFramed, 7, "Echo", "x"), uint8(2))
	f.Add(slices.Concat(replySeq(framed, 11, behave.Msg{}), replySeq(framed, 12, behave.Msg{})), uint8(3))
	f.Add(reply(buffered, behave.Msg{Report: &behave.Report{Meta: map[string]string{"isn": "Echo"}}}), uint8(7))
	checks := thriftChecks(f)
	f.Fuzz(func(t *testing.T, b []byte, ending uint8) {
		facts := []fact{step(results.Dialed, rpc.Step{How: "ok"}), sent("probe", b), got("probe", b)}
		if ending&1 != 0 {
			facts = append(facts, closedAfter(5*time.Second, "probe"))
		}
		if ending&2 != 0 {
			facts = append(facts, closedAtOnce("probe"))
		}
		if ending&4 != 0 {
			facts = append(facts, silence("probe"))
		}
		evidence := record(t, append(facts, got("next", b), got("count", b), memory(10<<20, 10<<20)))
		for _, c := range checks {
			for _, key := range c.Keys() {
				found := c.Judge(suites.Trace{Key: key, Evidence: evidence, Claims: allClaims()})
				sound(t, key.String(), c, found, evidence)
				if found.Status == results.Pass && isGarbage(b) {
					t.Errorf("%s passes for %x", key, b)
				}
			}
			for _, e := range evidence {
				c.Explain(e)
			}
			if c.Control != nil {
				if ok, _ := c.Control.Judge(evidence); ok {
					t.Errorf("%s: a control was never driven and succeeded", c.ID)
				}
			}
		}
	})
}

// isGarbage tells that bytes were received and no form of a Thrift call finds a whole message in them.
func isGarbage(b []byte) bool {
	for _, form := range rpcframe.Forms() {
		if n, err := rpcframe.Split(form, b); err == nil && n > 0 {
			if _, err := rpcframe.Unwrap(form, b[:n]); err == nil {
				return false
			}
		}
	}
	return len(b) > 0
}
