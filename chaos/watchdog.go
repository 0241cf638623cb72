package chaos

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"time"
)

const (
	watchEvery = 50 * time.Millisecond // how often the watchdog looks for deadlines that have passed
	retryEvery = time.Second           // after a replay that failed
)

// Watch is the body of the watchdog, a second process of the same binary. It blocks until r ends,
// which it does when the last holder of the pipe's other end is gone, and then replays the journal:
// faults are undone and owned processes killed. Before that it undoes each fault whose end plus
// grace has passed, because the harness hangs; owned processes are then left alone. A journal that
// does not exist is nothing to do.
func Watch(r io.Reader, journalPath string) error {
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, r)
		ended <- err
	}()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	overdue := deadlines{path: journalPath}
	for {
		select {
		case err := <-ended:
			return errors.Join(err, tolerateNoJournal(Replay(journalPath)))
		case <-tick.C:
			overdue.revert() // what fails now is tried again, and at the end
		}
	}
}

func tolerateNoJournal(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// deadlines knows when faults have to be over, and reads the journal again only when it has grown.
type deadlines struct {
	path string
	size int64
	next time.Duration // on the host clock; 0: none
}

// revert replays the entries that are overdue.
func (d *deadlines) revert() {
	if st, err := os.Stat(d.path); err == nil && st.Size() != d.size {
		d.size = st.Size()
		d.read()
	}
	if d.next == 0 || hostClock() < d.next {
		return
	}
	if err := replay(d.path, func(e *entry) bool { return e.overdue(hostClock()) }); err != nil {
		d.next = hostClock() + retryEvery
	}
}

func (d *deadlines) read() {
	d.next = 0
	f, err := os.Open(d.path)
	if err != nil {
		return
	}
	defer f.Close()
	open, _ := readJournal(f) // a line that is just being written will be whole next time
	for _, e := range open {
		if at := e.Deadline + e.Grace; e.Deadline != 0 && (d.next == 0 || at < d.next) {
			d.next = at
		}
	}
}

func (e *entry) overdue(now time.Duration) bool {
	return e.Deadline != 0 && now >= e.Deadline+e.Grace
}
