// Package grpc drives gRPC endpoints with grpc-go and records every call as it looked to the client.
// It may not judge: a refused connection, a wrong status, silence or garbage is evidence, and only what
// the harness itself can not do is an error. Every call has a deadline, and what is kept of an answer
// is bounded.
package grpc

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	grpcgo "google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
)

// Bounds of a call, whatever the peer does.
const (
	MaxTimeout  = 3 * time.Second // of one call
	MaxMessage  = 4 << 20         // bytes of one received message
	MaxMessages = 64              // received on one stream; then the call is cancelled

	maxHeaderList = 64 << 10 // bytes of the peer's metadata
	maxJSON       = 1 << 10  // bytes of a message that is kept as JSON
	maxValues     = 64       // metadata values kept of a block
	maxValue      = 1 << 10  // bytes kept of one
	maxText       = 4 << 10  // bytes kept of a status message
)

// Message is one message of a call.
type Message struct {
	Size  int             `json:"size"`            // bytes on the wire, without the prefix
	Bytes map[string]int  `json:"bytes,omitempty"` // lengths of its bytes fields by path: payload.body
	JSON  json.RawMessage `json:"json,omitempty"`  // of a small one
	At    time.Duration   `json:"at"`              // since the call began
}

// Call is the data of Called evidence: one RPC seen from the client.
type Call struct {
	Label      string              `json:"label"` // names the call within its case
	Client     string              `json:"client"`
	Method     string              `json:"method"`
	Connection int                 `json:"connection,omitempty"` // ordinal among the client's connections, from 1; 0: none carried it
	Code       uint32              `json:"code"`
	CodeName   string              `json:"codeName"`
	Message    string              `json:"message,omitempty"` // of the status
	Sent       []Message           `json:"sent,omitempty"`
	Received   []Message           `json:"received,omitempty"`
	More       bool                `json:"more,omitempty"`      // the stream stopped at MaxMessages, more was to come
	SendFailed bool                `json:"sendFailed,omitzero"` // the stream was over before all was sent
	Header     map[string][]string `json:"header,omitempty"`    // values of -bin keys in base64
	Trailer    map[string][]string `json:"trailer,omitempty"`
	Timeout    time.Duration       `json:"timeout"`             // asked for
	Cancelled  bool                `json:"cancelled,omitempty"` // by the client itself
	Took       time.Duration       `json:"took"`
}

// Dialing is the data of Dialed evidence.
type Dialing struct {
	Conn   string        `json:"conn"` // client and ordinal: main/1
	How    string        `json:"how"`  // ok, error
	Detail string        `json:"detail,omitempty"`
	Waited time.Duration `json:"waited"`
}

// Client is a recorded gRPC client. It is safe for concurrent calls.
type Client struct {
	env  *scenarios.Env
	name string
	conn *grpcgo.ClientConn

	mu    sync.Mutex
	dials int
	byEnd map[string]int // ordinal of a connection by its local address
	err   error          // the first one of the harness
}

// NewClient returns a client for an endpoint of the target; it connects with the first call. The name
// tells it apart in the evidence. An error is the harness's own.
func NewClient(env *scenarios.Env, endpoint, name string) (*Client, error) {
	c := &Client{env: env, name: name, byEnd: map[string]int{}}
	addr := env.Endpoints[endpoint]
	conn, err := grpcgo.NewClient("passthrough:///"+addr,
		grpcgo.WithTransportCredentials(insecure.NewCredentials()),
		grpcgo.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return c.dial(ctx, addr) }),
		grpcgo.WithAuthority(authority(addr)),
		grpcgo.WithNoProxy(),
		grpcgo.WithDisableRetry(),
		grpcgo.WithDisableServiceConfig(),
		grpcgo.WithMaxHeaderListSize(maxHeaderList),
		grpcgo.WithUserAgent("assay"),
		grpcgo.WithConnectParams(grpcgo.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 2, MaxDelay: time.Second},
			MinConnectTimeout: MaxTimeout,
		}),
		grpcgo.WithDefaultCallOptions(grpcgo.MaxCallRecvMsgSize(MaxMessage)),
	)
	if err != nil {
		return nil, fmt.Errorf("grpc client for endpoint %s at %q: %w", endpoint, addr, err)
	}
	c.conn = conn
	return c, nil
}

// authority keeps grpc-go from deriving :authority from an address that the target may have left out.
func authority(addr string) string {
	if addr == "" {
		return "target"
	}
	return addr
}

// Close ends the client's connections.
func (c *Client) Close() error { return c.conn.Close() }

func (c *Client) dial(ctx context.Context, addr string) (net.Conn, error) {
	began := c.env.Clock.Now()
	conn, err := c.env.Dial(ctx, "tcp", addr)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dials++
	d := Dialing{Conn: fmt.Sprintf("%s/%d", c.name, c.dials), How: "ok", Waited: c.env.Elapsed(began)}
	if err != nil {
		d.How, d.Detail = "error", err.Error()
		if errors.Is(err, scenarios.ErrNotAllowed) {
			c.fail(err)
		}
	} else {
		c.byEnd[conn.LocalAddr().String()] = c.dials
	}
	c.fail(c.env.Record(results.Dialed, d))
	return conn, err
}

// fail keeps the first error of the harness; c.mu is held.
func (c *Client) fail(err error) {
	if c.err == nil && err != nil {
		c.err = err
	}
}

// Options are the choices of one call.
type Options struct {
	Timeout  time.Duration     // 0 and anything above MaxTimeout mean MaxTimeout
	Metadata map[string]string // values of -bin keys as bytes
}

func (o Options) timeout() time.Duration {
	if o.Timeout <= 0 || o.Timeout > MaxTimeout {
		return MaxTimeout
	}
	return o.Timeout
}

// Unary makes a call of one request and one reply and records it under label. The reply is decoded into
// resp. An error is the harness's own.
func (c *Client) Unary(ctx context.Context, label, method string, req, resp proto.Message, o Options) (Call, error) {
	r := c.begin(label, method, o)
	ctx, cancel := context.WithTimeout(metadata.NewOutgoingContext(ctx, metadata.New(o.Metadata)), r.call.Timeout)
	defer cancel()
	var header, trailer metadata.MD
	var p peer.Peer
	r.sent(req)
	err := c.conn.Invoke(ctx, method, req, resp, grpcgo.Header(&header), grpcgo.Trailer(&trailer), grpcgo.Peer(&p))
	if err == nil {
		r.received(resp)
	}
	return r.end(err, header, trailer, &p)
}

// Stream is a call under way that sends, receives, or both, any number of messages. Its methods are for
// one goroutine at a time; End must be called.
type Stream struct {
	rec    *recording
	stream grpcgo.ClientStream // nil: it never began
	cancel context.CancelFunc
	peer   peer.Peer
	err    error // how the stream ended; io.EOF: with status OK
	server bool  // the server may send more than one message
}

// Shape says which side of a stream may send more than one message.
type Shape struct{ Client, Server bool }

// Open begins a streaming call under label.
func (c *Client) Open(ctx context.Context, label, method string, shape Shape, o Options) *Stream {
	s := &Stream{rec: c.begin(label, method, o), server: shape.Server}
	ctx, s.cancel = context.WithTimeout(metadata.NewOutgoingContext(ctx, metadata.New(o.Metadata)), s.rec.call.Timeout)
	desc := &grpcgo.StreamDesc{StreamName: method, ClientStreams: shape.Client, ServerStreams: shape.Server}
	s.stream, s.err = c.conn.NewStream(ctx, desc, method, grpcgo.Peer(&s.peer))
	return s
}

// Send writes one message. What came of it shows in the recorded call.
func (s *Stream) Send(m proto.Message) {
	if s.err != nil {
		s.rec.call.SendFailed = true
		return
	}
	if err := s.stream.SendMsg(m); err != nil {
		s.rec.call.SendFailed = true
		if !errors.Is(err, io.EOF) { // io.EOF: the true status comes with RecvMsg
			s.err = err
		}
		return
	}
	s.rec.sent(m)
}

// CloseSend says that the client has nothing more to send.
func (s *Stream) CloseSend() {
	if s.err == nil {
		s.err = s.stream.CloseSend()
	}
}

// Recv reads one message into m and tells whether there was one.
func (s *Stream) Recv(m proto.Message) bool {
	if s.err != nil {
		return false
	}
	if err := s.stream.RecvMsg(m); err != nil {
		s.err = err
		return false
	}
	s.rec.received(m)
	if !s.server { // grpc-go hands out the one reply only once the status is known to be OK
		s.err = io.EOF
	}
	return true
}

// Cancel gives the call up from the client's side.
func (s *Stream) Cancel() {
	s.rec.call.Cancelled = true
	s.cancel()
}

// End reads what is left, each message into m, until the status, and records the call. An error is the
// harness's own.
func (s *Stream) End(m proto.Message) (Call, error) {
	defer s.cancel()
	for s.err == nil {
		if len(s.rec.call.Received) == MaxMessages {
			s.rec.call.More = true
			s.cancel()
		}
		s.Recv(m)
	}
	err := s.err
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if s.stream == nil {
		return s.rec.end(err, nil, nil, &s.peer)
	}
	header, herr := s.stream.Header() // does not block once the stream is over
	if herr != nil {
		header = nil
	}
	return s.rec.end(err, header, s.stream.Trailer(), &s.peer)
}

// recording is a call under way.
type recording struct {
	client *Client
	began  time.Duration
	call   Call
}

func (c *Client) begin(label, method string, o Options) *recording {
	return &recording{client: c, began: c.env.Clock.Now(), call: Call{
		Label: label, Client: c.name, Method: method, Timeout: o.timeout(),
	}}
}

func (r *recording) sent(m proto.Message) {
	if len(r.call.Sent) < MaxMessages {
		r.call.Sent = append(r.call.Sent, r.message(m))
	}
}

func (r *recording) received(m proto.Message) {
	if len(r.call.Received) == MaxMessages {
		r.call.More = true
		return
	}
	r.call.Received = append(r.call.Received, r.message(m))
}

func (r *recording) message(m proto.Message) Message {
	out := Message{Size: proto.Size(m), Bytes: bytesFields(m), At: r.client.env.Elapsed(r.began)}
	if out.Size > maxJSON {
		return out
	}
	if raw, err := protojson.Marshal(m); err == nil { // a peer's Any of unknown type can not be told as JSON
		out.JSON = raw
	}
	return out
}

// end fills in how the call ended and records it.
func (r *recording) end(err error, header, trailer metadata.MD, p *peer.Peer) (Call, error) {
	st := status.Convert(err)
	c := &r.call
	c.Took = r.client.env.Elapsed(r.began)
	c.Code, c.CodeName, c.Message = uint32(st.Code()), st.Code().String(), clip(st.Message(), maxText)
	c.Header, c.Trailer = kept(header), kept(trailer)
	c.Connection = r.client.ordinal(p)
	if err := r.client.env.Record(results.Called, c); err != nil {
		return *c, err
	}
	r.client.mu.Lock()
	defer r.client.mu.Unlock()
	return *c, r.client.err
}

func (c *Client) ordinal(p *peer.Peer) int {
	if p.LocalAddr == nil {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byEnd[p.LocalAddr.String()]
}

// kept copies a bounded part of metadata.
func kept(md metadata.MD) map[string][]string {
	out := map[string][]string{}
	n := 0
	for _, k := range slices.Sorted(maps.Keys(md)) { // where some are left out, the same ones each time
		for _, v := range md[k] {
			if n++; n > maxValues {
				return out
			}
			v = clip(v, maxValue)
			if strings.HasSuffix(k, "-bin") {
				v = base64.StdEncoding.EncodeToString([]byte(v))
			}
			out[clip(k, maxValue)] = append(out[clip(k, maxValue)], v)
		}
	}
	return out
}

func clip(s string, limit int) string { return s[:min(len(s), limit)] }

// Calls collects the recorded calls of a case by label; of two calls of one label the later one stays.
func Calls(evidence []results.Evidence) (map[string]Seen, error) {
	out := map[string]Seen{}
	for _, e := range evidence {
		if e.Kind != results.Called {
			continue
		}
		var c Call
		if err := e.Decode(&c); err != nil {
			return nil, err
		}
		out[c.Label] = Seen{Call: c, Seq: e.Seq}
	}
	return out, nil
}

// Seen is a recorded call and the number of its evidence.
type Seen struct {
	Call
	Seq uint64
}
