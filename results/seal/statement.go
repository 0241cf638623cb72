package seal

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/assay-bench/assay/results"
)

// The files of the signed statements. They stand outside the manifest, whose digest they sign.
const (
	StatementFile   = "statement.dsse.json"
	MeasurementFile = "measurement.dsse.json"
)

var statementFiles = []string{StatementFile, MeasurementFile}

const (
	statementType   = "https://in-toto.io/Statement/v1"
	testResultType  = "https://in-toto.io/attestation/test-result/v0.1"
	measurementType = "https://github.com/assay-bench/assay/measurement/v0.1"
)

// statement is a file with what is signed in it: an in-toto Statement v1.
type statement struct {
	file    string
	payload []byte
}

type predicate struct {
	file, kind string
	value      any
}

type inToto struct {
	Type          string       `json:"_type"`
	Subject       []descriptor `json:"subject"`
	PredicateType string       `json:"predicateType"`
	Predicate     any          `json:"predicate"`
}

// descriptor is in-toto's ResourceDescriptor, as far as it is needed.
type descriptor struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

func described(name, sum string) descriptor {
	return descriptor{Name: name, Digest: map[string]string{"sha256": sum}}
}

// testResult is the predicate test-result v0.1. Broken and Unproven stand in none of the lists: what is not named was
// not run to an end.
type testResult struct {
	Result        string       `json:"result"` // PASSED, WARNED or FAILED
	Configuration []descriptor `json:"configuration"`
	PassedTests   []string     `json:"passedTests,omitempty"`
	WarnedTests   []string     `json:"warnedTests,omitempty"`
	FailedTests   []string     `json:"failedTests,omitempty"`
}

// measurement is the predicate for figures, which test-result has no place for.
type measurement struct {
	Tool        results.Tool         `json:"tool"`
	Suite       results.Suite        `json:"suite"`
	Kind        string               `json:"kind"` // of the bundle: run, prove, gate, gate-bench, load or k6
	Host        results.Host         `json:"host"`
	Baseline    *side                `json:"baseline,omitempty"` // of a gate, as candidate and the next two
	Candidate   *side                `json:"candidate,omitempty"`
	Instrument  string               `json:"instrument,omitempty"`
	ErrorRates  string               `json:"errorRates,omitempty"`
	Policy      string               `json:"policySha256,omitempty"`
	Calibration *results.Calibration `json:"calibration,omitempty"` // of the load generator
	Metrics     []measured           `json:"metrics"`
	Broken      []string             `json:"broken,omitempty"`
	Unproven    []string             `json:"unproven,omitempty"`
}

// side is one side of a gate.
type side struct {
	Given    string `json:"given"`
	Revision string `json:"revision,omitempty"`
	Digest   string `json:"sha256,omitempty"`
}

// measured is a verdict with its figures as recorded: of a gate change, lower, upper, margins, epochs, the smallest
// change that would have been found, and the tests.
type measured struct {
	Name    string           `json:"name"`
	Status  results.Status   `json:"status"`
	Reason  string           `json:"reason,omitempty"`
	Figures []results.Figure `json:"figures"`
}

// ErrOpen is returned for a bundle that can not be signed: it was not sealed or not judged.
var ErrOpen = errors.New("the bundle is not finished: it has no verdicts, or no manifest")

// statements are what is signed of a bundle, a pure function of it: its verdicts by name, and its figures where there
// are any.
func statements(b *results.Bundle) ([]statement, error) {
	if b.Verdicts == nil || b.Digest == "" {
		return nil, ErrOpen
	}
	parts := []predicate{{StatementFile, testResultType, resultOf(b)}}
	m, err := measurementOf(b)
	if err != nil {
		return nil, err
	}
	if len(m.Metrics) > 0 {
		parts = append(parts, predicate{MeasurementFile, measurementType, m})
	}
	var all []statement
	for _, s := range parts {
		payload, err := results.Marshal(inToto{statementType, subjects(b), s.kind, s.value})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.file, err)
		}
		all = append(all, statement{s.file, payload})
	}
	return all, nil
}

// subjects are the bundle, and what was tested where its own digest is known: a program that was built for a gate. The
// digest of a target file or of a script is not the target's; it stands in the configuration.
func subjects(b *results.Bundle) []descriptor {
	out := []descriptor{described("bundle", b.Digest)}
	if t := b.Run.Target; t.Digest != "" && t.File == "" {
		out = append(out, described(t.Name, t.Digest))
	}
	return out
}

func resultOf(b *results.Bundle) testResult {
	r := testResult{Result: "PASSED", Configuration: []descriptor{described("suite "+b.Run.Suite.Version, b.Run.Suite.Digest)}}
	if b.Policy != nil {
		r.Configuration = append(r.Configuration, described(results.PolicyFile, digestOf(b.Policy)))
	}
	if t := b.Run.Target; t.Digest != "" && t.File != "" {
		r.Configuration = append(r.Configuration, described(t.File, t.Digest))
	}
	open := false
	for _, v := range b.Verdicts.Verdicts {
		name := v.Key().String()
		switch v.Status {
		case results.Pass:
			r.PassedTests = append(r.PassedTests, name)
		case results.Fail:
			r.FailedTests = append(r.FailedTests, name)
		case results.Inconclusive:
			r.WarnedTests = append(r.WarnedTests, name)
		case results.Broken, results.Unproven:
			open = true
		}
	}
	switch {
	case len(r.FailedTests) > 0:
		r.Result = "FAILED"
	case open || len(b.Run.Target.Defects) > 0 || len(r.WarnedTests) > 0 || len(r.PassedTests) == 0 || b.Verdicts.Exit != results.ExitPass:
		r.Result = "WARNED"
	}
	return r
}

func measurementOf(b *results.Bundle) (measurement, error) {
	run := b.Run
	m := measurement{Tool: run.Tool, Suite: run.Suite, Kind: run.Kind, Host: run.Host, Calibration: run.Calibration}
	if b.Policy != nil {
		m.Policy = digestOf(b.Policy)
	}
	for _, v := range b.Verdicts.Verdicts {
		name := v.Key().String()
		if len(v.Figures) > 0 {
			m.Metrics = append(m.Metrics, measured{name, v.Status, v.Reason, v.Figures})
		}
		switch v.Status {
		case results.Broken:
			m.Broken = append(m.Broken, name)
		case results.Unproven:
			m.Unproven = append(m.Unproven, name)
		}
	}
	return m, m.compared(b.Evidence)
}

// compared adds what a gate compared, which stands in its first evidence.
func (m *measurement) compared(evidence []results.Evidence) error {
	for _, e := range evidence {
		if e.Kind != results.Started || e.Check != "gate" {
			continue
		}
		type ref struct{ Given, Revision, Digest string }
		var s struct {
			Baseline, Candidate ref
			Instrument          string
			ErrorRates          string
		}
		if err := e.Decode(&s); err != nil {
			return fmt.Errorf("evidence %d: %w", e.Seq, err)
		}
		m.Baseline, m.Candidate = (*side)(&s.Baseline), (*side)(&s.Candidate)
		m.Instrument, m.ErrorRates = s.Instrument, s.ErrorRates
		return nil
	}
	return nil
}

func digestOf(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}
