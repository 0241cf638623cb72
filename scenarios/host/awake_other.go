//go:build !linux

package host

import "errors"

// Awake is nothing on this system.
type Awake struct{}

var errNoAwake = errors.New("processors are kept awake on Linux only")

// KeepAwake keeps nothing awake on this system.
func KeepAwake([]int) (Awake, error) { return Awake{}, errNoAwake }

// Any is false.
func (Awake) Any() bool { return false }

// Stop has nothing to end.
func (Awake) Stop() {}

// Limited is not known on this system.
func Limited() bool { return false }

// RealTime is not known on this system.
func RealTime() bool { return false }

// Processors is not known on this system.
func Processors() ([]int, error) { return nil, errNoAwake }
