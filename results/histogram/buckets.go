package histogram

import "iter"

// Buckets yields every bucket in use, rising: the duration in its middle, in nanoseconds, and how many
// values it holds. The counts add up to Count.
func (h *Histogram) Buckets() iter.Seq2[int64, int64] {
	return func(yield func(ns, count int64) bool) {
		for _, b := range h.counts.Distribution() {
			if b.Count > 0 && !yield(b.From+(b.To-b.From)/2, b.Count) {
				return
			}
		}
	}
}

// Above returns how many values were above a limit in nanoseconds: at least those of the buckets that lie above it
// whole, at most those of the bucket that it falls into as well.
func (h *Histogram) Above(limit int64) (least, most int64) {
	for middle, n := range h.Buckets() {
		low, high := bucket(middle)
		if low > limit {
			least += n
		}
		if high > limit {
			most += n
		}
	}
	return least, most
}
