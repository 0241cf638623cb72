// Package http1 writes HTTP/1.1 requests and reads replies over one connection (RFC 9112), for load
// generation: a request is encoded once and sent as bytes, and a reply is read with bounds and without
// keeping what nobody looks at. It is strict where laxity hides a broken server or a request smuggled
// into a reply: one unambiguous length, no folded lines, no bare CR. It opens no sockets.
package http1

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Bounds of a reply.
const (
	MaxHead    = 64 << 10 // bytes of status line and header fields, of all interim replies together
	MaxBody    = 64 << 20 // bytes of a body
	maxInterim = 8        // replies of 1xx before the final one
	maxDigits  = 15       // of a length
)

// ErrMalformed is wrapped by every refusal of what is not a well-formed reply.
var ErrMalformed = errors.New("malformed HTTP/1.1 reply")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// Field is one header field.
type Field struct{ Name, Value string }

// Request is one request to be encoded.
type Request struct {
	Method, Target, Host string // the target is in origin form: /path?query
	Header               []Field
	Body                 []byte
}

// Encode returns the bytes of the request. Content-Length is written for a body, and for methods that
// expect one; host, content-length, transfer-encoding and connection can not be given as fields.
func (r Request) Encode() ([]byte, error) {
	if !token(r.Method) {
		return nil, fmt.Errorf("http/1.1 request: method %.40q is not a token", r.Method)
	}
	if !strings.HasPrefix(r.Target, "/") || strings.ContainsFunc(r.Target, func(c rune) bool { return c <= ' ' || c == 0x7f }) {
		return nil, fmt.Errorf("http/1.1 request: target %.100q is not a path", r.Target)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", r.Method, r.Target, r.Host)
	for _, f := range append([]Field{{"Host", r.Host}}, r.Header...) {
		if !token(f.Name) || strings.ContainsAny(f.Value, "\r\n\x00") {
			return nil, fmt.Errorf("http/1.1 request: header field %.40q is malformed", f.Name)
		}
	}
	for _, f := range r.Header {
		switch strings.ToLower(f.Name) {
		case "host", "content-length", "transfer-encoding", "connection":
			return nil, fmt.Errorf("http/1.1 request: header field %s is set by the client itself", f.Name)
		}
		fmt.Fprintf(&b, "%s: %s\r\n", f.Name, f.Value)
	}
	if len(r.Body) > 0 || r.Method == "POST" || r.Method == "PUT" || r.Method == "PATCH" {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(r.Body))
	}
	b.WriteString("\r\n")
	b.Write(r.Body)
	return b.Bytes(), nil
}

// Reply is what was read of one reply.
type Reply struct {
	Status int
	Close  bool   // the connection can not carry another request
	Length int64  // bytes of the body
	Body   []byte // only when kept
	// Trailer of a kept body that is itself told in header fields is the caller's business; Field is the
	// value of the header field that was asked for, empty when absent.
	Field string
}

// Options of reading.
type Options struct {
	Head  bool   // the request was HEAD: no body follows
	Keep  int    // keep up to so many bytes of the body; a longer one is an error
	Field string // header field whose value is wanted, in lower case
}

// Read reads one reply. An error means that the connection is of no more use; it wraps ErrMalformed, or
// is that of the connection.
func Read(br *bufio.Reader, o Options) (Reply, error) {
	room := MaxHead
	for range maxInterim {
		h, err := readHead(br, o.Field, &room)
		if err != nil {
			return Reply{}, err
		}
		if h.status == 101 {
			return Reply{}, malformed("status 101: no upgrade was asked for")
		}
		if h.status >= 200 {
			return readBody(br, h, o)
		}
	}
	return Reply{}, malformed("more than %d interim replies", maxInterim)
}

// head is what a header section says.
type head struct {
	status  int
	close   bool
	chunked bool
	length  int64 // -1: not given
	field   string
}

func readHead(br *bufio.Reader, wanted string, room *int) (head, error) {
	line, err := readLine(br, room)
	if err != nil {
		return head{}, err
	}
	h := head{length: -1}
	if h.status, h.close, err = statusLine(line); err != nil {
		return head{}, err
	}
	for {
		line, err := readLine(br, room)
		if err != nil {
			return head{}, torn(err)
		}
		if len(line) == 0 {
			break
		}
		if err := h.add(line, wanted); err != nil {
			return head{}, err
		}
	}
	if h.chunked && h.length >= 0 {
		return head{}, malformed("both content-length and transfer-encoding")
	}
	return h, nil
}

// statusLine reads "HTTP/1.1 200 OK". A server of HTTP/1.0 closes after its reply.
func statusLine(line []byte) (status int, closes bool, err error) {
	if len(line) < 12 || string(line[:7]) != "HTTP/1." || (line[7] != '1' && line[7] != '0') || line[8] != ' ' ||
		(len(line) > 12 && line[12] != ' ') {
		return 0, false, malformed("status line %.40q", line)
	}
	for _, c := range line[9:12] {
		if c < '0' || c > '9' {
			return 0, false, malformed("status line %.40q", line)
		}
		status = status*10 + int(c-'0')
	}
	if status < 100 {
		return 0, false, malformed("status %d", status)
	}
	return status, line[7] == '0', nil
}

// add reads one field line. Names are compared without allocating.
func (h *head) add(line []byte, wanted string) error {
	colon := bytes.IndexByte(line, ':')
	if colon <= 0 || !tokenBytes(line[:colon]) {
		return malformed("field line %.40q", line)
	}
	name, value := line[:colon], bytes.Trim(line[colon+1:], " \t")
	if wanted != "" && equalFold(name, wanted) {
		h.field = string(value)
	}
	switch len(name) {
	case len("content-length"):
		if equalFold(name, "content-length") {
			return h.addLength(value)
		}
	case len("transfer-encoding"):
		if equalFold(name, "transfer-encoding") {
			if h.chunked || !equalFold(value, "chunked") {
				return malformed("transfer-encoding %.40q", value)
			}
			h.chunked = true
		}
	case len("connection"):
		if equalFold(name, "connection") {
			h.close = h.close || hasClose(value)
		}
	}
	return nil
}

func (h *head) addLength(value []byte) error {
	n, err := digits(value, 10)
	if err != nil || (h.length >= 0 && h.length != n) {
		return malformed("content-length %.40q", value)
	}
	h.length = n
	return nil
}

func hasClose(value []byte) bool {
	for part := range bytes.SplitSeq(value, []byte(",")) {
		if equalFold(bytes.Trim(part, " \t"), "close") {
			return true
		}
	}
	return false
}

// readBody reads what follows the head (RFC 9112 section 6.3).
func readBody(br *bufio.Reader, h head, o Options) (Reply, error) {
	r := Reply{Status: h.status, Close: h.close, Field: h.field}
	k := keeper{most: o.Keep}
	var err error
	switch {
	case o.Head || h.status == 204 || h.status == 304:
		return r, nil
	case h.chunked:
		err = k.chunks(br)
	case h.length >= 0:
		err = k.take(br, h.length)
	default:
		r.Close = true
		err = k.rest(br)
	}
	r.Length, r.Body = k.length, k.body
	return r, err
}

// keeper counts a body and keeps as much as is wanted.
type keeper struct {
	most   int // 0: keep nothing
	length int64
	body   []byte
}

func (k *keeper) take(br *bufio.Reader, n int64) error {
	if n > MaxBody-k.length {
		return malformed("body of more than %d bytes", MaxBody)
	}
	k.length += n
	if k.most == 0 {
		_, err := br.Discard(int(n))
		return torn(err)
	}
	if k.length > int64(k.most) {
		return malformed("body of more than %d bytes", k.most)
	}
	at := len(k.body)
	k.body = append(k.body, make([]byte, n)...)
	_, err := io.ReadFull(br, k.body[at:])
	return torn(err)
}

func (k *keeper) chunks(br *bufio.Reader) error {
	room := MaxHead
	for {
		line, err := readLine(br, &room)
		if err != nil {
			return torn(err)
		}
		size, _, _ := bytes.Cut(line, []byte(";"))
		n, err := digits(bytes.TrimRight(size, " \t"), 16)
		if err != nil {
			return malformed("chunk size %.40q", line)
		}
		if n == 0 {
			return trailers(br, &room)
		}
		if err := k.take(br, n); err != nil {
			return err
		}
		end := 2
		if line, err = readLine(br, &end); err != nil || len(line) != 0 {
			return malformed("chunk does not end in CRLF")
		}
		room = MaxHead // each chunk has room for its size line: the sum is bounded by MaxBody
	}
}

func trailers(br *bufio.Reader, room *int) error {
	for {
		line, err := readLine(br, room)
		if err != nil {
			return torn(err)
		}
		if len(line) == 0 {
			return nil
		}
		if colon := bytes.IndexByte(line, ':'); colon <= 0 || !tokenBytes(line[:colon]) {
			return malformed("trailer line %.40q", line)
		}
	}
}

func (k *keeper) rest(br *bufio.Reader) error {
	for {
		_, err := br.Peek(1)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := k.take(br, int64(br.Buffered())); err != nil {
			return err
		}
	}
}

// readLine returns one line without its CRLF, valid until the next read. A line may be as long as the
// buffer of br; room is what all lines together may still take.
func readLine(br *bufio.Reader, room *int) ([]byte, error) {
	line, err := br.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) || len(line) > *room {
		return nil, malformed("header of more than %d bytes, or a line of more than %d", MaxHead, br.Size())
	}
	if err != nil {
		if len(line) > 0 {
			err = torn(err)
		}
		return nil, err
	}
	*room -= len(line)
	if len(line) < 2 || line[len(line)-2] != '\r' {
		return nil, malformed("line %.40q does not end in CRLF", line)
	}
	line = line[:len(line)-2]
	if bytes.IndexByte(line, '\r') >= 0 || bytes.IndexByte(line, 0) >= 0 {
		return nil, malformed("CR or NUL within line %.40q", line)
	}
	return line, nil
}

// torn makes an end within a reply unlike one before it.
func torn(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// digits reads a bare number: no sign, no blank, a bounded length.
func digits(text []byte, base int) (int64, error) {
	if len(text) == 0 || len(text) > maxDigits || text[0] == '+' || text[0] == '-' {
		return 0, strconv.ErrSyntax
	}
	n := int64(0)
	for _, c := range text {
		d := int64(0)
		switch {
		case c >= '0' && c <= '9':
			d = int64(c - '0')
		case base == 16 && c >= 'a' && c <= 'f':
			d = int64(c-'a') + 10
		case base == 16 && c >= 'A' && c <= 'F':
			d = int64(c-'A') + 10
		default:
			return 0, strconv.ErrSyntax
		}
		n = n*int64(base) + d
	}
	return n, nil
}

// equalFold compares with a text in lower case.
func equalFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

func token(s string) bool { return s != "" && tokenBytes([]byte(s)) }

// tokenBytes knows the characters of RFC 9110 section 5.6.2.
func tokenBytes(b []byte) bool {
	for _, c := range b {
		if !tokenChar[c] {
			return false
		}
	}
	return true
}

var tokenChar = func() (t [256]bool) {
	for _, c := range "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" {
		t[c] = true
	}
	return t
}()
