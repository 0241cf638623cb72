package rpc

import (
	"context"
	"fmt"
	"time"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/rpc"
	"github.com/assay-bench/assay/scenarios/target"
	"github.com/assay-bench/assay/scenarios/wire/behave"
	"github.com/assay-bench/assay/scenarios/wire/rpcframe"
	"github.com/assay-bench/assay/scenarios/wire/thrift"
	"github.com/assay-bench/assay/suites"
)

// How long the checks wait. For an ordinary answer it is target.Limits.Answer.
const (
	refusalWait = time.Second            // for a refusal: the requirement's own bound
	silenceWait = 500 * time.Millisecond // to call silence silence
	nextWait    = 300 * time.Millisecond // for an answer that must not come
)

// controlSeq is the sequence id of ordinary calls, which no other call uses.
const controlSeq = 41

// isControl tells whether an answer is the one to goodCall, and not a late one to something else.
func isControl(a answer) bool {
	return a.served() && a.reply.Message.Seq == controlSeq && a.result.Success != nil && a.result.Success.Body == "control"
}

// featureOf maps a transport form to the feature that a target claims it by.
func featureOf(f rpcframe.Form) features.Feature {
	switch f {
	case rpcframe.Buffered:
		return features.RPCBuffered
	case rpcframe.Framed:
		return features.RPCFramed
	case rpcframe.TTHeader:
		return features.RPCTTHeader
	}
	return features.RPCTTHeaderFramed
}

// variant is a case of a wire check: the bytes that are sent and the form that they are answered in.
type variant struct {
	id, title string
	form      rpcframe.Form
	bytes     func(token string) ([]byte, error)
}

func casesOf(vs []variant) []suites.Case {
	var out []suites.Case
	for _, v := range vs {
		out = append(out, suites.Case{ID: v.id, Title: v.title, Needs: []features.Feature{featureOf(v.form)}})
	}
	return out
}

func variantOf(vs []variant, id string) (variant, error) {
	for _, v := range vs {
		if v.id == id {
			return v, nil
		}
	}
	return variant{}, fmt.Errorf("no case %q", id)
}

// driving is a drive that begins with the bytes of its case's variant.
func driving(vs []variant, do func(context.Context, *scenarios.Env, variant, []byte) error) func(context.Context, *scenarios.Env) error {
	return func(ctx context.Context, env *scenarios.Env) error {
		v, err := variantOf(vs, env.Key.Case)
		if err != nil {
			return err
		}
		b, err := v.bytes(env.Token)
		if err != nil {
			return err
		}
		return do(ctx, env, v, b)
	}
}

// answerTime and refusalTime are what asking waits for.
func answerTime(l target.Limits) time.Duration { return l.Answer() }
func refusalTime(target.Limits) time.Duration  { return refusalWait }

// asking sends the bytes on a connection of their own and waits for one frame.
func asking(wait func(target.Limits) time.Duration) func(context.Context, *scenarios.Env, variant, []byte) error {
	return func(ctx context.Context, env *scenarios.Env, v variant, b []byte) error {
		c, err := once(ctx, env, "probe", v.form, b, wait(env.Claims.Limits))
		if err != nil {
			return err
		}
		c.Close()
		return nil
	}
}

// echo is an ordinary call of the behave service.
func echo(form rpcframe.Form, seq int32, m behave.Msg) rpcframe.Call {
	return rpcframe.Call{Form: form, Method: behave.MethodEcho, Seq: seq, Args: behave.Args(m)}
}

// tagged is a request that the target counts under the case's token.
func tagged(token string, ops ...behave.Op) behave.Msg {
	return behave.Msg{Tag: &token, Body: "hi", Ops: ops}
}

// goodCall is the call of the positive control; it carries no token and is not counted.
func goodCall(form rpcframe.Form) ([]byte, error) {
	return echo(form, controlSeq, behave.Msg{Body: "control"}).Encode()
}

// wholeFrames returns a condition for Await: n frames are there, or what came can not become one.
func wholeFrames(form rpcframe.Form, n int) func([]byte) bool {
	return func(b []byte) bool {
		for range n {
			size, err := rpcframe.Split(form, b)
			if err != nil {
				return true
			}
			if size == 0 {
				return false
			}
			b = b[size:]
		}
		return true
	}
}

// once dials, sends one piece and waits for one frame in its form.
func once(ctx context.Context, env *scenarios.Env, label string, form rpcframe.Form, b []byte, wait time.Duration) (*rpc.Conn, error) {
	c, err := rpc.Dial(ctx, env, "rpc", label)
	if err != nil {
		return nil, err
	}
	if err := again(ctx, c, label, form, b, wait); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// again sends one piece on a connection and waits for one frame in its form.
func again(ctx context.Context, c *rpc.Conn, label string, form rpcframe.Form, b []byte, wait time.Duration) error {
	if err := c.Send(label, b); err != nil {
		return err
	}
	return c.Await(ctx, wait, wholeFrames(form, 1))
}

// controlOf is the positive control of wire checks: an ordinary call in the case's form is answered.
func controlOf(form func(kase string) (rpcframe.Form, error)) *suites.Control {
	return &suites.Control{
		Drive: func(ctx context.Context, env *scenarios.Env) error {
			f, err := form(env.Key.Case)
			if err != nil {
				return err
			}
			b, err := goodCall(f)
			if err != nil {
				return err
			}
			c, err := once(ctx, env, "control", f, b, env.Claims.Limits.Answer())
			if err != nil {
				return err
			}
			c.Close()
			return nil
		},
		Judge: func(evidence []results.Evidence) (bool, string) {
			xs, err := rpc.Exchanges(evidence)
			if err != nil {
				return false, err.Error()
			}
			x := xs["control"]
			if x == nil {
				return false, answerOf(xs, "control", rpcframe.Unknown).String()
			}
			a := readAnswer(x, rpcframe.Detect(x.Sent))
			// which sequence id comes back is a check's own question
			return a.served() && a.result.Success != nil && a.result.Success.Body == "control", a.String()
		},
	}
}

func controlFor(vs []variant) *suites.Control {
	return controlOf(func(kase string) (rpcframe.Form, error) {
		v, err := variantOf(vs, kase)
		return v.form, err
	})
}

// countCalls asks the target how often calls with the case's token ran.
func countCalls(ctx context.Context, env *scenarios.Env, form rpcframe.Form) error {
	b, err := echo(form, 43, tagged(env.Token, behave.Op{Kind: behave.Count})).Encode()
	if err != nil {
		return err
	}
	c, err := once(ctx, env, "count", form, b, env.Claims.Limits.Answer())
	if err != nil {
		return err
	}
	c.Close()
	return nil
}

// answer is what came back in one exchange.
type answer struct {
	kind   answerKind
	form   rpcframe.Form
	reply  rpcframe.Reply
	fault  thrift.Fault  // of an exception
	result behave.Result // of a reply
	detail string
	x      *rpc.Exchange
}

type answerKind string

const (
	replied   answerKind = "a reply"
	exception answerKind = "an exception"
	ended     answerKind = "the connection closed"
	quiet     answerKind = "silence"
	garbled   answerKind = "bytes that are no reply"
	refused   answerKind = "no connection"
)

func (a answer) served() bool { return a.kind == replied }

// excepted tells whether the answer is an exception with one of the codes.
func (a answer) excepted(codes ...int32) bool {
	if a.kind != exception {
		return false
	}
	for _, c := range codes {
		if a.fault.Code == c {
			return true
		}
	}
	return false
}

// closedByPeer tells whether the peer ended the connection during the exchange.
func (a answer) closedByPeer() bool { return a.x != nil && a.x.Closed != "" }

func (a answer) cites() []uint64 {
	if a.x == nil {
		return nil
	}
	return a.x.Cites
}

func (a answer) String() string {
	s := string(a.kind)
	switch a.kind {
	case exception:
		s = fmt.Sprintf("exception %d %q", a.fault.Code, a.fault.Text)
	case replied:
		s = fmt.Sprintf("a reply with sequence id %d", a.reply.Message.Seq)
		if a.reply.Header != nil {
			s += fmt.Sprintf(" (%d in the header)", a.reply.HeaderSeq)
		}
	}
	if a.detail != "" {
		s += " (" + a.detail + ")"
	}
	if a.closedByPeer() && a.kind != ended {
		s += ", then the connection closed"
	}
	return s
}

// answerOf finds and reads a labelled exchange.
func answerOf(xs map[string]*rpc.Exchange, label string, form rpcframe.Form) answer {
	if x := xs[label]; x != nil {
		return readAnswer(x, form)
	}
	for _, name := range []string{label, "probe"} {
		if d := xs["dial "+name]; d != nil {
			return answer{kind: refused, detail: d.Refused, x: d}
		}
	}
	return answer{kind: refused, detail: "the connection had ended before"}
}

// readAnswer decodes what was received as one frame of a form.
func readAnswer(x *rpc.Exchange, form rpcframe.Form) answer {
	a := answer{form: form, x: x}
	if len(x.Received) == 0 {
		a.kind = quiet
		if x.Closed != "" {
			a.kind, a.detail = ended, x.Closed+" after "+x.Ending.Round(time.Millisecond).String()
		}
		return a
	}
	n, err := rpcframe.Split(form, x.Received)
	if err != nil || n == 0 {
		a.kind, a.detail = garbled, fmt.Sprintf("%d bytes", len(x.Received))
		if err != nil {
			a.detail += ": " + err.Error()
		}
		return a
	}
	return a.decode(x.Received[:n], len(x.Received)-n)
}

func (a answer) decode(frame []byte, extra int) answer {
	reply, err := rpcframe.Unwrap(a.form, frame)
	a.reply = reply
	if err != nil {
		a.kind, a.detail = garbled, err.Error()
		return a
	}
	if extra > 0 {
		a.kind, a.detail = garbled, fmt.Sprintf("a whole frame and %d more bytes that nobody asked for", extra)
		return a
	}
	switch reply.Message.Type {
	case thrift.Reply:
		a.kind = replied
		if a.result, err = behave.ReadResult(reply.Message.Body); err != nil {
			a.kind, a.detail = garbled, err.Error()
		}
	case thrift.Exception:
		a.kind = exception
		if a.fault, err = reply.Fault(); err != nil {
			a.kind, a.detail = garbled, err.Error()
		}
	default:
		a.kind, a.detail = garbled, "message type "+reply.Message.Type.String()
	}
	return a
}

// counted reads the answer to countCalls; it is -1 where the target gave none.
func counted(xs map[string]*rpc.Exchange, form rpcframe.Form) (int64, answer) {
	a := answerOf(xs, "count", form)
	if a.served() && a.result.Success != nil && a.result.Success.Report != nil && a.result.Success.Report.Count != nil {
		return *a.result.Success.Report.Count, a
	}
	return -1, a
}

// exchangesOf is rpc.Exchanges for judges: unreadable evidence is a failure of the judge's own input.
func exchangesOf(t suites.Trace) map[string]*rpc.Exchange {
	xs, err := rpc.Exchanges(t.Evidence)
	if err != nil {
		return map[string]*rpc.Exchange{}
	}
	return xs
}

// explain decodes recorded traffic for reports.
func explain(e results.Evidence) string {
	var s rpc.Step
	if e.Decode(&s) != nil {
		return ""
	}
	switch e.Kind {
	case results.Sent, results.Received:
		b, _ := s.Bytes.Whole()
		return rpcframe.Describe(b)
	case results.Closed:
		return fmt.Sprintf("%s: the peer closed the connection (%s) %s after our last byte", s.Label, s.How, s.Waited.Round(time.Millisecond))
	case results.Silent:
		return fmt.Sprintf("%s: nothing came within %s", s.Label, s.Waited.Round(time.Millisecond))
	case results.Dialed:
		return fmt.Sprintf("dial %s: %s %s", s.Conn, s.How, s.Detail)
	}
	return ""
}

// joined puts citations together, in order and without repetition.
func joined(lists ...[]uint64) []uint64 {
	var out []uint64
	seen := map[uint64]bool{}
	for _, l := range lists {
		for _, n := range l {
			if !seen[n] {
				seen[n] = true
				out = append(out, n)
			}
		}
	}
	return out
}
