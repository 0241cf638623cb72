//go:build !linux

package chaos

import "time"

func bootID() string { return "" }

// hostClock is the wall clock: no other clock is shared by processes everywhere.
func hostClock() time.Duration { return time.Duration(time.Now().UnixNano()) }

// syncDir does nothing: directories can not be synced everywhere.
func syncDir(string) error { return nil }
