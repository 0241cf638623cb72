package ngram

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"github.com/assay-bench/assay/models/modelfile"
	"github.com/assay-bench/assay/models/text"
)

// known is the n-grams of the training texts with their inverse document frequency: open addressing by the low bits
// of the hash, told apart by the high ones. It implements text.Weights.
type known struct {
	slots []slot
	mask  uint64
	list  []entry // ascending by hash
}

type slot struct {
	high uint32 // of the hash; the slot is empty where idf is 0
	idf  float32
}

type entry struct {
	hash uint64
	idf  float32
}

// count computes ln((N+1)/(df+1)) + 1 over the texts.
func count(examples []Example) *known {
	df := map[uint64]int{}
	last := map[uint64]int{}
	var scratch []byte
	for i, x := range examples {
		scratch = text.EachHash(x.Text, scratch, func(h uint64) {
			if last[h] != i+1 {
				last[h] = i + 1
				df[h]++
			}
		})
	}
	list := make([]entry, 0, len(df))
	for h, n := range df {
		list = append(list, entry{h, float32(math.Log(float64(len(examples)+1)/float64(n+1)) + 1)})
	}
	slices.SortFunc(list, func(a, b entry) int { return cmp.Compare(a.hash, b.hash) })
	return index(list)
}

func index(list []entry) *known {
	size := 1 << (bits.Len(uint(len(list))) + 1)
	k := &known{slots: make([]slot, size), mask: uint64(size - 1), list: list}
	for _, e := range list {
		i := e.hash & k.mask
		for k.slots[i].idf != 0 {
			i = (i + 1) & k.mask
		}
		k.slots[i] = slot{uint32(e.hash >> 32), e.idf}
	}
	return k
}

// Weight returns the idf of a feature, ok is false for one that training did not see.
func (k *known) Weight(hash uint64) (float32, bool) {
	for i := hash & k.mask; ; i = (i + 1) & k.mask {
		switch s := k.slots[i]; {
		case s.idf == 0:
			return 0, false
		case s.high == uint32(hash>>32):
			return s.idf, true
		}
	}
}

// sections returns the list as two sections of a model file.
func (k *known) sections() []modelfile.Section {
	var hashes, idf []byte
	for _, e := range k.list {
		hashes = binary.LittleEndian.AppendUint64(hashes, e.hash)
		idf = binary.LittleEndian.AppendUint32(idf, math.Float32bits(e.idf))
	}
	return []modelfile.Section{{Name: "hashes", Bytes: hashes}, {Name: "idf", Bytes: idf}}
}

func decodeKnown(hashes, idf []byte) (*known, error) {
	n := len(hashes) / 8
	if len(hashes) != 8*n || len(idf) != 4*n {
		return nil, fmt.Errorf("%w: %d bytes of hashes and %d of idf do not fit each other", modelfile.ErrFormat, len(hashes), len(idf))
	}
	list := make([]entry, n)
	for i := range list {
		list[i] = entry{binary.LittleEndian.Uint64(hashes[8*i:]), math.Float32frombits(binary.LittleEndian.Uint32(idf[4*i:]))}
		if i > 0 && list[i].hash <= list[i-1].hash || !(list[i].idf > 0 && list[i].idf < 100) {
			return nil, fmt.Errorf("%w: feature %d has hash %x and idf %v", modelfile.ErrFormat, i, list[i].hash, list[i].idf)
		}
	}
	return index(list), nil
}
