package arrival

import (
	"encoding/binary"
	"time"

	"golang.org/x/sys/unix"
)

// putStamp writes a control message as the kernel does.
func putStamp(oob []byte, at time.Time) int {
	const head = unix.SizeofCmsghdr
	binary.NativeEndian.PutUint32(oob[head-8:], unix.SOL_SOCKET)
	binary.NativeEndian.PutUint32(oob[head-4:], unix.SO_TIMESTAMPNS)
	binary.NativeEndian.PutUint64(oob[head:], uint64(at.Unix()))
	binary.NativeEndian.PutUint64(oob[head+8:], uint64(at.Nanosecond()))
	return head + 16
}
