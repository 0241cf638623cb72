package sandbox

import (
	"math"
	"slices"
	"strconv"
	"strings"

	scenario "github.com/assay-bench/assay/scenarios/sandbox"
)

// corpusCall is a call of a fixture with the result that the WebAssembly Core Specification fixes for it, or
// the class of its trap.
type corpusCall struct {
	function string
	args     []string
	want     string // one result
	class    string // of a trap, where there is no result
}

// corpusModule is a fixture with its calls. run are the calls that the command makes too: a process each.
type corpusModule struct {
	guest string
	calls []corpusCall
	run   []corpusCall
}

func gives(function, want string, args ...string) corpusCall {
	return corpusCall{function: function, args: args, want: want}
}

func traps(function, class string, args ...string) corpusCall {
	return corpusCall{function: function, args: args, class: class}
}

const (
	smallest   = "-2147483648"
	smallest64 = "-9223372036854775808"
)

// corpus are the modules whose meaning does not depend on a sandbox at all.
var corpus = []corpusModule{
	{guest: "numeric", calls: []corpusCall{
		gives("div_s", "3", "7", "2"), gives("div_s", "-3", "-7", "2"), gives("div_s", "-3", "7", "-2"), gives("div_s", "3", "-7", "-2"),
		traps("div_s", "divide-by-zero", "1", "0"), traps("div_s", "integer-overflow", smallest, "-1"),
		gives("div_u", "2147483647", "-1", "2"), gives("rem_s", "-1", "-7", "2"), gives("rem_s", "0", smallest, "-1"),
		gives("rem_u", "5", "-1", "10"), traps("rem_u", "divide-by-zero", "1", "0"),
		gives("div64_s", "-2", "-9", "4"), traps("div64_s", "integer-overflow", smallest64, "-1"), gives("rem64_s", "0", smallest64, "-1"),
		gives("shl", "2", "1", "33"), gives("shr_s", "-4", "-8", "1"), gives("shr_u", "2147483644", "-8", "1"),
		gives("rotl", "3", "-2147483647", "1"), gives("rotr64", smallest64, "1", "1"),
		gives("clz", "32", "0"), gives("ctz", "32", "0"), gives("popcnt64", "64", "-1"),
		gives("extend8", "-56", "200"), gives("extend32", "-1", "4294967295"), gives("wrap", "3", "4294967299"),
		gives("mul64", "-9223372036709301616", "3037000500", "3037000500"),
		gives("fmin", "nan", "nan", "1"), gives("fmax", "2.5", "-1", "2.5"), gives("nearest", "2", "2.5"), gives("nearest", "-4", "-3.5"),
		gives("ftrunc", "-1", "-1.75"), gives("fsqrt", "1.4142135623730951", "2"), gives("fdiv", "0.33333334", "1", "3"),
		gives("copysign", "-3", "3", "-1"), gives("trunc", "-1", "-1.9"), traps("trunc", "integer-overflow", "2147483648"),
		traps("trunc", "bad-conversion", "nan"), gives("trunc_u", "0", "-0.5"), traps("trunc_u", "integer-overflow", "-1"),
		gives("trunc_sat", "2147483647", "1e20"), gives("trunc_sat", "0", "nan"), gives("trunc_sat_u64", "0", "-5"),
		gives("trunc_sat_u64", "-1", "inf"), gives("convert_u", "16777216", "16777217"), gives("demote", "inf", "1e300"),
		gives("bits", "1065353216", "1"),
	}, run: []corpusCall{
		gives("div_s", "-3", "-7", "2"), traps("div_s", "integer-overflow", smallest, "-1"), gives("rem_s", "0", smallest, "-1"),
		gives("nearest", "2", "2.5"), gives("trunc_sat", "2147483647", "1e20"), gives("mul64", "-9223372036709301616", "3037000500", "3037000500"),
		gives("shr_u", "2147483644", "-8", "1"), gives("fdiv", "0.33333334", "1", "3"),
	}},
	{guest: "storage", calls: []corpusCall{
		gives("load8_s", "-128", "17"), gives("load8_s", "-1", "18"), gives("load16_u", "65408", "17"), gives("load32_s", smallest, "20"),
		traps("load8_s", "memory-bounds", "65536"), gives("narrow", "-1", "65535"), gives("narrow", smallest16, "32768"), gives("narrow", "4660", "4660"),
		gives("overlap", "1751606885", "0"), gives("overlap", "1734763876", "1"), gives("overlap", "1717920867", "2"),
		gives("init", "1163149644"), traps("init_past", "memory-bounds"), gives("grow_past", "199"),
		gives("apply", "42", "0", "21"), gives("apply", "-5", "1", "5"), gives("apply", "81", "2", "9"),
		traps("apply", "table-access", "3", "1"), traps("apply", "table-access", "9", "1"), gives("table_ops", "106006", "3"),
	}, run: []corpusCall{
		gives("load16_u", "65408", "17"), gives("overlap", "1717920867", "2"), gives("init", "1163149644"), traps("init_past", "memory-bounds"),
		gives("grow_past", "199"), gives("apply", "-5", "1", "5"), gives("table_ops", "106006", "3"),
	}},
	{guest: "vector", calls: []corpusCall{
		gives("sum", "30", "5"), gives("shuffle", "15", "0"), gives("shuffle", "12", "3"), gives("lanes", "7", "7"), gives("lanes", "4294967295", "-1"),
		gives("dot", "-15", "3"), gives("any", "1", "8"), gives("any", "0", "7"), gives("fmul", "5", "2"),
	}, run: []corpusCall{
		gives("sum", "30", "5"), gives("shuffle", "12", "3"), gives("lanes", "4294967295", "-1"), gives("dot", "-15", "3"), gives("fmul", "5", "2"),
	}},
}

const smallest16 = "-32768"

// rewritten are the modules in which a rewriter of code may go wrong.
var rewritten = []corpusModule{
	{guest: "branches", calls: []corpusCall{
		gives("classify", "100", "0"), gives("classify", "101", "1"), gives("classify", "102", "2"), gives("classify", "109", "3"), gives("classify", "109", "-1"),
		gives("walk", "1", "1"), gives("walk", "9", "6"), gives("walk", "112", "27"),
		gives("early", "0", "0"), gives("early", "507", "35"), gives("early", "1919", "361"), gives("early", "-1", "397"),
		gives("pair", "16", "100", "7"), gives("pair", "-5", "20", "3"), traps("pair", "divide-by-zero", "60", "0"),
		gives("nested", "7", "0"), gives("nested", "107", "1"), gives("nested", "1107", "2"), gives("nested", "1107", "9"),
	}, run: []corpusCall{
		gives("classify", "101", "1"), gives("classify", "109", "-1"), gives("walk", "112", "27"), gives("early", "507", "35"),
		gives("pair", "16", "100", "7"), gives("nested", "107", "1"), gives("nested", "1107", "9"),
	}},
	{guest: "start-small", calls: []corpusCall{gives("get", "7")}, run: []corpusCall{gives("get", "7")}},
	{guest: "slow-start", calls: []corpusCall{gives("get", "-1605196760")}, run: []corpusCall{gives("get", "-1605196760")}},
	{guest: "recursion-bomb", calls: []corpusCall{gives("depth", "500", "500"), gives("depth", "0", "0")}, run: []corpusCall{gives("depth", "500", "500")}},
}

func moduleOf(of []corpusModule, kase string) (corpusModule, bool) {
	i := slices.IndexFunc(of, func(m corpusModule) bool { return m.guest == strings.TrimPrefix(kase, runCase+"-") })
	if i < 0 {
		return corpusModule{}, false
	}
	return of[i], true
}

// same compares a printed result with the one that is due: as text, or as numbers where either is written
// as a float. How a float is spelled is no matter of WebAssembly.
func same(got, want string) bool {
	if got == want {
		return true
	}
	if !strings.ContainsAny(strings.ToLower(got+want), ".enif") { // integers have one spelling
		return false
	}
	a, err := strconv.ParseFloat(got, 64)
	b, werr := strconv.ParseFloat(want, 64)
	return err == nil && werr == nil && (a == b || math.IsNaN(a) && math.IsNaN(b))
}

// ran tells whether a run printed one result, and exited with 0.
func ran(r scenario.Execution, want string) bool {
	got := r.Results()
	return r.Exit == 0 && r.Broken == "" && len(got) == 1 && same(got[0], want)
}
