package reports

import (
	"encoding/hex"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/results/histogram"
)

const digest = "5f1d7a84db00d2fce00b31a7fc73224f8a2e8e1a3a2f6f8e5b7a0d5c6c7f4e21"

var started = time.Date(2026, 11, 20, 14, 3, 7, 0, time.FixedZone("CET", 3600))

func run() results.Run {
	return results.Run{
		APIVersion: results.APIVersion, Kind: "run", ID: "20261120T130307Z-7",
		Tool:    results.Tool{Name: "assay", Version: "0.1.0", Revision: "3f6c2d1", Go: "go1.27.2", OS: "linux", Arch: "amd64"},
		Suite:   results.Suite{Version: "0.1.0", Digest: strings.Repeat("c0ffee42", 8)},
		Target:  results.Target{Name: "vendor-rpc", Version: "1.10", Kind: "command", Role: "endpoint", File: "target.yaml", Endpoints: map[string]string{"grpc": "127.0.0.1:41201", "ttheader": "127.0.0.1:41202"}, Features: []string{"rpc.grpc", "rpc.ttheader"}},
		Host:    results.Host{CPU: "AMD EPYC 7763", Cores: 2, Kernel: "6.8.0-71-generic", Memory: 8 << 30},
		Seed:    7,
		Profile: "quick", Basis: "standard", Probing: true, Started: started,
	}
}

// a row of the hand-built plan: its requirement, its verdict and the plan around it.
type given struct {
	check, kase, under, area, title string
	level, basis, document, section string
	statement                       string
	verdict                         results.Verdict
}

func (g given) add(b *results.Bundle) {
	g.verdict.Check, g.verdict.Case, g.verdict.Under = g.check, g.kase, g.under
	p := results.Planned{
		Check: g.check, Case: g.kase, Under: g.under, Area: g.area, Title: g.title, Covers: []string{g.check},
		Standard: g.basis == "standard", Decides: g.basis == "standard", Reproduce: "assay run " + g.check + " --target target.yaml --seed 7",
	}
	if g.verdict.Status == results.NotClaimed {
		p.Needs = []string{"rpc.streaming"}
	}
	b.Run.Plan = append(b.Run.Plan, p)
	b.Run.Requirements = append(b.Run.Requirements, results.Requirement{
		ID: g.check, Level: g.level, Basis: g.basis, Subject: "target", Document: g.document, Section: g.section,
		Statement: g.statement, Digest: "d1",
	})
	b.Verdicts.Verdicts = append(b.Verdicts.Verdicts, g.verdict)
}

// mixed has every status, each side of the count, latency, a fault and a proof.
func mixed() *results.Bundle {
	b := &results.Bundle{Dir: "/nowhere", Run: run(), Digest: digest, Verdicts: &results.Verdicts{APIVersion: results.APIVersion, Exit: results.ExitFail}}
	for _, g := range rows() {
		g.add(b)
	}
	b.Run.Target.Kind = "command"
	b.Run.LeftOut = []results.LeftOut{{Check: "rpc/latency/p999", Why: "profile quick leaves out what takes longer than 20 s"}, {Check: "rpc/wire/huge-frame", Why: "profile quick"}}
	b.Run.NotRun = []results.NotRun{{Check: "rpc/fault/loss", Under: "net/loss", Probe: "tc: RTNETLINK answers: Operation not permitted\n(no CAP_NET_ADMIN)"}}
	b.Run.Proof = proof()
	b.Evidence = evidence()
	b.Histograms = map[string][]byte{
		"rpc-latency-p99--echo-500--response.hdr": sample(20_000, 0.004),
		"rpc-latency-p99--echo-500--service.hdr":  sample(20_000, 0.003),
		"rpc-latency-p99--echo-500--lateness.hdr": sample(20_000, 0.00006),
	}
	return b
}

func rows() []given {
	const grpc = "gRPC over HTTP/2"
	goaway := []results.Exchange{
		{Seq: 12, At: 1203 * time.Microsecond, From: results.FromScenario, Kind: results.Sent, Hex: hex.EncodeToString([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")), Len: 33, Decoded: "connection preface\nSETTINGS, 0 entries"},
		{Seq: 13, At: 1903 * time.Microsecond, From: results.FromTarget, Kind: results.Received, Hex: "000008070000000000000000000000000d", Len: 17, Decoded: "GOAWAY last-stream=0 code=HTTP_1_1_REQUIRED"},
		{Seq: 14, At: 2100 * time.Microsecond, From: results.FromTarget, Kind: results.Closed},
	}
	latency := []results.Figure{{Name: "p50", Value: 0.00391, Unit: "seconds"}, {Name: "p99", Value: 0.0117, Unit: "seconds"}, {Name: "p99.9", Value: 0.0213, Unit: "seconds"}, {Name: "rate", Value: 500, Unit: ""}, {Name: "mde", Value: 0.041, Unit: "ratio"}}
	return []given{
		{"claims/rpc.grpc", "", "", "claims", "what the target claims is there", "MUST", "house", "assay", "", "A claimed feature is present.",
			results.Verdict{Status: results.Pass, Cites: []uint64{2}}},
		{"rpc/fault/reset", "echo", "net/reset", "rpc", "calls fail cleanly when the connection is reset", "SHOULD", "standard", "gRPC core", "statuscodes", "A call whose connection is lost ends with UNAVAILABLE.",
			results.Verdict{Status: results.Inconclusive, Reason: "fault-not-witnessed", Cites: []uint64{20}, Why: results.Why{Expected: "status UNAVAILABLE within 5 s of the reset", Observed: "the fault was not witnessed: 0 resets seen, at least 1 needed"}}},
		{"rpc/latency/p99", "echo-500", "", "rpc", "p99 at 500 calls a second", "MAY", "house", "assay", "", "A budget of the target file holds.",
			results.Verdict{Status: results.Pass, Cites: []uint64{30}, Figures: latency}},
		{"rpc/meta/binary-header", "", "", "rpc", "binary metadata survives", "MUST", "standard", grpc, "", "Binary metadata whose name ends in -bin is base64-encoded on the wire.",
			results.Verdict{Status: results.Pass, Cites: []uint64{15, 16, 17, 19}}},
		{"rpc/stream/half-close", "", "", "rpc", "half close keeps the answers", "SHOULD", "standard", grpc, "", "After a half close the server may still answer.",
			results.Verdict{Status: results.NotClaimed}},
		{"rpc/status/deadline", "", "", "rpc", "a deadline is kept", "MUST", "standard", grpc, "Requests", "A call ends with DEADLINE_EXCEEDED once its timeout has run out.",
			results.Verdict{Status: results.Unproven, Reason: "not-finished"}},
		{"rpc/status/unknown-method", "", "", "rpc", "unknown methods are refused", "MUST", "standard", grpc, "", "An unknown method ends with UNIMPLEMENTED.",
			results.Verdict{Status: results.Broken, Reason: "harness-error", Cites: []uint64{9}, Why: results.Why{Observed: "assay: dial 127.0.0.1:41201: too many open files"}}},
		{"rpc/ttheader/pad", "", "", "rpc", "padding is zero", "MUST", "house", "assay", "", "Padding bytes of a TTHeader frame are zero.",
			results.Verdict{Status: results.Fail, Reason: "dirty-padding", Cites: []uint64{21}, Why: results.Why{Expected: "00 00", Observed: "7f 00"}}},
		{"rpc/ttheader/seq-echo", "binary", "", "rpc", "the sequence number comes back", "MUST", "standard", "Apache Thrift THeader", "4.2", "A reply carries the sequence number of its call.",
			results.Verdict{Status: results.Fail, Reason: "wrong-seq", Expected: "fixed in 1.11, ticket 4711", Cites: []uint64{22, 23}, Why: results.Why{Expected: "sequence number 7", Observed: "sequence number 0"}}},
		{"rpc/wire/settings-first", "", "", "rpc", "the server's preface is SETTINGS", "MUST", "standard", "RFC 9113", "3.4", "The server connection preface consists of a potentially empty SETTINGS frame that MUST be the first frame the server sends.",
			results.Verdict{Status: results.Fail, Reason: "goaway-first", Cites: []uint64{12, 13, 14}, Exchange: goaway, Why: results.Why{Expected: "a SETTINGS frame as the first frame of the server", Observed: "GOAWAY, code HTTP_1_1_REQUIRED, then the end of the connection"}}},
	}
}

func proof() *results.Proof {
	return &results.Proof{
		SuiteDigest: strings.Repeat("c0ffee42", 8), Started: started, Requirements: 120, Covered: 97, Proven: 95,
		Defects: []results.ProvedKill{
			{Defect: "rpc.settings-late", Check: "rpc/wire/settings-first", Reason: "goaway-first", Observed: "fail goaway-first", Killed: true},
			{Defect: "rpc.seq-zero", Check: "rpc/ttheader/seq-echo", Case: "binary", Reason: "wrong-seq", Observed: "fail wrong-seq", Killed: true},
			{Defect: "rpc.deadline-ignored", Check: "rpc/status/deadline", Under: "net/latency", Reason: "late", Observed: "pass", Killed: false},
		},
		Survivors: []string{"rpc.deadline-ignored"},
		Hollow:    []results.Hollow{{Target: "mute", Executed: 41, Counts: map[string]int{"fail": 40, "inconclusive": 1}}, {Target: "garbage", Executed: 41, Counts: map[string]int{"fail": 41}}},
		Faults:    []results.NullFault{{Check: "rpc/fault/reset", Fault: "net/reset", Observed: "inconclusive fault-not-witnessed", Held: true}},
	}
}

func evidence() []results.Evidence {
	key := results.Key{Check: "rpc/fault/reset", Case: "echo", Under: "net/reset"}
	injected := `{"fault":"net/reset","driver":"toxiproxy","unit":"resets","asked":3,"observed":0,"from":1200000000,"to":3400000000,"witnessed":false,"detail":"no reset seen by the dialer"}`
	var out []results.Evidence
	for i := range 30 {
		e := results.Evidence{Seq: uint64(i + 1), At: time.Duration(i) * 170 * time.Millisecond, Source: results.FromScenario, Check: "rpc/wire/settings-first", Kind: results.Sent}
		if i == 19 {
			e.Source, e.Kind, e.Check, e.Case, e.Under = results.FromFault, results.Injected, key.Check, key.Case, key.Under
			e.Data = json.RawMessage(injected)
		}
		out = append(out, e)
	}
	return out
}

// sample is a long-tailed histogram without chance: quantiles of a log-logistic distribution.
func sample(n int, median float64) []byte {
	h := histogram.New()
	for i := range n {
		u := (float64(i) + 0.5) / float64(n)
		h.Record(int64(1e9 * median * math.Pow(u/(1-u), 0.22)))
	}
	text, err := h.Encode()
	if err != nil {
		panic(err)
	}
	return text
}

// empty planned nothing and ran nothing.
func empty() *results.Bundle {
	return &results.Bundle{Run: run(), Verdicts: &results.Verdicts{APIVersion: results.APIVersion, Exit: results.ExitHarness}}
}

// killed left evidence and no verdicts.
func killed() *results.Bundle {
	b := mixed()
	b.Verdicts, b.Torn, b.Digest, b.Run.Proof, b.Histograms = nil, true, "", nil, nil
	return b
}

// defective passes everything, with a defect planted.
func defective() *results.Bundle {
	b := passing()
	b.Run.Target.Defects = []string{"rpc.seq-zero"}
	return b
}

// passing is the reference stack with nothing but Pass.
func passing() *results.Bundle {
	b := &results.Bundle{Run: run(), Digest: digest, Verdicts: &results.Verdicts{APIVersion: results.APIVersion}}
	for _, g := range rows() {
		if g.verdict.Status == results.Pass {
			g.add(b)
		}
	}
	b.Run.Target.Name, b.Run.Target.Kind = "reference", "reference"
	return b
}

// hostile is the mixed bundle with an attack in every string that a target can choose.
func hostile(attack string) *results.Bundle {
	b := mixed()
	b.Run.Target.Name, b.Run.Target.Version = attack, attack
	b.Run.Target.Features, b.Run.Target.Endpoints = []string{attack}, map[string]string{attack: attack}
	b.Run.NotRun[0].Probe, b.Run.LeftOut[0].Why, b.Run.Profile = attack, attack, attack
	for i := range b.Verdicts.Verdicts {
		v := &b.Verdicts.Verdicts[i]
		v.Why = results.Why{Expected: attack, Observed: attack, Reproduce: attack}
		for j := range v.Exchange {
			v.Exchange[j].Decoded, v.Exchange[j].Hex = attack, attack
		}
		if v.Status != results.Pass {
			v.Reason = attack
		}
		if v.Expected != "" {
			v.Expected = attack
		}
		for j := range v.Figures {
			v.Figures[j].Name, v.Figures[j].Unit = attack, attack
		}
	}
	for i := range b.Run.Requirements {
		b.Run.Requirements[i].Statement, b.Run.Requirements[i].Section = attack, attack
	}
	raw, err := json.Marshal(map[string]any{"fault": attack, "asked": attack, "detail": attack, "unit": attack})
	if err != nil {
		panic(err)
	}
	b.Evidence[19].Data = raw
	b.Histograms[attack+"--x--response.hdr"] = sample(100, 0.01)
	b.Histograms["bad--x--response.hdr"] = []byte("no histogram")
	return b
}

type sampleBundle struct {
	name   string
	bundle func() *results.Bundle
}

func bundles() []sampleBundle {
	return []sampleBundle{{"mixed", mixed}, {"empty", empty}, {"killed", killed}, {"defective", defective}, {"passing", passing},
		{"load", loadBundle}, {"sweep", sweepBundle}, {"merged", mergedBundle}}
}

func render(t *testing.T, f Format, b *results.Bundle) string {
	t.Helper()
	var out strings.Builder
	if err := f.Write(&out, b); err != nil {
		t.Fatalf("%s: %v", f.Name(), err)
	}
	return out.String()
}
