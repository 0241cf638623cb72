package load

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// load/segment/partition
func TestEveryArrivalHasOneOwner(t *testing.T) {
	const n = 10_007
	divisions := map[string][]int{"5,3,2": {5, 3, 2}, "1,100": {1, 100}, "20,40": {20, 40}, "7": {7}}
	for nodes := 1; nodes <= 7; nodes++ {
		divisions[strings.Repeat("=", nodes)] = make([]int, nodes)
	}
	for name, shares := range divisions {
		seen, total := make([]int, n), int64(0)
		for node := range shares {
			g := Segment{Node: node + 1, Of: len(shares)}
			if shares[0] > 0 {
				g.Shares = shares
			}
			s := g.stripe()
			count := s.count(n)
			total += count
			for j := range count {
				id := s.global(j)
				if back, ok := s.local(id); !ok || back != j {
					t.Fatalf("%s, node %d: arrival %d is its number %d, and back %d, %v", name, node+1, id, j, back, ok)
				}
				seen[id]++
			}
			if id := s.global(count); id < n {
				t.Errorf("%s, node %d owns %d of %d arrivals, and number %d, too", name, node+1, count, n, id)
			}
		}
		if total != n || slices.Max(seen) != 1 || slices.Min(seen) != 1 {
			t.Errorf("%s: %d arrivals have owners, some %d, some %d", name, total, slices.Min(seen), slices.Max(seen))
		}
	}
}

// Shares are kept in every stretch of the schedule, to less than one arrival a
// node and another.
func TestSharesAreInterleaved(t *testing.T) {
	want := []int{1, 2, 3, 1, 1, 2, 1, 3, 2, 1}
	if got := interleave([]int{50, 30, 20}); !slices.Equal(got, want) {
		t.Errorf("owners %v, want %v", got, want)
	}
}

func TestParseSegment(t *testing.T) {
	good := map[string]Segment{
		"":          {},
		"1/1":       {Node: 1, Of: 1},
		"2/8":       {Node: 2, Of: 8},
		"3/3:5,3,2": {Node: 3, Of: 3, Shares: []int{5, 3, 2}},
	}
	for text, want := range good {
		got, err := ParseSegment(text)
		if d := cmp.Diff(want, got); d != "" || err != nil || got.String() != text {
			t.Errorf("%q: %+v (%q), error %v", text, got, got, err)
		}
	}
	bad := []string{"2", "0/2", "3/2", "-1/2", "a/b", "1/2:", "1/2:1", "1/2:1,x", "1/2:0,1", "1/2:1,1,1", "1/1001", "1/2/3", "1/2:99999,7"}
	for _, text := range bad {
		if g, err := ParseSegment(text); !errors.Is(err, ErrSchedule) {
			t.Errorf("%q: %+v, error %v", text, g, err)
		}
	}
}

func FuzzParseSegment(f *testing.F) {
	f.Add("2/8")
	f.Add("2/3:5,3,2")
	f.Add("1/2:1,-1")
	f.Fuzz(func(t *testing.T, text string) {
		g, err := ParseSegment(text)
		if err != nil {
			return
		}
		if again, err := ParseSegment(g.String()); err != nil || !cmp.Equal(g, again) {
			t.Errorf("%q is %+v, and read again %+v, %v", text, g, again, err)
		}
		if g.Of == 0 {
			return
		}
		s := g.stripe()
		for range 10 {
			j := rand.Int64N(1 << 40)
			if back, ok := s.local(s.global(j)); !ok || back != j {
				t.Errorf("%q: number %d is arrival %d, and back %d, %v", text, j, s.global(j), back, ok)
			}
		}
	})
}
