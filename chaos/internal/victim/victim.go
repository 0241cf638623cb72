// Package victim is a target for the tests of fault injection: the test binary started again as a
// small TCP echo server with a child of its own that counts. Only tests may import it.
package victim

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/assay-bench/assay/chaos"
)

const (
	lifetime   = 2 * time.Minute // after which a forgotten victim ends
	startLimit = 10 * time.Second
)

// Main runs a victim and ends the process when the arguments ask for one. Call it in TestMain.
func Main() {
	if len(os.Args) != 3 {
		return
	}
	switch os.Args[1] {
	case "victim-echo":
		exit(echo(os.Args[2]))
	case "victim-count":
		exit(count(os.Args[2]))
	}
}

func exit(err error) {
	fmt.Fprintln(os.Stderr, "victim:", err)
	os.Exit(1)
}

// Victim is a running victim.
type Victim struct {
	chaos.Process               // the echo server
	Child         chaos.Process // its child, which counts
	Addr          string        // of the echo server
	cmd           *exec.Cmd
	dir           string
}

// Spawn starts a victim that keeps its counter in dir.
func Spawn(dir string) (*Victim, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	v := &Victim{cmd: exec.Command(exe, "victim-echo", dir), dir: dir}
	v.cmd.Stderr = os.Stderr
	inOwnGroup(v.cmd)
	out, err := v.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := v.cmd.Start(); err != nil {
		return nil, err
	}
	var hello hello
	err = json.NewDecoder(out).Decode(&hello)
	if err == nil {
		v.Addr = hello.Addr
		v.Process, err = chaos.FindProcess(v.cmd.Process.Pid)
	}
	if err == nil {
		v.Child, err = chaos.FindProcess(hello.Child)
	}
	if err == nil {
		err = v.counting()
	}
	if err != nil {
		v.Kill()
		return nil, fmt.Errorf("victim: %w", err)
	}
	return v, nil
}

// counting waits for the child's first count.
func (v *Victim) counting() error {
	for end := time.Now().Add(startLimit); v.Count() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return errors.New("the child does not count")
		}
	}
	return nil
}

// Start starts a victim that the test ends.
func Start(t testing.TB) *Victim {
	t.Helper()
	v, err := Spawn(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Kill)
	return v
}

// Kill ends the victim and its child, however they are.
func (v *Victim) Kill() {
	_ = v.cmd.Process.Kill()
	if v.Child.PID != 0 {
		_ = v.Child.Kill()
	}
	_ = v.cmd.Wait()
}

// Count reads the child's counter, which it raises every millisecond.
func (v *Victim) Count() uint64 {
	b, err := os.ReadFile(filepath.Join(v.dir, "count"))
	if err != nil || len(b) < 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

// Point is a point at this victim, with a probe.
func (v *Victim) Point(run string) chaos.Point {
	return chaos.Point{
		Processes: []chaos.Process{v.Process},
		Endpoints: map[string]string{"echo": v.Addr},
		Probe:     Probe,
		RunID:     run,
	}
}

// Probe exchanges sixteen bytes on a new connection.
func Probe(ctx context.Context, addr string) (time.Duration, error) {
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if end, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(end); err != nil {
			return 0, err
		}
	}
	began := time.Now()
	b := []byte("is anybody there")
	if _, err := c.Write(b); err != nil {
		return 0, err
	}
	if _, err := io.ReadFull(c, b); err != nil {
		return 0, err
	}
	return time.Since(began), nil
}

type hello struct {
	Addr  string
	Child int
}

func echo(dir string) error {
	time.AfterFunc(lifetime, func() { os.Exit(0) })
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	child := exec.Command(exe, "victim-count", dir)
	if err := child.Start(); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(hello{l.Addr().String(), child.Process.Pid}); err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			_, _ = io.Copy(c, c)
		}()
	}
}

func count(dir string) error {
	time.AfterFunc(lifetime, func() { os.Exit(0) })
	f, err := os.Create(filepath.Join(dir, "count"))
	if err != nil {
		return err
	}
	tick := time.NewTicker(time.Millisecond)
	for n := uint64(1); ; n++ {
		var b [8]byte
		binary.BigEndian.PutUint64(b[:], n)
		if _, err := f.WriteAt(b[:], 0); err != nil {
			return errors.Join(err, f.Close())
		}
		<-tick.C
	}
}
