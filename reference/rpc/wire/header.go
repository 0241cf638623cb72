package wire

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"strconv"

	"github.com/cloudwego/gopkg/protocol/ttheader"

	"github.com/assay-bench/assay/reference/defect"
)

// PreambleSize is how many bytes of a TTHeader frame come before its variable part.
const PreambleSize = ttheader.TTHeaderMetaSize

// Keys of the TTHeader maps that a server reads or writes.
const (
	IntKeyRPCTimeout  = uint16(12) // decimal milliseconds
	IntKeyMessageType = uint16(22) // decimal Thrift message type
	StrKeyService     = "isn"      // IDL service name
	StrKeyChecksum    = "crc32c"   // 8 hex digits over the payload
	StrKeyACLToken    = ttheader.GDPRToken
)

// castagnoli is the table of CRC-32C; it is never written to.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Preamble is the fixed part of a TTHeader frame.
type Preamble struct {
	Length     uint32 // bytes after the LENGTH field
	Flags      uint16
	Seq        int32
	HeaderSize int // bytes from the start of the frame to the payload
}

// PayloadSize returns how many payload bytes LENGTH leaves; negative if the header is larger.
func (p Preamble) PayloadSize() int { return int(p.Length) + 4 - p.HeaderSize }

// ReadPreamble reads the first PreambleSize bytes of a TTHeader frame. It does not judge Length
// against the limit; see Rules.CheckLength. The multiplication is done in int: 0x4001 words are
// 65 540 bytes.
func ReadPreamble(b []byte, rules Rules) (Preamble, error) {
	if len(b) < PreambleSize {
		return Preamble{}, refuse(ReasonTruncated, "preamble of %d bytes", len(b))
	}
	words := int(binary.BigEndian.Uint16(b[12:]))
	p := Preamble{
		Length:     binary.BigEndian.Uint32(b),
		Flags:      binary.BigEndian.Uint16(b[6:]),
		Seq:        int32(binary.BigEndian.Uint32(b[8:])),
		HeaderSize: PreambleSize + 4*words,
	}
	if words == 0 && !rules.Defects.On(defect.HeaderSizeZeroServed) {
		return p, refuse(ReasonHeaderSize, "header of no words")
	}
	if p.PayloadSize() < 0 && !rules.Defects.On(defect.LengthIgnored) {
		return p, refuse(ReasonHeaderBeyond, "header of %d bytes in a frame of %d", p.HeaderSize, uint64(p.Length)+4)
	}
	return p, nil
}

// Header is a decoded TTHeader. Its maps may be nil.
type Header struct {
	Preamble
	Int map[uint16]string
	Str map[string]string // string keys; the ACL token is under StrKeyACLToken
}

// ReadHeader decodes the first p.HeaderSize bytes of a frame. It may overwrite b where a planted
// defect makes it forget parts.
func ReadHeader(p Preamble, b []byte, rules Rules) (Header, error) {
	h := Header{Preamble: p}
	if p.HeaderSize == PreambleSize {
		return h, nil // only with HeaderSizeZeroServed
	}
	if len(b) < p.HeaderSize || p.HeaderSize < PreambleSize+4 {
		return h, refuse(ReasonTruncated, "header of %d bytes, %d there", p.HeaderSize, len(b))
	}
	b = b[:p.HeaderSize]
	if err := checkProtocolID(b, rules); err != nil {
		return h, err
	}
	// gopkg reads transform ids and throws them away; a transformed payload would be taken as plain.
	if b[15] != 0 && !rules.Defects.On(defect.TransformIgnored) {
		return h, refuse(ReasonTransform, "%d transforms", b[15])
	}
	if err := plantInfoDefects(b, rules.Defects); err != nil {
		return h, err
	}
	decoded, err := ttheader.DecodeFromBytes(context.Background(), b)
	if err != nil {
		return h, refuse(ReasonInfo, "info blocks of %d bytes", p.HeaderSize-PreambleSize-2)
	}
	h.Int, h.Str = decoded.IntInfo, decoded.StrInfo
	return h, nil
}

// checkProtocolID accepts Thrift binary alone: the other known ids have no codec here.
func checkProtocolID(b []byte, rules Rules) error {
	if b[14] == byte(ttheader.ProtocolIDThriftBinary) {
		return nil
	}
	if !rules.Defects.On(defect.ProtocolIDIgnored) {
		return refuse(ReasonProtocolID, "protocol id %#02x", b[14])
	}
	b[14] = byte(ttheader.ProtocolIDThriftBinary)
	return nil
}

// CheckPayload compares the header's crc32c, if there is one, with the payload's CRC-32C.
func (h *Header) CheckPayload(payload []byte) error {
	text, ok := h.Str[StrKeyChecksum]
	if !ok {
		return nil
	}
	claimed, err := strconv.ParseUint(text, 16, 32)
	if err != nil || len(text) != 8 {
		return refuse(ReasonChecksum, "checksum of %d characters is not 8 hex digits", len(text))
	}
	if sum := crc32.Checksum(payload, castagnoli); sum != uint32(claimed) {
		return refuse(ReasonChecksum, "crc32c is %08x, claimed %08x", sum, claimed)
	}
	return nil
}

// AppendReplyHeader appends a TTHeader whose only entry is the message type, as servers of the family
// send it. LENGTH is left zero: see PutLength.
func AppendReplyHeader(dst []byte, seq, messageType int32) []byte {
	dst = append(dst, 0, 0, 0, 0, byte(magicTTHeader>>8), byte(magicTTHeader&0xff), 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, uint32(seq))
	return append(dst, 0, 3, // three words follow
		byte(ttheader.ProtocolIDThriftBinary), 0,
		byte(ttheader.InfoIDIntKeyValue), 0, 1, 0, byte(IntKeyMessageType), 0, 1, '0'+byte(messageType),
		0, 0)
}

// PutLength writes the number of bytes after the length field into it.
func PutLength(frame []byte) { binary.BigEndian.PutUint32(frame, uint32(len(frame)-4)) }
