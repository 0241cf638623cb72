package rpc

import (
	"github.com/assay-bench/assay/scenarios/wire/behave"
	"github.com/assay-bench/assay/scenarios/wire/rpcframe"
	"github.com/assay-bench/assay/suites"
)

const (
	reasonMessageSeq = "wrong-message-seq"
	reasonHeaderSeq  = "wrong-header-seq"
)

// seqOf is what each case sends in the message, and so must see in the reply.
var seqOf = map[string]int32{"equal": 7, "header-differs": 7, "negative": -2, "framed": 7}

var seqEcho = conversation{
	want: "a reply that carries the message's sequence id, in the header too",
	variants: []variant{
		sequenced("equal", "7 in header and message", rpcframe.TTHeaderFramed, nil),
		sequenced("header-differs", "8 in the header, 7 in the message", rpcframe.TTHeaderFramed, ptr(int32(8))),
		sequenced("negative", "-2 in header and message", rpcframe.TTHeaderFramed, nil),
		sequenced("framed", "7 without a TTHeader", rpcframe.Framed, nil),
	},
	judge: func(t suites.Trace, a answer) string {
		switch want := seqOf[t.Key.Case]; {
		case !a.served():
			return reasonNoReply
		case a.reply.Message.Seq != want:
			return reasonMessageSeq
		case a.reply.Header != nil && a.reply.HeaderSeq != want:
			return reasonHeaderSeq
		}
		return ""
	},
}

func sequenced(id, title string, form rpcframe.Form, headerSeq *int32) variant {
	return variant{id, title, form, func(token string) ([]byte, error) {
		c := echo(form, seqOf[id], behave.Msg{Tag: &token, Body: "hi"})
		c.HeaderSeq = headerSeq
		return c.Encode()
	}}
}

var _ = add(seqEcho.check(suites.Check{
	ID:      "rpc/wire/seq-echo",
	Title:   "the sequence id is echoed; the message's one decides",
	Covers:  []string{"rpc/wire/seq-echo"},
	Reasons: []string{reasonNoReply, reasonMessageSeq, reasonHeaderSeq},
	Kills: kills(
		killsIn("rpc.seq-from-header", reasonMessageSeq, "header-differs"),
		killsIn("rpc.header-seq-zero", reasonHeaderSeq, "equal", "header-differs", "negative"),
		killsIn("rpc.seq-zero", reasonMessageSeq, "equal", "negative", "framed"),
	),
}))
