//go:build race

package ngram_test

func init() { underRace = true }
