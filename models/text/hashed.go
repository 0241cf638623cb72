// Package text turns text into bags of features: ids in ascending order, each once, and a weight each. It does not
// know what the features mean, holds no embeddings and bounds no length; time and memory are linear in the text.
package text

import (
	"math"
	"math/bits"
)

// Bag is a text as its features. IDs ascend strictly; Weights has the same length and norm 1. Both belong to the
// featurizer and are valid until its next call.
type Bag struct {
	IDs     []int64
	Weights []float32
}

// FNV-1a, 64 bits (draft-eastlake-fnv).
const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

func fnv(h uint64, s []byte) uint64 {
	for _, c := range s {
		h = (h ^ uint64(c)) * fnvPrime
	}
	return h
}

// The hash after the two bytes that begin each kind of feature.
var (
	hashOfWord = fnv(fnvOffset, []byte("u:"))
	hashOfPair = fnv(fnvOffset, []byte("b:"))
	hashOfPart = fnv(fnvOffset, []byte("c:"))
)

// finish mixes the high half into the low one, which the buckets are taken from.
func finish(h uint64) uint64 { return h ^ h>>32 }

// EachHash calls yield with the folded 64-bit FNV-1a hash of each feature of text, in order, repeats included:
// "u:w" of each word w, "b:w1_w2" of each pair of neighbours, "c:…" of each run of 3 to 5 bytes of "<w>". Words
// are the runs of a-z, 0-9 and apostrophe after lower-casing A-Z; every other byte parts words, so that letters
// of other scripts have no features. scratch is reused and returned.
func EachHash(text string, scratch []byte, yield func(uint64)) []byte {
	word, pair := scratch[:0], uint64(0)
	for i := 0; i <= len(text); i++ {
		if i < len(text) {
			if c := wordByte[text[i]]; c != 0 {
				if len(word) == 0 {
					word = append(word, '<')
				}
				word = append(word, c)
				continue
			}
		}
		if len(word) > 0 {
			word = append(word, '>')
			pair = eachOfWord(word, pair, yield)
			word = word[:0]
		}
	}
	return word
}

// eachOfWord yields the features of marked = "<word>" and returns the hash that a pair with the next word goes on
// from. before is that of the word before, 0 if there is none.
func eachOfWord(marked []byte, before uint64, yield func(uint64)) uint64 {
	word := marked[1 : len(marked)-1]
	yield(finish(fnv(hashOfWord, word)))
	if before != 0 {
		yield(finish(fnv(before, word)))
	}
	for i := 0; i+3 <= len(marked); i++ {
		h := fnv(hashOfPart, marked[i:i+2])
		for j := i + 2; j < len(marked) && j < i+5; j++ {
			h = (h ^ uint64(marked[j])) * fnvPrime
			yield(finish(h))
		}
	}
	return (fnv(hashOfPair, word) ^ '_') * fnvPrime
}

// wordByte maps a byte to what it is in a word, 0 if it parts words.
var wordByte = func() (t [256]byte) {
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = byte(c), byte(c)
	}
	for c := '0'; c <= '9'; c++ {
		t[c] = byte(c)
	}
	t['\''] = '\''
	return t
}()

// Weights tells the weight of one occurrence of a feature by its folded hash; ok is false for a feature that
// training did not see.
type Weights interface {
	Weight(hash uint64) (w float32, ok bool)
}

// Hashed makes bags of hashed n-grams: id is hash modulo buckets. It is scratch of one goroutine.
type Hashed struct {
	buckets uint64
	mask    uint64 // buckets-1 where that is a power of two: a division is slower than the hash
	weights Weights
	sum     accumulator
	scratch []byte
	add     func(uint64)
}

// NewHashed returns a featurizer with that many buckets (at least 1). With nil weights every feature is known and
// has weight 1.
func NewHashed(buckets int, weights Weights) *Hashed {
	h := &Hashed{buckets: uint64(buckets), weights: weights, sum: newAccumulator(buckets)}
	if buckets&(buckets-1) == 0 {
		h.mask = h.buckets - 1
	}
	h.add = h.addHash
	return h
}

func (h *Hashed) addHash(hash uint64) {
	w := float32(1)
	if h.weights != nil {
		var ok bool
		if w, ok = h.weights.Weight(hash); !ok {
			return
		}
	}
	if h.mask != 0 {
		h.sum.add(int(hash&h.mask), w)
		return
	}
	h.sum.add(int(hash%h.buckets), w)
}

// Bag returns the features of text, with norm 1.
func (h *Hashed) Bag(text string) Bag {
	h.scratch = EachHash(text, h.scratch, h.add)
	return h.sum.take()
}

// accumulator sums weights by id and gives them back in ascending order of the ids without a sort: a bitmap
// remembers which were touched.
type accumulator struct {
	weight []float32
	seen   []uint64
	bag    Bag
}

func newAccumulator(n int) accumulator {
	return accumulator{weight: make([]float32, n), seen: make([]uint64, (n+63)/64)}
}

func (a *accumulator) add(id int, w float32) {
	a.seen[id/64] |= 1 << (id % 64)
	a.weight[id] += w
}

// take returns the sums with norm 1 and empties the accumulator.
func (a *accumulator) take() Bag {
	a.bag.IDs, a.bag.Weights = a.bag.IDs[:0], a.bag.Weights[:0]
	var squares float64
	for i, word := range a.seen {
		for ; word != 0; word &= word - 1 {
			id := i*64 + bits.TrailingZeros64(word)
			w := a.weight[id]
			squares += float64(w) * float64(w)
			a.bag.IDs, a.bag.Weights = append(a.bag.IDs, int64(id)), append(a.bag.Weights, w)
			a.weight[id] = 0
		}
		a.seen[i] = 0
	}
	scale := float32(1 / math.Sqrt(squares))
	for i := range a.bag.Weights {
		a.bag.Weights[i] *= scale
	}
	return a.bag
}
