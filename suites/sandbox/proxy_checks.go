package sandbox

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/fixtures/wasm"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	box "github.com/assay-bench/assay/scenarios/sandbox"
	"github.com/assay-bench/assay/suites"
)

// Reasons of the checks on proxies.
const (
	reasonOrder      = "wrong-order"
	reasonStatus     = "wrong-status"
	reasonUpstream   = "upstream-differs" // the upstream did not see the headers as edited
	reasonClientSees = "client-differs"   // the client did not
	reasonEncoding   = "wrong-encoding"
	reasonForwarded  = "forwarded" // the upstream was called
	reasonNotPaused  = "not-paused"
	reasonNotResumed = "not-resumed"
	reasonWritten    = "written-at-zero"
	reasonVisible    = "environment-visible"
)

func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func oneOf(got string, want []string) bool { return slices.Contains(want, got) }

func exactly(v string) []string { return []string{v} }

const proxyWasm = "Proxy-Wasm 0.2.1"

var _ = addClaim(suites.Check{
	ID: "claims/sandbox.proxy", Title: "the claimed feature sandbox.proxy is there", Covers: []string{"claims/sandbox.proxy"},
	Needs: []features.Feature{features.SandboxProxy}, Cost: suites.Cost{Time: 200 * time.Millisecond, Exclusive: true},
	Reasons: []string{reasonAbsent}, Drive: controlProxy,
	Judge: func(t suites.Trace) suites.Finding {
		const want = "a filter is loaded, and a request passes it on its way to the upstream"
		ok, observed := judgeProxyControl(t.Evidence)
		s, err := box.Proxying(t.Evidence)
		if err != nil || !ok {
			return suites.Failing(reasonAbsent, want, observed, s.Cites)
		}
		return suites.Passing(want, observed, s.Cites)
	},
	Kills: []suites.Kill{{Defect: "sandbox.proxy-absent", Reason: reasonAbsent}},
})

var (
	_ = add(filterRow(suites.Check{
		ID: "sandbox/proxy/abi-marker", Title: "a module without a known marker is refused",
		Kills: killIn("no-marker", reasonFilterLoaded, "sandbox.proxy-marker-ignored"),
	}, proxyWasm+", Integration", "the load is refused, and no request reaches the module", nil,
		filterCase{id: "no-marker", title: "no proxy_abi_version_*", filter: "proxy-no-marker", refused: true},
		filterCase{id: "unknown-import", title: "an import that the ABI does not have", filter: "proxy-unknown-import", refused: true}))

	_ = add(filterRow(suites.Check{
		ID: "sandbox/proxy/init-order", Title: "a filter is started in the order of the specification",
		Kills: kill(reasonOrder, "sandbox.proxy-start-before-create"),
	}, proxyWasm, "_initialize, main, context_create, vm_start, configure, then the stream", []string{reasonOrder},
		filterCase{filter: "proxy-log-order", wrong: func(s box.SeenProxy) (string, string) {
			const want = "initialize,main,create:plugin,vm_start,configure,create:stream,request,response"
			if got := s.Exchanges["request-0"].Header("x-assay-order"); got != want {
				return reasonOrder, fmt.Sprintf("order %q, want %q", got, want)
			}
			return "", ""
		}}))

	_ = add(filterRow(suites.Check{
		ID: "sandbox/proxy/config-refused", Title: "false from vm_start or configure stops the filter",
		Kills: kills(killIn("configure", reasonFilterLoaded, "sandbox.proxy-config-ignored"), killIn("vm-start", reasonFilterLoaded, "sandbox.proxy-config-ignored")),
	}, proxyWasm+", Configuration", "the load is refused, and no request reaches the filter", nil,
		filterCase{id: "configure", title: "proxy_on_configure", filter: "proxy-config-false", refused: true},
		filterCase{id: "vm-start", title: "proxy_on_vm_start", filter: "proxy-vm-false", refused: true}))

	_ = add(filterRow(suites.Check{
		ID: "sandbox/proxy/headers", Title: "headers are read, added, replaced and removed",
		Kills: kills(
			kill(reasonStatus, "sandbox.proxy-headers-lost"),
			kill(reasonUpstream, "sandbox.proxy-request-unedited"),
			kill(reasonClientSees, "sandbox.proxy-removed-sent"),
			kill(reasonStatus, "sandbox.proxy-missing-get-ok"),
		),
	}, proxyWasm+", HTTP fields", "each call has its status, and upstream and client see the headers as edited",
		[]string{reasonStatus, reasonUpstream, reasonClientSees},
		filterCase{filter: "proxy-headers", wrong: wrongHeaders, requests: []map[string]string{
			{"x-assay-in": "in", "x-assay-replace": "original", "x-assay-remove": "gone"},
		}}))

	_ = add(filterRow(suites.Check{
		ID: "sandbox/proxy/pairs-encoding", Title: "header maps have the encoding of the specification",
		Kills: kills(
			killIn("whole", reasonEncoding, "sandbox.proxy-pairs-big-endian"),
			kills(killIn("whole", reasonEncoding, "sandbox.proxy-truncated-pairs-ok"), killIn("cut", reasonEncoding, "sandbox.proxy-truncated-pairs-ok")),
		),
	}, proxyWasm+", Serialization", "little-endian counts, both empty forms taken, a truncated map refused", []string{reasonEncoding},
		filterCase{id: "whole", title: "read, written, and cut short", filter: "proxy-pairs", wrong: wrongPairs},
		filterCase{id: "empty-0", title: "an empty map of no bytes", filter: "proxy-pairs", wrong: localBody("empty0\n"),
			requests: []map[string]string{{"x-assay-local": "empty0"}}},
		filterCase{id: "empty-1", title: "an empty map of one byte", filter: "proxy-pairs", wrong: localBody("empty1\n"),
			requests: []map[string]string{{"x-assay-local": "empty1"}}},
		filterCase{id: "cut", title: "a truncated map for a local response", filter: "proxy-pairs",
			requests: []map[string]string{{"x-assay-local": "cut"}}, wrong: func(s box.SeenProxy) (string, string) {
				if got := s.Exchanges["request-0"].Report()["local"]; got == "" || got == "0" {
					return reasonEncoding, fmt.Sprintf("the truncated map has status %q, want an error", got)
				}
				return "", ""
			}}))

	_ = add(filterRow(suites.Check{
		ID: "sandbox/proxy/bad-arguments", Title: "unknown maps and bad pointers have their status",
		Kills: kills(
			kill(reasonStatus, "sandbox.proxy-bad-map-ok"),
			kill(reasonStatus, "sandbox.proxy-bad-pointer-traps"),
		),
	}, proxyWasm, "BAD_ARGUMENT (2) for unknown maps, INVALID_MEMORY_ACCESS (6) for bad pointers", []string{reasonStatus},
		filterCase{filter: "proxy-bad", wrong: reported(reasonStatus, map[string][]string{
			"map-get": exactly("2"), "map-add": exactly("2"), "map-replace": exactly("2"), "map-remove": exactly("2"),
			"map-size": exactly("2"), "map-pairs": exactly("2"), "map-set": exactly("2"), "key": exactly("6"), "add-value": exactly("6"),
			"return-pointer": exactly("6"), "return-size": exactly("6"), "untouched": exactly("1"), "wrap": exactly("6"),
			"set-pairs": exactly("6"), "log": exactly("6"), "level": exactly("2"), "buffer": exactly("2"),
		})}))

	_ = add(filterRow(suites.Check{
		ID: "sandbox/proxy/local-response", Title: "a local response reaches the client, and the upstream is not called",
		Kills: kills(killIn("pause", reasonForwarded, "sandbox.proxy-local-forwarded"), killIn("continue", reasonForwarded, "sandbox.proxy-local-forwarded")),
	}, proxyWasm+", HTTP", "418 with the filter's header and body, and nothing at the upstream", []string{reasonForwarded, reasonClientSees},
		filterCase{id: "pause", title: "and the filter pauses", filter: "proxy-local", wrong: wrongLocal},
		filterCase{id: "continue", title: "and the filter returns continue", filter: "proxy-local", wrong: wrongLocal,
			requests: []map[string]string{{"x-assay-action": "continue"}}}))

	_ = add(filterRow(suites.Check{
		ID: "sandbox/proxy/pause-resume", Title: "a paused request waits until it is continued",
		Kills: killIn("held", reasonNotPaused, "sandbox.proxy-pause-ignored"),
	}, proxyWasm, "nothing at the upstream until the request is continued, then the request once", []string{reasonNotPaused, reasonNotResumed},
		filterCase{id: "held", title: "until another request releases it", filter: "proxy-pause", custom: holdAndRelease, wrong: wrongPause},
		filterCase{id: "tick", title: "until the third tick", filter: "proxy-pause", requests: []map[string]string{{"x-assay-pause": "tick"}},
			wrong: reported(reasonNotResumed, map[string][]string{"paused": exactly("1"), "effective": exactly("0"), "continue": exactly("0")})}))

	_ = add(filterRow(suites.Check{
		ID: "sandbox/proxy/unimplemented", Title: "every function of the ABI links, and those without effect say so",
		Kills: kills(
			kill(reasonFilterRefused, "sandbox.proxy-import-missing"),
			kill(reasonStatus, "sandbox.proxy-unimplemented-ok"),
		),
	}, proxyWasm, "a module that imports all loads; what has no effect returns UNIMPLEMENTED (12)", []string{reasonStatus},
		filterCase{filter: "proxy-imports", wrong: wrongImports}))

	_ = add(filterRow(suites.Check{
		ID: "sandbox/proxy/end-order", Title: "done, log, delete; and done = false waits for proxy_done",
		Kills: kills(
			killIn("plain", reasonOrder, "sandbox.proxy-log-before-done"),
			killIn("waiting", reasonOrder, "sandbox.proxy-done-ignored"),
		),
	}, proxyWasm+", Context lifecycle", "a stream ends with done, log, delete, the last two after proxy_done where done was false", []string{reasonOrder},
		filterCase{id: "plain", title: "of a stream that is done", filter: "proxy-log-order", requests: make([]map[string]string, 2),
			wrong: ended("request-1", "done,log,delete")},
		filterCase{id: "waiting", title: "of a stream that is not", filter: "proxy-done", wrong: wrongDone,
			requests: []map[string]string{nil, nil, {"x-assay-finish": "1"}}}))

	_ = add(filterRow(suites.Check{
		ID: "sandbox/proxy/allocator-failure", Title: "a failed allocation is an error status, not a write at 0",
		Kills: killIn("null", reasonWritten, "sandbox.proxy-allocator-unchecked"),
	}, proxyWasm+", Memory", "INTERNAL_FAILURE (10) or INVALID_MEMORY_ACCESS (6), and nothing written", []string{reasonWritten},
		filterCase{id: "null", title: "the allocator returns 0", filter: "proxy-alloc-fail", wrong: unwritten(), requests: []map[string]string{{"x-assay-in": "in"}}},
		filterCase{id: "wild", title: "the allocator returns a pointer past the end", filter: "proxy-alloc-bad", wrong: unwritten(), requests: []map[string]string{{"x-assay-in": "in"}}}))

	_ = add(filterRow(suites.Check{
		ID: "sandbox/proxy/no-host-environment", Title: "the host's environment is not visible",
		Kills: kill(reasonVisible, "sandbox.proxy-environment"),
	}, proxyWasm+", Environment", "environ_sizes_get counts nothing", []string{reasonVisible},
		filterCase{filter: "proxy-environ", wrong: reported(reasonVisible, map[string][]string{"environ": {"0:0:0", "0:0:1"}, "get": exactly("0")})}))
)

func wrongHeaders(s box.SeenProxy) (string, string) {
	reason, seen := reported(reasonStatus, map[string][]string{
		"get": exactly("0:696e"), "missing": exactly("1"), "add": exactly("0"), "add2": exactly("0"), "replace": exactly("0"), "create": exactly("0"),
		"remove": exactly("0"), "absent": exactly("0"), "reget": exactly("0:7265706c61636564"), "regone": exactly("1"), "up": exactly("0:68656c6c6f"),
		"rewrite": exactly("0"), "hide": exactly("0"), "extra": exactly("0"),
	})(s)
	if reason != "" {
		return reason, seen
	}
	if len(s.Arrivals) != 1 {
		return reasonUpstream, fmt.Sprintf("%d requests arrived", len(s.Arrivals))
	}
	lines := map[string]string{"x-assay-added": "one,two", "x-assay-replace": "replaced", "x-assay-created": "created", "x-assay-remove": ""}
	for _, name := range sortedNames(lines) {
		// a proxy may fold lines of one name into one (RFC 9110 section 5.3)
		got := strings.ReplaceAll(strings.Join(s.Arrivals[0].Headers[name], ","), ", ", ",")
		if want := lines[name]; got != want {
			return reasonUpstream, fmt.Sprintf("the upstream saw %s: %q, want %q", name, got, want)
		}
	}
	x := s.Exchanges["request-0"]
	back := map[string]string{"x-assay-rewrite": "rewritten", "x-assay-hidden": "", "x-assay-extra": "extra"}
	for _, name := range sortedNames(back) {
		if want := back[name]; x.Header(name) != want {
			return reasonClientSees, fmt.Sprintf("the client saw %s: %q, want %q", name, x.Header(name), want)
		}
	}
	return "", ""
}

func wrongPairs(s box.SeenProxy) (string, string) {
	report := s.Exchanges["request-0"].Report()
	if report["decode"] != "ok" || !strings.HasPrefix(report["pairs"], "0:") || report["set"] != "0" {
		return reasonEncoding, fmt.Sprintf("decode %q, pairs %q, set %q", report["decode"], report["pairs"], report["set"])
	}
	for _, name := range []string{"cut-value", "cut-lengths", "cut-count", "huge-count", "huge-length"} {
		if report[name] == "0" || report[name] == "" {
			return reasonEncoding, fmt.Sprintf("the broken map %s has status %q, want an error", name, report[name])
		}
	}
	return "", ""
}

func localBody(want string) func(box.SeenProxy) (string, string) {
	return func(s box.SeenProxy) (string, string) {
		if x := s.Exchanges["request-0"]; x.Status != 200 || x.Body != want {
			return reasonEncoding, fmt.Sprintf("the local response is %d %q, want 200 %q", x.Status, x.Body, want)
		}
		return "", ""
	}
}

func wrongLocal(s box.SeenProxy) (string, string) {
	x := s.Exchanges["request-0"]
	switch {
	case len(s.Arrivals) > 0:
		return reasonForwarded, fmt.Sprintf("%d requests arrived", len(s.Arrivals))
	case x.Status != 418 || x.Body != "local response\n" || x.Header("x-assay-local") != "yes":
		return reasonClientSees, fmt.Sprintf("the client saw %d %q, x-assay-local %q", x.Status, x.Body, x.Header("x-assay-local"))
	}
	return "", ""
}

// heldAt is evidence of how many requests had reached the upstream when a request was held.
const heldAt results.Kind = "proxy-held"

// holdAndRelease makes a request that is held, sees that it does not arrive while another passes, and releases it.
func holdAndRelease(ctx context.Context, env *scenarios.Env, up *box.Upstream) error {
	var held sync.WaitGroup
	var heldErr error
	held.Go(func() { _, heldErr = box.Through(ctx, env, "request-0", map[string]string{"x-assay-pause": "hold"}) })
	release := func() error { // the release itself tells when something was held
		for range 40 {
			x, err := box.Through(ctx, env, "release", map[string]string{"x-assay-release": "1"})
			if err != nil || x.Report()["released"] != "0" {
				return err
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(25 * time.Millisecond): // the held request may be on its way to the proxy
			}
		}
		return nil
	}
	// a request that is not held passes first, so that a proxy that forwards at once has had the time for it
	_, err := box.Through(ctx, env, "passing", map[string]string{"x-assay-passing": "1"})
	if err == nil {
		_, err = box.Through(ctx, env, "passing-again", map[string]string{"x-assay-passing": "1"})
	}
	if err == nil {
		err = env.Record(heldAt, up.Count())
	}
	if err == nil {
		err = release()
	}
	held.Wait()
	if err == nil {
		err = heldErr
	}
	return err
}

func wrongPause(s box.SeenProxy) (string, string) {
	held := 0
	for _, a := range s.Arrivals {
		if len(a.Headers["x-assay-passing"]) == 0 {
			held = a.N
		}
	}
	x := s.Exchanges["request-0"]
	switch {
	case held == 0 || x.Status != 200:
		return reasonNotResumed, fmt.Sprintf("the held request never reached the upstream (answer %d)", x.Status)
	case x.Report()["paused"] != "1":
		return reasonNotPaused, "the filter saw no pause"
	case held <= 2:
		return reasonNotPaused, fmt.Sprintf("the held request reached the upstream as number %d, before the two that were sent after it", held)
	}
	return "", ""
}

func wrongImports(s box.SeenProxy) (string, string) {
	report := s.Exchanges["request-0"].Report()
	for _, f := range wasm.HostFunctions() {
		if len(f.Statuses) == 0 {
			continue
		}
		if !slices.Contains(statusTexts(f.Statuses), report[f.Name]) {
			return reasonStatus, fmt.Sprintf("%s returns %q, want one of %v", f.Name, report[f.Name], f.Statuses)
		}
	}
	return "", ""
}

func ended(request, want string) func(box.SeenProxy) (string, string) {
	return func(s box.SeenProxy) (string, string) {
		if got := s.Exchanges[request].Header("x-assay-ended"); got != want {
			return reasonOrder, fmt.Sprintf("the last stream ended with %q, want %q", got, want)
		}
		return "", ""
	}
}

func wrongDone(s box.SeenProxy) (string, string) {
	if reason, seen := ended("request-1", "done")(s); reason != "" {
		return reason, seen
	}
	return ended("request-2", "done,proxy_done,log,delete")(s)
}

func unwritten() func(box.SeenProxy) (string, string) {
	return reported(reasonWritten, map[string][]string{
		"get": {"6", "10"}, "pairs": {"6", "10"}, "zero": exactly("unchanged"),
	})
}

func statusTexts(all []int) []string {
	var out []string
	for _, s := range all {
		out = append(out, strconv.Itoa(s))
	}
	return out
}
