package rpc

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios/grpc"
	"github.com/assay-bench/assay/scenarios/rpc"
	"github.com/assay-bench/assay/scenarios/wire/h2"
	"github.com/assay-bench/assay/suites"
)

// grpcEvidence is a trace of calls, each a piece of Called evidence.
func grpcEvidence(t *testing.T, calls []grpc.Call) (out []results.Evidence) {
	t.Helper()
	for i, c := range calls {
		c.Method, c.CodeName, c.Timeout = "/s/m", fmt.Sprint(c.Code), max(c.Timeout, time.Millisecond)
		raw, err := results.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, results.Evidence{Seq: uint64(i + 1), Kind: results.Called, Data: raw})
	}
	return out
}

// grpcGot is an OK call that received payloads of these sizes.
func grpcGot(label string, sizes ...int) grpc.Call {
	c := grpc.Call{Label: label, Connection: 1}
	for _, n := range sizes {
		c.Received = append(c.Received, grpc.Message{Size: n + 5, Bytes: map[string]int{"payload.body": n}})
	}
	return c
}

// grpcEnded is a call that ended with a code and a message.
func grpcEnded(label string, code uint32, message string) grpc.Call {
	return grpc.Call{Label: label, Connection: 1, Code: code, Message: message}
}

func grpcJSON(label, json string) grpc.Call {
	return grpc.Call{Label: label, Connection: 1, Received: []grpc.Message{{Size: 2, JSON: []byte(json)}}}
}

// grpcAround puts the good calls of a kept connection around one.
func grpcAround(cs ...grpc.Call) []grpc.Call {
	out := append([]grpc.Call{grpcGot(grpcBefore, grpcGoodSize)}, cs...)
	for i := range grpcAfterwards {
		out = append(out, grpcGot(grpcAfter(i), grpcGoodSize))
	}
	return out
}

// grpcEdit copies calls and edits the one of that label.
func grpcEdit(calls []grpc.Call, label string, edit func(*grpc.Call)) []grpc.Call {
	out := slices.Clone(calls)
	for i := range out {
		if out[i].Label == label {
			out[i].Received = slices.Clone(out[i].Received)
			out[i].Header, out[i].Trailer = maps.Clone(out[i].Header), maps.Clone(out[i].Trailer)
			edit(&out[i])
		}
	}
	return out
}

func grpcLast(c *grpc.Call)                { c.Received = c.Received[:len(c.Received)-1] }
func grpcCode(n uint32) func(c *grpc.Call) { return func(c *grpc.Call) { c.Code, c.Received = n, nil } }
func grpcEndedAfter(code uint32, took time.Duration) func(c *grpc.Call) {
	return func(c *grpc.Call) { c.Code, c.Timeout, c.Took = code, grpcPatience, took }
}
func grpcSecond(c *grpc.Call)              { c.Connection = 2 }
func grpcShort(c *grpc.Call)               { c.Received[0].Bytes = map[string]int{"payload.body": 1} }
func grpcText(s string) func(c *grpc.Call) { return func(c *grpc.Call) { c.Message = s } }
func grpcLate(c *grpc.Call)                { c.Code = 4; grpcLast(c) }
func grpcOneMore(c *grpc.Call)             { c.Received = append(c.Received, grpc.Message{Size: 1}) }
func grpcMoreAt(at time.Duration) func(*grpc.Call) {
	return func(c *grpc.Call) { c.Received = append(c.Received, grpc.Message{Size: 1, At: at}) }
}

// grpcGolden is a passing trace for each interop case.
func grpcGolden() map[string][]grpc.Call {
	echoed := func(label string) grpc.Call {
		c := grpcGot(label, 1)
		c.Header = map[string][]string{grpcInitialKey: {grpcInitialValue}}
		c.Trailer = map[string][]string{grpcTrailingKey: {"q6ur"}}
		return c
	}
	var soak []grpc.Call
	for i := range grpcSoakCalls {
		soak = append(soak, grpcGot(grpcSoakLabel(i), grpcLargeResponse))
	}
	four := []grpc.Call{grpcGot(grpcProbe, grpcResponseSizes()...)}
	waited := grpcGot("sleeping", 9)
	waited.Code = 4
	first := grpcGot(grpcProbe, 31415)
	first.Code = 1
	return map[string][]grpc.Call{
		"empty_unary":                 {{Label: grpcProbe, Received: []grpc.Message{{Size: 0}}}},
		"large_unary":                 {grpcGot(grpcProbe, grpcLargeResponse)},
		"client_streaming":            {grpcJSON(grpcProbe, `{"aggregatedPayloadSize":74922}`)},
		"server_streaming":            four,
		"ping_pong":                   four,
		"empty_stream":                {grpcGot(grpcProbe)},
		"timeout_on_sleeping_server":  grpcAround(grpcEnded("one-millisecond", 4, ""), waited),
		"cancel_after_begin":          grpcAround(grpcEnded(grpcProbe, 1, "")),
		"cancel_after_first_response": grpcAround(first),
		"status_code_and_message": {
			grpcEnded("unary Unknown", 2, grpcStatusMessage), grpcEnded("stream Unknown", 2, grpcStatusMessage),
			grpcEnded("unary Aborted", 10, grpcStatusMessage), grpcEnded("stream Aborted", 10, grpcStatusMessage),
		},
		"special_status_message": {grpcEnded(grpcProbe, 2, grpcSpecialMessage)},
		"custom_metadata":        {echoed("unary"), echoed("stream")},
		"unimplemented_method":   {grpcEnded(grpcProbe, 12, "")},
		"unimplemented_service":  {grpcEnded(grpcProbe, 12, "")},
		"rpc_soak":               soak,
	}
}

func TestInteropJudge(t *testing.T) {
	c := grpcFind(t, "rpc/wire/grpc-interop")
	golden := grpcGolden()
	for _, kase := range grpcCaseIDs(c) {
		f := c.Judge(suites.Trace{Key: results.Key{Check: c.ID, Case: kase}, Evidence: grpcEvidence(t, golden[kase])})
		if f.Status != results.Pass || len(f.Cites) != len(golden[kase]) {
			t.Errorf("%s: %s %s %s, %d of %d calls cited", kase, f.Status, f.Reason, f.Observed, len(f.Cites), len(golden[kase]))
		}
	}
	raced := grpcGot(grpcSleeping(0), 9)
	grpcEndedAfter(13, grpcPatience)(&raced)
	good := grpcGot(grpcSleeping(1), 9)
	good.Code = 4
	calls := grpcAround(grpcEnded("one-millisecond", 4, ""), raced, good)
	if f := c.Judge(suites.Trace{Key: results.Key{Check: c.ID, Case: "timeout_on_sleeping_server"}, Evidence: grpcEvidence(t, calls)}); f.Status != results.Pass {
		t.Errorf("a race that was run again: %s %s %s", f.Status, f.Reason, f.Observed)
	}
	edits := []struct {
		kase, label string
		edit        func(*grpc.Call)
		reason      string
	}{
		{"empty_unary", grpcProbe, grpcCode(13), grpcCallFailed},
		{"empty_unary", grpcProbe, func(c *grpc.Call) { c.Received[0].Size = 3 }, grpcWrongSize},
		{"large_unary", grpcProbe, grpcShort, grpcWrongSize},
		{"large_unary", grpcProbe, grpcCode(14), grpcCallFailed},
		{"client_streaming", grpcProbe, func(c *grpc.Call) { c.Received[0].JSON = []byte(`{"aggregatedPayloadSize":74923}`) }, grpcWrongSize},
		{"client_streaming", grpcProbe, func(c *grpc.Call) { c.Received[0].JSON = []byte(`{"aggregatedPayloadSize":"x"}`) }, grpcWrongSize},
		{"client_streaming", grpcProbe, grpcLast, grpcWrongCount},
		{"server_streaming", grpcProbe, grpcLast, grpcWrongCount},
		{"server_streaming", grpcProbe, grpcOneMore, grpcWrongCount},
		{"server_streaming", grpcProbe, func(c *grpc.Call) { c.More = true }, grpcWrongCount},
		{"server_streaming", grpcProbe, grpcShort, grpcWrongSize},
		{"server_streaming", grpcProbe, grpcCode(4), grpcCallFailed},
		{"ping_pong", grpcProbe, grpcLate, grpcWrongCount},
		{"ping_pong", grpcProbe, grpcCode(2), grpcCallFailed},
		{"empty_stream", grpcProbe, grpcOneMore, grpcWrongCount},
		{"empty_stream", grpcProbe, grpcCode(4), grpcCallFailed},
		{"timeout_on_sleeping_server", grpcBefore, grpcCode(14), grpcCallFailed},
		{"timeout_on_sleeping_server", "one-millisecond", grpcCode(0), grpcEarly},
		{"timeout_on_sleeping_server", "one-millisecond", grpcCode(8), grpcWrongStatus},
		{"timeout_on_sleeping_server", "sleeping", grpcMoreAt(5 * time.Millisecond), grpcEarly},
		{"timeout_on_sleeping_server", "sleeping", grpcMoreAt(grpcSleep), suites.ReasonHostNoise},
		{"timeout_on_sleeping_server", "sleeping", grpcCode(14), grpcWrongStatus},
		{"timeout_on_sleeping_server", "sleeping", grpcEndedAfter(13, grpcPatience-1), grpcWrongStatus},
		{"timeout_on_sleeping_server", "sleeping", grpcEndedAfter(13, grpcPatience), suites.ReasonHostNoise},
		{"timeout_on_sleeping_server", "sleeping", grpcEndedAfter(0, grpcPatience), grpcEarly},
		{"cancel_after_begin", grpcProbe, grpcCode(0), grpcWrongStatus},
		{"cancel_after_begin", "after-1", grpcCode(14), grpcCallFailed},
		{"cancel_after_begin", grpcBefore, grpcCode(12), grpcCallFailed},
		{"cancel_after_first_response", grpcProbe, grpcLast, grpcWrongCount},
		{"cancel_after_first_response", grpcProbe, grpcShort, grpcWrongSize},
		{"status_code_and_message", "unary Unknown", grpcCode(0), grpcWrongStatus},
		{"status_code_and_message", "stream Aborted", grpcCode(2), grpcWrongStatus},
		{"status_code_and_message", "stream Aborted", grpcText("else"), grpcWrongMessage},
		{"special_status_message", grpcProbe, grpcText(strings.ReplaceAll(grpcSpecialMessage, "☺", "???")), grpcWrongMessage},
		{"special_status_message", grpcProbe, grpcCode(4), grpcCallFailed},
		{"custom_metadata", "unary", func(c *grpc.Call) { c.Header = nil }, grpcMetadataLost},
		{"custom_metadata", "stream", func(c *grpc.Call) { c.Trailer[grpcTrailingKey] = []string{"q6ur", "q6ur"} }, grpcMetadataLost},
		{"custom_metadata", "stream", grpcCode(13), grpcCallFailed},
		{"unimplemented_method", grpcProbe, grpcCode(0), grpcWrongStatus},
		{"unimplemented_service", grpcProbe, grpcCode(13), grpcWrongStatus},
		{"rpc_soak", "soak-7", grpcCode(14), grpcCallFailed},
		{"rpc_soak", "soak-20", grpcShort, grpcWrongSize},
	}
	seen, reasons := 0, map[string]bool{}
	for _, k := range edits {
		seen++
		calls := grpcEdit(golden[k.kase], k.label, k.edit)
		f := c.Judge(suites.Trace{Key: results.Key{Check: c.ID, Case: k.kase}, Evidence: grpcEvidence(t, calls)})
		if f.Reason != k.reason || f.Status == results.Pass {
			t.Errorf("%s, %s edited: %s %s (%s), want %s", k.kase, k.label, f.Status, f.Reason, f.Observed, k.reason)
		}
		reasons[f.Reason] = true
	}
	delete(reasons, suites.ReasonHostNoise)
	if d := cmp.Diff(slices.Sorted(slices.Values(c.Reasons)), slices.Sorted(maps.Keys(reasons))); d != "" || seen == 0 {
		t.Errorf("reasons that no edit produced: %s", d)
	}
}

// TestCancelKeepsConnectionJudge: the interop cases accept another connection afterwards, the house rule
// does not.
func TestCancelKeepsConnectionJudge(t *testing.T) {
	c := grpcFind(t, "rpc/wire/cancel-keeps-connection")
	golden := grpcGolden()
	edits := []struct {
		label  string
		edit   func(*grpc.Call)
		reason string
	}{
		{grpcBefore, func(*grpc.Call) {}, ""},
		{"after-5", grpcSecond, grpcConnLost},
		{"after-1", grpcCode(14), grpcConnLost},
	}
	seen := 0
	for _, kase := range grpcCaseIDs(c) {
		for _, k := range edits {
			seen++
			calls := grpcEdit(golden[kase], k.label, k.edit)
			f := c.Judge(suites.Trace{Key: results.Key{Check: c.ID, Case: kase}, Evidence: grpcEvidence(t, calls)})
			if f.Reason != k.reason || (f.Status == results.Pass) != (k.reason == "") {
				t.Errorf("%s, %s edited: %s %q (%s), want %q", kase, k.label, f.Status, f.Reason, f.Observed, k.reason)
			}
		}
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
}

// TestJudgesNeedEveryCall leaves out each call of each passing trace.
func TestJudgesNeedEveryCall(t *testing.T) {
	c := grpcFind(t, "rpc/wire/grpc-interop")
	seen := 0
	for kase, calls := range grpcGolden() {
		for i := range calls {
			seen++
			left := append(slices.Clone(calls[:i]), calls[i+1:]...)
			if f := c.Judge(suites.Trace{Key: results.Key{Check: c.ID, Case: kase}, Evidence: grpcEvidence(t, left)}); f.Status != results.Fail {
				t.Errorf("%s without %s: %s", kase, calls[i].Label, f.Status)
			}
		}
	}
	if seen == 0 {
		t.Fatal("no call was left out")
	}
}

func TestDeadlinesOfANoisyHarnessProveNothing(t *testing.T) {
	c := grpcFind(t, "rpc/wire/grpc-interop")
	call := grpcEnded(grpcProbe, 4, "")
	call.Timeout = 3 * time.Second
	trace := suites.Trace{Key: results.Key{Check: c.ID, Case: "large_unary"}, Evidence: grpcEvidence(t, []grpc.Call{call}), Stall: time.Second}
	if f := c.Judge(trace); f.Status != results.Inconclusive || f.Reason != suites.ReasonHostNoise {
		t.Errorf("%s %s", f.Status, f.Reason)
	}
}

func TestJudgesNeverPassAnEmptyTrace(t *testing.T) {
	seen := 0
	for _, id := range grpcCheckIDs() {
		c := grpcFind(t, id)
		for _, kase := range grpcCaseIDs(c) {
			seen++
			f := c.Judge(suites.Trace{Key: results.Key{Check: id, Case: kase}})
			if f.Status != results.Fail || !slices.Contains(c.Reasons, f.Reason) {
				t.Errorf("%s#%s: %s %q", id, kase, f.Status, f.Reason)
			}
		}
		if c.Control != nil {
			if ok, _ := c.Control.Judge(nil); ok {
				t.Errorf("%s: the control succeeds without evidence", id)
			}
		}
		bad := []results.Evidence{{Seq: 1, Kind: results.Called, Data: []byte(`[]`)}, {Seq: 2, Kind: results.Received, Data: []byte(`7`)}}
		if f := c.Judge(suites.Trace{Key: results.Key{Check: id, Case: grpcCaseIDs(c)[0]}, Evidence: bad}); f.Status == results.Pass {
			t.Errorf("%s passes undecodable evidence", id)
		}
	}
	if seen != 15+2+4+4 {
		t.Errorf("%d cases were tried", seen)
	}
}

// grpcSteps is a trace of raw steps on one connection.
func grpcSteps(t *testing.T, steps ...any) (out []results.Evidence) {
	t.Helper()
	add := func(kind results.Kind, s rpc.Step) {
		s.Conn = "raw"
		raw, err := results.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, results.Evidence{Seq: uint64(len(out) + 1), Kind: kind, Data: raw})
	}
	add(results.Dialed, rpc.Step{How: "ok"})
	for _, x := range steps {
		switch x := x.(type) {
		case []byte:
			add(results.Received, rpc.Step{Bytes: results.BytesOf(x)})
		case string:
			add(results.Closed, rpc.Step{How: x})
		}
	}
	return out
}

// grpcBlock writes an answer's header block as a HEADERS frame, with literal fields that are not
// indexed (RFC 7541 section 6.2.2).
func grpcBlock(stream uint32, end bool, pairs ...string) []byte {
	var p []byte
	for i := 0; i+1 < len(pairs); i += 2 {
		p = append(p, 0, byte(len(pairs[i])))
		p = append(append(p, pairs[i]...), byte(len(pairs[i+1])))
		p = append(p, pairs[i+1]...)
	}
	flags := uint8(h2.FlagEndHeaders)
	if end {
		flags |= h2.FlagEndStream
	}
	return h2.Frame{Type: h2.Headers, Flags: flags, Stream: stream, Payload: p}.AppendTo(nil)
}

func TestUnimplementedJudge(t *testing.T) {
	c := grpcFind(t, "rpc/wire/grpc-unimplemented")
	served := slices.Concat(h2.AppendSettings(nil),
		grpcBlock(1, false, ":status", "200", "content-type", "application/grpc"),
		h2.Frame{Type: h2.Data, Stream: 1, Payload: h2.AppendMessage(nil, nil)}.AppendTo(nil),
		grpcBlock(1, true, "grpc-status", "0"))
	only := func(pairs ...string) []byte { return grpcBlock(3, true, pairs...) }
	good := only(":status", "200", "content-type", "application/grpc", "grpc-status", "12")
	cases := map[string]struct {
		steps  []any
		reason string
	}{
		"trailers only":          {[]any{served, good}, ""},
		"one segment":            {[]any{slices.Concat(served, good)}, ""},
		"split inside a frame":   {[]any{served[:20], slices.Concat(served[20:], good)}, ""},
		"header and trailer":     {[]any{served, grpcBlock(3, false, ":status", "200", "content-type", "application/grpc+proto"), only("grpc-status", "12")}, ""},
		"internal":               {[]any{served, only(":status", "200", "content-type", "application/grpc", "grpc-status", "13")}, grpcWrongStatus},
		"served":                 {[]any{served, only(":status", "200", "content-type", "application/grpc", "grpc-status", "0")}, grpcWrongStatus},
		"code 17":                {[]any{served, only(":status", "200", "content-type", "application/grpc", "grpc-status", "17")}, grpcOutOfRange},
		"code in words":          {[]any{served, only(":status", "200", "content-type", "application/grpc", "grpc-status", "UNIMPLEMENTED")}, grpcOutOfRange},
		"http 404":               {[]any{served, only(":status", "404", "content-type", "application/grpc", "grpc-status", "12")}, grpcHTTPStatus},
		"html":                   {[]any{served, only(":status", "200", "content-type", "text/html", "grpc-status", "12")}, grpcContentType},
		"grpc-web":               {[]any{served, only(":status", "200", "content-type", "application/grpc-web", "grpc-status", "12")}, grpcContentType},
		"no status":              {[]any{served, only(":status", "200", "content-type", "application/grpc")}, grpcNoStatus},
		"status in header only":  {[]any{served, grpcBlock(3, false, ":status", "200", "content-type", "application/grpc", "grpc-status", "12"), only("x", "y")}, grpcNoStatus},
		"reset":                  {[]any{served, h2.AppendRSTStream(nil, 3, 8)}, grpcNoStatus},
		"closed":                 {[]any{served, "eof"}, grpcClosed},
		"silent":                 {[]any{served}, grpcUnanswered},
		"half an answer":         {[]any{served, good[:12]}, grpcUnanswered},
		"http/1.1":               {[]any{[]byte("HTTP/1.1 400 Bad Request\r\n\r\n"), "eof"}, grpcMalformed},
		"garbage after":          {[]any{served, []byte{0, 0, 8, 6, 0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8}}, grpcMalformed},
		"flood":                  {[]any{served, make([]byte, grpcRawMost)}, grpcMalformed},
		"no control":             {[]any{slices.Concat(h2.AppendSettings(nil), good)}, grpcCallFailed},
		"the control fails":      {[]any{slices.Concat(h2.AppendSettings(nil), grpcBlock(1, true, ":status", "200", "content-type", "application/grpc", "grpc-status", "12")), good}, grpcCallFailed},
		"the control is hollow":  {[]any{slices.Concat(h2.AppendSettings(nil), grpcBlock(1, true, ":status", "200", "content-type", "application/grpc", "grpc-status", "0")), good}, grpcCallFailed},
		"the control's code":     {[]any{slices.Concat(h2.AppendSettings(nil), grpcBlock(1, true, ":status", "200", "content-type", "application/grpc", "grpc-status", "99")), good}, grpcOutOfRange},
		"closed before anything": {[]any{"reset"}, grpcCallFailed},
	}
	seen, reasons := 0, map[string]bool{}
	for name, k := range cases {
		seen++
		for _, kase := range grpcCaseIDs(c) {
			f := c.Judge(suites.Trace{Key: results.Key{Check: c.ID, Case: kase}, Evidence: grpcSteps(t, k.steps...)})
			if f.Reason != k.reason || (f.Status == results.Pass) != (k.reason == "") {
				t.Errorf("%s: %s %q (%s), want %q", name, f.Status, f.Reason, f.Observed, k.reason)
			}
		}
		reasons[k.reason] = true
	}
	delete(reasons, "")
	if d := cmp.Diff(slices.Sorted(slices.Values(c.Reasons)), slices.Sorted(maps.Keys(reasons))); d != "" || seen == 0 {
		t.Errorf("reasons that no case produced: %s", d)
	}
	late := suites.Trace{Key: results.Key{Check: c.ID, Case: "unknown-method"}, Evidence: grpcSteps(t, served), Stall: time.Second}
	if f := c.Judge(late); f.Status != results.Inconclusive {
		t.Errorf("silence in a noisy harness: %s %s", f.Status, f.Reason)
	}
}

func TestHealthJudge(t *testing.T) {
	c := grpcFind(t, "rpc/observe/health-serving")
	serving, unknown := grpcJSON(healthLabel(""), `{"status":"SERVING"}`), grpcEnded(healthLabel(healthNoService), 5, "")
	get := func(path, answer string) []results.Evidence {
		out := grpcSteps(t, []byte(answer))
		for i := range out {
			out[i].Data = []byte(strings.Replace(string(out[i].Data), `"conn":"raw"`, `"conn":"`+path+`","label":"`+path+`"`, 1))
		}
		return out
	}
	refused := grpcSteps(t)
	refused[0].Data = []byte(`{"conn":"/readyz","how":"refused"}`)
	cases := []struct {
		kase     string
		evidence []results.Evidence
		reason   string
	}{
		{"overall", grpcEvidence(t, []grpc.Call{serving}), ""},
		{"overall", grpcEvidence(t, []grpc.Call{grpcJSON(healthLabel(""), `{"status":"NOT_SERVING"}`)}), healthNotServing},
		{"overall", grpcEvidence(t, []grpc.Call{grpcJSON(healthLabel(""), `{}`)}), healthNotServing},
		{"overall", grpcEvidence(t, []grpc.Call{grpcEnded(healthLabel(""), 12, "")}), grpcCallFailed},
		{"unknown-service", grpcEvidence(t, []grpc.Call{serving, unknown}), ""},
		{"unknown-service", grpcEvidence(t, []grpc.Call{unknown}), grpcCallFailed},
		{"unknown-service", grpcEvidence(t, []grpc.Call{serving, grpcJSON(healthLabel(healthNoService), `{"status":"SERVING"}`)}), grpcWrongStatus},
		{"healthz", get("/healthz", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"), ""},
		{"healthz", get("/healthz", "HTTP/1.1 503 Service Unavailable\r\n\r\n"), healthNotServing},
		{"readyz", get("/readyz", "HTTP/1.0 200 OK\r\n\r\n"), ""},
		{"readyz", get("/readyz", "HTTP/1.1 404 Not Found\r\n\r\n"), healthNotServing},
		{"readyz", get("/readyz", "SSH-2.0-x\r\n"), grpcCallFailed},
		{"readyz", refused, grpcCallFailed},
		{"readyz", get("/healthz", "HTTP/1.1 200 OK\r\n\r\n"), grpcCallFailed},
	}
	seen, reasons := 0, map[string]bool{}
	for i, k := range cases {
		seen++
		f := c.Judge(suites.Trace{Key: results.Key{Check: c.ID, Case: k.kase}, Evidence: k.evidence})
		if f.Reason != k.reason || (f.Status == results.Pass) != (k.reason == "") {
			t.Errorf("%d %s: %s %q (%s), want %q", i, k.kase, f.Status, f.Reason, f.Observed, k.reason)
		}
		reasons[k.reason] = true
	}
	delete(reasons, "")
	if d := cmp.Diff(slices.Sorted(slices.Values(c.Reasons)), slices.Sorted(maps.Keys(reasons))); d != "" || seen == 0 {
		t.Errorf("reasons that no case produced: %s", d)
	}
}

func TestClaimJudges(t *testing.T) {
	good := []grpc.Call{{Label: grpcProbe, Received: []grpc.Message{{}}}, grpcGot(grpcBefore, grpcGoodSize)}
	body := []grpc.Call{grpcJSON(grpcProbe, `{"body":"YXNzYXk="}`)}
	cases := []struct {
		id    string
		calls []grpc.Call
		want  results.Status
	}{
		{"claims/grpc.interop", good, results.Pass},
		{"claims/grpc.interop", good[:1], results.Fail},
		{"claims/grpc.interop", grpcEdit(good, grpcProbe, grpcCode(12)), results.Fail},
		{"claims/grpc.interop", grpcEdit(good, grpcBefore, grpcShort), results.Fail},
		{"claims/grpc.behave", body, results.Pass},
		{"claims/grpc.behave", []grpc.Call{grpcJSON(grpcProbe, `{}`)}, results.Fail},
		{"claims/grpc.behave", grpcEdit(body, grpcProbe, grpcCode(12)), results.Fail},
		{"claims/grpc.health", []grpc.Call{grpcJSON(healthLabel(""), `{"status":"NOT_SERVING"}`)}, results.Pass},
		{"claims/grpc.health", []grpc.Call{grpcJSON(healthLabel(""), `{}`)}, results.Fail},
		{"claims/grpc.health", []grpc.Call{grpcEnded(healthLabel(""), 12, "")}, results.Fail},
	}
	seen := 0
	for _, k := range cases {
		seen++
		f := grpcFind(t, k.id).Judge(suites.Trace{Key: results.Key{Check: k.id}, Evidence: grpcEvidence(t, k.calls)})
		if f.Status != k.want || f.Status == results.Fail && f.Reason != reasonAbsent {
			t.Errorf("%s: %s %q (%s), want %s", k.id, f.Status, f.Reason, f.Observed, k.want)
		}
	}
	if seen == 0 {
		t.Fatal("no case ran")
	}
}
