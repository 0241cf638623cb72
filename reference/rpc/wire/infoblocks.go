package wire

import (
	"encoding/binary"

	"github.com/cloudwego/gopkg/protocol/ttheader"

	"github.com/assay-bench/assay/reference/defect"
)

// infoBlock is one block of a TTHeader as it lies in the header.
type infoBlock struct {
	id         byte
	start, end int // offsets in the frame
	padding    int // 0x00 bytes in front of it
}

// infoBlocks splits a header into its blocks. It stops in front of the first block that it cannot
// walk over; rest is where, or len(b). Only planted defects need it: gopkg does the decoding.
func infoBlocks(b []byte) (blocks []infoBlock, rest int) {
	at := PreambleSize + 2 + int(b[15])
	padding := 0
	for at < len(b) {
		if b[at] == byte(ttheader.InfoIDPadding) {
			at, padding = at+1, padding+1
			continue
		}
		end, ok := blockEnd(b, at)
		if !ok {
			return blocks, at
		}
		blocks = append(blocks, infoBlock{id: b[at], start: at, end: end, padding: padding})
		at, padding = end, 0
	}
	return blocks, len(b)
}

func blockEnd(b []byte, at int) (int, bool) {
	id := ttheader.InfoIDType(b[at])
	at++
	switch id {
	case ttheader.InfoIDACLToken:
		return stringEnd(b, at)
	case ttheader.InfoIDKeyValue, ttheader.InfoIDIntKeyValue:
	default:
		return 0, false
	}
	if at+2 > len(b) {
		return 0, false
	}
	count := int(binary.BigEndian.Uint16(b[at:]))
	at += 2
	var ok bool
	for range count {
		if id == ttheader.InfoIDIntKeyValue {
			at += 2
		} else if at, ok = stringEnd(b, at); !ok {
			return 0, false
		}
		if at, ok = stringEnd(b, at); !ok {
			return 0, false
		}
	}
	return at, true
}

// stringEnd returns the offset behind a string with a 2-byte length.
func stringEnd(b []byte, at int) (int, bool) {
	if at+2 > len(b) {
		return 0, false
	}
	end := at + 2 + int(binary.BigEndian.Uint16(b[at:]))
	return end, end <= len(b)
}

// plantInfoDefects refuses or blanks parts of the header as the planted defects ask. Blanked bytes
// become padding.
func plantInfoDefects(b []byte, defects defect.Set) error {
	skip, fixed := defects.On(defect.InfoIDSkipped), defects.On(defect.InfoOrderFixed)
	first, tight := defects.On(defect.InfoFirstBlockOnly), defects.On(defect.PaddingRejected)
	if !skip && !fixed && !first && !tight {
		return nil
	}
	blocks, rest := infoBlocks(b)
	if tight && hasWidePadding(blocks, rest) {
		return refuse(ReasonInfo, "padding between info blocks")
	}
	if fixed && !inUsualOrder(blocks) {
		return refuse(ReasonInfo, "info blocks out of order")
	}
	if skip {
		clear(b[rest:])
	}
	if first && len(blocks) > 0 {
		clear(b[blocks[0].end:])
	}
	return nil
}

// hasWidePadding reports more padding than alignment needs, between blocks or behind the last.
func hasWidePadding(blocks []infoBlock, rest int) bool {
	end := rest
	for _, b := range blocks {
		if b.padding > 3 {
			return true
		}
		end = b.end
	}
	return rest-end > 3
}

// inUsualOrder reports whether blocks come in the order that encoders of the family write:
// ACL token, string keys, int keys.
func inUsualOrder(blocks []infoBlock) bool {
	rank := map[byte]int{
		byte(ttheader.InfoIDACLToken):    1,
		byte(ttheader.InfoIDKeyValue):    2,
		byte(ttheader.InfoIDIntKeyValue): 3,
	}
	last := 0
	for _, b := range blocks {
		if rank[b.id] < last {
			return false
		}
		last = rank[b.id]
	}
	return true
}
