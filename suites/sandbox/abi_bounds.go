package sandbox

import (
	"context"

	scenario "github.com/assay-bench/assay/scenarios/sandbox"
	"github.com/assay-bench/assay/suites"
)

const (
	reasonTrapped = "trapped"       // in place of an error code
	reasonPartial = "partial-write" // something was written before the error
	reasonStale   = "stale-view"
)

// boundsCase is a function of the guest bounds, with the errno or the count that it has to return.
type boundsCase struct{ function, want string }

var boundsCases = map[string][]boundsCase{
	"error-code": {{"host_past", "21"}, {"host_far", "21"}, {"host_wrap", "21"}},
	"untouched":  {{"host_partial", "0"}, {"host_ok", "1094795585"}},
}

var _ = add(suites.Check{
	ID: "sandbox/abi/host-bounds", Title: "a pointer past the end gives an error code", Covers: []string{"sandbox/abi/host-bounds"},
	Cases: []suites.Case{
		{ID: "error-code", Title: "past the end, far past it, and around the 32 bits"},
		{ID: "untouched", Title: "a refused write leaves the memory alone"},
	},
	Reasons: []string{reasonTrapped, reasonPartial, reasonWrongResult},
	Drive: driving(func(ctx context.Context, b *bench) error {
		tenant, err := b.serve(ctx, "a", scenario.Pro, "bounds")
		for _, k := range boundsCases[b.env.Key.Case] {
			if err == nil {
				_, err = b.invoke(ctx, k.function, tenant, "bounds", k.function)
			}
		}
		return ends(err)
	}),
	Judge: judging("errno 21 for a pointer past the end, nothing is written, and the host lives", judgeBounds),
	Kills: kills(killIn("error-code", reasonTrapped, "sandbox.host-bounds-trap"), killIn("untouched", reasonPartial, "sandbox.host-partial-write")),
})

func judgeBounds(t suites.Trace, s *story) suites.Finding {
	cases := boundsCases[t.Key.Case]
	if len(cases) == 0 {
		return s.fail(reasonNotSet, "no case "+t.Key.Case)
	}
	for _, k := range cases {
		observed := s.describe(k.function)
		_, trapped := s.trap(k.function)
		switch {
		case s.silent(k.function) != "":
			return s.fail(reasonNoAnswer, observed)
		case trapped:
			return s.fail(reasonTrapped, observed)
		case s.returned(k.function, k.want):
		case k.function == "host_partial":
			return s.fail(reasonPartial, observed)
		default:
			return s.fail(reasonWrongResult, observed)
		}
	}
	return s.pass(s.tale())
}

var viewFunctions = []string{"grow_and_write", "grow_high"}

var _ = add(suites.Check{
	ID: "sandbox/abi/view-fresh", Title: "the host reads what is there after the memory grew", Covers: []string{"sandbox/abi/view-fresh"},
	Reasons: []string{reasonStale},
	Drive: driving(func(ctx context.Context, b *bench) error {
		tenant, err := b.serve(ctx, "a", scenario.Pro, "view", buffered)
		for _, f := range viewFunctions {
			if err == nil {
				_, err = b.call(ctx, f, tenant, "view", scenario.Invocation{Function: f, Input: []byte("x")})
			}
		}
		return ends(err)
	}),
	Judge: judging("the byte 77 that the guest wrote after it grew its memory", func(_ suites.Trace, s *story) suites.Finding {
		for _, f := range viewFunctions {
			if s.silent(f) != "" {
				return s.fail(reasonNoAnswer, s.describe(f))
			}
			if a, ok := s.invoked(f); !ok || string(a.Output) != "\x4d" {
				return s.fail(reasonStale, s.describe(f)+", output "+quoted(a.Output))
			}
		}
		return s.pass(s.tale())
	}),
	Kills: kill(reasonStale, "sandbox.view-stale"),
})
