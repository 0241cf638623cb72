package hollow

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/rpc/port"
	"github.com/assay-bench/assay/reference/rpc/wire"
)

// rejecter answers every call of every form with a well-formed refusal: Exception 6 over Thrift,
// status 13 over gRPC, 503 over HTTP.
type rejecter struct {
	queue *port.Queue
	http  *http.Server
	done  chan struct{}
}

func newRejecter(addr net.Addr) *rejecter {
	r := &rejecter{queue: port.NewQueue(addr), done: make(chan struct{})}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	r.http = &http.Server{Handler: http.HandlerFunc(rejectHTTP), Protocols: &protocols, ReadHeaderTimeout: idle, IdleTimeout: idle}
	go func() {
		defer close(r.done)
		_ = r.http.Serve(r.queue) // ends with close
	}()
	return r
}

func (r *rejecter) close() {
	_ = r.http.Close()
	<-r.done
}

// rejectHTTP answers gRPC with trailers alone, which is a response without a body, and the rest with
// 503.
func rejectHTTP(w http.ResponseWriter, req *http.Request) {
	contentType := req.Header.Get("Content-Type")
	if req.ProtoMajor < 2 || !strings.HasPrefix(contentType, "application/grpc") {
		http.Error(w, "rejected", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Grpc-Status", "13")
	w.Header().Set("Grpc-Message", "rejected")
	w.WriteHeader(http.StatusOK)
}

const (
	idle      = 30 * time.Second // without a byte from the client
	rejectMax = 1 << 20          // bytes of a call
)

func (r *rejecter) handle(ctx context.Context, conn net.Conn) {
	in := bufio.NewReaderSize(conn, 4096)
	if conn.SetReadDeadline(time.Now().Add(idle)) != nil {
		return
	}
	first, err := in.Peek(wire.SniffLen)
	if err != nil {
		return
	}
	switch wire.Sniff(first) {
	case wire.HTTP1, wire.HTTP2:
		r.handOver(ctx, conn, in)
		return
	}
	for rejectThrift(conn, in) {
	}
}

// handOver gives the connection to the HTTP server and waits until it is done with it.
func (r *rejecter) handOver(ctx context.Context, conn net.Conn, in *bufio.Reader) {
	peeked, err := in.Peek(in.Buffered())
	if err != nil || conn.SetReadDeadline(time.Time{}) != nil {
		return
	}
	closed := make(chan struct{})
	if !r.queue.Push(port.NewReplay(conn, peeked, func() { close(closed) })) {
		return
	}
	select {
	case <-closed:
	case <-ctx.Done():
	}
}

// rejectThrift answers one call. It reports whether another one can be read.
func rejectThrift(conn net.Conn, in *bufio.Reader) bool {
	if conn.SetDeadline(time.Now().Add(idle)) != nil {
		return false
	}
	first, err := in.Peek(wire.SniffLen)
	if err != nil {
		return false
	}
	kind := wire.Sniff(first)
	form, message, ok := readCall(kind, in)
	if !ok {
		return false
	}
	if message.Type == wire.TypeOneway {
		return true
	}
	reply := wire.Reply{Form: form, Type: wire.TypeException, Name: message.Name, Seq: message.Seq}
	_, err = conn.Write(reply.Append(nil, func(b []byte) []byte {
		return wire.AppendException(b, wire.ExceptionInternal, "rejected")
	}))
	return err == nil
}

func readCall(kind wire.Protocol, in *bufio.Reader) (wire.Form, wire.Message, bool) {
	rules := wire.NewRules(rejectMax, defect.Set{})
	if kind == wire.Buffered {
		m, err := wire.ScanMessage(&growing{in: in}, rules)
		return wire.FormBuffered, m, err == nil
	}
	frame, ok := readFrame(in)
	if !ok {
		return 0, wire.Message{}, false
	}
	form, payload := wire.FormFramed, frame[4:]
	switch kind {
	case wire.Framed:
	case wire.TTHeader:
		form = wire.FormTTHeader
		preamble, err := wire.ReadPreamble(frame, rules)
		if err != nil {
			return 0, wire.Message{}, false
		}
		payload = frame[preamble.HeaderSize:]
		if wire.SniffPayload(payload) == wire.Framed {
			form, payload = wire.FormTTHeaderFramed, payload[4:]
		}
	default:
		return 0, wire.Message{}, false
	}
	m, err := wire.DecodeMessage(payload, rules)
	return form, m, m.Named || err == nil
}

// readFrame reads a 4-byte length and what it covers, with the length in front.
func readFrame(in *bufio.Reader) ([]byte, bool) {
	head, err := in.Peek(4)
	if err != nil {
		return nil, false
	}
	length := binary.BigEndian.Uint32(head)
	if length > rejectMax {
		return nil, false
	}
	frame := make([]byte, 4+int(length))
	_, err = io.ReadFull(in, frame)
	return frame, err == nil
}

// growing feeds a scanner exactly the bytes it asks for, so that none of the next call is taken.
type growing struct {
	in  *bufio.Reader
	buf []byte
}

// Fill implements wire.Filler.
func (g *growing) Fill(n int) ([]byte, error) {
	for len(g.buf) < n {
		have := len(g.buf)
		g.buf = append(g.buf, make([]byte, min(n-have, 4096))...)
		if _, err := io.ReadFull(g.in, g.buf[have:]); err != nil {
			return nil, err
		}
	}
	return g.buf, nil
}
