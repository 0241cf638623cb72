package results

import "fmt"

// Status is the outcome of one judged case. The zero value is Unproven, so that whatever was never
// decided can not be mistaken for a success.
type Status uint8

// The statuses. Broken says that the harness erred; NotClaimed speaks of the target alone.
const (
	Unproven Status = iota
	Pass
	Fail
	NotClaimed
	Inconclusive
	Broken
)

var statusNames = [...]string{"unproven", "pass", "fail", "not-claimed", "inconclusive", "broken"}

// Statuses lists every status in the order in which reports count them.
func Statuses() []Status {
	return []Status{Pass, Fail, Inconclusive, NotClaimed, Broken, Unproven}
}

func (s Status) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return fmt.Sprintf("status(%d)", uint8(s))
}

// MarshalText writes the status by name.
func (s Status) MarshalText() ([]byte, error) {
	if int(s) >= len(statusNames) {
		return nil, fmt.Errorf("status %d is none of the known ones", uint8(s))
	}
	return []byte(statusNames[s]), nil
}

// UnmarshalText reads a status name and refuses an unknown one.
func (s *Status) UnmarshalText(text []byte) error {
	for i, name := range statusNames {
		if name == string(text) {
			*s = Status(i)
			return nil
		}
	}
	return fmt.Errorf("unknown status %q", text)
}
