//go:build race

package rewrite_test

// raced says that the race detector is on: it slows an engine down a lot, and the rewriter has no goroutines.
const raced = true
