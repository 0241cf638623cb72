package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestChildren: every workload is really answered, in both models of the engine.
func TestChildren(t *testing.T) {
	s, err := serve()
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	played := 0
	for _, w := range workloads {
		for _, model := range []string{closed, open} {
			if err := play(t.Context(), fmt.Sprintf("%s,%s,%d", filled(w.url, s.addr[w.name]), model, 200), 4); err != nil {
				t.Errorf("%s, %s: %v", w.name, model, err)
			}
			played++
		}
	}
	if played < 8 {
		t.Errorf("%d combinations played", played)
	}
	if err := play(t.Context(), "tcp://127.0.0.1:1,closed,1", 1); err == nil {
		t.Error("a server that is not there answers")
	}
}

func TestSlope(t *testing.T) {
	ns, err := slope(10, 110, func(calls int) (time.Duration, error) {
		return time.Second + time.Duration(calls)*7, nil
	})
	if err != nil || ns != 7 {
		t.Errorf("%v ns, %v; the second of start-up does not count", ns, err)
	}
	if _, err := slope(10, 110, func(int) (time.Duration, error) { return time.Second, nil }); err == nil {
		t.Error("calls without a cost are measured")
	}
}

func TestReport(t *testing.T) {
	r := row{workload: workloads[1], perCall: map[engine][]float64{viaK6: {30e3, 20e3, 25e3}, natives[0]: {10e3, 10e3, 5e3}, natives[1]: {5e3, 5e3, 5e3}}}
	page := config{rounds: 3, users: 10}.report([]row{r})
	for _, part := range []string{"| TCP echo, 64 bytes | 25.00 (20.00) µs | 10.00 (5.00) µs | **3.0x** (2.0 to 5.0) |", "2.5x |", "-rounds 3"} {
		if !strings.Contains(page, part) {
			t.Errorf("the page lacks %q:\n%s", part, page)
		}
	}
}
