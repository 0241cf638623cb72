package proxywasm

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/assay-bench/assay/fixtures/wasm"
	"github.com/assay-bench/assay/reference/sandbox/rewrite"
)

// metered is a guest of the suites as admission hands it over.
func metered(t *testing.T, name string) []byte {
	t.Helper()
	m, err := rewrite.Parse(wasm.Module(name))
	if err != nil {
		t.Fatal(err)
	}
	out, _, err := rewrite.Rewrite(m, rewrite.Options{Start: true})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func fixture(t *testing.T, name string, o Options) *rig {
	return newRig(t, metered(t, name), o, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Assay-Upstream", "up")
		w.Header().Set("X-Assay-Rewrite", "old")
		w.Header().Set("X-Assay-Hidden", "1")
	})
}

// TestFixtures runs the filters of the suites, rewritten, and wants the reports that their README gives.
func TestFixtures(t *testing.T) {
	cases := []struct {
		name   string
		o      Options
		header http.Header
		want   string // text of x-assay-report, with * for any number
	}{
		{"proxy-headers", Options{}, http.Header{"X-Assay-In": {"in"}, "X-Assay-Replace": {"a"}, "X-Assay-Remove": {"b"}},
			"get=0:696e;missing=1;add=0;add2=0;replace=0;create=0;remove=0;absent=0;reget=0:7265706c61636564;regone=1;up=0:7570;rewrite=0;hide=0;extra=0"},
		{"proxy-config-false", Options{Configuration: []byte("accept")}, nil, "loaded=1"},
		{"proxy-vm-false", Options{VMConfiguration: []byte("accept")}, nil, "loaded=1"},
		{"proxy-pause", Options{}, http.Header{"X-Assay-Pause": {"tick"}}, "paused=1;ticks=3;effective=0;continue=0"},
		{"proxy-pairs", Options{}, nil, "size=0:*;pairs=0:*;decode=ok;count=*;set=0;cut-value=4;cut-lengths=4;cut-count=4;huge-count=4;huge-length=4;trailers=0:"},
		{"proxy-pairs", Options{}, http.Header{"X-Assay-Local": {"cut"}}, "size=0:*;pairs=0:*;decode=ok;count=*;set=0;cut-value=4;cut-lengths=4;cut-count=4;huge-count=4;huge-length=4;trailers=0:;local=4"},
		{"proxy-bad", Options{}, http.Header{"X-Assay-In": {"in"}}, "map-get=2;map-add=2;map-replace=2;map-remove=2;map-size=2;map-pairs=2;map-set=2;key=6;add-value=6;return-pointer=6;return-size=6;untouched=1;wrap=6;set-pairs=6;log=6;level=2;buffer=2"},
		{"proxy-environ", Options{}, nil, "environ=0:0:0;get=0;args=0:0:0"},
		{"proxy-trap", Options{}, nil, "trap=0"},
		{"proxy-version-2", Options{}, nil, "version=2"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			a := fixture(t, c.name, c.o).do("GET", "/", "", c.header)
			got := a.header.Get("X-Assay-Report")
			if a.status != 200 || !matches(got, c.want) {
				t.Errorf("status %d, report\n%s, want\n%s", a.status, got, c.want)
			}
		})
	}
}

// matches compares item by item; * stands for a number.
func matches(got, want string) bool {
	g, w := strings.Split(got, ";"), strings.Split(want, ";")
	return slices.EqualFunc(g, w, func(g, w string) bool {
		if head, ok := strings.CutSuffix(w, "*"); ok {
			tail, ok := strings.CutPrefix(g, head)
			_, err := strconv.Atoi(tail)
			return ok && err == nil
		}
		return g == w
	})
}

func TestFixtureImports(t *testing.T) {
	a := fixture(t, "proxy-imports", Options{}).do("GET", "/", "", nil)
	items := strings.Split(a.header.Get("X-Assay-Report"), ";")
	functions := wasm.HostFunctions()
	if len(functions) == 0 || len(items) != len(functions) {
		t.Fatalf("%d items for %d functions: %q", len(items), len(functions), items)
	}
	for i, f := range functions {
		name, status, _ := strings.Cut(items[i], "=")
		if f.Name == "proc_exit" {
			continue
		}
		n, err := strconv.Atoi(status)
		if name != f.Name || err != nil || !slices.Contains(f.Statuses, n) {
			t.Errorf("%s: %s, want one of %v", f.Name, items[i], f.Statuses)
		}
	}
}

func TestFixtureLogOrder(t *testing.T) {
	r := fixture(t, "proxy-log-order", Options{})
	r.do("GET", "/", "", nil)
	a := r.do("GET", "/", "", nil)
	if got := a.header.Get("X-Assay-Order"); got != "initialize,main,create:plugin,vm_start,configure,create:stream,request,response" {
		t.Errorf("order %q", got)
	}
	if got := a.header.Get("X-Assay-Ended"); got != "done,log,delete" {
		t.Errorf("ended %q", got)
	}
}

func TestFixtureDone(t *testing.T) {
	r := fixture(t, "proxy-done", Options{DoneLimit: time.Second})
	if a := r.do("GET", "/", "", nil); a.header.Get("X-Assay-Ended") != "none" {
		t.Errorf("first: %v", a.header)
	}
	if a := r.do("GET", "/", "", nil); a.header.Get("X-Assay-Ended") != "done" {
		t.Errorf("while it waits: %v", a.header)
	}
	a := r.do("GET", "/", "", http.Header{"X-Assay-Finish": {"1"}})
	if !strings.HasSuffix(a.header.Get("X-Assay-Ended"), "log,delete") || !strings.HasSuffix(a.header.Get("X-Assay-Report"), "early=1") {
		t.Errorf("afterwards: %v", a.header)
	}
	r.do("GET", "/", "", http.Header{"X-Assay-Finish": {"1"}})
}

func TestFixtureAllocators(t *testing.T) {
	for _, name := range []string{"proxy-alloc-fail", "proxy-alloc-bad"} {
		a := fixture(t, name, Options{Configuration: []byte("c")}).do("GET", "/", "", http.Header{"X-Assay-In": {"in"}})
		got := a.header.Get("X-Assay-Report")
		for _, status := range []string{"get=0", "pairs=0", "buffer=0", "zero=changed"} {
			if got == "" || strings.Contains(got, status) {
				t.Errorf("%s: %q", name, got)
			}
		}
	}
}

func TestFixtureHoldAndRelease(t *testing.T) {
	r := fixture(t, "proxy-pause", Options{})
	held := make(chan reply, 1)
	go func() {
		a, err := r.try("GET", "/", "", http.Header{"X-Assay-Pause": {"hold"}})
		if err != nil {
			t.Error(err)
		}
		held <- a
	}()
	eventually(t, "a held request", func() bool {
		a := r.do("GET", "/", "", http.Header{"X-Assay-Release": {"1"}})
		return a.body == "released\n" && strings.HasPrefix(a.header.Get("X-Assay-Report"), "released=1;effective=0;continue=0")
	})
	if a := <-held; a.status != 200 || len(r.origin.requests()) != 1 {
		t.Errorf("held request: %+v, upstream calls %d", a, len(r.origin.requests()))
	}
}

func TestFixtureLocal(t *testing.T) {
	for _, header := range []http.Header{nil, {"X-Assay-Action": {"continue"}}} {
		r := fixture(t, "proxy-local", Options{})
		a := r.do("GET", "/", "", header)
		if a.status != 418 || a.body != "local response\n" || a.header.Get("X-Assay-Local") != "yes" || len(r.origin.requests()) != 0 {
			t.Errorf("%+v, upstream calls %d", a, len(r.origin.requests()))
		}
	}
	for _, form := range []string{"empty0", "empty1"} {
		r := fixture(t, "proxy-pairs", Options{})
		if a := r.do("GET", "/", "", http.Header{"X-Assay-Local": {form}}); a.status != 200 || a.body != form+"\n" || len(r.origin.requests()) != 0 {
			t.Errorf("%s: %+v", form, a)
		}
	}
}

func TestFixtureRefusals(t *testing.T) {
	for name, want := range map[string]string{
		"proxy-no-marker": "proxy_abi_version_0_2_1", "proxy-unknown-import": "env.proxy_assay_unknown",
		"proxy-config-false": "proxy_on_configure returned false", "proxy-vm-false": "proxy_on_vm_start returned false",
	} {
		if err := wantRefusal(wasm.Module(name), Options{}, want); err != nil {
			t.Error(fmt.Errorf("%s: %w", name, err))
		}
	}
}

func TestFixtureSpinIsMetered(t *testing.T) {
	engines(t, func(t *testing.T, interpreter bool) {
		r := fixture(t, "proxy-trap", Options{Interpreter: interpreter, Meter: NewFuelMeter(10_000_000)})
		for _, kind := range []string{"unreachable", "spin"} {
			if a := r.do("GET", "/", "", http.Header{"X-Assay-Trap": {kind}}); a.status != 500 || len(r.origin.requests()) != 0 {
				t.Errorf("%s: %+v", kind, a)
			}
		}
		if a := r.do("GET", "/", "", nil); a.status != 200 {
			t.Errorf("afterwards: %+v", a)
		}
	})
}
