package proto

import (
	"fmt"
	"strings"
)

// exchange is how a protocol uses HTTP: what it sends, what it wants of the reply, and when the reply
// grants the request.
type exchange struct {
	name   string
	method string                   // when the user gives none
	header []Field                  // beside the user's
	wrap   func(body []byte) []byte // nil: the body goes as it is
	keep   int                      // bytes of the reply's body that grant looks at, and that it may have; 0: none
	peek   int                      // over HTTP/2, bytes of the body that grant looks at; it may have more
	field  string                   // header field or trailer that grant looks at, in lower case
	grant  func(r reply) error      // an error is the kind that is counted
	// streamed bodies do not tell their length before.
	streamed bool
}

// reply is what grant sees.
type reply struct {
	status int
	body   []byte
	field  string

	// Over HTTP/2:
	message string // grpc-message
	size    int64  // of the body
}

// prepare renders the requests of an exchange.
func (x exchange) prepare(c Config) (method string, list []message, err error) {
	method = c.Method
	if method == "" {
		method = x.method
	}
	if list, err = c.messages(); err != nil {
		return "", nil, err
	}
	for i := range list {
		if x.wrap != nil {
			list[i].body = x.wrap(list[i].body)
		}
		list[i].header = merged(list[i].header, x.header)
	}
	return method, list, nil
}

// merged adds fields that the user has not given.
func merged(fields, more []Field) []Field {
	out := fields
	for _, f := range more {
		given := false
		for _, g := range fields {
			given = given || strings.EqualFold(f.Name, g.Name)
		}
		if !given {
			out = append(out, f)
		}
	}
	return out
}

// plainHTTP is HTTP itself: a status below 400 grants.
func plainHTTP(c Config) exchange {
	x := exchange{name: "HTTP", method: "GET", grant: func(r reply) error {
		if r.status >= 400 {
			return fmt.Errorf("HTTP status %d", r.status)
		}
		return nil
	}}
	if c.Body != nil {
		x.method = "POST"
	}
	if c.JSON {
		x.header = []Field{{"Content-Type", "application/json"}}
	}
	return x
}

// idempotent methods may be sent again when a connection that was kept alive turns out to be closed
// (RFC 9110 section 9.2.2, RFC 9112 section 9.3.1).
func idempotent(method string) bool {
	switch method {
	case "GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE":
		return true
	}
	return false
}
