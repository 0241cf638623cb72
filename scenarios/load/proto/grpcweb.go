package proto

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
)

// grpcWeb is gRPC-Web, unary: the message and, as a frame behind it, the trailers.
type grpcWeb struct{}

var _ = add(grpcWeb{})

func (grpcWeb) Schemes() []Scheme { return overHTTP("grpcweb", "gRPC-Web, unary") }

func (grpcWeb) Open(ctx context.Context, c Config) (*Session, error) {
	c, err := encoded(ctx, c)
	if err != nil {
		return nil, err
	}
	return openHTTP(ctx, c, exchange{
		name: "gRPC-Web", method: "POST", keep: keptError, field: "grpc-status", wrap: lengthPrefixed, grant: grantGRPCWeb,
		header: []Field{{"Content-Type", "application/grpc-web+proto"}, {"X-Grpc-Web", "1"}},
	})
}

const (
	prefixSize  = 5
	trailerFlag = 0x80
)

func lengthPrefixed(message []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
}

// grantGRPCWeb wants status 0 in the trailer frame, or in the header of a reply without a message.
func grantGRPCWeb(r reply) error {
	if r.status != 200 {
		return fmt.Errorf("HTTP status %d", r.status)
	}
	if r.field != "" {
		return grpcStatus(r.field)
	}
	for rest := r.body; len(rest) >= prefixSize; {
		size := int64(binary.BigEndian.Uint32(rest[1:]))
		if size > int64(len(rest)-prefixSize) {
			return errors.New("gRPC-Web frame is torn")
		}
		frame := rest[prefixSize : prefixSize+size]
		if rest[0]&trailerFlag != 0 {
			return trailerStatus(frame)
		}
		rest = rest[prefixSize+size:]
	}
	return errors.New("gRPC-Web reply without trailers")
}

func trailerStatus(block []byte) error {
	for line := range bytes.SplitSeq(block, []byte("\r\n")) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		if bytes.EqualFold(name, []byte("grpc-status")) {
			return grpcStatus(string(bytes.TrimSpace(value)))
		}
	}
	return errors.New("gRPC-Web trailers without grpc-status")
}

func grpcStatus(text string) error {
	code, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return errors.New("grpc-status is not a number")
	}
	if code != 0 {
		return fmt.Errorf("grpc status %d", code)
	}
	return nil
}
