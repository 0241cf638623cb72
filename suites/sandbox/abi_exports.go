package sandbox

import (
	scenario "github.com/assay-bench/assay/scenarios/sandbox"
	"github.com/assay-bench/assay/suites"
)

// declares makes a bend that demands an export, before signing or after: exports are not signed.
func declares(e ...scenario.Export) func(*bench, *scenario.Upload) error {
	return func(_ *bench, u *scenario.Upload) error {
		u.Exports = e
		return nil
	}
}

var _ = add(refusedRow{[]refusedCase{
	{id: "missing", title: "an export that the module does not have", code: guest("bad-export"), words: []string{"missing"}, function: "run",
		bend: declares(scenario.Export{Name: "missing"})},
	{id: "parameter", title: "i64 is declared, the module takes i32", code: guest("bad-export"), words: []string{"run"}, function: "run",
		bend: declares(scenario.Export{Name: "run", Params: []string{"i64"}, Results: []string{"i32"}})},
	{id: "result", title: "i64 is declared, the module returns i32", code: guest("bad-export"), words: []string{"run"}, function: "run",
		bend: declares(scenario.Export{Name: "run", Params: []string{"i32"}, Results: []string{"i64"}})},
	{id: "no-function", title: "a memory is no function", code: guest("bad-export"), words: []string{"memory"}, function: "run",
		bend: declares(scenario.Export{Name: "memory"})},
}}.check(suites.Check{
	ID: "sandbox/abi/exports-checked", Title: "missing and wrongly typed exports are refused", Covers: []string{"sandbox/abi/exports-checked"},
	Kills: kills(killIn("missing", reasonTaken, "sandbox.export-unchecked"), killIn("parameter", reasonTaken, "sandbox.export-unchecked")),
}))

var _ = add(refusedRow{[]refusedCase{
	{id: "unknown", title: "a module and a function that no host has", code: guest("unknown-import"), steps: []string{"structure"}, words: []string{"env", "launch"}, function: "run"},
	{id: "type", title: "a function of the host by another type", code: guest("wrong-import"), steps: []string{"structure"}, words: []string{"assay", "host_fill"}, function: "run"},
	{id: "reserved", title: "a function that is for the meter alone", code: guest("forged-import"), steps: []string{"structure"}, words: []string{"assay_meter"}, function: "run"},
}}.check(suites.Check{
	ID: "sandbox/abi/unknown-import-refused", Title: "imports outside the host's are refused", Covers: []string{"sandbox/abi/unknown-import-refused"},
	Kills: killIn("unknown", reasonTaken, "sandbox.import-unchecked"),
}))
