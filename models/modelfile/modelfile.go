// Package modelfile reads and writes the file of a text model: tokenizer, weights and table as one version, so that
// no part of it can be exchanged unnoticed. It does not know what the sections mean.
//
// A file is the magic "assaymdl", the length of the header as a little-endian uint32, the header as JSON, and the
// sections one after the other. The header names the length and the SHA-256 of each.
package modelfile

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
)

// What a file may be at most.
const (
	MaxBytes       = 256 << 20
	maxHeaderBytes = 1 << 20
	magic          = "assaymdl"
)

// Errors of Decode.
var (
	ErrFormat   = errors.New("not a model file")
	ErrMismatch = errors.New("section is not the one of this version")
)

// Meta says what a model is.
type Meta struct {
	Kind       string            `json:"kind"` // which package reads the sections
	Name       string            `json:"name"`
	Version    string            `json:"version"`
	Attributes map[string]string `json:"attributes"` // teacher, licence, parameters: for people and for checks of the reader
}

// Section is a named part of a file.
type Section struct {
	Name  string
	Bytes []byte
}

// File is a decoded file. Sections alias the bytes that were decoded.
type File struct {
	Meta
	Digest   string // hex SHA-256 of the whole file
	Sections []Section
}

// Section returns the bytes of a section; a missing one is an error that wraps ErrFormat.
func (f *File) Section(name string) ([]byte, error) {
	for _, s := range f.Sections {
		if s.Name == name {
			return s.Bytes, nil
		}
	}
	return nil, fmt.Errorf("%w: no section %q", ErrFormat, name)
}

type header struct {
	Meta
	Sections []sectionHeader `json:"sections"`
}

type sectionHeader struct {
	Name   string `json:"name"`
	Bytes  int    `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// Encode returns the file; equal arguments give equal bytes.
func Encode(m Meta, sections []Section) ([]byte, error) {
	m.Attributes = maps.Clone(m.Attributes)
	h := header{Meta: m}
	for _, s := range sections {
		h.Sections = append(h.Sections, sectionHeader{s.Name, len(s.Bytes), digest(s.Bytes)})
	}
	head, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	b := binary.LittleEndian.AppendUint32([]byte(magic), uint32(len(head)))
	b = append(b, head...)
	for _, s := range sections {
		b = append(b, s.Bytes...)
	}
	return b, nil
}

// Decode reads a file of the given kind. Errors wrap ErrFormat, or ErrMismatch if a section's bytes are not those
// that the header was written for.
func Decode(b []byte, kind string) (*File, error) {
	h, rest, err := decodeHeader(b)
	if err != nil {
		return nil, err
	}
	if h.Kind != kind {
		return nil, fmt.Errorf("%w: kind %q, want %q", ErrFormat, h.Kind, kind)
	}
	f := &File{Meta: h.Meta, Digest: digest(b)}
	for _, s := range h.Sections {
		if s.Bytes < 0 || s.Bytes > len(rest) {
			return nil, fmt.Errorf("%w: section %q of %d bytes, %d are left", ErrFormat, s.Name, s.Bytes, len(rest))
		}
		if got := digest(rest[:s.Bytes]); got != s.SHA256 {
			return nil, fmt.Errorf("%s %s: %w: %q has SHA-256 %s, want %.64s", h.Name, h.Version, ErrMismatch, s.Name, got, s.SHA256)
		}
		f.Sections = append(f.Sections, Section{s.Name, rest[:s.Bytes:s.Bytes]})
		rest = rest[s.Bytes:]
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%w: %d bytes after the last section", ErrFormat, len(rest))
	}
	return f, nil
}

func decodeHeader(b []byte) (h header, rest []byte, err error) {
	if len(b) > MaxBytes {
		return h, nil, fmt.Errorf("%w: %d bytes, at most %d", ErrFormat, len(b), MaxBytes)
	}
	rest, ok := bytes.CutPrefix(b, []byte(magic))
	if !ok || len(rest) < 4 {
		return h, nil, fmt.Errorf("%w: it does not begin with %q and a length", ErrFormat, magic)
	}
	n := int(binary.LittleEndian.Uint32(rest))
	rest = rest[4:]
	if n > maxHeaderBytes || n > len(rest) {
		return h, nil, fmt.Errorf("%w: header of %d bytes, %d are left", ErrFormat, n, len(rest))
	}
	d := json.NewDecoder(bytes.NewReader(rest[:n]))
	d.DisallowUnknownFields()
	if err := d.Decode(&h); err != nil {
		return h, nil, fmt.Errorf("%w: header: %w", ErrFormat, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return h, nil, fmt.Errorf("%w: header: more than one value", ErrFormat)
	}
	return h, rest[n:], nil
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
