package h2

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/net/http2/hpack"
)

// Bounds on what is kept of a peer's answer, whatever it sends.
const (
	maxStreams    = 256     // with frames from the peer
	maxFields     = 256     // of a stream, headers and trailers together
	maxBlock      = 1 << 16 // bytes of a header block, over all its frames
	maxFieldBytes = 1 << 15 // of one name or value
	tableSize     = 4096    // the initial SETTINGS_HEADER_TABLE_SIZE, RFC 9113 section 6.5.2
)

// Stream is what a peer sent on one stream.
type Stream struct {
	Header  []Field // of the first header block; a gRPC Trailers-Only answer has nothing else
	Trailer []Field // of the second one
	Blocks  int     // header blocks seen
	Data    []byte  // without padding
	Ended   bool    // END_STREAM was seen
	Reset   *uint32 // the error code of RST_STREAM
}

// Over tells that nothing more will come on the stream.
func (s *Stream) Over() bool { return s != nil && (s.Ended || s.Reset != nil) }

// Get returns the first value of a header field.
func (s *Stream) Get(name string) (string, bool) { return get(s.Header, name) }

// Status returns the gRPC status text: of the trailers, or of the headers in a Trailers-Only answer.
func (s *Stream) Status() (string, bool) {
	if s.Blocks > 1 {
		return get(s.Trailer, "grpc-status")
	}
	return get(s.Header, "grpc-status")
}

func get(fields []Field, name string) (string, bool) {
	for _, f := range fields {
		if f.Name == name {
			return f.Value, true
		}
	}
	return "", false
}

// Answer is what a server sent on a connection so far.
type Answer struct {
	Frames  []Frame
	Streams map[uint32]*Stream
	GoAway  *uint32 // the error code of the last GOAWAY
	Partial bool    // the bytes end inside a frame or a header block
}

// ReadAnswer decodes all that a server sent since the connection began. Of undecodable bytes it
// returns what came before them and the error; bytes that end inside a frame are no error. Kept memory
// is bounded by the input and by the bounds of this package.
func ReadAnswer(b []byte) (Answer, error) {
	r := reader{answer: Answer{Streams: map[uint32]*Stream{}}}
	r.dec = hpack.NewDecoder(tableSize, nil)
	r.dec.SetMaxStringLength(maxFieldBytes)
	for len(b) > 0 {
		f, rest, err := ReadFrame(b)
		if errors.Is(err, ErrIncomplete) {
			r.answer.Partial = true
			return r.answer, nil
		}
		if err == nil {
			err = r.frame(f)
		}
		if err != nil {
			return r.answer, fmt.Errorf("frame %d: %w", len(r.answer.Frames)+1, err)
		}
		r.answer.Frames = append(r.answer.Frames, f)
		b = rest
	}
	r.answer.Partial = r.open != 0
	return r.answer, nil
}

type reader struct {
	answer Answer
	dec    *hpack.Decoder
	open   uint32 // the stream whose header block goes on; 0: none
	ends   bool   // its END_STREAM
	block  []byte
}

func (r *reader) frame(f Frame) error {
	if r.open != 0 && (f.Type != Continuation || f.Stream != r.open) {
		return fmt.Errorf("%s inside the header block of stream %d (RFC 9113 section 6.10)", f.Type, r.open)
	}
	if len(r.answer.Frames) == 0 && f.Type != Settings {
		return fmt.Errorf("%s in place of the server's SETTINGS (RFC 9113 section 3.4)", f.Type)
	}
	switch f.Type {
	case Data, Headers, RSTStream, Continuation, PushPromise, Priority:
		if f.Stream == 0 {
			return fmt.Errorf("%s on stream 0", f.Type)
		}
	case Settings, Ping, GoAway:
		if f.Stream != 0 {
			return fmt.Errorf("%s on stream %d", f.Type, f.Stream)
		}
	}
	return r.typed(f)
}

func (r *reader) typed(f Frame) error {
	switch f.Type {
	case Headers:
		return r.headers(f)
	case Continuation:
		if r.open == 0 {
			return errors.New("CONTINUATION without a header block")
		}
		return r.add(f.Payload, f.Has(FlagEndHeaders))
	case Data:
		return r.data(f)
	case RSTStream:
		return r.reset(f)
	case PushPromise:
		return errors.New("PUSH_PROMISE, which was never enabled")
	case Settings:
		if len(f.Payload)%6 != 0 || (f.Has(FlagAck) && len(f.Payload) != 0) {
			return fmt.Errorf("SETTINGS of %d bytes", len(f.Payload))
		}
	case Ping:
		if len(f.Payload) != 8 {
			return fmt.Errorf("PING of %d bytes", len(f.Payload))
		}
	case GoAway:
		if len(f.Payload) < 8 {
			return fmt.Errorf("GOAWAY of %d bytes", len(f.Payload))
		}
		code := binary.BigEndian.Uint32(f.Payload[4:])
		r.answer.GoAway = &code
	case WindowUpdate:
		if len(f.Payload) != 4 {
			return fmt.Errorf("WINDOW_UPDATE of %d bytes", len(f.Payload))
		}
	}
	return nil // other types are ignored, RFC 9113 section 4.1
}

func (r *reader) stream(id uint32) (*Stream, error) {
	s := r.answer.Streams[id]
	if s == nil {
		if len(r.answer.Streams) == maxStreams {
			return nil, fmt.Errorf("more than %d streams", maxStreams)
		}
		s = &Stream{}
		r.answer.Streams[id] = s
	}
	if s.Ended {
		return nil, fmt.Errorf("stream %d goes on after END_STREAM", id)
	}
	return s, nil
}

func (r *reader) headers(f Frame) error {
	p, err := f.Content()
	if err != nil {
		return err
	}
	if _, err := r.stream(f.Stream); err != nil {
		return err
	}
	r.open, r.ends, r.block = f.Stream, f.Has(FlagEndStream), nil
	return r.add(p, f.Has(FlagEndHeaders))
}

func (r *reader) add(p []byte, last bool) error {
	if len(r.block)+len(p) > maxBlock {
		return fmt.Errorf("header block above %d bytes", maxBlock)
	}
	r.block = append(r.block, p...)
	if !last {
		return nil
	}
	s, err := r.stream(r.open)
	if err != nil {
		return err
	}
	fields, err := decodeBlock(r.dec, r.block, maxFields-len(s.Header)-len(s.Trailer))
	if err != nil {
		return fmt.Errorf("header block of stream %d: %w", r.open, err)
	}
	if s.Blocks++; s.Blocks == 1 {
		s.Header = fields
	} else {
		s.Trailer = append(s.Trailer, fields...)
	}
	s.Ended, r.open = r.ends, 0
	return nil
}

// decodeBlock keeps at most limit fields: a small block may name one large field of the dynamic table
// many times.
func decodeBlock(dec *hpack.Decoder, block []byte, limit int) ([]Field, error) {
	var fields []Field
	over := false
	dec.SetEmitEnabled(true)
	dec.SetEmitFunc(func(f hpack.HeaderField) {
		if len(fields) == limit {
			over = true
			dec.SetEmitEnabled(false)
			return
		}
		fields = append(fields, Field{f.Name, f.Value})
	})
	if _, err := dec.Write(block); err != nil {
		return fields, err
	}
	if err := dec.Close(); err != nil {
		return fields, err
	}
	if over {
		return fields, fmt.Errorf("more than %d fields on a stream", maxFields)
	}
	return fields, nil
}

func (r *reader) data(f Frame) error {
	p, err := f.Content()
	if err != nil {
		return err
	}
	s, err := r.stream(f.Stream)
	if err != nil {
		return err
	}
	s.Data = append(s.Data, p...)
	s.Ended = f.Has(FlagEndStream)
	return nil
}

func (r *reader) reset(f Frame) error {
	if len(f.Payload) != 4 {
		return fmt.Errorf("RST_STREAM of %d bytes", len(f.Payload))
	}
	id := f.Stream
	s := r.answer.Streams[id]
	if s == nil {
		var err error
		if s, err = r.stream(id); err != nil {
			return err
		}
	}
	code := binary.BigEndian.Uint32(f.Payload)
	s.Reset = &code
	return nil
}
