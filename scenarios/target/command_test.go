package target_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/assay-bench/assay/chaos"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios/target"
	"github.com/assay-bench/assay/scenarios/target/targettest"
)

// patience is a limit against hanging.
const patience = 20 * time.Second

func TestCommandContract(t *testing.T) {
	targettest.Contract(t, func(*testing.T) target.Target { return child("serve", "") })
}

func TestNotReady(t *testing.T) {
	t.Parallel()
	short := 200 * time.Millisecond
	cases := []struct {
		name    string
		command *target.Command
		timeout time.Duration
		reason  string
		detail  string
	}{
		{"never ready", child("mute", ""), short, "timeout", "no line"},
		{"dies at start", child("die", ""), 0, "exited", "exit status 3: cannot bind: address in use"},
		{"garbage line", child("garbage", ""), 0, "garbage", "Listening on port 80"},
		{"endpoint without port", child("no-port", ""), 0, "garbage", "not host:port"},
		{"no line end", child("flood", ""), 0, "garbage", "no line end within 65536 bytes"},
		{"closes its output", child("close", ""), 0, "garbage", "ended before a line"},
		{"no such program", &target.Command{Argv: []string{"./no-such-program"}}, 0, "no-such-program", "no such file"},
		{"no such folder", &target.Command{Argv: []string{os.Args[0]}, Dir: "no-such-folder"}, 0, "no-such-program", "no such file"},
		{"not a program", &target.Command{Argv: []string{"./command_test.go"}}, 0, "no-such-program", "permission denied"},
		{"probe never holds", probed("mute", failing), short, "timeout", "refused by the test"},
		{"dies while probed", probed("die", failing), 0, "exited", "exit status 3"},
		{"dead, but another answers", probed("die", holdsAfterDeath()), 0, "exited", "exit status 3"},
	}
	seen := 0
	for _, c := range cases {
		seen++
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.command.Timeout = c.timeout
			if c.timeout == 0 {
				c.command.Timeout = patience
			}
			began := time.Now()
			_, err := c.command.Start(t.Context())
			took := time.Since(began)
			var not *target.NotReady
			if !errors.As(err, &not) || !errors.Is(err, target.ErrNotReady) {
				t.Fatalf("start: %v, want a NotReady", err)
			}
			if not.Reason != c.reason || !strings.Contains(not.Detail, c.detail) {
				t.Errorf("not ready: %q %.200q, want %q …%s…", not.Reason, not.Detail, c.reason, c.detail)
			}
			if took < c.timeout {
				t.Errorf("gave up after %v, before the time-out of %v", took, c.timeout)
			}
			if len(not.Detail) > 128<<10 {
				t.Errorf("detail of %d bytes", len(not.Detail))
			}
			if p := c.command.Processes(); len(p) > 0 {
				t.Errorf("process %v is left", p)
			}
			if err := c.command.Stop(t.Context()); err != nil {
				t.Errorf("stop after a failed start: %v", err)
			}
		})
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
}

func probed(conduct string, ready target.ReadyProbe) *target.Command {
	c := child(conduct, "")
	c.Ready = ready
	return c
}

func failing(context.Context) error { return errors.New("refused by the test") }

// holdsAfterDeath is a probe that another server answers: it holds, but only once the child is gone.
func holdsAfterDeath() target.ReadyProbe {
	return func(ctx context.Context) error {
		<-ctx.Done()
		return nil
	}
}

func TestStartWithoutCommand(t *testing.T) {
	_, err := (&target.Command{}).Start(t.Context())
	if err == nil || errors.Is(err, target.ErrNotReady) {
		t.Errorf("start of nothing: %v, want an error of the harness", err)
	}
}

// A run that the user ends is not the target's fault.
func TestEndedRunIsNotTheTargets(t *testing.T) {
	for _, c := range []*target.Command{child("mute", ""), probed("mute", failing)} {
		ctx, cancel := context.WithCancel(t.Context())
		c.Own = func(chaos.Process) error { cancel(); return nil }
		_, err := c.Start(ctx)
		if !errors.Is(err, context.Canceled) || errors.Is(err, target.ErrNotReady) {
			t.Errorf("start in an ended run: %v", err)
		}
		if p := c.Processes(); len(p) > 0 {
			t.Errorf("process %v is left", p)
		}
	}
}

// A child that can not be journaled may not run.
func TestUnjournaledChildIsEnded(t *testing.T) {
	refused := errors.New("journal is full")
	c := child("stubborn", "")
	var owned chaos.Process
	c.Own = func(p chaos.Process) error { owned = p; return refused }
	if _, err := c.Start(t.Context()); !errors.Is(err, refused) {
		t.Errorf("start: %v", err)
	}
	if owned.PID == 0 || owned.Alive() {
		t.Errorf("process %v lives", owned)
	}
}

func TestObserveAndOwn(t *testing.T) {
	c := child("serve", "")
	var kinds []results.Kind
	var owned []chaos.Process
	c.Observe = func(k results.Kind, _ any) {
		kinds = append(kinds, k)
		if len(c.Processes()) != 1 { // and the observer may ask
			t.Error("no process while it is observed")
		}
	}
	c.Own = func(p chaos.Process) error { owned = append(owned, p); return nil }
	mustStart(t, c)
	if !slices.Equal(kinds, []results.Kind{results.Started}) || !slices.Equal(owned, c.Processes()) || owned[0].Start == 0 {
		t.Errorf("observed %v, owned %v, runs %v", kinds, owned, c.Processes())
	}
}

// A child that prints without a line end, more than a pipe holds, is neither blocked nor kept.
func TestFloodDoesNotBlockTheChild(t *testing.T) {
	t.Parallel()
	addr := freeAddress(t)
	c := child("flooded", addr)
	c.Ready = dialProbe(addr)
	c.Timeout = patience
	mustStart(t, c)
	mustStop(t, c)
	if n := len(c.ExitState().Output); n == 0 || n > 16<<10 {
		t.Errorf("kept %d bytes of output", n)
	}
}

func TestChatterAfterReadyDoesNotBlockTheChild(t *testing.T) {
	t.Parallel()
	c := child("chatter", "")
	mustStart(t, c)
	awaitExit(t, c)
	e := c.ExitState()
	if e.State != "exit status 0" || e.Asked {
		t.Errorf("exit = %q, asked %v", e.State, e.Asked)
	}
	if len(e.Output) > 16<<10 || !strings.HasSuffix(e.Output, "in all") || !strings.Contains(e.Output, "00099999") {
		t.Errorf("kept %d bytes, not the end: …%q", len(e.Output), e.Output[max(0, len(e.Output)-60):])
	}
}

func TestStop(t *testing.T) {
	t.Parallel()
	cases := []struct {
		conduct string
		grace   time.Duration
		state   string
	}{
		{"stubborn", 150 * time.Millisecond, "signal: killed"},
		{"deaf", patience, "exit status 0"},
		{"polite", patience, "exit status 0"},
	}
	seen := 0
	for _, c := range cases {
		seen++
		t.Run(c.conduct, func(t *testing.T) {
			t.Parallel()
			cmd := child(c.conduct, "")
			cmd.StopTimeout = c.grace
			mustStart(t, cmd)
			pid := cmd.Processes()[0].PID
			began := time.Now()
			mustStop(t, cmd)
			took := time.Since(began)
			want := target.Exit{PID: pid, State: c.state, Asked: true}
			got := cmd.ExitState()
			got.Output = ""
			if got != want {
				t.Errorf("exit = %+v, want %+v", got, want)
			}
			if wasKilled := c.state == "signal: killed"; wasKilled == (took < c.grace) {
				t.Errorf("%s ended after %v with a grace of %v", c.conduct, took, c.grace)
			}
			mustStop(t, cmd)
		})
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
}

// An ended context cuts the grace short and still ends the child.
func TestStopInAnEndedRun(t *testing.T) {
	t.Parallel()
	c := child("stubborn", "")
	c.StopTimeout = time.Hour
	mustStart(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if c.ExitState().State != "signal: killed" {
		t.Errorf("exit = %+v", c.ExitState())
	}
}

func TestStopByMany(t *testing.T) {
	t.Parallel()
	c := child("serve", "")
	mustStart(t, c)
	done := make(chan error)
	const many = 4
	for range many {
		go func() { done <- c.Stop(context.Background()) }()
	}
	for range many {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// What the child started ends with it, in its group or out of it.
func TestGrandchildren(t *testing.T) {
	t.Parallel()
	for _, conduct := range []string{"nest", "escape"} {
		t.Run(conduct+" ends at stop", func(t *testing.T) {
			t.Parallel()
			c := child(conduct, "")
			mustStart(t, c)
			left := grandchildOf(t, c)
			mustStop(t, c)
			vanishes(t, left)
		})
	}
	t.Run("ends when its parent crashes", func(t *testing.T) {
		t.Parallel()
		c := child("orphan", "")
		mustStart(t, c)
		left := grandchildOf(t, c)
		if err := c.Processes()[0].Kill(); err != nil {
			t.Fatal(err)
		}
		awaitExit(t, c) // although the grandchild holds the pipes open
		vanishes(t, left)
	})
}

func grandchildOf(t *testing.T, c *target.Command) chaos.Process {
	t.Helper()
	claims, err := c.Claims(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(claims.Name)
	if err != nil {
		t.Fatal(err)
	}
	p, err := chaos.FindProcess(pid)
	if err != nil || !p.Alive() {
		t.Fatalf("grandchild %v: %v", p, err)
	}
	return p
}

func TestRestartAfterCrash(t *testing.T) {
	t.Parallel()
	c := child("serve", "")
	seen := map[chaos.Process]bool{}
	for range 3 {
		mustStart(t, c)
		p := c.Processes()[0]
		if seen[p] {
			t.Fatalf("process %v again", p)
		}
		seen[p] = true
		if err := p.Kill(); err != nil {
			t.Fatal(err)
		}
		awaitExit(t, c)
		if e := c.ExitState(); e.PID != p.PID || e.State != "signal: killed" || e.Asked {
			t.Errorf("exit = %+v", e)
		}
		if left := c.Processes(); len(left) > 0 {
			t.Errorf("lists %v after the crash", left)
		}
	}
}

// kill -9 of the harness takes the target with it, even one that heeds neither pipe nor signal.
func TestDeathOfTheParentKillsTheChild(t *testing.T) {
	t.Parallel()
	middle := exec.Command(os.Args[0])
	middle.Env = append(os.Environ(), childEnv+"=middle")
	out, err := middle.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := middle.Start(); err != nil {
		t.Fatal(err)
	}
	defer middle.Wait()
	defer middle.Process.Kill()
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var grandchild chaos.Process
	if err := json.Unmarshal(line, &grandchild); err != nil {
		t.Fatal(err)
	}
	if !grandchild.Alive() {
		t.Fatalf("%v does not run", grandchild)
	}
	if err := middle.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	vanishes(t, grandchild)
}

func mustStart(t *testing.T, tg target.Target) target.Endpoints {
	t.Helper()
	addrs, err := tg.Start(t.Context())
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	t.Cleanup(func() { _ = tg.Stop(context.Background()) })
	return addrs
}

func mustStop(t *testing.T, tg target.Target) {
	t.Helper()
	if err := tg.Stop(t.Context()); err != nil {
		t.Fatalf("stop: %v", err)
	}
}

func awaitExit(t *testing.T, c target.Local) {
	t.Helper()
	select {
	case <-c.Exited():
	case <-time.After(patience):
		t.Fatal("exit not seen")
	}
}

func vanishes(t *testing.T, p chaos.Process) {
	t.Helper()
	for end := time.Now().Add(patience); p.Alive(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			_ = p.Kill()
			t.Fatalf("process %d is still there", p.PID)
		}
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, addr)
}

func dialProbe(addr string) target.ReadyProbe {
	return func(ctx context.Context) error {
		conn, err := dial(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		return conn.Close()
	}
}
