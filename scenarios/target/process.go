package target

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/assay-bench/assay/chaos"
)

// Bounds on what a started command may print before and after it is ready.
const (
	maxReadyLine = 64 << 10
	maxOutput    = 16 << 10
)

// process is one running child, from fork to the end of its output.
type process struct {
	id      chaos.Process
	stdin   io.Closer      // the child's watchdog pipe: it sees EOF when we are gone
	line    chan readyLine // the first line of standard output
	output  *tail
	readers sync.WaitGroup
	exited  chan struct{} // closed when the child is reaped and its output read

	state string // valid once exited is closed

	mu    sync.Mutex
	asked bool // the harness asked it to end before it ended by itself
}

type readyLine struct {
	text []byte
	err  error
}

func newProcess() *process {
	return &process{line: make(chan readyLine, 1), output: &tail{max: maxOutput}, exited: make(chan struct{})}
}

// pipes are both ends of the child's standard streams. They are made by hand because the pipes of
// os/exec are read to their end before the child is reaped, and a descendant can hold them open.
type pipes struct{ child, parent []*os.File }

func (p *pipes) closeChild()  { closeFiles(p.child) }
func (p *pipes) closeParent() { closeFiles(p.parent) }

func closeFiles(files []*os.File) {
	for _, f := range files {
		closeAll(f)
	}
}

// add makes a pipe and remembers which end is whose.
func (p *pipes) add(childReads bool) (child, parent *os.File, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		p.closeChild()
		p.closeParent()
		return nil, nil, err
	}
	child, parent = w, r
	if childReads {
		child, parent = r, w
	}
	p.child, p.parent = append(p.child, child), append(p.parent, parent)
	return child, parent, nil
}

// connect gives the child its standard streams and begins to read what it prints.
func (p *process) connect(cmd *exec.Cmd) (*pipes, error) {
	ends := &pipes{}
	in, stdin, err := ends.add(true)
	if err != nil {
		return nil, err
	}
	out, stdout, err := ends.add(false)
	if err != nil {
		return nil, err
	}
	errs, stderr, err := ends.add(false)
	if err != nil {
		return nil, err
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr, p.stdin = in, out, errs, stdin
	p.readers.Go(func() { p.readOutput(stdout) })
	// tail.Write never fails; a read error means that the pipe is closed
	p.readers.Go(func() { _, _ = io.Copy(p.output, stderr) })
	return ends, nil
}

// readOutput delivers the first line, bounded, and keeps the end of the rest. It reads on for ever, so
// that a child that prints is never blocked by us.
func (p *process) readOutput(r io.Reader) {
	br := bufio.NewReaderSize(r, maxReadyLine)
	line, err := br.ReadSlice('\n')
	_, _ = p.output.Write(line)
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		p.line <- readyLine{err: fmt.Errorf("no line end within %d bytes", maxReadyLine)}
	case err != nil:
		p.line <- readyLine{err: errNoLine}
	default:
		p.line <- readyLine{text: bytes.Clone(line)}
	}
	_, _ = io.Copy(p.output, br)
}

// identify notes the start time, without which a later process of the same number could be taken for
// this one.
func (p *process) identify(pid int) {
	id, err := chaos.FindProcess(pid)
	if err != nil {
		id = chaos.Process{PID: pid} // no /proc here
	}
	p.id = id
}

// watch waits for the child's end, kills what it left behind in its group, and takes the rest of its
// output. A descendant that escaped the group may hold the pipes open, so that reading is bounded.
func (p *process) watch(cmd *exec.Cmd, ends *pipes) {
	err := reap(cmd)
	p.state = "exit status 0"
	if err != nil {
		p.state = err.Error()
	}
	for _, f := range ends.parent {
		_ = f.SetReadDeadline(time.Now().Add(settle))
	}
	p.readers.Wait()
	ends.closeParent()
	close(p.exited)
}

// over tells whether the child has ended.
func (p *process) over() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// exit describes the end of the child.
func (p *process) exit() Exit {
	if !p.over() {
		return Exit{PID: p.id.PID}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return Exit{PID: p.id.PID, State: p.state, Asked: p.asked, Output: p.output.Text()}
}

// ask notes that the end is wanted, unless it has come already.
func (p *process) ask() (running bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over() || (p.id.Start != 0 && !p.id.Alive()) { // it may have ended and not be reaped yet
		return false
	}
	p.asked = true
	return true
}

// stop ends the child and its descendants: by the end of its standard input and SIGTERM, and after
// the grace by SIGKILL.
func (p *process) stop(ctx context.Context, grace time.Duration) error {
	if !p.ask() {
		<-p.exited // it is on its way: the kernel has let go of it
		return nil
	}
	tree, _ := p.id.Tree() // best effort: those outside the group, which the kill of the group misses
	defer endAll(tree)
	closeAll(p.stdin)
	terminate(p.id.PID)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.exited:
		return nil
	case <-timer.C:
	case <-ctx.Done():
	}
	killGroup(p.id.PID)
	last := time.NewTimer(killed)
	defer last.Stop()
	select {
	case <-p.exited:
		return nil
	case <-last.C:
		return fmt.Errorf("target process %d survives SIGKILL", p.id.PID)
	}
}

// endAll kills what is left of a tree. The start time keeps it from hitting a stranger.
func endAll(tree []chaos.Process) {
	for _, q := range tree {
		if q.Alive() {
			_ = q.Kill() // it may go between the two calls, which is what is wanted
		}
	}
}

// notReady prefers the exit of the process as the reason: it explains the rest.
func (p *process) notReady(reason, detail string, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-p.exited:
		return &NotReady{"exited", p.state + ": " + p.output.Text()}
	case <-timer.C:
		return &NotReady{reason, detail}
	}
}

// outOfTime tells a target that is too slow from a run that was ended.
func (p *process) outOfTime(ctx context.Context, detail string) error {
	if context.Cause(ctx) != errLate {
		return fmt.Errorf("target: start: %w", context.Cause(ctx))
	}
	if p.over() {
		return p.notReady("exited", detail, settle)
	}
	if said := p.output.Text(); said != "" {
		detail += "; it printed: " + said
	}
	return &NotReady{"timeout", detail}
}

// The errors are dropped on purpose: a process that has gone already is what the caller wants.

func terminate(pid int) { _ = syscall.Kill(pid, syscall.SIGTERM) }

func killGroup(pid int) {
	_ = syscall.Kill(-pid, syscall.SIGKILL)
	_ = syscall.Kill(pid, syscall.SIGKILL)
}

// tail keeps the last max bytes written to it.
type tail struct {
	mu  sync.Mutex
	max int
	buf []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b[max(0, len(b)-t.max):]...)
	if extra := len(t.buf) - t.max; extra > 0 {
		t.buf = append(t.buf[:0], t.buf[extra:]...)
	}
	return len(b), nil
}

// Text returns the kept output as valid UTF-8.
func (t *tail) Text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(strings.ToValidUTF8(string(t.buf), "\uFFFD"))
}
