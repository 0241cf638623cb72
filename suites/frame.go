package suites

import (
	"embed"
	"fmt"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios/target"
)

//go:embed frame.yaml
var frameCatalogue []byte

//go:embed *.go
var frameSources embed.FS

// Frame is the area of what every run learns of its target without driving it.
func Frame() (Area, error) {
	rows, err := ReadCatalogue("target", frameCatalogue)
	if err != nil {
		return Area{}, err
	}
	return Area{Name: "target", Requirements: rows, Sources: frameSources, Checks: []Check{
		{
			ID: "target/ready", Title: "the target becomes ready", Covers: []string{"target/ready"},
			Reasons: []string{"timeout", "exited", "garbage", "no-such-program", "unreachable"}, Judge: judgeReady, frame: true,
			Kills: []Kill{
				{Defect: "stack.never-ready", Reason: "timeout"},
				{Defect: "stack.exits-at-start", Reason: "exited"},
				{Defect: "stack.garbage-ready-line", Reason: "garbage"},
			},
		},
		{
			ID: "target/stays-up", Title: "the target's process does not end unasked", Covers: []string{"target/stays-up"},
			Reasons: []string{"exited"}, Judge: judgeStaysUp, frame: true, Locality: OwnedHost,
			Kills: []Kill{{Defect: "rpc.panic-kills", Reason: "exited"}},
		},
	}}, nil
}

func judgeReady(t Trace) Finding {
	const want = "the target becomes ready within its start time-out"
	for _, e := range t.Evidence {
		switch e.Kind {
		case results.Ready:
			return Passing(want, "it did", []uint64{e.Seq})
		case results.Errored:
			var f Failure
			if err := e.Decode(&f); err != nil {
				return Failing("garbage", want, err.Error(), []uint64{e.Seq})
			}
			return Failing(f.Reason, want, f.Detail, []uint64{e.Seq})
		}
	}
	return Finding{Status: results.Unproven, Reason: ReasonUnfinished, Expected: want, Observed: "the run ended before"}
}

func judgeStaysUp(t Trace) Finding {
	const want = "the process ends only when the harness asks it to"
	var asked []uint64
	for _, e := range t.Evidence {
		if e.Kind != results.Exited {
			continue
		}
		var x target.Exit
		if err := e.Decode(&x); err != nil {
			return Failing("exited", want, err.Error(), []uint64{e.Seq})
		}
		if !x.Asked {
			return Failing("exited", want, fmt.Sprintf("%s; the end of its output: %s", x.State, x.Output), []uint64{e.Seq})
		}
		asked = append(asked, e.Seq)
	}
	if len(asked) == 0 {
		return Finding{Status: results.Unproven, Reason: ReasonUnfinished, Expected: want, Observed: "the run ended before the target did"}
	}
	return Passing(want, "it ran until it was stopped", asked)
}
