package rpc

import (
	"github.com/assay-bench/assay/scenarios/wire/behave"
	"github.com/assay-bench/assay/scenarios/wire/rpcframe"
	"github.com/assay-bench/assay/scenarios/wire/thrift"
	"github.com/assay-bench/assay/suites"
)

func fired(id, title string, form rpcframe.Form, method string, t thrift.MessageType) variant {
	return called(id, title, form, func(c *rpcframe.Call) { c.Method, c.Type = method, t })
}

var _ = add(conversation{
	want: "0.5 s of silence, then an ordinary call answered, and the handler run once", silent: true, kept: true, ran: 1,
	variants: []variant{
		fired("type-1", "a oneway method called with type 1", rpcframe.Framed, behave.MethodFire, thrift.Call),
		fired("type-4", "a oneway method called with type 4", rpcframe.Framed, behave.MethodFire, thrift.Oneway),
		fired("type-4-ttheader", "a oneway method called with type 4, TTHeader", rpcframe.TTHeaderFramed, behave.MethodFire, thrift.Oneway),
	},
}.check(suites.Check{
	ID:     "rpc/wire/oneway-silent",
	Title:  "a oneway method is run and never answered",
	Covers: []string{"rpc/wire/oneway-silent"},
	Kills: kills(
		killsIn("rpc.oneway-answered", reasonAnswered, "type-1", "type-4", "type-4-ttheader"),
		killsIn("rpc.oneway-closes", reasonNotKept, "type-1", "type-4"),
		killsIn("rpc.oneway-dropped", reasonNotRun, "type-1", "type-4"),
	),
}))

var _ = add(conversation{
	want: "0.5 s of silence, then an ordinary call answered", silent: true, kept: true,
	variants: []variant{
		fired("framed", "type 4 on a two-way method", rpcframe.Framed, behave.MethodEcho, thrift.Oneway),
		fired("ttheader-framed", "type 4 on a two-way method, TTHeader", rpcframe.TTHeaderFramed, behave.MethodEcho, thrift.Oneway),
	},
}.check(suites.Check{
	ID:     "rpc/wire/oneway-type-silent",
	Title:  "message type 4 is never answered",
	Covers: []string{"rpc/wire/oneway-type-silent"},
	Kills: kills(
		killsIn("rpc.oneway-type-answered", reasonAnswered, "framed", "ttheader-framed"),
		killsIn("rpc.oneway-closes", reasonNotKept, "framed"),
	),
}))
