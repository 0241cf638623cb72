package router

import (
	"context"

	"github.com/assay-bench/assay/results"
	scenario "github.com/assay-bench/assay/scenarios/router"
	"github.com/assay-bench/assay/suites"
)

// driveAPI learns policies from examples and asks for one of the examples.
var driveAPI = driving(func(ctx context.Context, b *bench) error {
	if err := b.taught(ctx, scenario.Settings{K: 1}, scenario.RowsExamples); err != nil {
		return err
	}
	_, err := b.decide(ctx, "decide", scenario.OfText(example(b.env.Rand.IntN(upstreamsOf), b.env.Rand.IntN(10))))
	return err
})

// apiWorks judges driveAPI: the example belongs to the policy that it was an example of.
func (s *story) apiWorks() (ok bool, observed string) {
	if why := s.unprepared(); why != "" {
		return false, why
	}
	q, asked := asked[scenario.DecideRequest](s, "decide")
	d, ok := read[scenario.Decision](s, "decide")
	if !ok || !asked || q.Text == nil {
		return false, s.describe("decide")
	}
	return d.Policy != "" && d.Policy == intentOf(*q.Text), s.describe("decide") + ", policy " + d.Policy
}

// intentOf names the intent that a text is an example of.
func intentOf(text string) string {
	for _, in := range scenario.Intents() {
		for _, e := range append(in.Examples, in.Unseen...) {
			if e == text {
				return in.Name
			}
		}
	}
	return ""
}

// apiControl is the positive control: refusals and abstentions mean something only where an ordinary text is
// decided.
func apiControl() *suites.Control {
	return &suites.Control{Drive: driveAPI, Judge: func(evidence []results.Evidence) (bool, string) {
		s, err := tell(evidence)
		if err != nil {
			return false, err.Error()
		}
		return s.apiWorks()
	}}
}
