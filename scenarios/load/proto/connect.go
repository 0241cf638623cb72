package proto

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
)

// connectRPC is the Connect protocol, unary: a POST whose reply of status 200 is the message.
type connectRPC struct{}

var _ = add(connectRPC{})

func (connectRPC) Schemes() []Scheme { return overHTTP("connect", "Connect, unary") }

// overHTTP lists the schemes of a protocol that travels over any version of HTTP.
func overHTTP(name, meaning string) []Scheme {
	return []Scheme{
		{name, meaning + ", over HTTP/1.1"}, {name + "+tls", meaning + ", over HTTP/1.1 and TLS"},
		{name + "+h2c", meaning + ", over HTTP/2 in clear text"}, {name + "+h2", meaning + ", over HTTP/2 and TLS"},
	}
}

// openHTTP opens an exchange over the version that the scheme names.
func openHTTP(ctx context.Context, c Config, x exchange) (*Session, error) {
	if strings.Count(c.URL.Path, "/") != 2 || strings.HasSuffix(c.URL.Path, "/") || c.URL.RawQuery != "" {
		return nil, refuse("%s wants the method in the path: %s://%s/package.Service/Method", x.name, c.URL.Scheme, c.URL.Host)
	}
	if c.Method != "" {
		return nil, refuse("%s is always POST: the method to call stands in the path", x.name)
	}
	_, over, _ := strings.Cut(c.URL.Scheme, "+")
	if over == "h2c" || over == "h2" {
		return overHTTP2(ctx, c, x, over == "h2")
	}
	return overHTTP1(ctx, c, x, over == "tls")
}

// keptError bounds the body that an error is read from.
const keptError = 4 << 20

func (connectRPC) Open(ctx context.Context, c Config) (*Session, error) {
	kind := "application/proto"
	if c.JSON {
		kind = "application/json"
	}
	return openHTTP(ctx, c, exchange{
		name: "Connect", method: "POST", keep: keptError, grant: grantConnect,
		header: []Field{{"Content-Type", kind}, {"Connect-Protocol-Version", "1"}},
	})
}

// grantConnect reads the code of an error (connectrpc.com/docs/protocol, "error end-stream").
func grantConnect(r reply) error {
	if r.status == 200 {
		return nil
	}
	var e struct {
		Code string `json:"code"`
	}
	if err := json.Unmarshal(r.body, &e); err != nil || e.Code == "" {
		return fmt.Errorf("HTTP status %d", r.status)
	}
	return fmt.Errorf("connect code %.40s", e.Code)
}
