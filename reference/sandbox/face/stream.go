package face

import (
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
	"unicode/utf16"
)

// streamField is the trailer field that says how a stream ended.
const streamField = "Assay-Stream"

// streamTimeout bounds the time in which nothing moves.
const streamTimeout = 30 * time.Second

// stream sends the body through a function of the module, piece by piece. The engine asks for a piece
// when the output of the one before is sent, so that a slow end holds the other back.
func (f *Face) stream(w http.ResponseWriter, r *http.Request) {
	s := &piper{w: w, r: r, control: http.NewResponseController(w)}
	w.Header().Set("Connection", "close") // what is left of the request's body is not read
	err := f.runStream(s)
	limitWrite(w, streamTimeout)
	switch {
	case s.broken:
		panic(http.ErrAbortHandler) // half a request has no answer that could be taken for a whole one
	case err == nil:
		s.begin()
		w.Header().Set(streamField, "complete")
	case !s.begun:
		f.answerError(w, err)
	default:
		w.Header().Set(streamField, oneLine(problemOf(err)))
	}
}

func (f *Face) runStream(s *piper) error {
	tenant, module, err := names(s.r)
	if err != nil {
		return err
	}
	function := s.r.URL.Query().Get("function")
	if function == "" {
		return bad("function is not in the query")
	}
	box, err := f.core.tenants()
	if err != nil {
		return err
	}
	if err := s.control.EnableFullDuplex(); err != nil { // else the first write would read the whole body
		return err
	}
	return box.Stream(s.r.Context(), tenant, module, function, s, s)
}

// maxFieldText bounds the texts of a problem in the trailer field, in bytes.
const maxFieldText = 1 << 10

// oneLine is a problem as the value of a field: JSON without letters beyond ASCII (RFC 9110 section 5.5).
func oneLine(p problem) string {
	p.Detail, p.Reason = clip(p.Detail), clip(p.Reason)
	text, err := json.Marshal(p.complete(), jsonOptions)
	if err != nil {
		return "failed"
	}
	var ascii strings.Builder
	for _, r := range string(text) {
		switch high, low := utf16.EncodeRune(r); {
		case r < 0x7f:
			ascii.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&ascii, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&ascii, `\u%04x`, r)
		}
	}
	return ascii.String()
}

func clip(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), maxFieldText)], "")
}

// piper is both ends of a stream; each read and each write has a time-out of its own.
type piper struct {
	w       http.ResponseWriter
	r       *http.Request
	control *http.ResponseController
	begun   bool // the status is sent
	broken  bool // the request ended before its body did
}

func (s *piper) Read(p []byte) (int, error) {
	// deadlines are best effort: a connection that is gone fails the read
	_ = s.control.SetReadDeadline(time.Now().Add(streamTimeout))
	n, err := s.r.Body.Read(p)
	_ = s.control.SetReadDeadline(time.Time{}) // one that passed while a guest runs would end the context
	if err != nil && !errors.Is(err, io.EOF) {
		s.broken = true
	}
	return n, err
}

func (s *piper) Write(p []byte) (int, error) {
	limitWrite(s.w, streamTimeout)
	s.begin()
	n, err := s.w.Write(p)
	if err != nil {
		return n, err
	}
	return n, s.control.Flush()
}

func (s *piper) begin() {
	if s.begun {
		return
	}
	s.begun = true
	s.w.Header().Set("Content-Type", "application/octet-stream")
	s.w.Header().Set("Trailer", streamField)
	s.w.WriteHeader(http.StatusOK)
}
