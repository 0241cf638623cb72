package runner

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestPacerKeepsStartsApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pacer{interval: 100 * time.Millisecond}
		began := time.Now()
		for i := range 4 {
			if err := p.wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got, want := time.Since(began), time.Duration(i)*100*time.Millisecond; got != want {
				t.Errorf("start %d after %v, want %v", i, got, want)
			}
		}
		time.Sleep(time.Minute) // idle time saves up no burst
		began = time.Now()
		_ = p.wait(t.Context())
		_ = p.wait(t.Context())
		if got := time.Since(began); got != 100*time.Millisecond {
			t.Errorf("two starts after idling took %v, want 100ms", got)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := p.wait(ended); !errors.Is(err, context.Canceled) {
			t.Errorf("wait of an ended run: %v", err)
		}
	})
}

func TestPacerWithoutAnInterval(t *testing.T) {
	var p pacer
	for range 3 {
		if err := p.wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
