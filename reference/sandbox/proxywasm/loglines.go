package proxywasm

import (
	"strings"
	"sync"
)

const (
	maxLogLines = 200  // newest lines kept
	maxLogLine  = 4096 // bytes of one line
)

// logLines keeps the newest lines that a filter logged. Its methods may be called concurrently.
type logLines struct {
	mu    sync.Mutex
	lines []string // a ring once it is full
	next  int
}

// add appends a line. What is longer than maxLogLine is cut; bytes that are no UTF-8 are replaced.
func (l *logLines) add(line []byte) {
	text := strings.ToValidUTF8(string(line[:min(len(line), maxLogLine)]), "\uFFFD")
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lines) < maxLogLines {
		l.lines = append(l.lines, text)
		return
	}
	l.lines[l.next] = text
	l.next = (l.next + 1) % maxLogLines
}

// all returns the lines, oldest first.
func (l *logLines) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]string, 0, len(l.lines))
	return append(append(out, l.lines[l.next:]...), l.lines[:l.next]...)
}
