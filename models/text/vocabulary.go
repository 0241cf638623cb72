package text

import (
	"errors"
	"fmt"
	"math/bits"
	"strings"
	"unicode/utf8"
)

// ErrVocabulary is wrapped by the errors of NewVocabulary.
var ErrVocabulary = errors.New("not a word-piece vocabulary")

// continuation marks a piece that goes on with a word.
const continuation = "##"

// Vocabulary is the pieces of a WordPiece model as two tries over bytes: pieces that begin a word and pieces that
// go on with one. It is immutable.
type Vocabulary struct {
	size    int
	unknown int32
	single  [utf8.RuneSelf]int32 // the piece of a character that is a word of its own
	token   []int32              // by node: the id of the piece that ends here, -1 none
	edges   edgeTable
}

// The two roots.
const (
	rootFirst = iota
	rootNext
)

// NewVocabulary indexes pieces: the id of a piece is its index. Empty and double pieces are refused, and so is a
// vocabulary without [UNK].
func NewVocabulary(pieces []string) (*Vocabulary, error) {
	v := &Vocabulary{size: len(pieces), unknown: -1, token: []int32{-1, -1}, edges: newEdgeTable(4 * len(pieces))}
	for id, p := range pieces {
		if p == "[UNK]" {
			v.unknown = int32(id)
		}
		if err := v.insert(p, id); err != nil {
			return nil, err
		}
	}
	if v.unknown < 0 {
		return nil, fmt.Errorf("%w: no [UNK] among %d pieces", ErrVocabulary, len(pieces))
	}
	for c := range v.single {
		v.single[c] = v.unknown
		if id, length := v.longest(rootFirst, []byte{byte(c)}); length > 0 {
			v.single[c] = id
		}
	}
	return v, nil
}

// Size returns the number of pieces.
func (v *Vocabulary) Size() int { return v.size }

// Find returns the id of a piece.
func (v *Vocabulary) Find(piece string) (id int32, there bool) {
	root, rest := int32(rootFirst), piece
	if after, ok := strings.CutPrefix(piece, continuation); ok && after != "" {
		root, rest = rootNext, after
	}
	id, length := v.longest(root, []byte(rest))
	return id, length == len(rest) && length > 0
}

func (v *Vocabulary) insert(piece string, id int) error {
	root, rest := int32(rootFirst), piece
	if after, ok := strings.CutPrefix(piece, continuation); ok && after != "" {
		root, rest = rootNext, after
	}
	if rest == "" {
		return fmt.Errorf("%w: piece %d is empty", ErrVocabulary, id)
	}
	node := root
	for i := range len(rest) {
		next, ok := v.edges.get(node, rest[i])
		if !ok {
			next = int32(len(v.token))
			v.token = append(v.token, -1)
			v.edges.put(node, rest[i], next)
		}
		node = next
	}
	if v.token[node] >= 0 {
		return fmt.Errorf("%w: piece %d %q stands at %d already", ErrVocabulary, id, piece, v.token[node])
	}
	v.token[node] = int32(id)
	return nil
}

// longest returns the longest piece that word begins with, of the kind that root stands for.
func (v *Vocabulary) longest(root int32, word []byte) (id int32, length int) {
	id, node := -1, root
	for i, c := range word {
		next, ok := v.edges.get(node, c)
		if !ok {
			break
		}
		node = next
		if t := v.token[node]; t >= 0 {
			id, length = t, i+1
		}
	}
	return id, length
}

// edgeTable maps (node, byte) to a node: open addressing, linear probing, at most half full.
type edgeTable struct {
	slots []edge
	used  int
	shift int
}

type edge struct {
	key  uint32 // node<<8 | byte, plus 1: 0 is an empty slot
	node int32
}

func newEdgeTable(n int) edgeTable {
	size := max(bits.Len(uint(n))+1, 4)
	return edgeTable{slots: make([]edge, 1<<size), shift: 32 - size}
}

func (e *edgeTable) get(node int32, c byte) (int32, bool) {
	key := uint32(node)<<8 | uint32(c) + 1
	for i := key * 0x9e3779b1 >> e.shift; ; i = (i + 1) & uint32(len(e.slots)-1) {
		switch s := e.slots[i]; s.key {
		case key:
			return s.node, true
		case 0:
			return 0, false
		}
	}
}

func (e *edgeTable) put(node int32, c byte, next int32) {
	if 2*(e.used+1) > len(e.slots) {
		e.grow()
	}
	e.used++
	key := uint32(node)<<8 | uint32(c) + 1
	i := key * 0x9e3779b1 >> e.shift
	for e.slots[i].key != 0 {
		i = (i + 1) & uint32(len(e.slots)-1)
	}
	e.slots[i] = edge{key, next}
}

func (e *edgeTable) grow() {
	old := e.slots
	*e = edgeTable{slots: make([]edge, 2*len(old)), shift: e.shift - 1}
	for _, s := range old {
		if s.key != 0 {
			e.put(int32((s.key-1)>>8), byte(s.key-1), s.node)
		}
	}
}
