package proxywasm

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tetratelabs/proxy-wasm-go-sdk/proxywasm/proxytest"
	sdk "github.com/tetratelabs/proxy-wasm-go-sdk/proxywasm/types"

	"github.com/assay-bench/assay/reference/sandbox/rewrite"
)

// referee is proxytest, the host of another project (ABI 0.2.0 with the same functions), with a filter of the
// suites that has no-ops for the callbacks which proxytest calls whether they are there or not. It has no
// network: what it shows are statuses, header maps and local answers.
func referee(t *testing.T, name string) (host proxytest.HostEmulator, stream uint32) {
	t.Helper()
	vm, err := proxytest.NewWasmVMContext(guest(t, name))
	if err != nil {
		t.Fatal(err)
	}
	host, reset := proxytest.NewHostEmulator(proxytest.NewEmulatorOption().WithVMContext(vm))
	t.Cleanup(func() {
		reset()
		if err := vm.Close(); err != nil {
			t.Error(err)
		}
	})
	if host.StartVM() != sdk.OnVMStartStatusOK || host.StartPlugin() != sdk.OnPluginStartStatusOK {
		t.Fatal("the referee's filter does not start")
	}
	return host, host.InitializeHttpContext()
}

// ours is the same filter behind this package's proxy.
func ours(t *testing.T, name string) *rig {
	t.Helper()
	m, err := rewrite.Parse(guest(t, name))
	if err != nil {
		t.Fatal(err)
	}
	out, _, err := rewrite.Rewrite(m, rewrite.Options{Start: true})
	if err != nil {
		t.Fatal(err)
	}
	return newRig(t, out, Options{}, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Assay-Upstream", "up")
		w.Header().Set("X-Assay-Rewrite", "old")
		w.Header().Set("X-Assay-Hidden", "1")
	})
}

// assayed keeps the headers of the filters, joined where a name comes twice.
func assayed(pairs [][2]string) map[string]string {
	out := map[string]string{}
	for _, p := range pairs {
		if name := strings.ToLower(p[0]); strings.HasPrefix(name, "x-assay-") {
			if had, ok := out[name]; ok {
				p[1] = had + "," + p[1]
			}
			out[name] = p[1]
		}
	}
	return out
}

func pairsOf(h http.Header) (pairs [][2]string) {
	for name, values := range h {
		for _, v := range values {
			pairs = append(pairs, [2]string{name, v})
		}
	}
	return pairs
}

// TestRefereeHeaders compares every operation on header maps: the statuses that the filter reports, what the
// upstream gets and what the client gets.
func TestRefereeHeaders(t *testing.T) {
	const name = "headers-callbacks"
	host, stream := referee(t, name)
	request := [][2]string{{"x-assay-in", "in"}, {"x-assay-replace", "a"}, {"x-assay-remove", "b"}}
	response := [][2]string{{"x-assay-upstream", "up"}, {"x-assay-rewrite", "old"}, {"x-assay-hidden", "1"}}
	if a := host.CallOnRequestHeaders(stream, request, true); a != sdk.ActionContinue {
		t.Fatalf("the referee's action: %v", a)
	}
	upstream := assayed(host.GetCurrentRequestHeaders(stream))
	if a := host.CallOnResponseHeaders(stream, response, true); a != sdk.ActionContinue {
		t.Fatalf("the referee's action: %v", a)
	}
	client := assayed(host.GetCurrentResponseHeaders(stream))
	host.CompleteHttpContext(stream)
	if client["x-assay-report"] == "" || len(upstream) == 0 {
		t.Fatalf("the referee saw nothing: %v, %v", upstream, client)
	}

	r := ours(t, name)
	header := http.Header{}
	for _, p := range request {
		header.Add(p[0], p[1])
	}
	a := r.do("GET", "/", "", header)
	if diff := cmp.Diff(client, assayed(pairsOf(a.header))); diff != "" {
		t.Errorf("what the client gets (-referee +ours):\n%s", diff)
	}
	const twice = "x-assay-added" // the referee appends the second value to the first; a host of the network sends both
	if upstream[twice] != "onetwo" {
		t.Errorf("the referee's %s: %q", twice, upstream[twice])
	}
	upstream[twice] = "one,two"
	if diff := cmp.Diff(upstream, assayed(pairsOf(r.origin.requests()[0].header))); diff != "" {
		t.Errorf("what the upstream gets (-referee +ours):\n%s", diff)
	}
}

// TestRefereeLocalResponse compares an answer of the filter's own.
func TestRefereeLocalResponse(t *testing.T) {
	const name = "local-callbacks"
	host, stream := referee(t, name)
	if a := host.CallOnRequestHeaders(stream, [][2]string{{"x-assay-in", "in"}}, true); a != sdk.ActionPause {
		t.Errorf("the referee's action: %v", a)
	}
	want := host.GetSentLocalResponse(stream)
	if want == nil {
		t.Fatal("the referee saw no answer")
	}
	r := ours(t, name)
	a := r.do("GET", "/", "", nil)
	if a.status != int(want.StatusCode) || a.body != string(want.Data) {
		t.Errorf("%d %q, want %d %q", a.status, a.body, want.StatusCode, want.Data)
	}
	for _, p := range want.Headers {
		if got := a.header.Get(p[0]); got != p[1] {
			t.Errorf("header %s: %q, want %q", p[0], got, p[1])
		}
	}
	if len(want.Headers) == 0 || len(r.origin.requests()) != 0 {
		t.Errorf("%d headers to compare, %d requests reached the upstream", len(want.Headers), len(r.origin.requests()))
	}
}
