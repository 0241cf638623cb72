package sandbox

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/fixtures/wasm"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	box "github.com/assay-bench/assay/scenarios/sandbox"
	"github.com/assay-bench/assay/suites"
)

// nnCall is a call of the guest nn and the errnos that pass.
type nnCall struct {
	function string
	args     []string
	want     []string // one of these
	near     float64  // the result must be within 1e-5 of it; want is empty then
}

// nnCase is a list of calls, one after another on instances of one tenant.
type nnCase struct {
	id, title string
	tier      box.Tier
	calls     []nnCall
	reason    string // of an answer that does not pass
	parser    bool   // the parser of models must not have been called
	bounded   bool   // the last call's result must be above 0 and below 1,000
}

// Reasons of the checks on WASI-NN.
const (
	reasonErrno     = "wrong-errno"
	reasonOutput    = "wrong-output"
	reasonNNTrapped = "call-failed" // the guest trapped, or the call was not answered
	reasonParser    = "parser-called"
	reasonUnbounded = "unbounded"
)

func errno(function string, want ...string) nnCall { return nnCall{function: function, want: want} }

const wasiNN = "wasi-nn witx"

// nnRow makes a check of cases. Its control is a round trip through the model.
func nnRow(c suites.Check, clause, want string, cases ...nnCase) suites.Check {
	find := func(id string) nnCase {
		for _, k := range cases {
			if k.id == id {
				return k
			}
		}
		return cases[0]
	}
	if len(cases) > 1 {
		for _, k := range cases {
			c.Cases = append(c.Cases, suites.Case{ID: k.id, Title: k.title})
		}
	}
	c.Covers = []string{c.ID}
	c.Needs = []features.Feature{features.SandboxAPI, features.SandboxNN}
	c.Cost.Time = 300 * time.Millisecond
	c.Reasons = []string{reasonErrno, reasonOutput, reasonNNTrapped, reasonParser, reasonUnbounded}
	c.Control = &suites.Control{
		Drive: func(ctx context.Context, env *scenarios.Env) error {
			return inference(ctx, env, "c", box.Enterprise, []nnCall{errno("roundtrip", "0")})
		},
		Judge: func(evidence []results.Evidence) (bool, string) {
			calls, _, err := nnCalls(evidence)
			if err != nil || len(calls) != 1 {
				return false, fmt.Sprintf("%d calls (%v)", len(calls), err)
			}
			got, seen := nnResult(calls[0])
			return got == "0", "roundtrip gives " + seen
		},
	}
	c.Drive = func(ctx context.Context, env *scenarios.Env) error {
		k := find(env.Key.Case)
		tier := k.tier
		if tier == "" {
			tier = box.Enterprise
		}
		return inference(ctx, env, "n", tier, k.calls)
	}
	c.Judge = func(t suites.Trace) suites.Finding { return judgeNN(t, find(t.Key.Case), want+" ("+clause+")") }
	return c
}

// inference uploads the guest under a tenant of the case's own and makes the calls.
func inference(ctx context.Context, env *scenarios.Env, suffix string, tier box.Tier, calls []nnCall) error {
	api := box.NewAPI(env)
	defer api.Close()
	signer, err := box.NewSigner()
	if err != nil {
		return err
	}
	tenant := strings.ToLower(env.Token) + "-" + suffix
	if c, err := api.SetTenant(ctx, "tenant", tenant, tier, signer.Keys()); err != nil || !c.Answered() {
		return err
	}
	module := wasm.Module("nn")
	signatures, err := signer.Sign(box.SignedBytes(tenant, "nn", 1, module))
	if err != nil {
		return err
	}
	up := box.Upload{Tenant: tenant, Module: "nn", Wasm: module, Version: 1, ABI: "plain", Signatures: signatures}
	if c, err := api.Upload(ctx, "upload", up); err != nil || !c.Answered() { // a mute target would cost minutes
		return err
	}
	before, err := api.Stats(ctx, "")
	if err != nil {
		return err
	}
	for i, c := range calls {
		made, err := api.Invoke(ctx, fmt.Sprintf("call-%d", i), tenant, "nn", box.Invocation{Function: c.function, Args: c.args})
		if err != nil || !made.Answered() {
			return err
		}
	}
	after, err := api.Stats(ctx, "")
	if err != nil {
		return err
	}
	if err := env.Record(parserCalls, after.ParserCalls-before.ParserCalls); err != nil {
		return err
	}
	_, err = api.Drop(ctx, "", tenant)
	return err
}

// parserCalls is evidence of how often the target's parser of models ran meanwhile.
const parserCalls results.Kind = "nn-parser-calls"

// nnCalls collects the calls of a case, in order.
func nnCalls(evidence []results.Evidence) (calls []box.Call, cites []uint64, err error) {
	for _, e := range evidence {
		if e.Kind != box.Called {
			continue
		}
		var c box.Call
		if err := e.Decode(&c); err != nil {
			return nil, nil, err
		}
		if strings.HasPrefix(c.Name, "call-") {
			calls, cites = append(calls, c), append(cites, e.Seq)
		} else if !c.Good() {
			cites = append(cites, e.Seq)
		}
	}
	return calls, cites, nil
}

// nnResult is the single result of a call, or nothing with what happened in its place.
func nnResult(c box.Call) (result, seen string) {
	var in box.Invoked
	if c.Read(&in) && len(in.Results) == 1 {
		return in.Results[0], in.Results[0]
	}
	if p, ok := c.Problem(); ok {
		return "", fmt.Sprintf("status %d, class %q: %s", p.Status, p.Class, p.Detail)
	}
	return "", fmt.Sprintf("status %d %s", c.Status, c.Broken)
}

func judgeNN(t suites.Trace, k nnCase, want string) suites.Finding {
	calls, cites, err := nnCalls(t.Evidence)
	if err != nil || len(calls) != len(k.calls) {
		return suites.Failing(reasonNNTrapped, want, fmt.Sprintf("%d of %d calls were made (%v)", len(calls), len(k.calls), err), cites)
	}
	observed := ""
	for i, c := range calls {
		asked := k.calls[i]
		got, seen := nnResult(c)
		observed += fmt.Sprintf("%s gives %s; ", asked.function, seen)
		if got == "" {
			return suites.Failing(reasonNNTrapped, want, observed, cites)
		}
		if reason := asked.wrong(got, k.reason); reason != "" {
			return suites.Failing(reason, want, observed, cites)
		}
	}
	if k.bounded {
		got, _ := nnResult(calls[len(calls)-1])
		if n, err := strconv.Atoi(got); err != nil || n < 1 || n >= 1000 {
			return suites.Failing(reasonUnbounded, want, observed, cites)
		}
	}
	if k.parser && parsed(t) != 0 {
		return suites.Failing(reasonParser, want, fmt.Sprintf("%sthe parser ran %d times", observed, parsed(t)), cites)
	}
	return suites.Passing(want, observed, cites)
}

func (c nnCall) wrong(got, reason string) string {
	if len(c.want) == 0 {
		if x, err := strconv.ParseFloat(got, 64); err != nil || math.Abs(x-c.near) > 1e-5 {
			return reasonOutput
		}
		return ""
	}
	if !oneOf(got, c.want) {
		return reason
	}
	return ""
}

func parsed(t suites.Trace) int {
	n := -1
	for _, e := range t.Evidence {
		if e.Kind == parserCalls {
			_ = e.Decode(&n) // what can not be read stays -1, which is not 0
		}
	}
	return n
}

var _ = addClaim(suites.Check{
	ID: "claims/sandbox.nn", Title: "the claimed feature sandbox.nn is there", Covers: []string{"claims/sandbox.nn"},
	Needs: []features.Feature{features.SandboxNN}, Cost: suites.Cost{Time: 200 * time.Millisecond}, Reasons: []string{reasonAbsent},
	Drive: func(ctx context.Context, env *scenarios.Env) error {
		return inference(ctx, env, "l", box.Enterprise, []nnCall{errno("roundtrip", "0")})
	},
	Judge: func(t suites.Trace) suites.Finding {
		const want = "a guest loads the model linear-4x3 by name and computes"
		calls, cites, err := nnCalls(t.Evidence)
		if err != nil || len(calls) != 1 {
			return suites.Failing(reasonAbsent, want, fmt.Sprintf("%d calls (%v)", len(calls), err), cites)
		}
		got, seen := nnResult(calls[0])
		if got != "0" {
			return suites.Failing(reasonAbsent, want, "roundtrip gives "+seen, cites)
		}
		return suites.Passing(want, "roundtrip gives 0", cites)
	},
	Kills: []suites.Kill{{Defect: "sandbox.nn-absent", Reason: reasonAbsent}},
})

var (
	_ = add(nnRow(suites.Check{
		ID: "sandbox/nn/roundtrip", Title: "load_by_name, set_input, compute and get_output give the model's output",
		Kills: kill(reasonOutput, "sandbox.nn-wrong"),
	}, wasiNN, "the host engine's output within 1e-5", nnCase{reason: reasonErrno, calls: []nnCall{
		{function: "roundtrip_f32", args: []string{"0"}, near: 3}, {function: "roundtrip_f32", args: []string{"1"}, near: 7}, {function: "roundtrip_f32", args: []string{"2"}, near: 11},
	}}))

	_ = add(nnRow(suites.Check{
		ID: "sandbox/nn/bad-handle", Title: "an unknown graph or context is invalid_argument",
		Kills: kill(reasonErrno, "sandbox.nn-bad-handle-ok"),
	}, wasiNN, "invalid_argument (1)", nnCase{reason: reasonErrno, calls: []nnCall{
		errno("bad_graph", "1"), errno("bad_ctx", "1"), errno("bad_ctx_compute", "1"), errno("bad_ctx_output", "1"), errno("bad_index", "1"),
	}}))

	_ = add(nnRow(suites.Check{
		ID: "sandbox/nn/bad-encoding", Title: "an unsupported encoding is invalid_encoding",
		Kills: kill(reasonErrno, "sandbox.nn-encoding-ignored"),
	}, wasiNN, "invalid_encoding (2)", nnCase{reason: reasonErrno, calls: []nnCall{errno("bad_encoding", "2")}}))

	_ = add(nnRow(suites.Check{
		ID: "sandbox/nn/output-too-small", Title: "an output buffer that is too small is not written past its end",
		Kills: kill(reasonErrno, "sandbox.nn-overflows"),
	}, wasiNN, "too_large (7), and nothing past max_size", nnCase{reason: reasonErrno, calls: []nnCall{errno("small_output", "7"), errno("small_output_excess", "0")}}))

	_ = add(nnRow(suites.Check{
		ID: "sandbox/nn/tensor-checked", Title: "dimensions, lengths and pointers of a tensor are checked",
		Kills: kill(reasonErrno, "sandbox.nn-tensor-unchecked"),
	}, wasiNN, "invalid_argument (1) or missing_memory (3)", nnCase{reason: reasonErrno, calls: []nnCall{
		errno("bad_tensor", "1"), errno("bad_dims", "1", "3"), errno("null_tensor", "1", "3"), errno("null_data", "1", "3"), errno("roundtrip", "0"),
	}}))

	_ = add(nnRow(suites.Check{
		ID: "sandbox/nn/unknown-name", Title: "a model that is not registered is not_found",
		Kills: kill(reasonErrno, "sandbox.nn-unknown-name-ok"),
	}, wasiNN, "not_found (8)", nnCase{reason: reasonErrno, calls: []nnCall{errno("unknown_name", "8"), errno("bad_name", "1", "3")}}))

	_ = add(nnRow(suites.Check{
		ID: "sandbox/nn/load-bytes-policy", Title: "bytes of a guest are not parsed on the tier Free",
		Kills: kill(reasonErrno, "sandbox.nn-bytes-on-free"),
	}, "assay sandbox rules", "unsupported_operation (6), and the parser is not called", nnCase{reason: reasonErrno, tier: box.Free, calls: []nnCall{errno("load_bytes", "6")}}))

	_ = add(nnRow(suites.Check{
		ID: "sandbox/nn/memory-counted", Title: "execution contexts are limited",
		Kills: kill(reasonErrno, "sandbox.nn-contexts-unbounded"),
	}, "assay sandbox rules", "busy (4) or too_large (7) before 1,000 contexts", nnCase{reason: reasonErrno, calls: []nnCall{errno("many_contexts", "4", "7")}}))
)
