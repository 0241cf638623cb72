package suites_test

import (
	"context"
	"fmt"
	"time"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/rpc"
	"github.com/assay-bench/assay/suites"
)

// banner is a whole check. In an area's folder it is one file that says `var _ = add(banner)`.
var banner = suites.Check{
	ID:      "demo/banner",
	Title:   "the server greets first",
	Covers:  []string{"demo/banner"},
	Cost:    suites.Cost{Time: 100 * time.Millisecond},
	Reasons: []string{"no-banner"},
	// Drive records what happens. It has no opinion, and its error means that the harness broke.
	Drive: func(ctx context.Context, env *scenarios.Env) error {
		c, err := rpc.Dial(ctx, env, "rpc", "probe")
		if err != nil {
			return err
		}
		defer c.Close()
		c.Begin("probe")
		return c.Await(ctx, time.Second, func(b []byte) bool { return len(b) >= 5 })
	},
	// Judge is pure: it sees the recorded evidence and nothing else.
	Judge: func(t suites.Trace) suites.Finding {
		const want = "HELLO within 1 s"
		xs, err := rpc.Exchanges(t.Evidence)
		if x := xs["probe"]; err == nil && x != nil && string(x.Received) == "HELLO" {
			return suites.Passing(want, "HELLO", x.Cites)
		}
		return suites.Failing("no-banner", want, "something else", nil)
	},
	// Kills names planted defects and the reason that each must produce: assay prove plants them.
	Kills: []suites.Kill{{Defect: "demo.silent", Reason: "no-banner"}},
}

// A new check is one file. Its requirement stands in the area's catalogue.
func Example_addACheck() {
	rows, err := suites.ReadCatalogue("demo", []byte(`
area: demo
requirements:
  - {id: demo/banner, level: MUST, basis: house, subject: target, document: demo rules, statement: The server greets first., observe: first five bytes}
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	suite, err := suites.New(suites.Area{Name: "demo", Requirements: rows, Checks: []suites.Check{banner}})
	if err != nil {
		fmt.Println(err)
		return
	}
	key := results.Key{Check: "demo/banner"}
	run := results.Run{Plan: []results.Planned{{Check: key.Check}}}
	evidence := []results.Evidence{
		{Seq: 1, Check: "target", Kind: results.Claimed, Data: []byte(`{}`)},
		{Seq: 2, Check: key.Check, Kind: results.Received, Data: []byte(`{"conn":"probe","label":"probe","bytes":{"len":5,"hex":"48454c4c4f"}}`)},
		{Seq: 3, Check: key.Check, Kind: results.Ended},
	}
	for _, v := range suite.Judge(run, evidence) {
		fmt.Println(v.Key(), v.Status, v.Cites)
	}
	// Output: demo/banner pass [2]
}
