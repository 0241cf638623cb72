package proto

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/assay-bench/assay/scenarios/load"
)

// tcpEcho sends payloads of one size to a server that returns every byte. The first eight bytes are the
// arrival number, little-endian, so that replies may come in any order.
type tcpEcho struct{}

var _ = add(tcpEcho{})

func (tcpEcho) Schemes() []Scheme {
	return []Scheme{{"tcp", "a server that echoes every byte"}}
}

const (
	minEcho = 8
	maxEcho = 1 << 20
)

func (tcpEcho) Open(ctx context.Context, c Config) (*Session, error) {
	switch {
	case c.Body != nil || c.Rows != nil || c.Header != nil || c.Method != "" || c.URL.Path != "" || c.URL.RawQuery != "":
		return nil, refuse("tcp:// echoes a payload of --size bytes: it has no path, method, header, body or data")
	case c.Size < minEcho || c.Size > maxEcho:
		return nil, refuse("tcp:// echoes %d to %d bytes, not %d", minEcho, maxEcho, c.Size)
	}
	return c.mux(ctx, echoCodec{filler(c.Size)}, fmt.Sprintf("TCP echo of %d bytes", c.Size))
}

type echoCodec struct{ payload []byte }

var _ load.Codec = echoCodec{}

func (e echoCodec) Request(dst []byte, id uint64) []byte {
	at := len(dst)
	dst = append(dst, e.payload...)
	binary.LittleEndian.PutUint64(dst[at:], id)
	return dst
}

// Reply compares all but the number: what is not echoed byte for byte is a lost stream.
func (e echoCodec) Reply(buf []byte) (n int, id uint64, ok bool, err error) {
	if len(buf) < len(e.payload) {
		return 0, 0, false, nil
	}
	if string(buf[minEcho:len(e.payload)]) != string(e.payload[minEcho:]) {
		return 0, 0, false, fmt.Errorf("not an echo of %d bytes: % x…", len(e.payload), buf[:minEcho])
	}
	return len(e.payload), binary.LittleEndian.Uint64(buf), true, nil
}
