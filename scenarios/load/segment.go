package load

import (
	"fmt"
	"strconv"
	"strings"
)

const (
	maxNodes = 1_000
	maxSlots = 100_000 // of the table of unequal shares
)

// Segment is the share of one node in a schedule that several nodes play. All
// make the whole schedule and each sends the arrivals that it owns: every
// arrival has exactly one owner, and nodes do not talk during a run. The zero
// value owns everything.
type Segment struct {
	Node   int   `json:"node"`             // 1 to Of
	Of     int   `json:"of"`               // how many nodes
	Shares []int `json:"shares,omitempty"` // of node 1, 2, …; none: equal
}

// Whole tells whether the segment owns every arrival.
func (g Segment) Whole() bool { return g.Of <= 1 }

// ParseSegment reads "2/8", the second of eight equal shares, and "2/3:5,3,2",
// the second of three that are as 5 to 3 to 2. An empty text is the whole.
func ParseSegment(text string) (Segment, error) {
	if text == "" {
		return Segment{}, nil
	}
	bad := func() (Segment, error) {
		return Segment{}, fmt.Errorf("%w: segment %q, want node/nodes such as 2/8, or with shares 2/3:5,3,2", ErrSchedule, text)
	}
	place, shares, unequal := strings.Cut(text, ":")
	node, of, _ := strings.Cut(place, "/")
	var g Segment
	var err error
	if g.Node, err = strconv.Atoi(node); err != nil {
		return bad()
	}
	if g.Of, err = strconv.Atoi(of); err != nil {
		return bad()
	}
	if unequal {
		for i, part := range strings.Split(shares, ",") {
			share, err := strconv.Atoi(part)
			if err != nil || i == maxNodes {
				return bad()
			}
			g.Shares = append(g.Shares, share)
		}
	}
	if err := g.Validate(); err != nil {
		return Segment{}, err
	}
	return g, nil
}

// String returns the text that ParseSegment reads.
func (g Segment) String() string {
	if g.Of == 0 {
		return ""
	}
	text := fmt.Sprintf("%d/%d", g.Node, g.Of)
	for i, share := range g.Shares {
		text += string(":,"[min(i, 1)]) + strconv.Itoa(share)
	}
	return text
}

// Validate tells why no schedule can be divided like this, or returns nil.
func (g Segment) Validate() error {
	if g.Node == 0 && g.Of == 0 && len(g.Shares) == 0 {
		return nil
	}
	if g.Of < 1 || g.Of > maxNodes || g.Node < 1 || g.Node > g.Of {
		return fmt.Errorf("%w: segment %d of %d, want 1 to the number of nodes, at most %d", ErrSchedule, g.Node, g.Of, maxNodes)
	}
	if n := len(g.Shares); n != 0 && n != g.Of {
		return fmt.Errorf("%w: segment with %d shares for %d nodes", ErrSchedule, n, g.Of)
	}
	sum := 0
	for i, share := range g.Shares {
		if share < 1 || share > maxSlots {
			return fmt.Errorf("%w: share %d of node %d is outside 1 to %d", ErrSchedule, share, i+1, maxSlots)
		}
		sum += share
	}
	if sum/max(divisor(g.Shares), 1) > maxSlots {
		return fmt.Errorf("%w: shares add up to %d, the limit is %d", ErrSchedule, sum, maxSlots)
	}
	return nil
}

// divisor returns the greatest common divisor of the shares, 0 of none.
func divisor(shares []int) (gcd int) {
	for _, b := range shares {
		for a := gcd; ; a, b = b, a%b {
			if b == 0 {
				gcd = a
				break
			}
		}
	}
	return gcd
}

// stripe maps the arrivals of one node, numbered 0, 1, … among themselves, to
// their numbers in the whole schedule and back. Arrival k of the schedule
// belongs to the owner of slot k mod slots.
type stripe struct {
	slots int64
	mine  []int64 // slots that this node owns, rising
	rank  []int64 // of each slot among mine; −1: another node's
}

// stripe returns the stripe of a valid segment.
func (g Segment) stripe() stripe {
	var owners []int
	switch {
	case g.Whole():
		owners = []int{g.Node}
	case len(g.Shares) == 0:
		for node := range g.Of {
			owners = append(owners, node+1)
		}
	default:
		owners = interleave(g.Shares)
	}
	s := stripe{slots: int64(len(owners)), rank: make([]int64, len(owners))}
	for slot, owner := range owners {
		s.rank[slot] = -1
		if owner == g.Node {
			s.rank[slot] = int64(len(s.mine))
			s.mine = append(s.mine, int64(slot))
		}
	}
	return s
}

// interleave spreads the slots of each node as evenly as whole slots allow:
// every round each node earns its share, and the richest takes the slot and
// pays for it. Of equals the first takes it.
func interleave(shares []int) []int {
	gcd, total := divisor(shares), 0
	for _, share := range shares {
		total += share / gcd
	}
	owners, earned := make([]int, total), make([]int, len(shares))
	for slot := range owners {
		richest := 0
		for node, share := range shares {
			earned[node] += share / gcd
			if earned[node] > earned[richest] {
				richest = node
			}
		}
		earned[richest] -= total
		owners[slot] = richest + 1
	}
	return owners
}

// global returns the number in the schedule of this node's arrival j.
func (s *stripe) global(j int64) int64 {
	if s.slots == 1 {
		return j // a division costs more than the rest
	}
	n := int64(len(s.mine))
	return j/n*s.slots + s.mine[j%n]
}

// local is the inverse of global; ok is false for arrivals of other nodes.
func (s *stripe) local(id int64) (j int64, ok bool) {
	if s.slots == 1 {
		return id, true
	}
	rank := s.rank[id%s.slots]
	return id/s.slots*int64(len(s.mine)) + rank, rank >= 0
}

// count returns how many of the first n arrivals of the schedule are owned.
func (s *stripe) count(n int64) int64 {
	owned := n / s.slots * int64(len(s.mine))
	for _, slot := range s.mine {
		if slot < n%s.slots {
			owned++
		}
	}
	return owned
}

// Count returns how many of the first n arrivals of a schedule the segment
// owns; the segment must be valid.
func (g Segment) Count(n int64) int64 {
	s := g.stripe()
	return s.count(n)
}
