package load

import (
	"errors"
	"io"
	"math"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/cpu"

	"github.com/assay-bench/assay/results/histogram"
)

// outcome of an arrival that was sent.
type outcome int

const (
	outcomeOK outcome = iota
	outcomeError
	outcomeTimeout
	outcomes // how many there are
)

const (
	maxKinds    = 32  // distinct error texts kept
	maxKindText = 120 // bytes of each
	otherKind   = "other"
)

// recorder counts what ended, for any number of goroutines at once and without
// locks. The ledger now and then gives it an empty buffer and empties the one it
// had when its last writer has left (the writer-reader phaser of HdrHistogram).
//
// Tried: plain histograms of each worker's own. Lost: 1 MB a worker, and a worker
// that waits for a reply can not hand over what it has for this second.
type recorder struct {
	_      cpu.CacheLinePad // what two processors write to in turn costs them more than all the rest
	active atomic.Pointer[buffer]
	stray  atomic.Int64
	last   atomic.Int64 // the latest end
	kinds  *errorKinds

	began     atomic.Int64 // writers that began; negative in odd phases
	evenEnded atomic.Int64
	oddEnded  atomic.Int64
	_         cpu.CacheLinePad
}

// buffer is what ended between two turns.
type buffer struct {
	ok, bad  histogram.Shared // response; "all" is the sum of both
	service  histogram.Shared
	lateness histogram.Shared
	failed   [outcomes]atomic.Int64 // those that are ok are counted in their histogram
}

func newRecorder(kinds *errorKinds) *recorder {
	r := &recorder{kinds: kinds}
	r.active.Store(new(buffer))
	r.oddEnded.Store(math.MinInt64)
	return r
}

// add records one finished arrival. In a closed model nothing was intended, so
// there is no lateness: intended is then noIntent.
func (r *recorder) add(intended, start, end int64, out outcome, kind string) {
	phase := r.began.Add(1)
	b := r.active.Load()
	b.service.Record(end - start)
	if intended == noIntent {
		intended = start
	} else {
		b.lateness.Record(start - intended)
	}
	if out == outcomeOK {
		b.ok.Record(end - intended)
	} else {
		b.failed[out].Add(1)
		b.bad.Record(end - intended)
	}
	if phase <= 0 {
		r.oddEnded.Add(1)
	} else {
		r.evenEnded.Add(1)
	}
	for last := r.last.Load(); end > last && !r.last.CompareAndSwap(last, end); {
		last = r.last.Load()
	}
	if out == outcomeError {
		r.kinds.add(kind, 1)
	}
}

// noIntent stands for the intended time of what has none.
const noIntent = math.MinInt64

// turn sends writers to an empty buffer and returns the one they used, once the
// last of them has left. One goroutine at a time may turn.
func (r *recorder) turn(empty *buffer) (used *buffer) {
	used = r.active.Swap(empty)
	ended, next := &r.evenEnded, int64(math.MinInt64)
	if r.began.Load() < 0 {
		ended, next = &r.oddEnded, 0
		r.evenEnded.Store(0)
	} else {
		r.oddEnded.Store(next)
	}
	for began := r.began.Swap(next); ended.Load() != began; {
		runtime.Gosched() // a writer is between two additions
	}
	return used
}

// errorKinds counts errors by text, a bounded number of texts.
type errorKinds struct {
	counts sync.Map // text → *atomic.Int64
	held   atomic.Int64
}

func (k *errorKinds) add(kind string, n int64) {
	count, known := k.counts.Load(kind)
	if !known {
		kind = printable(kind)
		count, known = k.counts.Load(kind)
	}
	if !known {
		if kind != otherKind && k.held.Add(1) > maxKinds {
			k.held.Add(-1)
			k.add(otherKind, n)
			return
		}
		var raced bool
		if count, raced = k.counts.LoadOrStore(kind, new(atomic.Int64)); raced && kind != otherKind {
			k.held.Add(-1)
		}
	}
	count.(*atomic.Int64).Add(n)
}

// all returns the counts by text.
func (k *errorKinds) all() map[string]int64 {
	all := map[string]int64{}
	k.counts.Range(func(kind, count any) bool {
		all[kind.(string)] = count.(*atomic.Int64).Load()
		return true
	})
	return all
}

// errorKind reduces an error to a text without addresses, so that equal causes
// count as one kind.
func errorKind(err error) string {
	text := err.Error()
	var op *net.OpError
	switch {
	case errors.Is(err, io.EOF):
		text = "connection closed by peer"
	case errors.As(err, &op):
		text = op.Op + ": " + innermost(op.Err).Error()
	}
	return text
}

// printable bounds a text that a peer may have written: it goes to terminals and into JSON, which keeps neither control
// characters nor what is no UTF-8.
func printable(text string) string {
	var out strings.Builder
	for _, r := range text {
		if !unicode.IsPrint(r) {
			r = unicode.ReplacementChar
		}
		if out.Len()+utf8.RuneLen(r) > maxKindText {
			break
		}
		out.WriteRune(r)
	}
	return out.String()
}

func innermost(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}
