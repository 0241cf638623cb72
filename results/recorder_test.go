package results_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/results"
)

// steps is a clock that counts its readings.
type steps struct{ n time.Duration }

func (s *steps) Now() time.Duration { s.n++; return s.n }

// writes keeps each write apart.
type writes struct {
	mu   sync.Mutex
	all  [][]byte
	fail error // of the next write, once
}

func (w *writes) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.fail; err != nil {
		w.fail = nil
		return 0, err
	}
	w.all = append(w.all, bytes.Clone(b))
	return len(b), nil
}

func (w *writes) text() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return bytes.Join(w.all, nil)
}

var (
	keyA = results.Key{Check: "area/a"}
	keyB = results.Key{Check: "area/b", Case: "c", Under: "net/delay=1"}
)

func TestRecorder(t *testing.T) {
	w := &writes{}
	rec := results.NewRecorder(w, &steps{})
	for i, key := range []results.Key{keyA, keyB, keyA} {
		seq, err := rec.Record(key, results.FromScenario, results.Measured, map[string]any{"n": i, "html": "<&>"})
		if err != nil || seq != uint64(i+1) {
			t.Fatalf("record %d: seq %d, %v", i+1, seq, err)
		}
	}
	want := []results.Evidence{
		{Seq: 1, At: 1, Source: results.FromScenario, Check: "area/a", Kind: results.Measured, Data: json.RawMessage(`{"html":"<&>","n":0}`)},
		{Seq: 2, At: 2, Source: results.FromScenario, Check: "area/b", Case: "c", Under: "net/delay=1", Kind: results.Measured, Data: json.RawMessage(`{"html":"<&>","n":1}`)},
		{Seq: 3, At: 3, Source: results.FromScenario, Check: "area/a", Kind: results.Measured, Data: json.RawMessage(`{"html":"<&>","n":2}`)},
	}
	if diff := cmp.Diff(want, rec.All()); diff != "" {
		t.Errorf("All (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]results.Evidence{want[0], want[2]}, rec.Of(keyA)); diff != "" {
		t.Errorf("Of (-want +got):\n%s", diff)
	}
	read, torn, err := results.ReadEvidence(bytes.NewReader(w.text()))
	if err != nil || torn {
		t.Fatalf("read back: torn %t, %v", torn, err)
	}
	if diff := cmp.Diff(want, read); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
	oneWriteALine(t, w, len(want))
}

func oneWriteALine(t *testing.T, w *writes, want int) {
	t.Helper()
	if len(w.all) != want {
		t.Errorf("%d writes for %d pieces of evidence", len(w.all), want)
	}
	for i, b := range w.all {
		if bytes.Count(b, []byte("\n")) != 1 || b[len(b)-1] != '\n' {
			t.Errorf("write %d is not one line: %q", i+1, b)
		}
	}
}

func TestRecorderErrorIsSticky(t *testing.T) {
	w := &writes{}
	rec := results.NewRecorder(w, &steps{})
	if _, err := rec.Record(keyA, results.FromHost, results.Ended, nil); err != nil {
		t.Fatal(err)
	}
	full := errors.New("disk is full")
	w.fail = full
	for range 3 { // only the first write fails; a hole must not be written over
		if seq, err := rec.Record(keyA, results.FromHost, results.Ended, nil); !errors.Is(err, full) || seq != 0 {
			t.Errorf("after a failed write: seq %d, %v", seq, err)
		}
	}
	if n := len(rec.All()); n != 1 {
		t.Errorf("%d pieces of evidence are kept, want the one that was written", n)
	}
	oneWriteALine(t, w, 1)
}

func TestRecorderRefusesWhatNoReaderTakes(t *testing.T) {
	w := &writes{}
	rec := results.NewRecorder(w, &steps{})
	for name, data := range map[string]any{"not JSON": make(chan int), "over-long": strings.Repeat("x", 4<<20)} {
		if _, err := rec.Record(keyA, results.FromHost, results.Measured, data); err == nil {
			t.Errorf("%s was recorded", name)
		}
	}
	if seq, err := rec.Record(keyA, results.FromHost, results.Measured, 1); err != nil || seq != 1 {
		t.Errorf("afterwards: seq %d, %v; such data must leave no hole", seq, err)
	}
	if _, _, err := results.ReadEvidence(bytes.NewReader(w.text())); err != nil {
		t.Error(err)
	}
}

func TestRecorderConcurrently(t *testing.T) {
	const writers, each = 8, 60
	w := &writes{}
	rec := results.NewRecorder(w, results.ClockSince(time.Now()))
	var mu sync.Mutex
	seen := map[uint64]bool{}
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				seq, err := rec.Record(keyB, results.FromPeer, results.Sent, map[string]string{"x": strings.Repeat("y", 500)})
				if err != nil {
					t.Error(err)
					return
				}
				rec.All()
				mu.Lock()
				seen[seq] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(seen) != writers*each {
		t.Errorf("%d different numbers for %d records", len(seen), writers*each)
	}
	all, torn, err := results.ReadEvidence(bytes.NewReader(w.text()))
	if err != nil || torn || len(all) != writers*each {
		t.Fatalf("read %d, torn %t, %v", len(all), torn, err)
	}
	for i := 1; i < len(all); i++ {
		if all[i].At < all[i-1].At {
			t.Fatalf("evidence %d is older than the one before it", all[i].Seq)
		}
	}
	oneWriteALine(t, w, writers*each)
}
