package tls

import (
	"context"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	prober "github.com/assay-bench/assay/scenarios/tls"
	wire "github.com/assay-bench/assay/scenarios/wire/tls"
	"github.com/assay-bench/assay/suites"
)

// stapleCase is one OCSP response that a server staples.
type stapleCase struct {
	id, title string
	plan      func() prober.StaplePlan
	mode      string // of the client: check or require; empty: check
	none      bool   // no staple at all
	taken     bool   // the response is right and must be taken
	code      string // that the client's own report must name; empty: any
}

// Reasons of staple checks.
const (
	reasonStapleTaken   = "staple-taken"   // a response that had to be refused was taken
	reasonStapleRefused = "staple-refused" // a response that is right was refused
	reasonStapleSilent  = "no-fatal-alert" // refused, but the server was not told
	reasonStapleCode    = "other-error"    // refused for another reason than the response's fault
)

func plan(p prober.StaplePlan) func() prober.StaplePlan { return func() prober.StaplePlan { return p } }

// staples makes a check of cases. Its control is a good response, taken in the same mode.
func staples(c suites.Check, clause string, cases []stapleCase) suites.Check {
	c.Needs = append([]features.Feature{features.TLSClient, features.TLSClientDSA, features.TLSLab}, c.Needs...)
	find := func(id string) stapleCase {
		return cases[max(0, slices.IndexFunc(cases, func(k stapleCase) bool { return k.id == id }))]
	}
	for _, k := range cases {
		c.Cases = append(c.Cases, suites.Case{ID: k.id, Title: k.title})
	}
	c.Explain, c.Cost = explainClient, suites.Cost{Time: 150 * time.Millisecond}
	c.Reasons = []string{reasonNoDial, reasonStapleTaken, reasonStapleRefused, reasonStapleSilent, reasonStapleCode}
	c.Control = &suites.Control{
		Drive: func(ctx context.Context, env *scenarios.Env) error {
			return dialStapled(ctx, env, "control", stapleCase{plan: plan(prober.StaplePlan{}), mode: find(env.Key.Case).mode})
		},
		Judge: func(evidence []results.Evidence) (bool, string) {
			dials, err := prober.Dials(evidence)
			if err != nil || len(dials) == 0 {
				return false, "no dial is recorded"
			}
			a := dials[len(dials)-1].Answer
			return a.Connected, fmt.Sprintf("with a good response: connected %v, error %q %s %s", a.Connected, a.Error.Code, a.Error.Text, a.Broken)
		},
	}
	c.Drive = func(ctx context.Context, env *scenarios.Env) error {
		return dialStapled(ctx, env, "trap", find(env.Key.Case))
	}
	c.Judge = func(t suites.Trace) suites.Finding { return judgeStaple(t, find(t.Key.Case), clause) }
	return c
}

func dialStapled(ctx context.Context, env *scenarios.Env, name string, k stapleCase) error {
	var options []prober.Option
	if !k.none {
		options = append(options, prober.Stapled(k.plan()))
	}
	s := wire.Server{Identity: prober.Authority("mldsa").Identity(options...), Echo: true, Wait: clientWait}
	trap, err := prober.Listen(env, name, func(int) wire.Server { return s })
	if err != nil {
		return err
	}
	mode := k.mode
	if mode == "" {
		mode = "check"
	}
	_, err = prober.Dial(ctx, env, request(trap, name, "mldsa", prober.DialRequest{Staple: mode}))
	if cerr := trap.Close(); err == nil {
		err = cerr
	}
	return err
}

func judgeStaple(t suites.Trace, k stapleCase, clause string) suites.Finding {
	want := "the client refuses with a fatal alert, and no byte of application data is sent (" + clause + ")"
	if k.taken {
		want = "the client takes the response and sends its application data (" + clause + ")"
	}
	heard, err := prober.Heards(t.Evidence)
	if err != nil {
		return suites.Failing(reasonNoDial, want, err.Error(), nil)
	}
	dials, err := prober.Dials(t.Evidence)
	if err != nil || len(dials) == 0 {
		return suites.Failing(reasonNoDial, want, "no dial is recorded", nil)
	}
	hs, d := heard["trap"], dials[len(dials)-1]
	cites := append(citesOf(hs), d.Cites...)
	best, said := furthest(hs)
	observed := fmt.Sprintf("%s; the client says connected %v, error %q", describeHeard(hs), d.Answer.Connected, d.Answer.Error.Code)
	switch {
	case !said:
		return suites.Failing(reasonNoDial, want, observed, cites)
	case k.taken && (!d.Answer.Connected || !anyApp(hs)):
		return suites.Failing(reasonStapleRefused, want, observed, cites)
	case k.taken:
		return suites.Passing(want, observed, cites)
	case d.Answer.Connected || anyApp(hs):
		return suites.Failing(reasonStapleTaken, want, observed, cites)
	case best.Alert == nil || best.Alert.Level != 2 && !best.Alert.Unread:
		return suites.Failing(reasonStapleSilent, want, observed, cites)
	case k.code != "" && d.Answer.Error.Code != k.code:
		return suites.Failing(reasonStapleCode, want+", and names "+k.code, observed, cites)
	}
	return suites.Passing(want, observed, cites)
}

func sinceNow(from, to time.Duration) func() prober.StaplePlan {
	return func() prober.StaplePlan {
		now := time.Now() // the plan of a drive, not of a judge
		return prober.StaplePlan{ThisUpdate: now.Add(from), NextUpdate: now.Add(to)}
	}
}

var (
	_ = add(staples(suites.Check{
		ID: "tls/ocsp/signature-checked", Title: "a staple with a wrong signature is refused",
		Covers: []string{"tls/ocsp/signature-checked"},
		Kills:  killsIn("ocsp.signature-unchecked", reasonStapleTaken, "flipped", "stranger"),
	}, "RFC 6960 section 3.2", []stapleCase{
		{id: "flipped", title: "the last bit of the signature", plan: plan(prober.StaplePlan{FlipSignature: true}), code: "staple_signature"},
		{id: "stranger", title: "signed by a key that nobody certified", plan: plan(prober.StaplePlan{OtherSigner: true})},
		{id: "garbage", title: "bytes that are no OCSP response", plan: plan(prober.StaplePlan{Garbage: true}), code: "staple_garbage"},
	}))

	_ = add(staples(suites.Check{
		ID: "tls/ocsp/issuer-bound", Title: "a staple for another certificate or issuer is refused",
		Covers: []string{"tls/ocsp/issuer-bound"},
		Kills: kills(
			killsIn("ocsp.serial-unchecked", reasonStapleTaken, "serial"),
			killsIn("ocsp.issuer-unchecked", reasonStapleTaken, "name-hash", "key-hash"),
		),
	}, "RFC 6960 section 3.2", []stapleCase{
		{id: "serial", title: "another serial", plan: plan(prober.StaplePlan{Serial: big.NewInt(4711)}), code: "staple_serial"},
		{id: "name-hash", title: "another issuer's name", plan: plan(prober.StaplePlan{NameHash: make([]byte, 20)}), code: "staple_issuer"},
		{id: "key-hash", title: "another issuer's key", plan: plan(prober.StaplePlan{KeyHash: make([]byte, 20)}), code: "staple_issuer"},
	}))

	_ = add(staples(suites.Check{
		ID: "tls/ocsp/delegate-eku", Title: "a delegated responder needs id-kp-OCSPSigning and the same issuer",
		Covers: []string{"tls/ocsp/delegate-eku"},
		Kills:  killsIn("ocsp.delegate-eku-unchecked", reasonStapleTaken, "without-eku"),
	}, "RFC 6960 section 4.2.2.2", []stapleCase{
		{id: "with-eku", title: "a delegate with it", plan: plan(prober.StaplePlan{Delegate: prober.DelegateEKU}), taken: true},
		{id: "without-eku", title: "a delegate without it", plan: plan(prober.StaplePlan{Delegate: prober.DelegateNoEKU}), code: "staple_delegate"},
		{id: "other-issuer", title: "a delegate of another issuer", plan: plan(prober.StaplePlan{Delegate: prober.DelegateOtherIssuer}), code: "staple_delegate"},
	}))

	_ = add(staples(suites.Check{
		ID: "tls/ocsp/window", Title: "a staple outside its time is refused",
		Covers: []string{"tls/ocsp/window"},
		Kills:  killsIn("ocsp.window-unchecked", reasonStapleTaken, "expired", "not-yet"),
	}, "RFC 6960 section 4.2.2.1", []stapleCase{
		{id: "expired", title: "nextUpdate an hour ago", plan: sinceNow(-3*time.Hour, -time.Hour), code: "staple_window"},
		{id: "not-yet", title: "thisUpdate in an hour", plan: sinceNow(time.Hour, 3*time.Hour), code: "staple_window"},
		{id: "current", title: "within its time", plan: sinceNow(-time.Hour, time.Hour), taken: true},
	}))

	_ = add(staples(suites.Check{
		ID: "tls/ocsp/status", Title: "a staple that says revoked or unknown is refused",
		Covers: []string{"tls/ocsp/status"},
		Kills:  killsIn("ocsp.status-ignored", reasonStapleTaken, "revoked", "unknown"),
	}, "RFC 6960 section 2.2", []stapleCase{
		{id: "revoked", title: "revoked", plan: plan(prober.StaplePlan{Status: prober.StapleRevoked}), mode: "require", code: "staple_revoked"},
		{id: "unknown", title: "unknown, where a staple is demanded", plan: plan(prober.StaplePlan{Status: prober.StapleUnknown}), mode: "require", code: "staple_unknown"},
		{id: "missing", title: "none, where a staple is demanded", none: true, plan: plan(prober.StaplePlan{}), mode: "require", code: "staple_missing"},
	}))
)
