//go:build !linux

package load

// SystemClock knows nothing of the clock on this system.
func SystemClock() Clock { return Clock{Source: "unknown on this system"} }

func bootID() string { return "" }

func readUsage() usage { return usage{} }
