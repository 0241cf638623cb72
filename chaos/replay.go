package chaos

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"time"
)

const (
	maxLine     = 1 << 20  // bytes; a plan of ten thousand processes
	maxJournal  = 64 << 20 // bytes
	replayLimit = 30 * time.Second
)

// Replay undoes whatever the journal at path does not call clean, in reverse order, and writes down
// that it did. It touches nothing that the journal does not name, succeeds when there is nothing to
// do or the targets have gone, and ignores a torn last line: what it announced never began. Any
// other line that can not be read is an error, after all else has been undone.
func Replay(path string) error {
	return replay(path, func(*entry) bool { return true })
}

// replay undoes the open entries that are wanted.
func replay(path string, wanted func(*entry) bool) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	defer f.Close()
	open, problem := readJournal(f)
	ctx, cancel := context.WithTimeout(context.Background(), replayLimit)
	defer cancel()
	errs := []error{problem}
	for i := len(open) - 1; i >= 0; i-- {
		if wanted(open[i]) {
			errs = append(errs, open[i].replay(ctx, f))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("replay %s: %w", path, err)
	}
	return nil
}

func (e *entry) replay(ctx context.Context, f *os.File) error {
	if e.Boot == bootID() { // nothing that a step undoes outlives a boot
		if err := undo(ctx, e.Undo); err != nil {
			return err
		}
		if left := leftBy(e.Undo); len(left) > 0 {
			return fmt.Errorf("%s (%d) left behind: %q", e.Fault, e.ID, left)
		}
	}
	if err := endLine(f); err != nil {
		return err
	}
	if err := appendRecord(f, record{State: stateReverted, ID: e.ID, By: "replay"}); err != nil {
		return err
	}
	return appendRecord(f, record{State: stateClean, ID: e.ID, By: "replay"})
}

// endLine cuts off a torn last line, so that the next record does not become part of it.
func endLine(f *os.File) error {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil || size == 0 {
		return err
	}
	from := max(0, size-maxLine)
	tail := make([]byte, size-from)
	if _, err := f.ReadAt(tail, from); err != nil {
		return err
	}
	if tail[len(tail)-1] == '\n' {
		return nil
	}
	return f.Truncate(from + int64(bytes.LastIndexByte(tail, '\n')+1))
}

// readJournal returns the entries that are not clean, in the order in which they were planned. The
// error names lines that can not be read; the entries are usable all the same.
func readJournal(r io.Reader) ([]*entry, error) {
	var (
		open = map[int]*entry{}
		errs []error
		in   = bufio.NewReaderSize(io.LimitReader(r, maxJournal+1), 64<<10)
		read int
	)
	for n := 1; ; n++ {
		line, err := in.ReadSlice('\n')
		for errors.Is(err, bufio.ErrBufferFull) && len(line) <= maxLine {
			var more []byte
			line = append([]byte(nil), line...) // the slice is the reader's
			more, err = in.ReadSlice('\n')
			line = append(line, more...)
		}
		if len(line) > maxLine {
			err = bufio.ErrBufferFull
		}
		if read += len(line); read > maxJournal {
			errs = append(errs, fmt.Errorf("journal is longer than %d bytes", maxJournal))
			break
		}
		if errors.Is(err, io.EOF) {
			break // what is left has no newline: torn
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("line %d: %w", n, err))
			break
		}
		if err := fold(open, bytes.TrimSuffix(line, []byte("\n"))); err != nil && len(errs) < 10 {
			errs = append(errs, fmt.Errorf("line %d: %w", n, err))
		}
	}
	return inOrder(open), errors.Join(errs...)
}

// fold applies one line to the open entries.
func fold(open map[int]*entry, line []byte) error {
	var r record
	if err := json.Unmarshal(line, &r); err != nil {
		return err
	}
	e := open[r.ID]
	switch {
	case r.State == stateClean:
		delete(open, r.ID)
	case r.State == statePlanned && e == nil && r.ID > 0:
		open[r.ID] = &entry{r}
	case r.State != statePlanned && r.State != stateApplied && r.State != stateWitnessed && r.State != stateReverted:
		return fmt.Errorf("unknown state %q", r.State)
	case e == nil:
		// A harness that was stopped while the watchdog reverted goes on writing when it wakes.
	default:
		e.State, e.Undo = r.State, append(e.Undo, r.Undo...)
		if r.Deadline != 0 {
			e.Deadline, e.Grace = r.Deadline, r.Grace
		}
	}
	return nil
}

func inOrder(open map[int]*entry) []*entry {
	out := make([]*entry, 0, len(open))
	for _, e := range open {
		out = append(out, e)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].ID < out[j].ID })
	return out
}
