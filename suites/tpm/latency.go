package tpm

import (
	"context"
	"fmt"
	"time"

	scenario "github.com/assay-bench/assay/scenarios/tpm"
	"github.com/assay-bench/assay/suites"
)

const (
	reasonBlocked   = "blocked"   // a handshake did not complete in time
	reasonUnstapled = "unstapled" // a handshake completed without a staple
	reasonStale     = "stale"     // with a staple that must not be used any more
	wantLatency     = "with a TPM that answers after 5 s a handshake completes within 2 s, with the responder's staple"
)

const (
	slowTPM     = 5 * time.Second
	tpmDeadline = 200 * time.Millisecond
)

var _ = add(suites.Check{
	ID: "tpm/fault/latency", Title: "a slow TPM does not hold up a handshake", Covers: []string{"tpm/fault/latency"},
	Cases: []suites.Case{{ID: "slow", Title: "every command takes 5 s"}, {ID: "hung", Title: "no command is ever answered"}},
	Cost:  suites.Cost{Time: time.Second},
	Reasons: []string{
		reasonBlocked, reasonUnstapled, reasonStale, reasonNotStored, reasonWrongCode, reasonTooLate, reasonNotRebuilt,
	},
	Drive: driving(setup{deadline: tpmDeadline, serve: true, responder: true}, driveSlow),
	Judge: judging(wantLatency, judgeSlow),
	Kills: kill(reasonBlocked, "tpm.waits-for-tpm"),
})

func driveSlow(ctx context.Context, b *bench) error {
	c, err := b.answering()
	if err != nil || c == nil {
		return err
	}
	if err := b.storeStaple(ctx, "store", c, lifetime); err != nil {
		return err
	}
	if ok, err := b.handshake(ctx, "before"); err != nil || !ok {
		return err
	}
	if b.env.Key.Case == "hung" {
		err = b.device.Hang(scenario.Any)
	} else {
		err = b.device.Delay(scenario.Any, slowTPM, scenario.Forever)
	}
	if err != nil {
		return err
	}
	completed, err := b.handshake(ctx, "during")
	if err != nil {
		return err
	}
	if completed { // else a call would only wait as well
		if _, err := b.get(ctx, "during", b.opened.ID); err != nil {
			return err
		}
	}
	if err := b.device.Heal(); err != nil {
		return err
	}
	_, err = b.handshake(ctx, "after")
	return err
}

// storeStaple stores a response for the session's leaf that was made ten minutes ago and is valid for
// so long; a negative time is over.
func (b *bench) storeStaple(ctx context.Context, name string, c *scenario.Certificate, validity time.Duration) error {
	now := time.Now()
	begin := now.Add(-10*time.Minute - time.Duration(b.env.Rand.IntN(300))*time.Second)
	if validity < 0 {
		begin = begin.Add(2 * validity)
	}
	response, err := c.Response(begin, now.Add(validity))
	if err != nil {
		return err
	}
	return b.storeUntil(ctx, name, b.opened.ID, response, now.Add(validity))
}

func judgeSlow(t suites.Trace, s *story) suites.Finding {
	during := s.handshakes["during"].Outcome.Took
	observed := fmt.Sprintf("before: %s; during: %s after %s; after: %s; %s", s.stapled("before", "store"), s.stapled("during", "store"),
		during, s.stapled("after", "store"), s.tale("store", "during"))
	if s.looks[lookCertificate] != 1 {
		return s.fail(reasonNoSession, "", "no leaf, issuer and key of the issuer to make a staple with")
	}
	if !s.stored("store") {
		return s.fail(reasonNotStored, "", observed)
	}
	if o := s.stapled("before", "store"); o != fromStore {
		return s.fail(unstapledReason(o), "", observed)
	}
	if o := s.stapled("during", "store"); o != fromResponder {
		if o == noHandshake && t.Noisy(handshakeWait) {
			return suites.TooNoisy("", observed, s.cites)
		}
		return s.fail(unstapledReason(o), "", observed)
	}
	if t.Within(during, 0, handshakeWait) == suites.TooLate {
		return s.fail(reasonBlocked, "", observed)
	}
	if g, ok := answer[scenario.Got](s, "during"); !ok || g.Source == "cache" || g.Error == nil || g.Error.Code != codeDeadline {
		return s.fail(reasonWrongCode, "", observed)
	}
	if took := s.calls["during"].Took; t.Within(took, 0, tpmDeadline+slack) == suites.TooLate {
		return s.fail(reasonTooLate, "", fmt.Sprintf("the call took %s; %s", took, observed))
	}
	if o := s.stapled("after", "store"); o != fromStore && o != fromResponder {
		return s.fail(reasonNotRebuilt, "", observed)
	}
	return s.pass("", observed)
}

// unstapledReason names what is wrong with a handshake's staple.
func unstapledReason(o origin) string {
	switch o {
	case noHandshake:
		return reasonBlocked
	case noStaple:
		return reasonUnstapled
	}
	return reasonStale
}
