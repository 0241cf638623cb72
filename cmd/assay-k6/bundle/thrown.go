package bundle

import (
	"strings"
	"sync"

	"github.com/sirupsen/logrus"
)

// thrown counts iterations that threw. k6 has no metric for them: it logs each with its stack and counts
// the iteration as a full one.
type thrown struct {
	mu    sync.Mutex
	n     int64
	first string
}

const maxThrown = 512 // bytes kept of the first

// watch counts what k6 logs.
func watch(logger logrus.FieldLogger) *thrown {
	t := &thrown{}
	switch l := logger.(type) {
	case *logrus.Logger:
		l.AddHook(t)
	case *logrus.Entry:
		l.Logger.AddHook(t)
	}
	return t
}

// Levels are those at which k6 logs an exception.
func (*thrown) Levels() []logrus.Level { return []logrus.Level{logrus.ErrorLevel} }

// Fire looks at one line of the log.
func (t *thrown) Fire(e *logrus.Entry) error {
	_, inExecutor := e.Data["executor"]
	if source := e.Data["source"]; source != "stacktrace" && (!inExecutor || source != nil) {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n++
	if t.first == "" {
		t.first = strings.ToValidUTF8(e.Message[:min(len(e.Message), maxThrown)], "")
	}
	return nil
}

func (t *thrown) sum() (int64, string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.n, t.first
}
