package tpm

import (
	"context"
	"fmt"
	"strings"

	scenario "github.com/assay-bench/assay/scenarios/tpm"
	"github.com/assay-bench/assay/suites"
)

const (
	reasonUnlabelled = "unlabelled"
	reasonStub       = "stub"
	wantLabelled     = "the answers to open and status name the same backend, and it is no stub"
)

var _ = add(suites.Check{
	ID: "tpm/seal/backend-labelled", Title: "the TPM's backend is named", Covers: []string{"tpm/seal/backend-labelled"},
	Reasons: []string{reasonUnlabelled, reasonStub},
	Drive:   driving(setup{}, func(ctx context.Context, b *bench) error { return b.status(ctx, "status") }),
	Judge: judging(wantLabelled, func(_ suites.Trace, s *story) suites.Finding {
		opened, _ := answer[scenario.Opened](s, "open")
		status, ok := answer[scenario.Status](s, "status")
		observed := fmt.Sprintf("open says %q, status says %q", opened.Backend, status.Backend)
		switch {
		case !ok || status.Error != nil:
			return s.fail(reasonNoSession, "", s.tale("open", "status"))
		case opened.Backend == "" || status.Backend != opened.Backend:
			return s.fail(reasonUnlabelled, "", observed)
		case strings.Contains(strings.ToLower(opened.Backend), "stub"):
			return s.fail(reasonStub, "", observed)
		}
		return s.pass("", observed)
	}),
	Kills: kill(reasonUnlabelled, "tpm.backend-unlabelled"),
})
