package router

import (
	"context"
	"time"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/suites"
)

// apiCase is what is asked of a router over its API and what must be seen, as data.
type apiCase struct {
	id, title string
	needs     []features.Feature
	drive     func(context.Context, *bench) error
	// wrong says what is not as it has to be: a reason of the check's set, and what was seen.
	wrong func(*story) (reason, observed string)
}

// apiRow makes a check of cases.
func apiRow(c suites.Check, want string, own []string, cases ...apiCase) suites.Check {
	find := func(id string) apiCase {
		for _, k := range cases {
			if k.id == id {
				return k
			}
		}
		return cases[0]
	}
	if len(cases) > 1 || cases[0].id != "" {
		for _, k := range cases {
			c.Cases = append(c.Cases, suites.Case{ID: k.id, Title: k.title, Needs: k.needs})
		}
	}
	c.Reasons = append(c.Reasons, own...)
	c.Drive = driving(func(ctx context.Context, b *bench) error { return find(b.env.Key.Case).drive(ctx, b) })
	c.Judge = judging(want, func(t suites.Trace, s *story) suites.Finding {
		reason, observed := find(t.Key.Case).wrong(s)
		return s.verdict(reason, observed)
	})
	return c
}

// took is the cost of a case.
func took(d time.Duration) suites.Cost { return suites.Cost{Time: d} }
