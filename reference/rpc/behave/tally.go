package behave

import (
	"container/list"
	"crypto/sha256"
	"sync"
)

// maxTags bounds the tags that are counted; the least recently used is forgotten.
const maxTags = 1 << 16

// tally counts by tag in bounded memory.
type tally struct {
	mu    sync.Mutex
	limit int
	byTag map[string]*list.Element
	order list.List // of *entry, the most recently used in front
}

type entry struct {
	tag string
	n   int64
}

func newTally(limit int) *tally {
	return &tally{limit: limit, byTag: make(map[string]*list.Element)}
}

// maxTagBytes is the longest tag that is kept as it is.
const maxTagBytes = 128

// bounded returns tag, or a digest in place of a long one, so that a tag's length is no lever on
// the server's memory.
func bounded(tag []byte) []byte {
	if len(tag) <= maxTagBytes {
		return tag
	}
	sum := sha256.Sum256(tag)
	return append(sum[:], make([]byte, maxTagBytes)...) // longer than any tag kept as it is
}

func (t *tally) add(tag []byte) {
	tag = bounded(tag)
	t.mu.Lock()
	defer t.mu.Unlock()
	if e, ok := t.byTag[string(tag)]; ok {
		e.Value.(*entry).n++
		t.order.MoveToFront(e)
		return
	}
	if len(t.byTag) >= t.limit {
		oldest := t.order.Back()
		delete(t.byTag, t.order.Remove(oldest).(*entry).tag)
	}
	t.byTag[string(tag)] = t.order.PushFront(&entry{tag: string(tag), n: 1})
}

func (t *tally) get(tag []byte) int64 {
	tag = bounded(tag)
	t.mu.Lock()
	defer t.mu.Unlock()
	if e, ok := t.byTag[string(tag)]; ok {
		return e.Value.(*entry).n
	}
	return 0
}
