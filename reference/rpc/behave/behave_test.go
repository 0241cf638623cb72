package behave

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/reference/rpc/wire"
)

func TestCountLeavesOutCallsThatAsk(t *testing.T) {
	s, ctx := New(), t.Context()
	for range 3 {
		if report, err := s.Run(ctx, Call{Tag: []byte("a")}); err != nil || report != nil {
			t.Fatalf("run: %v, %v", report, err)
		}
	}
	ask := Call{Tag: []byte("a"), Ops: []wire.Op{{Kind: wire.KindCount}}}
	for range 2 {
		report, err := s.Run(ctx, ask)
		if err != nil || *report.Count != 3 {
			t.Fatalf("count = %+v, %v; want 3", report, err)
		}
	}
}

func TestOperationsRunInOrder(t *testing.T) {
	s := New()
	meta := func() map[string]string { return map[string]string{"k": "v"} }
	cases := []struct {
		name string
		ops  []wire.Op
		want error
	}{
		{"throw before error", []wire.Op{{Kind: wire.KindThrow, Code: 7, Text: "boom"}, {Kind: wire.KindError}},
			&Thrown{wire.Fault{Code: 7, Reason: "boom"}}},
		{"error before throw", []wire.Op{{Kind: wire.KindError, Code: 3, Text: "x"}, {Kind: wire.KindThrow}}, &Failed{3, "x"}},
		{"forward", []wire.Op{{Kind: wire.KindForward}}, &NotServed{wire.KindForward}},
		{"stream", []wire.Op{{Kind: wire.KindStream}}, &NotServed{wire.KindStream}},
		{"nonsense", []wire.Op{{Kind: 77}}, &NotServed{77}},
		{"oneway and echo", []wire.Op{{Kind: wire.KindOneway}, {Kind: wire.KindEcho}}, nil},
		{"endless delay", []wire.Op{{Kind: wire.KindDelay, Millis: 1 << 62}}, &Failed{0, "delay of 4611686018427387904 ms is over the limit of 10m0s"}},
	}
	seen := 0
	for _, c := range cases {
		seen++
		_, err := s.Run(t.Context(), Call{Ops: c.ops, Meta: meta})
		if diff := cmp.Diff(c.want, err); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
	if seen == 0 {
		t.Fatal("no cases ran")
	}
	report, err := s.Run(t.Context(), Call{Ops: []wire.Op{{Kind: wire.KindMeta}}, Meta: meta})
	if err != nil || report.Meta["k"] != "v" || report.Count != nil {
		t.Errorf("meta report = %+v, %v", report, err)
	}
}

func TestDelayEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Wait(ctx, time.Minute); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
}

func TestTallyIsBounded(t *testing.T) {
	tally := newTally(4)
	for i := range 100 {
		tally.add(fmt.Appendf(nil, "tag-%d", i))
		tally.add([]byte("kept"))
	}
	if len(tally.byTag) != 4 || tally.order.Len() != 4 {
		t.Errorf("%d tags, %d in order; want 4", len(tally.byTag), tally.order.Len())
	}
	if n := tally.get([]byte("kept")); n != 100 {
		t.Errorf("the tag in use was counted %d times, want 100", n)
	}
	long := bytes.Repeat([]byte("x"), 1<<20)
	tally.add(long)
	if tally.get(long) != 1 || tally.get(long[1:]) != 0 {
		t.Error("long tags are not told apart")
	}
	for tag := range tally.byTag {
		if len(tag) > 2*maxTagBytes {
			t.Errorf("a tag of %d bytes is kept", len(tag))
		}
	}
}
