package face_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/pqtls/ocsp"
	"github.com/assay-bench/assay/reference/pqtls/pki"
	"github.com/assay-bench/assay/reference/tpm"
	"github.com/assay-bench/assay/reference/tpm/face"
)

// object is a JSON object of the API.
type object = map[string]any

// bench is a face, and a simulator of the test's on a unix socket.
type bench struct {
	t      *testing.T
	face   *face.Face
	sim    *tpm.Simulator
	fault  *tpm.Fault
	socket string
}

func newBench(t *testing.T, defects ...defect.Name) *bench {
	t.Helper()
	f, err := face.Start(t.Context(), face.Config{Defects: defect.Of(defects...)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	sim := simulator(t)
	fault := tpm.NewFault(sim)
	t.Cleanup(func() {
		if err := fault.Close(); err != nil {
			t.Error(err)
		}
	})
	return &bench{t, f, sim, fault, device(t, fault)}
}

// simulator opens the process's simulator, or skips the test where there is none; with CI set there must
// be.
func simulator(t testing.TB) *tpm.Simulator {
	t.Helper()
	sim, err := tpm.OpenSimulator()
	if err == nil {
		return sim
	}
	if os.Getenv("CI") != "" || errors.Is(err, tpm.ErrSimulatorBusy) {
		t.Fatalf("open simulator: %v", err)
	}
	t.Skipf("NOT TESTED: %v", err)
	return nil
}

// device serves a TPM on a unix socket, any number of commands on each connection.
func device(t *testing.T, backend tpm.Backend) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tpm") // t.TempDir may be too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = l.Close()
		_ = os.RemoveAll(dir)
	})
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				for buf := make([]byte, 4096); ; {
					n, err := conn.Read(buf)
					if err != nil {
						return
					}
					response, err := backend.Send(buf[:n])
					if err != nil {
						return
					}
					if _, err := conn.Write(response); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

func (b *bench) post(path string, body object) (int, object) {
	b.t.Helper()
	encoded, err := json.Marshal(body)
	if err != nil {
		b.t.Fatal(err)
	}
	res, err := http.Post("http://"+b.face.Addr()+path, "application/json", bytes.NewReader(encoded))
	if err != nil {
		b.t.Fatalf("POST %s: %v", path, err)
	}
	defer func() { _ = res.Body.Close() }()
	var a object
	if err := json.NewDecoder(res.Body).Decode(&a); err != nil {
		b.t.Fatalf("POST %s: %v", path, err)
	}
	return res.StatusCode, a
}

// call is a call that must be well-formed.
func (b *bench) call(path string, body object) object {
	b.t.Helper()
	status, a := b.post(path, body)
	if status != http.StatusOK {
		b.t.Fatalf("POST %s: %d %v", path, status, a)
	}
	return a
}

func code(a object) string {
	if e, ok := a["error"].(object); ok {
		return e["code"].(string)
	}
	return ""
}

// open opens a session on the test's TPM.
func (b *bench) open(more object) object {
	b.t.Helper()
	q := object{"socket": b.socket, "dir": b.t.TempDir(), "mode": "entry", "tpmDeadlineMillis": 20_000}
	for k, v := range more {
		q[k] = v
	}
	a := b.call("/open", q)
	if code(a) != "" {
		b.t.Fatalf("open: %v", a)
	}
	return a
}

func (b *bench) extend(pcr int) {
	b.t.Helper()
	digest := sha256.Sum256([]byte("another firmware"))
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: digest[:]}}},
	}.Execute(b.sim)
	if err != nil {
		b.t.Fatal(err)
	}
}

// responder answers for the leaf of whatever session it is told of.
type responder struct {
	t     *testing.T
	url   string
	asked atomic.Int64
	sign  atomic.Pointer[ocsp.Signer]
}

func newResponder(t *testing.T) *responder {
	r := &responder{t: t}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	r.url = server.URL + "/"
	return r
}

// answerFor takes the key from the answer of /open.
func (r *responder) answerFor(opened object) {
	r.t.Helper()
	issuers, err := pki.ParsePEM(opened["issuer"].(string))
	if err != nil {
		r.t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(opened["issuerKey"].(string)))
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		r.t.Fatal(err)
	}
	r.sign.Store(&ocsp.Signer{Key: key.(crypto.Signer), Certificate: issuers[0]})
}

func (r *responder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.asked.Add(1)
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	q, err := ocsp.ParseRequest(body)
	signer := r.sign.Load()
	if err != nil || signer == nil {
		http.Error(w, "no answer", http.StatusInternalServerError)
		return
	}
	now := time.Now().Truncate(time.Second)
	der, err := ocsp.Sign(ocsp.Template{ProducedAt: now, Singles: []ocsp.Single{{
		ID: q.IDs[0], Status: ocsp.Good, ThisUpdate: now, NextUpdate: now.Add(time.Hour),
	}}}, *signer)
	if err != nil {
		r.t.Error(err)
	}
	_, _ = w.Write(der)
}

func soon() string { return time.Now().Add(time.Hour).Format(time.RFC3339) }

func TestCacheCalls(t *testing.T) {
	b, r := newBench(t), newResponder(t)
	opened := b.open(object{"responder": r.url})
	r.answerFor(opened)
	if opened["backend"] != "socket" || opened["id"] != "leaf" || opened["tls"] != nil {
		t.Errorf("opened %v", opened)
	}
	session := opened["session"]
	data := []byte("a response")
	if a := b.call("/store", object{"session": session, "id": "leaf", "response": data, "nextUpdate": soon()}); len(a) != 0 {
		t.Errorf("store: %v", a)
	}
	get := func() (string, []byte, string) {
		t.Helper()
		a := b.call("/get", object{"session": session, "id": "leaf"})
		var response []byte
		if encoded, err := json.Marshal(a["response"]); err != nil || json.Unmarshal(encoded, &response) != nil {
			t.Fatal(a)
		}
		return a["source"].(string), response, code(a)
	}
	if source, got, code := get(); source != "cache" || !bytes.Equal(got, data) || code != "" {
		t.Errorf("%s %q %s", source, got, code)
	}
	b.extend(2)
	if source, got, code := get(); source != "responder" || bytes.Equal(got, data) || code != "TPM_RC_POLICY_FAIL" {
		t.Errorf("%s %q %s", source, got, code)
	}
	if source, _, code := get(); source != "cache" || code != "" {
		t.Errorf("%s %s", source, code)
	}
	status := b.call("/status", object{"session": session})
	if status["entries"] != 1.0 || status["responder"] != 1.0 || status["handles"] != 1.0 || status["mode"] != "entry" ||
		status["errors"].(object)["TPM_RC_POLICY_FAIL"] != 1.0 || status["backend"] != "socket" {
		t.Errorf("status %v", status)
	}
	r.sign.Store(nil)
	b.extend(2)
	if source, got, code := get(); source != "none" || got != nil || code != "TPM_RC_POLICY_FAIL" {
		t.Errorf("%s %q %s", source, got, code)
	}
	late := time.Now().Add(5 * time.Hour).Format(time.RFC3339)
	if a := b.call("/store", object{"session": session, "id": "x", "response": data, "nextUpdate": late}); code(a) != "entry_too_long" {
		t.Errorf("store: %v", a)
	}
	sealed := b.call("/seal", object{"session": session, "data": data})
	unsealed := b.call("/unseal", object{"session": session, "blob": sealed["blob"]})
	if want, _ := json.Marshal(data); fmt.Sprintf("%q", unsealed["data"]) != string(want) {
		t.Errorf("unsealed %v", unsealed)
	}
	if a := b.call("/seal", object{"session": session, "data": make([]byte, 129)}); code(a) != "TPM_RC_SIZE" {
		t.Errorf("seal: %v", a)
	}
	if a := b.call("/unseal", object{"session": session, "blob": []byte("blob")}); code(a) != "entry_tampered" {
		t.Errorf("unseal: %v", a)
	}
	b.call("/close", object{"session": session})
	if status, a := b.post("/get", object{"session": session, "id": "leaf"}); status != 404 || code(a) != "unknown_session" {
		t.Errorf("%d %v", status, a)
	}
}

// TestUnverifiedResponder has the responder sign with a key that is not the issuer's.
func TestUnverifiedResponder(t *testing.T) {
	b, r := newBench(t), newResponder(t)
	opened := b.open(object{"responder": r.url})
	r.answerFor(b.open(nil))
	if a := b.call("/get", object{"session": opened["session"], "id": "leaf"}); a["source"] != "none" || r.asked.Load() != 1 {
		t.Errorf("%v after %d questions", a, r.asked.Load())
	}
}

func handshake(t *testing.T, address any) tls.ConnectionState {
	t.Helper()
	dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}} // the staple is what matters here
	conn, err := dialer.DialContext(t.Context(), "tcp", address.(string))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	return conn.(*tls.Conn).ConnectionState()
}

func TestServe(t *testing.T) { // tpm/fault/latency
	b, r := newBench(t), newResponder(t)
	opened := b.open(object{"responder": r.url, "serve": true, "tpmDeadlineMillis": 400})
	r.answerFor(opened)
	state := handshake(t, opened["tls"])
	leaf := state.PeerCertificates[0]
	if _, err := ocsp.Verify(state.OCSPResponse, leaf, state.PeerCertificates[1], time.Now(), ocsp.Options{}); err != nil {
		t.Error(err)
	}
	if pki.EncodePEM(leaf) != opened["leaf"] || r.asked.Load() != 1 {
		t.Errorf("another leaf, or %d questions", r.asked.Load())
	}
	data := []byte("whatever was stored")
	if a := b.call("/store", object{"session": opened["session"], "id": "leaf", "response": data, "nextUpdate": soon()}); code(a) != "" {
		t.Fatal(a)
	}
	if got := handshake(t, opened["tls"]).OCSPResponse; !bytes.Equal(got, data) {
		t.Errorf("stapled %q", got)
	}
	b.fault.Delay(tpm.AnyCommand, time.Hour, tpm.Forever)
	start := time.Now()
	if got := handshake(t, opened["tls"]).OCSPResponse; bytes.Equal(got, data) || len(got) == 0 {
		t.Errorf("with a hung TPM stapled %q", got)
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("a hung TPM held a handshake for %v", took)
	}
	r.sign.Store(nil)
	if got := handshake(t, opened["tls"]).OCSPResponse; len(got) != 0 {
		t.Errorf("without TPM and responder stapled %q", got)
	}
	b.fault.Clear()
}

func (b *bench) quote(session any) object {
	b.t.Helper()
	q := b.call("/quote", object{"session": session, "nonce": []byte("nonce"), "pcrs": []int{0, 2}})
	q["session"], q["nonce"] = session, []byte("nonce")
	zero := hex.EncodeToString(make([]byte, 32))
	q["pcrs"] = object{"0": zero, "2": zero}
	return q
}

func TestQuoteCalls(t *testing.T) {
	b := newBench(t)
	session := b.open(nil)["session"]
	first := b.call("/verify", b.quote(session))
	if first["ok"] != true || first["changed"] != false {
		t.Fatalf("%v", first)
	}
	if err := b.sim.Reset(); err != nil {
		t.Fatal(err)
	}
	second := b.call("/verify", b.quote(session))
	if second["ok"] != true || second["changed"] != true || second["resetCount"] != first["resetCount"].(float64)+1 {
		t.Errorf("%v after %v", second, first)
	}
	q := b.quote(session)
	q["nonce"] = []byte("other")
	if a := b.call("/verify", q); a["ok"] != false || code(a) != "quote_nonce" {
		t.Errorf("%v", a)
	}
	b.extend(2)
	if a := b.call("/verify", b.quote(session)); a["ok"] != false || code(a) != "quote_digest" {
		t.Errorf("%v", a)
	}
	q["pcrs"] = object{"zero": "00"}
	if status, a := b.post("/verify", q); status != 400 {
		t.Errorf("%d %v", status, a)
	}
}

func TestRefusals(t *testing.T) {
	b := newBench(t)
	dir := t.TempDir()
	for want, q := range map[string]object{
		"tpm_unavailable": {"socket": "relative", "dir": dir},
		"entry_storage":   {"socket": b.socket, "dir": "relative"},
	} {
		if a := b.call("/open", q); code(a) != want {
			t.Errorf("open %v: %v", q, a)
		}
	}
	for _, q := range []object{
		{"socket": b.socket, "dir": dir, "mode": "both"},
		{"socket": b.socket, "dir": dir, "responder": "file:///etc/passwd"},
		{"socket": b.socket, "dir": dir, "tpmDeadlineMillis": -1},
		{"socket": 1},
	} {
		if status, a := b.post("/open", q); status != 400 || code(a) != "bad_request" {
			t.Errorf("open %v: %d %v", q, status, a)
		}
	}
	for range 16 {
		b.open(nil)
	}
	if status, a := b.post("/open", object{"socket": b.socket, "dir": dir}); status != 429 || code(a) != "too_many_sessions" {
		t.Errorf("%d %v", status, a)
	}
	for _, path := range []string{"/store", "/get", "/seal", "/unseal", "/quote", "/verify", "/status", "/close"} {
		if status, a := b.post(path, object{"session": "99"}); status != 404 || code(a) != "unknown_session" {
			t.Errorf("%s: %d %v", path, status, a)
		}
	}
	if err := b.face.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestDefects(t *testing.T) {
	cases := map[defect.Name]func(*testing.T, *bench){
		defect.TPMCacheAbsent: func(t *testing.T, b *bench) {
			session := b.open(nil)["session"]
			for _, path := range []string{"/store", "/get", "/seal", "/unseal"} {
				if status, a := b.post(path, object{"session": session}); status != 501 {
					t.Errorf("%s: %d %v", path, status, a)
				}
			}
			if a := b.call("/verify", b.quote(session)); a["ok"] != true {
				t.Errorf("%v", a)
			}
		},
		defect.TPMQuoteAbsent: func(t *testing.T, b *bench) {
			session := b.open(nil)["session"]
			for _, path := range []string{"/quote", "/verify"} {
				if status, a := b.post(path, object{"session": session}); status != 501 {
					t.Errorf("%s: %d %v", path, status, a)
				}
			}
		},
		defect.TPMBackendUnlabelled: func(t *testing.T, b *bench) {
			opened := b.open(nil)
			if status := b.call("/status", object{"session": opened["session"]}); opened["backend"] != nil || status["backend"] != nil {
				t.Errorf("%v", status)
			}
		},
		defect.TPMResetHidden: func(t *testing.T, b *bench) {
			session := b.open(nil)["session"]
			first := b.call("/verify", b.quote(session))
			if err := b.sim.Reset(); err != nil {
				t.Fatal(err)
			}
			if a := b.call("/verify", b.quote(session)); a["ok"] != true || a["changed"] != false || a["resetCount"] != first["resetCount"] {
				t.Errorf("%v", a)
			}
		},
		defect.TPMResponderSkipped: func(t *testing.T, b *bench) {
			r := newResponder(t)
			opened := b.open(object{"responder": r.url})
			r.answerFor(opened)
			if a := b.call("/get", object{"session": opened["session"], "id": "leaf"}); a["source"] != "none" || r.asked.Load() != 0 {
				t.Errorf("%v", a)
			}
		},
		defect.TPMWaitsForTpm: func(t *testing.T, b *bench) {
			opened := b.open(object{"serve": true, "tpmDeadlineMillis": 100})
			b.call("/store", object{"session": opened["session"], "id": "leaf", "response": []byte("x"), "nextUpdate": soon()})
			b.fault.Delay(tpm2.TPMCCLoad, 600*time.Millisecond, 1)
			start := time.Now()
			handshake(t, opened["tls"])
			if took := time.Since(start); took < 500*time.Millisecond {
				t.Errorf("the handshake took %v", took)
			}
			b.fault.Delay(tpm.AnyCommand, time.Hour, tpm.Forever)
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
			if _, err := dialer.DialContext(ctx, "tcp", opened["tls"].(string)); err == nil {
				t.Error("the handshake did not wait")
			}
			b.call("/close", object{"session": opened["session"]}) // ends what waits
		},
	}
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
	for name, check := range cases {
		t.Run(string(name), func(t *testing.T) { check(t, newBench(t, name)) })
	}
}
