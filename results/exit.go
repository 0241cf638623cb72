package results

// Exit is the exit code of a command.
type Exit int

// The exit codes of every command.
const (
	ExitPass         Exit = 0
	ExitFail         Exit = 1 // fail or regression
	ExitUsage        Exit = 2 // usage or configuration
	ExitInconclusive Exit = 3
	ExitHarness      Exit = 4 // Broken, Unproven, nothing ran
)

// ExitOf computes the exit code of a run: 1 before 4 before 3 before 0. counts says which verdicts
// may turn a run red (house rows of another vendor's target do not); a Fail on the known-failing
// list does not either. Without a single driven Pass the run proved nothing.
func ExitOf(verdicts []Verdict, counts func(Verdict) bool) Exit {
	var fail, harness, open, passed bool
	for _, v := range verdicts {
		passed = passed || (v.Status == Pass && !v.Frame)
		switch v.Status {
		case Fail:
			fail = fail || (v.Expected == "" && counts(v))
		case Broken, Unproven:
			harness = true
		case Inconclusive:
			open = open || counts(v)
		}
	}
	switch {
	case fail:
		return ExitFail
	case harness:
		return ExitHarness
	case open:
		return ExitInconclusive
	case !passed:
		return ExitHarness
	}
	return ExitPass
}
