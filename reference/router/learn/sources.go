package learn

import (
	"time"

	"golang.org/x/time/rate"
)

// Bounds of what is remembered of sources.
const (
	maxSources  = 4096
	shareWindow = 200 // applied events
	shareFrom   = 50  // applied events before a share says anything
	sweepEvery  = time.Second
)

// Refusal says why an event is not applied; empty if it is.
type Refusal string

// The refusals of a source.
const (
	Anonymous Refusal = "anonymous"
	OverRate  Refusal = "rate"
	OverShare Refusal = "share"
)

// Limits are what one source may do.
type Limits struct {
	PerMinute int
	Share     float64 // of the last 200 applied events, from the 50th on; 1 is no limit
}

// Sources counts what each source did. The zero value is ready; it is not safe for concurrent use.
type Sources struct {
	rates   map[string]*rate.Limiter
	recent  [shareWindow]string
	counts  map[string]int
	applied int
	swept   time.Time
}

// Take asks whether an event of source may be applied now. It takes from the source's rate, and not from its
// share: call Applied when the event was applied.
func (s *Sources) Take(source string, now time.Time, l Limits) Refusal {
	if source == "" {
		return Anonymous
	}
	limiter := s.limiter(source, now, l)
	if limiter == nil || !limiter.AllowN(now, 1) {
		return OverRate
	}
	window := min(s.applied, shareWindow)
	if window >= shareFrom && float64(s.counts[source]+1) > l.Share*float64(window) && l.Share < 1 {
		return OverShare
	}
	return ""
}

// Applied counts an applied event for the shares.
func (s *Sources) Applied(source string) {
	if s.counts == nil {
		s.counts = map[string]int{}
	}
	place := &s.recent[s.applied%shareWindow]
	if s.applied >= shareWindow {
		if s.counts[*place]--; s.counts[*place] == 0 {
			delete(s.counts, *place)
		}
	}
	*place = source
	s.counts[source]++
	s.applied++
}

// limiter returns the source's limiter, or nil where too many sources are active at a time: names cost
// nothing, so that many of them must not buy a rate each without bound.
func (s *Sources) limiter(source string, now time.Time, l Limits) *rate.Limiter {
	if s.rates == nil {
		s.rates = map[string]*rate.Limiter{}
	}
	perSecond := rate.Limit(float64(l.PerMinute) / 60)
	if have, ok := s.rates[source]; ok {
		if have.Burst() != l.PerMinute {
			have.SetLimitAt(now, perSecond)
			have.SetBurstAt(now, l.PerMinute)
		}
		return have
	}
	if len(s.rates) >= maxSources && now.Sub(s.swept) >= sweepEvery {
		s.swept = now // a flood of names must not buy a sweep each
		for name, idle := range s.rates {
			if idle.TokensAt(now) >= float64(idle.Burst()) {
				delete(s.rates, name)
			}
		}
	}
	if len(s.rates) >= maxSources {
		return nil
	}
	limiter := rate.NewLimiter(perSecond, l.PerMinute)
	s.rates[source] = limiter
	return limiter
}
