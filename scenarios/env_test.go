package scenarios

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/results"
)

type stopped time.Duration

func (s stopped) Now() time.Duration { return time.Duration(s) }

func TestRecordNamesTheScenarioAsWitness(t *testing.T) {
	type put struct {
		From results.Source
		Kind results.Kind
		Data any
	}
	var got []put
	full := errors.New("disk is full")
	e := &Env{Put: func(from results.Source, kind results.Kind, data any) error {
		got = append(got, put{from, kind, data})
		return full
	}}
	if err := e.Record(results.Silent, 5); !errors.Is(err, full) {
		t.Errorf("record: %v, want the recorder's error", err)
	}
	if diff := cmp.Diff([]put{{results.FromScenario, results.Silent, 5}}, got); diff != "" {
		t.Errorf("recorded (-want +got):\n%s", diff)
	}
}

func TestElapsedReadsTheClockOfTheRun(t *testing.T) {
	e := &Env{Clock: stopped(7 * time.Second)}
	if got := e.Elapsed(3 * time.Second); got != 4*time.Second {
		t.Errorf("elapsed = %v, want 4s", got)
	}
}
