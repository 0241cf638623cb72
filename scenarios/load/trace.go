package load

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"time"
)

// MaxTrace bounds a recorded trace: its offsets are kept, 8 bytes each.
const MaxTrace = 10_000_000

const maxTraceLine = 64

// ReadTrace reads the offsets of a Trace schedule: one a line, in nanoseconds
// or as a duration with its unit ("1.5s", "20ms"), never falling. Empty lines
// and lines that begin with # are skipped. Every error wraps ErrSchedule or is
// that of the reader.
func ReadTrace(r io.Reader) ([]int64, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4096), 4096)
	var offsets []int64
	at := 0
	for lines.Scan() {
		at++
		text := lines.Text()
		if text == "" || text[0] == '#' {
			continue
		}
		offset, err := parseOffset(text)
		if err != nil {
			return nil, fmt.Errorf("%w: trace line %d: %w", ErrSchedule, at, err)
		}
		if n := len(offsets); n == MaxTrace {
			return nil, fmt.Errorf("%w: trace line %d: more than %d arrivals", ErrSchedule, at, MaxTrace)
		} else if n > 0 && offset < offsets[n-1] {
			return nil, fmt.Errorf("%w: trace line %d: offset %d ns falls below %d ns", ErrSchedule, at, offset, offsets[n-1])
		}
		offsets = append(offsets, offset)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read trace, after line %d: %w", at, err)
	}
	return offsets, Schedule{Kind: Trace, Trace: offsets}.Validate()
}

// parseOffset reads one line of a trace.
func parseOffset(text string) (int64, error) {
	if len(text) > maxTraceLine {
		return 0, fmt.Errorf("%d bytes are no offset", len(text))
	}
	if ns, err := strconv.ParseInt(text, 10, 64); err == nil {
		return ns, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%q is neither nanoseconds nor a duration such as 20ms", text)
	}
	return int64(d), nil
}

func (s Schedule) validateTrace() error {
	if n := len(s.Trace); n == 0 || n > MaxTrace {
		return fmt.Errorf("%w: a trace of %d arrivals, want 1 to %d", ErrSchedule, n, MaxTrace)
	}
	before := int64(0)
	for i, at := range s.Trace {
		if at < before || at >= int64(maxDuration) {
			return fmt.Errorf("%w: offset %d ns of arrival %d is outside %d to %d", ErrSchedule, at, i, before, int64(maxDuration))
		}
		before = at
	}
	return nil
}

// replay hands the recorded offsets out.
type replay struct{ offsets []int64 }

func (r *replay) next() (int64, bool) {
	if len(r.offsets) == 0 {
		return 0, false
	}
	at := r.offsets[0]
	r.offsets = r.offsets[1:]
	return at, true
}
