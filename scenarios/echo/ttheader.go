// Package echo is the workload of the latency scenarios: an echo of the behave service with a body of a
// fixed size, over TTHeader and over gRPC. It sends and recognises; it measures and judges nothing.
package echo

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/assay-bench/assay/scenarios/wire/behave"
	"github.com/assay-bench/assay/scenarios/wire/rpcframe"
)

// BodySize is the size of the echoed body in bytes.
const BodySize = 1024

// maxReply bounds a reply that the generator waits for.
const maxReply = 64 << 10

// TTHeader is a load.Codec: pipelined echo calls over TTHeader with a framed message. The sequence id
// is the arrival's number, so that replies may come in any order.
type TTHeader struct {
	template []byte
	seqAt    int // of the message's sequence id; the header's is at 8
}

// NewTTHeader encodes the call once; each request is a copy with another sequence id.
func NewTTHeader() (*TTHeader, error) {
	call := rpcframe.Call{
		Form: rpcframe.TTHeaderFramed, Method: behave.MethodEcho,
		Args: behave.Args(behave.Msg{Body: strings.Repeat("x", BodySize)}),
	}
	b, err := call.Encode()
	if err != nil {
		return nil, err
	}
	payload := 14 + 4*int(binary.BigEndian.Uint16(b[12:]))
	// frame length, version and type, name length, name
	return &TTHeader{template: b, seqAt: payload + 4 + 4 + 4 + len(behave.MethodEcho)}, nil
}

// Request appends the call with sequence id id.
func (t *TTHeader) Request(dst []byte, id uint64) []byte {
	at := len(dst)
	dst = append(dst, t.template...)
	binary.BigEndian.PutUint32(dst[at+8:], uint32(id))
	binary.BigEndian.PutUint32(dst[at+t.seqAt:], uint32(id))
	return dst
}

// Reply recognises one frame by its LENGTH and its sequence id. A call is granted when its message is of
// type 2; that replies are well formed is the conformance suite's business.
func (t *TTHeader) Reply(buf []byte) (n int, id uint64, ok bool, err error) {
	if len(buf) < 14 {
		return 0, 0, false, nil
	}
	length := binary.BigEndian.Uint32(buf)
	if length < 10 || length > maxReply || buf[4] != 0x10 || buf[5] != 0x00 {
		return 0, 0, false, fmt.Errorf("no TTHeader frame of at most %d bytes: % x", maxReply, buf[:14])
	}
	n = 4 + int(length)
	if len(buf) < n {
		return 0, 0, false, nil
	}
	id = uint64(binary.BigEndian.Uint32(buf[8:]))
	message := 14 + 4*int(binary.BigEndian.Uint16(buf[12:])) + 4
	return n, id, message+4 <= n && buf[message+3] == 2, nil
}
