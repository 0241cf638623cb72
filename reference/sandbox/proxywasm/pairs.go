package proxywasm

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// pair is one field of a header map. Keys are in lower case.
type pair struct{ key, value string }

// maxPairs bounds a header map. Beside maxFieldBytes it keeps the cost of one map small.
const maxPairs = 1024

var (
	errTruncated    = errors.New("truncated")
	errTooManyPairs = errors.New("too many pairs")
)

// codec writes and reads header maps (Proxy-Wasm 0.2.1, Serialization): a 32-bit count, the lengths of
// key and value of each pair, then key and value, each followed by a zero byte.
type codec struct {
	order   binary.ByteOrder
	lenient bool // a truncated map is taken as far as it goes: a planted defect
}

// size is the length of the encoding of pairs; an empty map has none.
func (codec) size(pairs []pair) int {
	if len(pairs) == 0 {
		return 0
	}
	n := 4
	for _, p := range pairs {
		n += 8 + len(p.key) + 1 + len(p.value) + 1
	}
	return n
}

// encode returns the encoding of pairs, nil for an empty map.
func (c codec) encode(pairs []pair) []byte {
	if len(pairs) == 0 {
		return nil
	}
	out := make([]byte, 4+8*len(pairs), c.size(pairs))
	c.order.PutUint32(out, uint32(len(pairs)))
	for i, p := range pairs {
		c.order.PutUint32(out[4+8*i:], uint32(len(p.key)))
		c.order.PutUint32(out[8+8*i:], uint32(len(p.value)))
	}
	for _, p := range pairs {
		out = append(append(out, p.key...), 0)
		out = append(append(out, p.value...), 0)
	}
	return out
}

// decode reads a whole map. Both empty forms of the ABI, no bytes and a single zero byte, are an empty
// map. It allocates no more than a small multiple of len(data); errors name the pair and the offset.
func (c codec) decode(data []byte) ([]pair, error) {
	if len(data) == 0 || len(data) == 1 && data[0] == 0 {
		return nil, nil
	}
	if len(data) < 4 {
		return c.cut(nil, fmt.Errorf("header map: count at offset 0: %w", errTruncated))
	}
	count := uint64(c.order.Uint32(data))
	if count > maxPairs {
		return nil, fmt.Errorf("header map: count %d: %w", count, errTooManyPairs)
	}
	at := 4 + 8*count
	if at > uint64(len(data)) {
		return c.cut(nil, fmt.Errorf("header map: lengths of %d pairs: %w", count, errTruncated))
	}
	pairs := make([]pair, 0, count)
	for i := range count {
		lengths := data[4+8*i:]
		key, next, err := terminated(data, at, c.order.Uint32(lengths))
		if err != nil {
			return c.cut(pairs, fmt.Errorf("header map: key of pair %d: %w", i, err))
		}
		value, end, err := terminated(data, next, c.order.Uint32(lengths[4:]))
		if err != nil {
			return c.cut(pairs, fmt.Errorf("header map: value of pair %d: %w", i, err))
		}
		pairs, at = append(pairs, pair{key, value}), end
	}
	if at != uint64(len(data)) {
		return c.cut(pairs, fmt.Errorf("header map: %d bytes left after the last pair", uint64(len(data))-at))
	}
	return pairs, nil
}

// terminated reads n bytes at offset at and the zero byte behind them.
func terminated(data []byte, at uint64, n uint32) (text string, next uint64, err error) {
	end := at + uint64(n)
	if end >= uint64(len(data)) {
		return "", 0, fmt.Errorf("%d bytes at offset %d: %w", n, at, errTruncated)
	}
	if data[end] != 0 {
		return "", 0, fmt.Errorf("no zero byte at offset %d", end)
	}
	return string(data[at:end]), end + 1, nil
}

// cut is the result for a map that ends early.
func (c codec) cut(pairs []pair, err error) ([]pair, error) {
	if c.lenient {
		return pairs, nil
	}
	return nil, err
}
