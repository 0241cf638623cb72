package histogram

import (
	"math/bits"
	"math/rand/v2"
	"sync"
	"testing"
)

func TestSharedHasTheGeometry(t *testing.T) {
	if bits.Len64(uint64(Highest)) != highestBits || index(Highest) >= sharedLength {
		t.Fatalf("Highest has %d bits and lies in bucket %d of %d", bits.Len64(uint64(Highest)), index(Highest), sharedLength)
	}
	seen := 0
	for i := range sharedLength {
		seen++
		low, high := bucket(edge(i))
		if low != edge(i) || index(low) != i || index(high) != i {
			t.Fatalf("bucket %d begins at %d, the histogram has %d to %d", i, edge(i), low, high)
		}
	}
	if seen == 0 {
		t.Fatal("no buckets: this test proves nothing")
	}
}

// What goroutines record at once is what one histogram records.
func TestSharedEqualsAHistogram(t *testing.T) {
	const writers, each = 4, 5_000
	shared, want := new(Shared), New()
	var running sync.WaitGroup
	for w := range writers {
		values := make([]int64, each)
		r := rand.New(rand.NewPCG(uint64(w), 1))
		for i := range values {
			values[i] = r.Int64N(Highest) >> r.IntN(40)
		}
		values[0], values[1] = -5, Highest+1
		for _, v := range values {
			want.Record(v)
		}
		running.Go(func() {
			for _, v := range values {
				shared.Record(v)
			}
		})
	}
	running.Wait()
	first, second := New(), New()
	shared.Drain(first, second)
	for i, got := range []*Histogram{first, second} {
		if !got.Equal(want) || got.Count() != writers*each || got.Overflow() != 2*writers {
			t.Errorf("drain %d: %d values and %d overflows, want %d and %d", i, got.Count(), got.Overflow(), want.Count(), want.Overflow())
		}
	}
	shared.Drain(first)
	if first.Count() != writers*each || first.Overflow() != 2*writers {
		t.Error("the second drain was not empty")
	}
	first.Reset()
	if first.Count() != 0 || first.Overflow() != 0 {
		t.Error("reset leaves values")
	}
}

func BenchmarkSharedRecord(b *testing.B) {
	s := new(Shared)
	b.RunParallel(func(pb *testing.PB) {
		at := int64(1)
		for pb.Next() {
			at = (at*25 + 7) & (1<<30 - 1)
			s.Record(at)
		}
	})
}
