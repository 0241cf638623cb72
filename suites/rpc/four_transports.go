package rpc

import (
	"fmt"
	"time"

	"github.com/assay-bench/assay/fixtures/features"
	golden "github.com/assay-bench/assay/fixtures/rpc"
	"github.com/assay-bench/assay/scenarios/wire/behave"
	"github.com/assay-bench/assay/scenarios/wire/rpcframe"
	"github.com/assay-bench/assay/scenarios/wire/thrift"
	"github.com/assay-bench/assay/suites"
)

// transport is a form with the name of its cases and its golden call.
type transport struct {
	id   string
	form rpcframe.Form
	call string
}

var transports = []transport{
	{"buffered", rpcframe.Buffered, "buffered-call"},
	{"framed", rpcframe.Framed, "framed-call"},
	{"ttheader", rpcframe.TTHeader, "tth-call"},
	{"ttheader-framed", rpcframe.TTHeaderFramed, "tthf-call"},
}

func transportVariants() []variant {
	var out []variant
	for _, tr := range transports {
		out = append(out, variant{tr.id, "the golden call " + tr.call, tr.form, func(string) ([]byte, error) {
			return goldenBytes(tr.call)
		}})
	}
	return out
}

func goldenBytes(id string) ([]byte, error) {
	all, err := golden.Golden()
	if err != nil {
		return nil, err
	}
	v, err := golden.Find(all, id)
	return v.Bytes, err
}

var _ = add(suites.Check{
	ID:      "rpc/wire/four-transports",
	Title:   "each transport form is accepted and answered in the form received",
	Covers:  []string{"rpc/wire/four-transports"},
	Needs:   []features.Feature{features.RPCBehave},
	Cases:   casesOf(transportVariants()),
	Cost:    suites.Cost{Time: 100 * time.Millisecond},
	Drive:   driving(transportVariants(), asking(answerTime)),
	Judge:   judgeTransport,
	Explain: explain,
	Reasons: []string{"no-reply", "wrong-form", "wrong-payload"},
	Kills: []suites.Kill{
		{Defect: "rpc.reply-always-framed", Reason: "wrong-form", Case: "buffered"},
		{Defect: "rpc.reply-always-framed", Reason: "wrong-form", Case: "ttheader"},
		{Defect: "rpc.echo-body-altered", Reason: "wrong-payload", Case: "framed"},
		{Defect: "rpc.refuse-buffered", Reason: "no-reply", Case: "buffered"},
		{Defect: "rpc.refuse-framed", Reason: "no-reply", Case: "framed"},
		{Defect: "rpc.refuse-ttheader", Reason: "no-reply", Case: "ttheader"},
		{Defect: "rpc.refuse-ttheader-framed", Reason: "no-reply", Case: "ttheader-framed"},
	},
})

func judgeTransport(t suites.Trace) suites.Finding {
	v, err := variantOf(transportVariants(), t.Key.Case)
	if err != nil {
		return suites.Failing("no-reply", "a case that exists", err.Error(), nil)
	}
	raw, err := goldenBytes("buffered-reply")
	if err != nil {
		return suites.Failing("no-reply", "a golden reply", err.Error(), nil)
	}
	want, _, err := thrift.ReadMessage(raw)
	if err != nil {
		return suites.Failing("no-reply", "a golden reply", err.Error(), nil)
	}
	expected := fmt.Sprintf("a reply in the form %s whose message says what the golden reply says", v.form)
	x := exchangesOf(t)["probe"]
	if x == nil || len(x.Received) == 0 {
		return suites.Failing("no-reply", expected, answerOf(exchangesOf(t), "probe", v.form).String(), answerOf(exchangesOf(t), "probe", v.form).cites())
	}
	if got := rpcframe.Detect(x.Received); got != v.form {
		return suites.Failing("wrong-form", expected, fmt.Sprintf("an answer in the form %q", got), x.Cites)
	}
	a := readAnswer(x, v.form)
	if !sameMessage(a.reply.Message, want) {
		return suites.Failing("wrong-payload", expected, fmt.Sprintf("%s: %s", a, a.reply.Message), x.Cites)
	}
	return suites.Passing(expected, a.String(), x.Cites)
}

// sameMessage compares what two echo replies say: Thrift lets a writer order fields as it likes, and add
// optional ones.
func sameMessage(got, want thrift.Message) bool {
	g, gerr := behave.ReadResult(got.Body)
	w, werr := behave.ReadResult(want.Body)
	return gerr == nil && werr == nil && got.Name == want.Name && got.Type == want.Type && got.Seq == want.Seq &&
		g.Success != nil && g.Success.Body == w.Success.Body && g.Success.Tag != nil && *g.Success.Tag == *w.Success.Tag
}
