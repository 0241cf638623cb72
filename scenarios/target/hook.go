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
	Output string // the end of what it printed, at most 4 KiB
	Late   bool   // the context ended first, and its process group was killed
}

// RunHook runs a command line of a target file to its end, at the latest until the context's. Its words
// are split first, then the placeholders {NAME} of fill replaced, so that no value becomes two words. A
// program with a / is relative to folder, the working folder. A program that can not be run is an error
// that wraps ErrNotReady.
func RunHook(ctx context.Context, folder, line string, fill map[string]string) (Ran, error) {
	argv, err := Words(line)
	if err != nil {
		return Ran{}, &NotReady{"no-such-program", err.Error()}
	}
	for i, w := range argv {
		argv[i] = fillIn(w, fill)
	}
	if strings.ContainsRune(argv[0], filepath.Separator) {
		argv[0] = within(folder, argv[0])
	}
	r, w, err := os.Pipe()
	if err != nil {
		return Ran{}, fmt.Errorf("hook: %w", err)
	}
	defer closeAll(r)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = folder, w, w
	isolate(cmd)
	return watchHook(ctx, cmd, r, w)
}

// watchHook starts the command and waits for its end and that of its output.
func watchHook(ctx context.Context, cmd *exec.Cmd, r, w *os.File) (Ran, error) {
	started, ended := make(chan error, 1), make(chan error, 1)
	go func() { // on one thread: its end would count as the parent's (see Command.launch)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		closeAll(w)
		started <- err
		if err == nil {
			ended <- reap(cmd)
		}
	}()
	if err := <-started; err != nil {
		return Ran{}, startError(err)
	}
	output, copied := &tail{max: maxHookOutput}, make(chan struct{})
	go func() {
		_, _ = io.Copy(output, r) // it ends with the last writer, or at the deadline below
		close(copied)
	}()
	var ran Ran
	var err error
	select {
	case err = <-ended:
	case <-ctx.Done():
		killGroup(cmd.Process.Pid)
		ran.Late, err = true, <-ended
	}
	_ = r.SetReadDeadline(time.Now().Add(settle)) // a descendant may hold the pipe open
	<-copied
	ran.Exit, ran.State, ran.Output = cmd.ProcessState.ExitCode(), cmd.ProcessState.String(), output.Text()
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
