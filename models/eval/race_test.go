//go:build race

package eval

func init() { underRace = true }
