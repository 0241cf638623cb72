package tpm

import (
	"fmt"
	"time"

	"github.com/google/go-tpm/tpm2"

	scenario "github.com/assay-bench/assay/scenarios/tpm"
	"github.com/assay-bench/assay/suites"
)

const (
	reasonUnbounded = "unbounded" // a command was repeated without end
	reasonTooLate   = "too-late"
)

const (
	// maxSends bounds the repetitions of a command that the TPM can never begin. Three are enough; the
	// bound leaves room for a driver that repeats by itself.
	maxSends = 16
	// briefly is the deadline of the TPM's work where it will be reached.
	briefly = 300 * time.Millisecond
	// slack is what a call may take beyond that deadline.
	slack = time.Second
)

func transientTwice(id string, rc tpm2.TPMRC) act {
	return act{
		id: id + "-twice", title: scenario.ResponseName(rc) + " two times", expect: serves, keep: true,
		harm: respond(tpm2.TPMCCUnseal, rc, 2), bit: refused(tpm2.TPMCCUnseal, rc),
	}
}

func transientForever(id string, rc tpm2.TPMRC) act {
	return act{
		id: id + "-forever", title: scenario.ResponseName(rc) + " for ever", once: true, keep: true,
		setup: setup{deadline: briefly}, codes: []string{scenario.ResponseName(rc), codeDeadline},
		harm: respond(tpm2.TPMCCUnseal, rc, scenario.Forever), bit: refused(tpm2.TPMCCUnseal, rc),
	}
}

var _ = add(episode{
	want:  "RETRY, YIELDED and TESTING are repeated, at most 16 times and within the deadline",
	noted: reasonNotRetried,
	acts: []act{
		transientTwice("retry", tpm2.TPMRCRetry),
		transientTwice("yielded", tpm2.TPMRCYielded),
		transientTwice("testing", tpm2.TPMRCTesting),
		transientForever("retry", tpm2.TPMRCRetry),
		transientForever("testing", tpm2.TPMRCTesting),
	},
	extra: func(t suites.Trace, s *story, a act, sent map[string]int) (reason, observed string) {
		if n := total(sent, "Unseal"); n > maxSends {
			return reasonUnbounded, fmt.Sprintf("Unseal was sent %d times", n)
		}
		took, bound := s.calls["during"].Took, a.setup.deadlineOf()+slack
		if t.Within(took, 0, bound) == suites.TooLate {
			return reasonTooLate, fmt.Sprintf("the call took %s", took)
		}
		return "", ""
	},
}.check(suites.Check{
	ID: "tpm/fault/transient", Title: "what the TPM could not begin is repeated with a bound", Covers: []string{"tpm/fault/transient"},
	Reasons: []string{reasonNotRetried, reasonUnbounded, reasonTooLate},
	Kills: append(killIn("retry-twice", reasonNotRetried, "tpm.transient-not-retried"),
		killIn("retry-forever", reasonUnbounded, "tpm.transient-retried-forever")...),
}))
