package sandbox

import (
	"sync"
	"time"
)

// auditEvents is how many events are kept.
const auditEvents = 4096

// The audit events.
const (
	EventTenant    = "tenant"    // set
	EventPublished = "published" // a version serves
	EventRefused   = "refused"   // an upload was not taken
	EventRemoved   = "removed"
	EventDrained   = "drained" // the last call of a replaced version ended
	EventTrap      = "trap"
	EventDiscarded = "discarded" // an instance was not pooled
	EventCorrupt   = "corrupt"   // a damaged cache entry was dropped
	EventLog       = "log"       // a guest called host_log
)

// Event is an entry of the audit log. Seq starts at 1 and has no gaps.
type Event struct {
	Seq    uint64    `json:"seq"`
	At     time.Time `json:"at"`
	Tenant string    `json:"tenant"`
	Module string    `json:"module"`
	Event  string    `json:"event"`
	Detail string    `json:"detail"`
}

// audit is a ring of events.
type audit struct {
	mu     sync.Mutex
	last   uint64
	events [auditEvents]Event
}

func (a *audit) add(tenant, module, event, detail string) {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last++
	a.events[a.last%auditEvents] = Event{a.last, now, tenant, module, event, detail}
}

// Audit returns the events after since that are still kept, oldest first.
func (s *Sandbox) Audit(since uint64) []Event {
	a := &s.audit
	a.mu.Lock()
	defer a.mu.Unlock()
	first := since + 1
	if a.last > auditEvents {
		first = max(first, a.last-auditEvents+1)
	}
	events := []Event{}
	for seq := first; seq != 0 && seq <= a.last; seq++ {
		events = append(events, a.events[seq%auditEvents])
	}
	return events
}
