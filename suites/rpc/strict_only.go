package rpc

import (
	"github.com/assay-bench/assay/scenarios/wire/behave"
	"github.com/assay-bench/assay/scenarios/wire/rpcframe"
	"github.com/assay-bench/assay/scenarios/wire/thrift"
	"github.com/assay-bench/assay/scenarios/wire/ttheader"
	"github.com/assay-bench/assay/suites"
)

var strictOnly = refusal{
	codes: []int32{7}, closing: true,
	variants: []variant{
		oldStyle("framed", rpcframe.Framed),
		oldStyle("ttheader-framed", rpcframe.TTHeaderFramed),
	},
}

func oldStyle(id string, form rpcframe.Form) variant {
	return variant{id, "an old-style message without version, " + string(form), form, func(token string) ([]byte, error) {
		var w thrift.Writer
		w.OldMessage(behave.MethodEcho, thrift.Call, 7)
		h := ttheader.Header{Seq: 7, IntKeys: map[uint16]string{ttheader.KeyToMethod: behave.MethodEcho}}
		return rpcframe.Wrap(form, append(w.Bytes, behave.Args(tagged(token))...), h)
	}}
}

var _ = add(strictOnly.check(suites.Check{
	ID:     "rpc/wire/strict-only",
	Title:  "old-style messages are refused",
	Covers: []string{"rpc/wire/strict-only"},
	Kills:  killsIn("rpc.non-strict-served", reasonServed, "framed", "ttheader-framed"),
}))
