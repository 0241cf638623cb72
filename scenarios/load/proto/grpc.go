package proto

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
)

// grpcUnary is gRPC, unary: a request of HTTP/2 whose reply is one message and a status in its trailers.
type grpcUnary struct{}

var _ = add(grpcUnary{})

func (grpcUnary) Schemes() []Scheme {
	return []Scheme{{"grpc", "gRPC, unary"}, {"grpc+tls", "gRPC, unary, over TLS"}}
}

func (grpcUnary) Open(ctx context.Context, c Config) (*Session, error) {
	if strings.Count(c.URL.Path, "/") != 2 || strings.HasSuffix(c.URL.Path, "/") || c.URL.RawQuery != "" || c.Method != "" {
		return nil, refuse("gRPC wants the method in the path: %s://%s/package.Service/Method", c.URL.Scheme, c.URL.Host)
	}
	c, err := encoded(ctx, c)
	if err != nil {
		return nil, err
	}
	return overHTTP2(ctx, c, exchange{
		name: "gRPC", method: "POST", wrap: lengthPrefixed, peek: prefixSize, streamed: true, field: "grpc-status", grant: grantGRPC,
		header: []Field{{"Content-Type", "application/grpc"}, {"Te", "trailers"}, {"User-Agent", "assay"}},
	}, strings.HasSuffix(c.URL.Scheme, "+tls"))
}

// grantGRPC wants status 0 in the trailers and one whole message (gRPC over HTTP/2, "Responses").
func grantGRPC(r reply) error {
	if r.field == "" {
		if r.status != 200 {
			return fmt.Errorf("HTTP status %d", r.status)
		}
		return errors.New("gRPC reply without grpc-status")
	}
	code, err := strconv.ParseUint(r.field, 10, 32)
	switch {
	case err != nil:
		return errors.New("grpc-status is not a number")
	case code != 0:
		text, err := url.PathUnescape(r.message)
		if err != nil {
			text = r.message
		}
		return fmt.Errorf("grpc status %s: %.80s", codes.Code(code), text)
	case len(r.body) < prefixSize || r.size != prefixSize+int64(binary.BigEndian.Uint32(r.body[1:])):
		return errors.New("gRPC reply that is not one whole message")
	}
	return nil
}
