package runner

import (
	"context"
	"sync"
	"time"
)

// pacer keeps the starts of cases apart.
type pacer struct {
	interval time.Duration

	mu   sync.Mutex
	next time.Time
}

// wait returns when it is the caller's turn. The first turn is at once.
func (p *pacer) wait(ctx context.Context) error {
	if p.interval <= 0 {
		return nil
	}
	p.mu.Lock()
	now := time.Now()
	turn := p.next
	if turn.Before(now) {
		turn = now
	}
	p.next = turn.Add(p.interval)
	p.mu.Unlock()
	timer := time.NewTimer(time.Until(turn))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
