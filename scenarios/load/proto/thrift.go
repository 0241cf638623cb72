package proto

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/assay-bench/assay/scenarios/load"
	"github.com/assay-bench/assay/scenarios/wire/behave"
	"github.com/assay-bench/assay/scenarios/wire/rpcframe"
	"github.com/assay-bench/assay/scenarios/wire/thrift"
	"github.com/assay-bench/assay/scenarios/wire/ttheader"
)

// thriftCall is Thrift's binary protocol in one of three frames. The sequence id is the arrival number, so
// that calls are pipelined and replies may come in any order.
type thriftCall struct{}

var _ = add(thriftCall{})

// thriftForms are the frames by scheme.
var thriftForms = map[string]rpcframe.Form{
	"thrift": rpcframe.Framed, "ttheader": rpcframe.TTHeaderFramed, "ttheader+buffered": rpcframe.TTHeader,
}

func (thriftCall) Schemes() []Scheme {
	return []Scheme{
		{"thrift", "Thrift binary, framed"},
		{"ttheader", "Thrift binary, framed, behind TTHeader"},
		{"ttheader+buffered", "Thrift binary behind TTHeader"},
	}
}

// behaveSize is the body of the call of the behave service that is made when no other is asked for.
const maxBehave = 1 << 20

func (thriftCall) Open(ctx context.Context, c Config) (*Session, error) {
	method := strings.TrimPrefix(c.URL.Path, "/")
	switch {
	case strings.Contains(method, "/") || c.URL.RawQuery != "" || c.Method != "":
		return nil, refuse("Thrift wants the method in the path: %s://%s/Method", c.URL.Scheme, c.URL.Host)
	case c.JSON:
		return nil, refuse("Thrift has no JSON body here: give the encoded argument struct with --body-file")
	case c.Body == nil && method != "" && method != behave.MethodEcho:
		return nil, refuse("method %.40q wants its encoded argument struct with --body-file", method)
	case c.Size > maxBehave:
		return nil, refuse("a body of %d bytes is more than %d", c.Size, maxBehave)
	}
	if method == "" {
		method = behave.MethodEcho
	}
	note := fmt.Sprintf("%s call of %s", c.URL.Scheme, method)
	if c.Body == nil {
		c.Body = behave.Args(behave.Msg{Body: string(filler(c.Size))})
		note += fmt.Sprintf(" with a body of %d bytes", c.Size)
	}
	codec, err := newThriftCodec(c, thriftForms[c.URL.Scheme], method)
	if err != nil {
		return nil, err
	}
	return c.mux(ctx, codec, note)
}

// thriftCodec holds the calls encoded; each request is a copy with another sequence id.
type thriftCodec struct {
	form      rpcframe.Form
	templates []thriftTemplate
}

type thriftTemplate struct {
	bytes []byte
	seqAt int // of the message's sequence id; a TTHeader's is at 8
}

var _ load.Codec = (*thriftCodec)(nil)

func newThriftCodec(c Config, form rpcframe.Form, method string) (*thriftCodec, error) {
	list, err := c.messages()
	if err != nil {
		return nil, err
	}
	codec := &thriftCodec{form: form}
	for i, m := range list {
		if _, n, err := thrift.ReadStruct(m.body); err != nil || n != len(m.body) {
			return nil, refuse("body of request %d is no encoded Thrift struct: %v", i, err)
		}
		if len(m.header) > 0 && form == rpcframe.Framed {
			return nil, refuse("framed Thrift has no headers: TTHeader has")
		}
		b, err := rpcframe.Call{Form: form, Method: method, Args: m.body, Header: ttheader.Header{StrKeys: texts(m.header)}}.Encode()
		if err != nil {
			return nil, refuse("request %d: %v", i, err)
		}
		// What follows the sequence id is the body alone.
		codec.templates = append(codec.templates, thriftTemplate{bytes: b, seqAt: len(b) - len(m.body) - 4})
	}
	return codec, nil
}

func texts(header []Field) map[string]string {
	if len(header) == 0 {
		return nil
	}
	m := map[string]string{}
	for _, f := range header {
		m[f.Name] = f.Value
	}
	return m
}

func (t *thriftCodec) Request(dst []byte, id uint64) []byte {
	at, call := len(dst), t.templates[id%uint64(len(t.templates))]
	dst = append(dst, call.bytes...)
	if t.form != rpcframe.Framed {
		binary.BigEndian.PutUint32(dst[at+8:], uint32(id))
	}
	binary.BigEndian.PutUint32(dst[at+call.seqAt:], uint32(id))
	return dst
}

// Reply recognises one frame by its length and its sequence id. A call is granted when its message is of
// type reply; that replies are well formed is the conformance suite's business.
func (t *thriftCodec) Reply(buf []byte) (n int, id uint64, ok bool, err error) {
	if t.form == rpcframe.Framed {
		return framedReply(buf)
	}
	return ttheaderReply(buf, t.form == rpcframe.TTHeaderFramed)
}

const (
	replyType    = 2
	thriftPrefix = 8  // version and type, length of the name
	minFramed    = 12 // and the sequence id
	minTTHeader  = 14
)

func framedReply(buf []byte) (n int, id uint64, ok bool, err error) {
	if len(buf) < 4+thriftPrefix {
		return 0, 0, false, nil
	}
	length, name := binary.BigEndian.Uint32(buf), binary.BigEndian.Uint32(buf[8:])
	if length < minFramed || length > maxReply || binary.BigEndian.Uint16(buf[4:]) != 0x8001 || name > length-minFramed {
		return 0, 0, false, fmt.Errorf("no framed Thrift message of at most %d bytes: % x", maxReply, buf[:4+thriftPrefix])
	}
	if len(buf) < 4+int(length) {
		return 0, 0, false, nil
	}
	return 4 + int(length), uint64(binary.BigEndian.Uint32(buf[4+thriftPrefix+name:])), buf[7] == replyType, nil
}

func ttheaderReply(buf []byte, framed bool) (n int, id uint64, ok bool, err error) {
	if len(buf) < minTTHeader {
		return 0, 0, false, nil
	}
	length := binary.BigEndian.Uint32(buf)
	if length < minTTHeader-4 || length > maxReply || binary.BigEndian.Uint16(buf[4:]) != 0x1000 {
		return 0, 0, false, fmt.Errorf("no TTHeader frame of at most %d bytes: % x", maxReply, buf[:minTTHeader])
	}
	n = 4 + int(length)
	if len(buf) < n {
		return 0, 0, false, nil
	}
	message := minTTHeader + 4*int(binary.BigEndian.Uint16(buf[12:]))
	if framed {
		message += 4
	}
	return n, uint64(binary.BigEndian.Uint32(buf[8:])), message+4 <= n && buf[message+3] == replyType, nil
}
