package ttheader

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
)

// Options changes how a frame is laid out, up to malforming it. The zero value writes what a good peer
// does: blocks 0x11, 0x01, 0x10, those without content left out, keys ascending, no more padding than
// needed, every length correct.
type Options struct {
	Blocks   []byte   // order of the blocks; one named here is written even without content, one not named is left out
	IntOrder []uint16 // int keys to write first, in this order; the others follow ascending
	StrOrder []string // string keys to write first, in this order; the others follow ascending
	Between  int      // zero bytes before each block
	Trailing int      // zero bytes after the last block, before those that fill the word
	RawInfo  []byte   // written after the last block as it is: an unknown block, a broken one

	// Claims that replace the true number.
	Length     *uint32
	Words      *uint16
	Transforms *byte
	IntCount   *uint16
	StrCount   *uint16
}

// Rewrite returns the options that lay a header out as the decoded frame was. Padding between blocks is
// lost, since only its sum is known, and so is the repetition of a block.
func (l Layout) Rewrite() Options {
	o := Options{IntOrder: l.IntOrder, StrOrder: l.StrOrder}
	for _, id := range l.Blocks {
		if !slices.Contains(o.Blocks, id) { // at most three ids are ever decoded
			o.Blocks = append(o.Blocks, id)
		}
	}
	return o
}

// Encode writes one frame. It fails only if a number cannot be expressed: a string above 65 535 bytes, more
// than 65 535 keys, more than 255 transforms, a header above 262 140 bytes.
func Encode(h Header, payload []byte, o Options) ([]byte, error) {
	info, err := encodeInfo(h, o)
	if err != nil {
		return nil, err
	}
	words := len(info) / wordSize
	if words > maxWords {
		return nil, fmt.Errorf("ttheader: header of %d words, at most %d fit", words, maxWords)
	}
	size := uint16(words)
	if o.Words != nil {
		size = *o.Words
	}
	length := uint32(fixedSize - 4 + len(info) + len(payload))
	if o.Length != nil {
		length = *o.Length
	}
	b := make([]byte, 0, fixedSize+len(info)+len(payload))
	b = binary.BigEndian.AppendUint32(b, length)
	b = binary.BigEndian.AppendUint16(b, magic)
	b = binary.BigEndian.AppendUint16(b, h.Flags)
	b = binary.BigEndian.AppendUint32(b, uint32(h.Seq))
	b = binary.BigEndian.AppendUint16(b, size)
	b = append(b, info...)
	return append(b, payload...), nil
}

// encodeInfo writes the bytes that the header size counts.
func encodeInfo(h Header, o Options) ([]byte, error) {
	if len(h.Transforms) > 255 {
		return nil, fmt.Errorf("ttheader: %d transforms, at most 255 fit", len(h.Transforms))
	}
	count := byte(len(h.Transforms))
	if o.Transforms != nil {
		count = *o.Transforms
	}
	b := append([]byte{h.ProtocolID, count}, h.Transforms...)
	for _, id := range blocks(h, o) {
		b = append(b, make([]byte, o.Between)...)
		var err error
		switch id {
		case InfoStrings:
			b, err = appendStrings(b, h.StrKeys, o)
		case InfoInts:
			b, err = appendInts(b, h.IntKeys, o)
		case InfoACL:
			b, err = appendString(append(b, InfoACL), h.ACLToken)
		default:
			err = fmt.Errorf("ttheader: no content for block %#02x: use RawInfo", id)
		}
		if err == nil && len(b) > maxWords*wordSize { // checked here too, so that repeated blocks cannot pile up
			err = fmt.Errorf("ttheader: header above %d bytes", maxWords*wordSize)
		}
		if err != nil {
			return nil, err
		}
	}
	b = append(b, o.RawInfo...)
	b = append(b, make([]byte, o.Trailing)...)
	for len(b)%wordSize != 0 {
		b = append(b, 0)
	}
	return b, nil
}

func blocks(h Header, o Options) []byte {
	if o.Blocks != nil {
		return o.Blocks
	}
	var ids []byte
	if h.ACLToken != "" {
		ids = append(ids, InfoACL)
	}
	if len(h.StrKeys) > 0 {
		ids = append(ids, InfoStrings)
	}
	if len(h.IntKeys) > 0 {
		ids = append(ids, InfoInts)
	}
	return ids
}

func appendStrings(b []byte, keys map[string]string, o Options) ([]byte, error) {
	b, err := appendCount(append(b, InfoStrings), len(keys), o.StrCount)
	for _, k := range order(keys, o.StrOrder) {
		if err == nil {
			b, err = appendString(b, k)
		}
		if err == nil {
			b, err = appendString(b, keys[k])
		}
	}
	return b, err
}

func appendInts(b []byte, keys map[uint16]string, o Options) ([]byte, error) {
	b, err := appendCount(append(b, InfoInts), len(keys), o.IntCount)
	for _, k := range order(keys, o.IntOrder) {
		if err == nil {
			b, err = appendString(binary.BigEndian.AppendUint16(b, k), keys[k])
		}
	}
	return b, err
}

// order lists the keys of m: those wanted first, then the rest ascending, each once.
func order[K uint16 | string](m map[K]string, first []K) []K {
	keys := make([]K, 0, len(m))
	seen := make(map[K]bool, len(m))
	for _, k := range append(slices.Clone(first), slices.Sorted(maps.Keys(m))...) {
		if _, ok := m[k]; ok && !seen[k] {
			seen[k] = true
			keys = append(keys, k)
		}
	}
	return keys
}

func appendCount(b []byte, n int, claim *uint16) ([]byte, error) {
	if claim != nil {
		return binary.BigEndian.AppendUint16(b, *claim), nil
	}
	if n > 65535 {
		return nil, fmt.Errorf("ttheader: %d keys, at most 65535 fit", n)
	}
	return binary.BigEndian.AppendUint16(b, uint16(n)), nil
}

func appendString(b []byte, s string) ([]byte, error) {
	if len(s) > maxString {
		return nil, fmt.Errorf("ttheader: string of %d bytes, at most %d fit", len(s), maxString)
	}
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...), nil
}
