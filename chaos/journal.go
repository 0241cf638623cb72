package chaos

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/assay-bench/assay/results"
)

// The states of a fault in the journal, in order. Planned may come several times: each adds undo
// steps. Clean is the last; without an id it closes the journal.
const (
	statePlanned   = "planned"
	stateApplied   = "applied"
	stateWitnessed = "witnessed"
	stateReverted  = "reverted"
	stateClean     = "clean"
)

// record is one line of the journal.
type record struct {
	State    string        `json:"state"`
	ID       int           `json:"id,omitempty"`
	Fault    string        `json:"fault,omitempty"`
	Driver   string        `json:"driver,omitempty"`
	Boot     string        `json:"boot,omitempty"`     // of the host; steps of another boot are void
	Deadline time.Duration `json:"deadline,omitempty"` // t_off on the host's monotonic clock
	Grace    time.Duration `json:"grace,omitempty"`
	Undo     []Step        `json:"undo,omitempty"`
	By       string        `json:"by,omitempty"` // who reverted: "harness" or "replay"
}

// Journal is the undo log of a run: JSON Lines, each on disk before the call returns. Whoever comes
// later can undo from it alone with [Replay]. It is safe for concurrent use.
type Journal struct {
	mu     sync.Mutex
	file   *os.File
	last   int
	ledger map[int]*entry
	owned  map[Process]int
}

// entry is a fault, or an owned process, whose undoing is not known to be complete.
type entry struct {
	record
}

// CreateJournal creates a journal at a path where there is none, and syncs the directory.
func CreateJournal(path string) (*Journal, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		f.Close()
		return nil, fmt.Errorf("journal %s: %w", path, err)
	}
	return &Journal{file: f, ledger: map[int]*entry{}, owned: map[Process]int{}}, nil
}

// Path is where the journal is.
func (j *Journal) Path() string { return j.file.Name() }

// Own records a process that the harness started: it, its descendants and its process group are
// killed when the harness is gone. Call it right after the start.
func (j *Journal) Own(p Process) error {
	step := Step{Op: "proc.kill", PID: p.PID, Start: p.Start}
	id, err := j.plan(record{Fault: "own", Undo: []Step{step}})
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.owned[p] = id
	return nil
}

// Disown records that an owned process has ended.
func (j *Journal) Disown(p Process) error {
	j.mu.Lock()
	id, ok := j.owned[p]
	delete(j.owned, p)
	j.mu.Unlock()
	if !ok {
		return fmt.Errorf("journal %s: process %d is not owned", j.Path(), p.PID)
	}
	return j.move(id, record{State: stateClean})
}

// Close closes the journal with the mark that all is clean. When something is not, it is listed in
// the error, the mark is left out, and a Replay will undo it.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	var errs []error
	for _, e := range j.ledger {
		errs = append(errs, fmt.Errorf("journal %s: %s (%d) is %s, not clean", j.Path(), e.Fault, e.ID, e.State))
	}
	if len(errs) == 0 {
		errs = append(errs, j.write(record{State: stateClean}))
	}
	return errors.Join(append(errs, j.file.Close())...)
}

// plan opens an entry and returns its id when it is on disk.
func (j *Journal) plan(r record) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.last++
	r.State, r.ID, r.Boot = statePlanned, j.last, bootID()
	if err := j.write(r); err != nil {
		return 0, err
	}
	j.ledger[r.ID] = &entry{r}
	return r.ID, nil
}

// note adds undo steps to an entry.
func (j *Journal) note(id int, steps []Step) error {
	return j.move(id, record{State: statePlanned, Boot: bootID(), Undo: steps})
}

// move takes an entry to a further state.
func (j *Journal) move(id int, r record) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	e, ok := j.ledger[id]
	if !ok {
		return fmt.Errorf("journal %s: no open entry %d", j.Path(), id)
	}
	r.ID = id
	if err := j.write(r); err != nil {
		return err
	}
	if r.State == stateClean {
		delete(j.ledger, id)
		return nil
	}
	e.State, e.Undo = r.State, append(e.Undo, r.Undo...)
	return nil
}

// steps returns the undo steps of an entry, those of note included.
func (j *Journal) steps(id int) []Step {
	j.mu.Lock()
	defer j.mu.Unlock()
	if e, ok := j.ledger[id]; ok {
		return append([]Step(nil), e.Undo...)
	}
	return nil
}

func (j *Journal) write(r record) error { return appendRecord(j.file, r) }

func appendRecord(f *os.File, r record) error {
	line, err := results.Marshal(r)
	if err == nil {
		_, err = f.Write(append(line, '\n'))
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return fmt.Errorf("journal %s: %w", f.Name(), err)
	}
	return nil
}
