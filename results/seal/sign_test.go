package seal_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	testresult "github.com/in-toto/attestation/go/predicates/test_result/v0"
	intoto "github.com/in-toto/attestation/go/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/results/seal"
)

func newSigner(t testing.TB) *seal.Signer {
	t.Helper()
	s, err := seal.NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// finished writes a bundle with these verdicts, seals it and reads it.
func finished(t testing.TB, run results.Run, verdicts ...results.Verdict) *results.Bundle {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "out")
	run.APIVersion = results.APIVersion
	w, err := results.Create(dir, run)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Evidence().Write([]byte(gateStarted)); err != nil {
		t.Fatal(err)
	}
	v := results.Verdicts{APIVersion: results.APIVersion, Verdicts: verdicts}
	v.Exit = results.ExitOf(verdicts, func(results.Verdict) bool { return true })
	if err := errors.Join(w.WriteVerdicts(v, 1), w.Close(), seal.Write(dir, run.Suite.Digest, 1)); err != nil {
		t.Fatal(err)
	}
	return reopen(t, dir)
}

// Digests have the length of a SHA-256: in-toto's types refuse others.
var programDigest, suiteDigest = strings.Repeat("bb", 32), strings.Repeat("5d", 32)

const gateStarted = `{"seq":1,"at":1,"source":"harness","check":"gate","kind":"started","data":{"baseline":{"given":"v1","revision":"c0ffee","digest":"aa"},"candidate":{"given":".","digest":"bb"},"instrument":"duet/2","errorRates":"0 of 300"}}` + "\n"

func reopen(t testing.TB, dir string) *results.Bundle {
	t.Helper()
	b, err := results.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// verdict is one of a status, with what each must have.
func verdict(check string, s results.Status) results.Verdict {
	return results.Verdict{Check: check, Case: "c", Under: "net/delay", Status: s, Reason: "said", Cites: []uint64{1}}
}

var measuredVerdict = results.Verdict{
	Check: "gate/echo", Case: "p50", Status: results.Pass, Cites: []uint64{1},
	Figures: []results.Figure{{Name: "change", Value: 0.01, Unit: "ratio"}, {Name: "upper", Value: 0.02, Unit: "ratio"}},
}

var programRun = results.Run{
	Kind: "gate", Suite: results.Suite{Version: "1", Digest: suiteDigest},
	Target: results.Target{Name: "./server", Kind: "command", Digest: programDigest}, Host: results.Host{CPU: "a", Cores: 2},
}

func signed(t testing.TB, s *seal.Signer, b *results.Bundle) *results.Bundle {
	t.Helper()
	if err := s.Sign(b); err != nil {
		t.Fatal(err)
	}
	return b
}

// check verifies signatures and then what is signed.
func check(keys seal.Keys, b *results.Bundle) error {
	s, err := keys.Signatures(b.Dir)
	if err != nil {
		return err
	}
	return s.Check(b, true)
}

func TestSignVerify(t *testing.T) {
	s := newSigner(t)
	b := signed(t, s, finished(t, programRun, measuredVerdict))
	if err := check(s.Keys(), b); err != nil {
		t.Fatal(err)
	}
	first := map[string][]byte{}
	for _, file := range []string{seal.StatementFile, seal.MeasurementFile} {
		raw, err := os.ReadFile(filepath.Join(b.Dir, file))
		if err != nil {
			t.Fatal(err)
		}
		first[file] = raw
	}
	signed(t, s, b)
	for file, raw := range first {
		if again, err := os.ReadFile(filepath.Join(b.Dir, file)); err != nil || !bytes.Equal(again, raw) {
			t.Errorf("%s: signed twice, the bytes differ (%v)", file, err)
		}
	}
	if _, err := seal.Check(b.Dir); err != nil {
		t.Errorf("signing has changed what is sealed: %v", err)
	}
	if err := check(newSigner(t).Keys(), b); !errors.Is(err, seal.ErrSignature) {
		t.Errorf("another publisher's keys: error %v", err)
	}
}

func envelopeOf(t testing.TB, path string) map[string]any {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var e map[string]any
	if err := json.Unmarshal(raw, &e); err != nil {
		t.Fatal(err)
	}
	return e
}

func payloadOf(t testing.TB, path string) []byte {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(envelopeOf(t, path)["payload"].(string))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// report/statement/both-signatures: DSSE v1; each of the two must be there, be right, and be by the expected key.
func TestBothSignatures(t *testing.T) {
	s, other := newSigner(t), newSigner(t)
	for _, file := range []string{seal.StatementFile, seal.MeasurementFile} {
		b := signed(t, s, finished(t, programRun, measuredVerdict))
		path := filepath.Join(b.Dir, file)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		foreign := envelopeOf(t, filepath.Join(signed(t, other, finished(t, programRun, measuredVerdict)).Dir, file))["signatures"].([]any)
		for name, bend := range map[string]func(e map[string]any, sigs []any){
			"the first stripped":  func(e map[string]any, sigs []any) { e["signatures"] = sigs[1:] },
			"the second stripped": func(e map[string]any, sigs []any) { e["signatures"] = sigs[:1] },
			"both stripped":       func(e map[string]any, sigs []any) { e["signatures"] = []any{} },
			"no list":             func(e map[string]any, sigs []any) { delete(e, "signatures") },
			"the first twice":     func(e map[string]any, sigs []any) { e["signatures"] = []any{sigs[0], sigs[0]} },
			"the second twice":    func(e map[string]any, sigs []any) { e["signatures"] = []any{sigs[1], sigs[1]} },
			"three":               func(e map[string]any, sigs []any) { e["signatures"] = append(sigs, sigs[0]) },
			"first corrupt":       func(_ map[string]any, sigs []any) { corrupt(sigs[0]) },
			"second corrupt":      func(_ map[string]any, sigs []any) { corrupt(sigs[1]) },
			"first foreign":       func(_ map[string]any, sigs []any) { sigs[0] = foreign[0] },
			"second foreign":      func(_ map[string]any, sigs []any) { sigs[1] = foreign[1] },
			"first foreign under our id": func(_ map[string]any, sigs []any) {
				sigs[0].(map[string]any)["sig"] = foreign[0].(map[string]any)["sig"]
			},
			"second foreign, no id": func(_ map[string]any, sigs []any) {
				sigs[1] = map[string]any{"keyid": "", "sig": foreign[1].(map[string]any)["sig"]}
			},
			"another type": func(e map[string]any, _ []any) { e["payloadType"] = "application/json" },
			"another payload": func(e map[string]any, _ []any) {
				e["payload"] = base64.StdEncoding.EncodeToString(append(payloadOf(t, path), ' '))
			},
		} {
			e := envelopeOf(t, path)
			bend(e, e["signatures"].([]any))
			raw, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, raw, 0o644); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Keys().Signatures(b.Dir); !errors.Is(err, seal.ErrSignature) || !strings.Contains(err.Error(), file) {
				t.Errorf("%s, %s: error %v", file, name, err)
			}
			if err := os.WriteFile(path, good, 0o644); err != nil {
				t.Fatal(err)
			}
			if err := check(s.Keys(), b); err != nil {
				t.Fatalf("put back: %v", err)
			}
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := check(s.Keys(), b); !errors.Is(err, seal.ErrSignature) || !strings.Contains(err.Error(), file) {
			t.Errorf("%s removed: error %v", file, err)
		}
	}
}

func corrupt(sig any) {
	m := sig.(map[string]any)
	raw, _ := base64.StdEncoding.DecodeString(m["sig"].(string)) // made by this test
	raw[len(raw)/2] ^= 1
	m["sig"] = base64.StdEncoding.EncodeToString(raw)
}

// report/statement/bound: the subjects are the digests of bundle and target, in-toto's own types read both statements, and a
// statement does not hold for another bundle.
func TestStatementIsBound(t *testing.T) {
	s := newSigner(t)
	b := signed(t, s, finished(t, programRun, measuredVerdict))
	for file, kind := range map[string]string{
		seal.StatementFile: "https://in-toto.io/attestation/test-result/v0.1", seal.MeasurementFile: "https://github.com/assay-bench/assay/measurement/v0.1",
	} {
		var st intoto.Statement
		if err := protojson.Unmarshal(payloadOf(t, filepath.Join(b.Dir, file)), &st); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if err := st.Validate(); err != nil || st.PredicateType != kind {
			t.Errorf("%s: %v, predicate %q", file, err, st.PredicateType)
		}
		got := map[string]string{}
		for _, d := range st.Subject {
			got[d.Name] = d.Digest["sha256"]
		}
		if diff := cmp.Diff(map[string]string{"bundle": b.Digest, "./server": programDigest}, got); diff != "" {
			t.Errorf("%s: subjects (-want +got):\n%s", file, diff)
		}
	}
	changed := programRun
	changed.Seed++
	other := finished(t, changed, measuredVerdict)
	for _, file := range []string{seal.StatementFile, seal.MeasurementFile} {
		raw, err := os.ReadFile(filepath.Join(b.Dir, file))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(other.Dir, file), raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := check(s.Keys(), other); !errors.Is(err, seal.ErrSignature) || !strings.Contains(err.Error(), "something else than this bundle") {
		t.Errorf("statements of another bundle: error %v", err)
	}
	if u, err := seal.Unverified(other.Dir); err != nil || u.Check(other, false) == nil {
		t.Errorf("statements of another bundle pass where signatures are not looked at (%v)", err)
	}
}

// A digest of a target file is not the target's: it is configuration, as policy and suite are.
func TestConfiguration(t *testing.T) {
	run := programRun
	run.Target.File = "target.yaml"
	b := signed(t, newSigner(t), finished(t, run, measuredVerdict))
	st := resultIn(t, b)
	got := map[string]string{}
	for _, d := range st.Configuration {
		got[d.Name] = d.Digest["sha256"]
	}
	if diff := cmp.Diff(map[string]string{"suite 1": suiteDigest, "target.yaml": programDigest}, got); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
}

func resultIn(t testing.TB, b *results.Bundle) *testresult.TestResult {
	t.Helper()
	var whole struct{ Predicate json.RawMessage }
	if err := json.Unmarshal(payloadOf(t, filepath.Join(b.Dir, seal.StatementFile)), &whole); err != nil {
		t.Fatal(err)
	}
	var r testresult.TestResult
	if err := protojson.Unmarshal(whole.Predicate, &r); err != nil {
		t.Fatal(err)
	}
	for _, d := range r.Configuration {
		if err := d.Validate(); err != nil {
			t.Errorf("configuration %s: %v", d.Name, err)
		}
	}
	return &r
}

// report/statement/result-mapping: each status in its list, Broken and Unproven in none, and PASSED only where nothing is
// open.
func TestResultMapping(t *testing.T) {
	named := func(s results.Status) results.Verdict { return verdict("a/"+s.String(), s) }
	pass, skip := named(results.Pass), named(results.NotClaimed)
	bent := programRun
	bent.Target.Defects = []string{"rpc.x"}
	for _, tt := range []struct {
		run      results.Run
		verdicts []results.Verdict
		want     string
	}{
		{programRun, []results.Verdict{pass}, "PASSED"},
		{programRun, []results.Verdict{pass, skip}, "PASSED"},
		{programRun, []results.Verdict{skip}, "WARNED"},
		{programRun, nil, "WARNED"},
		{programRun, []results.Verdict{pass, named(results.Inconclusive)}, "WARNED"},
		{programRun, []results.Verdict{pass, named(results.Broken)}, "WARNED"},
		{programRun, []results.Verdict{pass, named(results.Unproven)}, "WARNED"},
		{bent, []results.Verdict{pass}, "WARNED"},
		{programRun, []results.Verdict{pass, named(results.Fail)}, "FAILED"},
		{programRun, []results.Verdict{pass, skip, named(results.Fail), named(results.Broken), named(results.Unproven), named(results.Inconclusive)}, "FAILED"},
	} {
		b := signed(t, newSigner(t), finished(t, tt.run, tt.verdicts...))
		r := resultIn(t, b)
		if r.Result != tt.want {
			t.Errorf("%v: result %s, want %s", tt.verdicts, r.Result, tt.want)
		}
		lists := map[results.Status][]string{results.Pass: r.PassedTests, results.Fail: r.FailedTests, results.Inconclusive: r.WarnedTests}
		for _, v := range tt.verdicts {
			name := v.Key().String()
			for _, status := range slices.Collect(maps.Keys(lists)) {
				if in := slices.Contains(lists[status], name); in != (status == v.Status) {
					t.Errorf("%s is %s, and in the list of %s: %v", name, v.Status, status, in)
				}
			}
		}
		if n := len(r.PassedTests) + len(r.FailedTests) + len(r.WarnedTests); n > len(tt.verdicts) {
			t.Errorf("%d names of %d verdicts", n, len(tt.verdicts))
		}
	}
}

func TestMeasurement(t *testing.T) {
	b := signed(t, newSigner(t), finished(t, programRun, measuredVerdict, verdict("gate/x", results.Broken), verdict("gate/y", results.Unproven)))
	var got struct {
		Predicate struct {
			Kind                   string
			Host                   results.Host
			Baseline, Candidate    map[string]string
			Instrument, ErrorRates string
			Metrics                []struct {
				Name, Status string
				Figures      []results.Figure
			}
			Broken, Unproven []string
		}
	}
	if err := json.Unmarshal(payloadOf(t, filepath.Join(b.Dir, seal.MeasurementFile)), &got); err != nil {
		t.Fatal(err)
	}
	p := got.Predicate
	if p.Kind != "gate" || p.Host.Cores != 2 || p.Baseline["sha256"] != "aa" || p.Baseline["revision"] != "c0ffee" || p.Candidate["given"] != "." ||
		p.Instrument != "duet/2" || p.ErrorRates != "0 of 300" || len(p.Broken) != 1 || len(p.Unproven) != 1 {
		t.Errorf("%+v", p)
	}
	if len(p.Metrics) != 1 || p.Metrics[0].Name != "gate/echo#p50" || p.Metrics[0].Status != "pass" || !slices.Equal(p.Metrics[0].Figures, measuredVerdict.Figures) {
		t.Errorf("metrics %+v", p.Metrics)
	}

	s := newSigner(t)
	bare := signed(t, s, finished(t, programRun, verdict("a/b", results.Pass)))
	if _, err := os.Stat(filepath.Join(bare.Dir, seal.MeasurementFile)); err == nil {
		t.Error("a bundle without figures has a measurement")
	}
	if err := check(s.Keys(), bare); err != nil {
		t.Error(err)
	}
	raw, err := os.ReadFile(filepath.Join(signed(t, s, finished(t, programRun, measuredVerdict)).Dir, seal.MeasurementFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bare.Dir, seal.MeasurementFile), raw, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := check(s.Keys(), bare); !errors.Is(err, seal.ErrSignature) {
		t.Errorf("a measurement of another bundle beside one without figures: error %v", err)
	}
}

func TestOnlyFinishedBundlesAreSigned(t *testing.T) {
	b := finished(t, programRun, measuredVerdict)
	if err := os.Remove(filepath.Join(b.Dir, results.VerdictsFile)); err != nil {
		t.Fatal(err)
	}
	if err := newSigner(t).Sign(reopen(t, b.Dir)); !errors.Is(err, seal.ErrOpen) {
		t.Errorf("without verdicts: %v", err)
	}
	b = finished(t, programRun, measuredVerdict)
	if err := os.Remove(filepath.Join(b.Dir, results.ManifestFile)); err != nil {
		t.Fatal(err)
	}
	if err := newSigner(t).Sign(reopen(t, b.Dir)); !errors.Is(err, seal.ErrOpen) {
		t.Errorf("without a manifest: %v", err)
	}
}

func TestKeyFiles(t *testing.T) {
	s := newSigner(t)
	private, err := s.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	public, err := s.Keys().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, err := seal.ParseSigner(private)
	if err != nil || again.Keys().Fingerprint() != s.Keys().Fingerprint() {
		t.Fatalf("the private keys read again: %v", err)
	}
	keys, err := seal.ParseKeys(public)
	if err != nil || keys.Fingerprint() != s.Keys().Fingerprint() || len(keys.Fingerprint()) != 64 {
		t.Fatalf("the public keys read again: %v", err)
	}
	if newSigner(t).Keys().Fingerprint() == keys.Fingerprint() {
		t.Error("two pairs have one fingerprint")
	}
	half := func(file []byte) (first, second []byte) {
		i := bytes.Index(file[1:], []byte("-----BEGIN")) + 1
		return file[:i], file[i:]
	}
	p1, p2 := half(private)
	q1, q2 := half(public)
	for name, file := range map[string][]byte{
		"empty": nil, "no PEM": []byte("key"), "one key": p1, "the other": p2, "twice the first": slices.Concat(p1, p1),
		"three": slices.Concat(private, p1), "public": public, "mixed": slices.Concat(p1, q2), "too long": bytes.Repeat(private, 100),
		"not PKCS #8": []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
	} {
		if got, err := seal.ParseSigner(file); !errors.Is(err, seal.ErrKey) || got != nil {
			t.Errorf("private, %s: error %v", name, err)
		}
	}
	for name, file := range map[string][]byte{
		"empty": nil, "one key": q1, "the other": q2, "twice the second": slices.Concat(q2, q2), "private": private, "too long": bytes.Repeat(public, 100),
		"not an SPKI": []byte("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"),
	} {
		if _, err := seal.ParseKeys(file); !errors.Is(err, seal.ErrKey) {
			t.Errorf("public, %s: error %v", name, err)
		}
	}
}

// Another implementation, OpenSSL in Node, reads the public keys and verifies both signatures over DSSE's encoding.
func TestNodeVerifies(t *testing.T) {
	node, err := exec.LookPath("node26")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("node26 is missing, which CI installs")
		}
		t.Skip("node26 is not here")
	}
	s := newSigner(t)
	b := signed(t, s, finished(t, programRun, measuredVerdict))
	public, err := s.Keys().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	keys, script := filepath.Join(t.TempDir(), "key.pub"), filepath.Join(t.TempDir(), "verify.mjs")
	if err := errors.Join(os.WriteFile(keys, public, 0o644), os.WriteFile(script, []byte(nodeVerify), 0o644)); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{seal.StatementFile, seal.MeasurementFile} {
		out, err := exec.Command(node, script, filepath.Join(b.Dir, file), keys).CombinedOutput()
		if want := "ed25519 true\nml-dsa-65 true\ned25519 bent false\nml-dsa-65 bent false\n"; err != nil || string(out) != want {
			t.Errorf("%s: %v, node says\n%s", file, err, out)
		}
	}
}

const nodeVerify = `
import { createPublicKey, verify } from 'node:crypto'
import { readFileSync } from 'node:fs'
const e = JSON.parse(readFileSync(process.argv[2]))
const keys = readFileSync(process.argv[3], 'utf8').match(/-----BEGIN[^]*?-----END PUBLIC KEY-----/g).map(pem => createPublicKey(pem))
const body = Buffer.from(e.payload, 'base64')
const signed = bytes => Buffer.concat([Buffer.from('DSSEv1 ' + e.payloadType.length + ' ' + e.payloadType + ' ' + bytes.length + ' '), bytes])
const bent = Buffer.from(body); bent[5] ^= 1
for (const [said, bytes] of [['', body], [' bent', bent]])
  keys.forEach((key, i) => console.log(key.asymmetricKeyType + said, verify(null, signed(bytes), key, Buffer.from(e.signatures[i].sig, 'base64'))))
`

func FuzzKeys(f *testing.F) {
	s := newSigner(f)
	private, err := s.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	public, err := s.Keys().Marshal()
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range [][]byte{private, public, private[:200], public[:200], nil} {
		f.Add(file)
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		if s, err := seal.ParseSigner(file); err == nil {
			if _, err := s.Marshal(); err != nil {
				t.Errorf("read, but can not be written: %v", err)
			}
			s.Keys().Fingerprint()
		}
		if k, err := seal.ParseKeys(file); err == nil {
			if _, err := k.Marshal(); err != nil {
				t.Errorf("read, but can not be written: %v", err)
			}
		}
	})
}

func FuzzEnvelope(f *testing.F) {
	s := newSigner(f)
	b := signed(f, s, finished(f, programRun, measuredVerdict))
	path := filepath.Join(b.Dir, seal.StatementFile)
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"payloadType":"application/vnd.in-toto+json","payload":"e30=","signatures":[{"keyid":"","sig":""},{"keyid":"","sig":""}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if err := os.WriteFile(path, raw, 0o644); err != nil {
			t.Fatal(err)
		}
		signed, err := s.Keys().Signatures(b.Dir)
		if err == nil && signed.Check(b, true) != nil { // nobody can have signed anything else with these keys
			t.Errorf("a forged statement has both signatures:\n%s", raw)
		}
		if u, err := seal.Unverified(b.Dir); err == nil {
			_ = u.Check(b, false) // must only not panic
		}
	})
}
