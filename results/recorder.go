package results

import (
	"fmt"
	"io"
	"sync"
)

// Recorder appends evidence, one JSON line each, and numbers it. Recorded means that write(2)
// returned: a run that is killed right afterwards has lost nothing. It is safe for concurrent use.
type Recorder struct {
	mu    sync.Mutex
	w     io.Writer
	clock Clock
	seq   uint64
	kept  []Evidence
	err   error
}

// NewRecorder returns a recorder that writes to w, unbuffered, at the times of clock.
func NewRecorder(w io.Writer, clock Clock) *Recorder { return &Recorder{w: w, clock: clock} }

// Record writes one piece of evidence and returns its number. Data is marshalled as JSON. After an
// error of the writer every further call returns that error: evidence with a hole in it is useless.
func (r *Recorder) Record(key Key, from Source, kind Kind, data any) (uint64, error) {
	raw, err := Marshal(data)
	if err != nil {
		return 0, fmt.Errorf("record %s for %s: %w", kind, key, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return 0, r.err
	}
	e := Evidence{
		Seq: r.seq + 1, At: r.clock.Now(), Source: from,
		Check: key.Check, Case: key.Case, Under: key.Under, Kind: kind, Data: redactJSON(raw),
	}
	line, err := Marshal(e)
	if err != nil {
		return 0, fmt.Errorf("record %s for %s: %w", kind, key, err)
	}
	if len(line) >= maxLine {
		return 0, fmt.Errorf("record %s for %s: %d bytes of evidence, a reader takes less than %d", kind, key, len(line), maxLine)
	}
	if _, err := r.w.Write(append(line, '\n')); err != nil {
		r.err = fmt.Errorf("evidence can not be written, the run is void from here on: %w", err)
		return 0, r.err
	}
	r.seq = e.Seq
	r.kept = append(r.kept, e)
	return e.Seq, nil
}

// All returns what was recorded so far, in order.
func (r *Recorder) All() []Evidence {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Evidence(nil), r.kept...)
}

// Of returns what was recorded so far for one case, in order.
func (r *Recorder) Of(key Key) []Evidence {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Evidence
	for _, e := range r.kept {
		if e.Key() == key {
			out = append(out, e)
		}
	}
	return out
}
