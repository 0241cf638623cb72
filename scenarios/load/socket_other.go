//go:build !unix

package load

import "errors"

// Without a nonblocking write every request leaves from the write loop.
const canTryWrite = false

func writeSocket(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }

func wouldBlock(error) bool { return false }
