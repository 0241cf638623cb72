package target

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// maxHookOutput is what is kept of what a hook prints: its end.
const maxHookOutput = 4 << 10

// Ran is how a hook ended.
type Ran struct {
	Exit   int    // its exit status; -1: a signal ended it
	State  string // as wait(2) told it
	Output string // the end of what it printed, at most Hook.Keep
	Errors string // the end of its standard error, at most 4 KiB, where that is kept apart
	Late   bool   // the context ended first, and its process group was killed
	PID    int
}

// Hook is a command line of a target file and what its placeholders stand for. Its words are split first,
// then filled, so that no value becomes two words.
type Hook struct {
	Folder string              // the working folder; a program with a / is relative to it
	Line   string              // the command line
	Fill   map[string]string   // what {NAME} in a word stands for
	Lists  map[string][]string // a word that is {NAME} and nothing else becomes these words, or none
	Apart  bool                // standard error goes to Ran.Errors, not to Ran.Output
	Keep   int                 // bytes of Ran.Output; 0: 4 KiB
}

// RunHook runs a command line of a target file as Hook.Run does, with all that it prints in one text.
func RunHook(ctx context.Context, folder, line string, fill map[string]string) (Ran, error) {
	return Hook{Folder: folder, Line: line, Fill: fill}.Run(ctx)
}

// Run runs the command to its end, at the latest until the context's: then its process group is killed. A
// program that can not be run is an error that wraps ErrNotReady.
func (h Hook) Run(ctx context.Context) (Ran, error) {
	argv, err := h.argv()
	if err != nil {
		return Ran{}, &NotReady{"no-such-program", err.Error()}
	}
	output, err := newSink()
	if err != nil {
		return Ran{}, fmt.Errorf("hook: %w", err)
	}
	if h.Keep > 0 {
		output.kept.max = h.Keep
	}
	sinks := []*sink{output}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = h.Folder, output.w, output.w
	if h.Apart {
		apart, err := newSink()
		if err != nil {
			closeAll(output.r, output.w)
			return Ran{}, fmt.Errorf("hook: %w", err)
		}
		sinks, cmd.Stderr = append(sinks, apart), apart.w
	}
	isolate(cmd)
	ran, err := watchHook(ctx, cmd, sinks)
	ran.Output = sinks[0].kept.Text()
	if h.Apart {
		ran.Errors = sinks[1].kept.Text()
	}
	return ran, err
}

// argv are the words of the command line, filled in.
func (h Hook) argv() ([]string, error) {
	words, err := Words(h.Line)
	if err != nil {
		return nil, err
	}
	var argv []string
	for _, w := range words {
		if list, ok := h.Lists[strings.Trim(w, "{}")]; ok && strings.HasPrefix(w, "{") && strings.HasSuffix(w, "}") {
			argv = append(argv, list...)
			continue
		}
		argv = append(argv, fillIn(w, h.Fill))
	}
	if len(argv) == 0 {
		return nil, errors.New("names no program")
	}
	if strings.ContainsRune(argv[0], filepath.Separator) {
		argv[0] = within(h.Folder, argv[0])
	}
	return argv, nil
}

// sink is a pipe whose end is kept.
type sink struct {
	r, w   *os.File
	kept   tail
	copied chan struct{} // closed when all of it was read, or its deadline passed
}

func newSink() (*sink, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	return &sink{r: r, w: w, kept: tail{max: maxHookOutput}, copied: make(chan struct{})}, nil
}

// read copies until the last writer has closed the pipe, or until its read deadline.
func (s *sink) read() {
	_, _ = io.Copy(&s.kept, s.r)
	close(s.copied)
}

// watchHook starts the command and waits for its end and that of its output. It closes the sinks.
func watchHook(ctx context.Context, cmd *exec.Cmd, sinks []*sink) (Ran, error) {
	started, ended := make(chan error, 1), make(chan error, 1)
	go func() { // on one thread: its end would count as the parent's (see Command.launch)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		for _, s := range sinks {
			closeAll(s.w)
		}
		started <- err
		if err == nil {
			ended <- reap(cmd)
		}
	}()
	defer func() {
		for _, s := range sinks {
			closeAll(s.r)
		}
	}()
	if err := <-started; err != nil {
		return Ran{}, startError(err)
	}
	for _, s := range sinks {
		go s.read()
	}
	ran := Ran{PID: cmd.Process.Pid}
	var err error
	select {
	case err = <-ended:
	case <-ctx.Done():
		killGroup(cmd.Process.Pid)
		ran.Late, err = true, <-ended
	}
	for _, s := range sinks {
		_ = s.r.SetReadDeadline(time.Now().Add(settle)) // a descendant may hold the pipe open
	}
	for _, s := range sinks {
		<-s.copied
	}
	ran.Exit, ran.State = cmd.ProcessState.ExitCode(), cmd.ProcessState.String()
	var status *exec.ExitError
	if err != nil && !errors.As(err, &status) {
		return ran, fmt.Errorf("hook: %w", err)
	}
	return ran, nil
}

// fillIn replaces {NAME} by the value of that name and leaves all other text alone.
func fillIn(word string, fill map[string]string) string {
	return placeholders.ReplaceAllStringFunc(word, func(whole string) string {
		if v, ok := fill[strings.Trim(whole, "{}")]; ok {
			return v
		}
		return whole
	})
}

// Words splits a command line at blanks. Single and double quotes keep blanks within a word; there are
// no escapes, and nothing else of a shell.
func Words(line string) ([]string, error) {
	var out []string
	var word strings.Builder
	var quote rune
	begun := false
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '"' || r == '\''):
			quote, begun = r, true
		case quote == 0 && (r == ' ' || r == '\t' || r == '\n' || r == '\r'):
			if begun {
				out = append(out, word.String())
				word.Reset()
			}
			begun = false
		default:
			word.WriteRune(r)
			begun = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("the quote %c is not closed", quote)
	}
	if begun {
		out = append(out, word.String())
	}
	if len(out) == 0 || out[0] == "" {
		return nil, errors.New("names no program")
	}
	return out, nil
}
