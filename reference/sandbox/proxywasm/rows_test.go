package proxywasm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/assay-bench/assay/reference/defect"
)

// row is a requirement with the defects that break it.
type row struct {
	id    string
	check func(t *testing.T, o Options) error
	kills []defect.Name
}

var rows = []row{
	{"sandbox/proxy/abi-marker", checkMarker, []defect.Name{defect.SandboxProxyMarkerIgnored}},
	{"sandbox/proxy/init-order", checkInitOrder, []defect.Name{defect.SandboxProxyStartBeforeCreate}},
	{"sandbox/proxy/config-refused", checkConfigRefused, []defect.Name{defect.SandboxProxyConfigIgnored}},
	{"sandbox/proxy/headers", checkHeaders, []defect.Name{defect.SandboxProxyHeadersLost, defect.SandboxProxyMissingGetOk, defect.SandboxProxyAbsent}},
	{"sandbox/proxy/pairs-encoding", checkPairs, []defect.Name{defect.SandboxProxyPairsBigEndian, defect.SandboxProxyTruncatedPairsOk}},
	{"sandbox/proxy/bad-arguments", checkBadArguments, []defect.Name{defect.SandboxProxyBadMapOk, defect.SandboxProxyBadPointerTraps}},
	{"sandbox/proxy/local-response", checkLocal, []defect.Name{defect.SandboxProxyLocalForwarded}},
	{"sandbox/proxy/pause-resume", checkPause, []defect.Name{defect.SandboxProxyPauseIgnored}},
	{"sandbox/proxy/unimplemented", checkUnimplemented, []defect.Name{defect.SandboxProxyImportMissing, defect.SandboxProxyUnimplementedOk}},
	{"sandbox/proxy/end-order", checkEndOrder, []defect.Name{defect.SandboxProxyLogBeforeDone, defect.SandboxProxyDoneIgnored}},
	{"sandbox/proxy/allocator-failure", checkAllocator, []defect.Name{defect.SandboxProxyAllocatorUnchecked}},
	{"sandbox/proxy/no-host-environment", checkEnvironment, []defect.Name{defect.SandboxProxyEnvironment}},
}

func TestRows(t *testing.T) {
	leaks(t)
	t.Setenv("ASSAY_SECRET", "of the host")
	engines(t, func(t *testing.T, interpreter bool) {
		for _, r := range rows {
			t.Run(strings.ReplaceAll(r.id, "/", "."), func(t *testing.T) {
				if err := r.check(t, Options{Interpreter: interpreter}); err != nil {
					t.Error(err)
				}
			})
		}
	})
}

// TestDefects plants each defect of this package and wants its row to notice.
func TestDefects(t *testing.T) {
	leaks(t)
	t.Setenv("ASSAY_SECRET", "of the host")
	planted := 0
	for _, r := range rows {
		for _, name := range r.kills {
			planted++
			t.Run(string(name), func(t *testing.T) {
				err := r.check(t, Options{Defects: with(name)})
				if err == nil {
					t.Errorf("%s passes with the defect planted", r.id)
				}
			})
		}
	}
	if planted != 18 {
		t.Errorf("planted %d defects, want all 18 of the proxy", planted)
	}
}

// refusal loads a module and returns why it was refused, or "".
func refusal(wasm []byte, o Options) (string, error) {
	f, err := Load(context.Background(), wasm, o)
	if err == nil {
		return "", f.Close(context.Background())
	}
	var r *Refusal
	if !errors.As(err, &r) {
		return "", fmt.Errorf("%w is no *Refusal", err)
	}
	return r.Reason, nil
}

func wantRefusal(wasm []byte, o Options, want string) error {
	reason, err := refusal(wasm, o)
	if err == nil && (!strings.Contains(reason, want) || reason == "") {
		err = fmt.Errorf("reason %q, want one with %q", reason, want)
	}
	return err
}

func checkMarker(t *testing.T, o Options) error {
	return wantRefusal(guest(t, "no-marker"), o, "proxy_abi_version_0_2_1")
}

var started = []string{"_initialize", "main", "create 1", "vm_start 1", "configure 1"}

func checkInitOrder(t *testing.T, o Options) error {
	r := newRig(t, guest(t, "probe"), o, nil)
	if got := r.proxy.Log(); !slices.Equal(got, started) {
		return fmt.Errorf("log %q, want %q", got, started)
	}
	return nil
}

func checkConfigRefused(t *testing.T, o Options) error {
	o.Configuration = []byte("refuse")
	if err := wantRefusal(guest(t, "probe"), o, "proxy_on_configure returned false"); err != nil {
		return err
	}
	o.Configuration, o.VMConfiguration = nil, []byte("refuse")
	return wantRefusal(guest(t, "probe"), o, "proxy_on_vm_start returned false")
}

// report sends a request and returns the filter's x-report as the upstream saw it.
func report(r *rig, target string) (string, error) {
	a := r.do("GET", target, "", inHeader)
	got := r.origin.requests()
	if a.status != 200 || len(got) != 1 {
		return "", fmt.Errorf("%s: status %d %s, upstream saw %d requests", target, a.status, a.body, len(got))
	}
	return got[0].header.Get("X-Report"), nil
}

func checkReport(t *testing.T, o Options, target, want string) error {
	o.Configuration = []byte("plain")
	got, err := report(newRig(t, guest(t, "probe"), o, nil), target)
	if err != nil {
		return err
	}
	return expect(target, got, want)
}

func checkHeaders(t *testing.T, o Options) error {
	r := newRig(t, guest(t, "probe"), o, nil)
	got, err := report(r, "/headers")
	if err != nil {
		return err
	}
	h := r.origin.requests()[0].header
	return errors.Join(
		expect("report", got, "get=0;length=7;missing=1;add=0;add=0;replace=0;remove=0;absent=0;split=2;path=0;badpath=2;early=2;property=0;noproperty=1;size=0;pairs=0;equal=1;"),
		expect("x-replace", strings.Join(h["X-Replace"], "|"), "replaced"),
		expect("x-added", strings.Join(h["X-Added"], "|"), "one|two"),
		expect("x-remove", strings.Join(h["X-Remove"], "|"), ""),
		expect("target", r.origin.requests()[0].target, "/changed?q=1"),
	)
}

func checkPairs(t *testing.T, o Options) error {
	return checkReport(t, o, "/pairs", "cut=4;still=0;set=0;gone=1;a=0;pairs=0;bytes=1;empty0=0;empty1=0;none=0;size=0;trailers=0;size=0;")
}

func checkBadArguments(t *testing.T, o Options) error {
	return checkReport(t, o, "/bad", "map=2;map=2;grpc=2;key=6;wrap=6;pointer=6;size=6;untouched=1;level=2;log=6;buffer=2;start=2;body=1;stream=2;tcp=12;context=2;done=1;http=12;")
}

func checkLocal(t *testing.T, o Options) error {
	for i, target := range []string{"/local", "/local-continue"} {
		r := newRig(t, guest(t, "probe"), o, nil)
		a := r.do("POST", target, "a body", nil)
		err := errors.Join(
			expect("status", fmt.Sprint(a.status), "418"), expect("body", a.body, "teapot\n"),
			expect("header a", a.header.Get("A"), "1"), expect("header b", a.header.Get("B"), "22"),
			expect("upstream calls", fmt.Sprint(len(r.origin.requests())), "0"),
			has(r.proxy.Log(), "request 2", "local=0;again=2;", "done 2", "log 2", "delete 2"),
		)
		if err != nil {
			return fmt.Errorf("way %d: %w", i, err)
		}
	}
	return checkReport(t, o, "/local-bad", "cut=4;status=2;body=6;")
}

func checkPause(t *testing.T, o Options) error {
	r := newRig(t, guest(t, "probe"), o, nil)
	a := r.do("GET", "/pause", "", nil)
	if !strings.HasSuffix(a.header.Get("X-Response"), "ticks=3;") || len(r.origin.requests()) != 1 {
		return fmt.Errorf("x-response %q, upstream calls %d, want three ticks and one call", a.header.Get("X-Response"), len(r.origin.requests()))
	}
	a = r.do("GET", "/at-once", "", nil)
	if a.status != 200 {
		return fmt.Errorf("continued before the pause: status %d", a.status)
	}
	o.PauseLimit = 30 * time.Millisecond
	r = newRig(t, guest(t, "probe"), o, nil)
	a = r.do("GET", "/hold", "", nil)
	return errors.Join(expect("status of a hold", fmt.Sprint(a.status), "504"),
		expect("upstream calls", fmt.Sprint(len(r.origin.requests())), "0"))
}

func checkUnimplemented(t *testing.T, o Options) error {
	f, err := Load(context.Background(), guest(t, "invoke"), o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(context.Background())) }()
	without := 0
	for i, h := range hostCalls {
		if h.run != nil {
			continue
		}
		without++
		got, err := invoke(f, nil, i)
		if err != nil || got != uint32(statusUnimplemented) {
			return fmt.Errorf("%s: status %d, %w", h.name, got, err)
		}
	}
	if without == 0 {
		return errors.New("no function is without effect")
	}
	return nil
}

func checkEndOrder(t *testing.T, o Options) error {
	r := newRig(t, guest(t, "probe"), o, nil)
	r.do("GET", "/", "", nil)
	log := r.proxy.Log()
	end := log[slices.Index(log, "response 2"):]
	if want := []string{"response 2", "done 2", "log 2", "read=0;write=2;local=2;", "delete 2"}; !slices.Equal(end, want) {
		return fmt.Errorf("end of the log %q, want %q", end, want)
	}
	r.do("GET", "/done", "", nil)
	r.close() // waits for proxy_done of the stream
	return has(r.filter.Log(), "done 3", "proxy_done 1", "log 3", "delete 3", "done 1", "log 1", "delete 1")
}

func checkAllocator(t *testing.T, o Options) error {
	return checkReport(t, o, "/alloc", "refused=10;wild=6;untouched=1;zero=1;nested=0;inner=10;")
}

func checkEnvironment(t *testing.T, o Options) error {
	o.Configuration = []byte("plain")
	r := newRig(t, guest(t, "probe"), o, nil)
	got, err := report(r, "/environ")
	if err != nil {
		return err
	}
	return errors.Join(
		expect("report", got, "environ=0;count=0;args=0;count=0;get=0;clock=0;noclock=58;write=0;written=21;file=8;random=0;"),
		has(r.proxy.Log(), "from stdout", "and more"))
}
