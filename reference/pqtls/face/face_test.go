package face_test

import (
	"bytes"
	"context"
	"crypto/mldsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/pqtls/face"
	"github.com/assay-bench/assay/reference/pqtls/ocsp"
	"github.com/assay-bench/assay/reference/pqtls/pki"
)

const patience = 10 * time.Second

func start(t testing.TB, defects ...defect.Name) *face.Face {
	t.Helper()
	f, err := face.Start(context.Background(), face.Config{Defects: defect.Of(defects...)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

// call makes a request of the lab and returns status and body.
func call(t testing.TB, f *face.Face, method, path, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, "http://"+f.Addresses().Lab+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	c := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

type fields map[string]any

// dial makes the lab dial; edit overrides fields.
func dial(t testing.TB, f *face.Face, edit fields) (answer struct {
	Connected, Retry, Resumed, Reused       bool
	Error                                   struct{ Code, Text string }
	Group, Class, Version, Received, Staple string
	Chain                                   int
}) {
	t.Helper()
	q := fields{"address": f.Addresses().TLS, "serverName": "server.test", "roots": f.Roots(), "policy": "prefer-pq", "send": "hello"}
	for k, v := range edit {
		q[k] = v
	}
	body, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	status, text := call(t, f, "POST", "/dial", string(body))
	if status != http.StatusOK {
		t.Fatalf("dial: %d %s", status, text)
	}
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&answer); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return answer
}

func TestDial(t *testing.T) {
	f := start(t)
	at := f.Addresses()
	cases := []struct {
		name string
		edit fields
		want string // group class version chain staple, or the code of the error
	}{
		{"default", nil, "X25519MLKEM768 pq 1.3 3 good"},
		{"every group: P-256", fields{"groups": []string{"SecP256r1MLKEM768"}}, "SecP256r1MLKEM768 pq 1.3 3 good"},
		{"every group: P-384", fields{"groups": []string{"SecP384r1MLKEM1024"}}, "SecP384r1MLKEM1024 pq 1.3 3 good"},
		{"every group: pure", fields{"groups": []string{"MLKEM1024"}}, "MLKEM1024 pq 1.3 3 good"},
		{"classical group", fields{"groups": []string{"P-384"}, "policy": "any"}, "P-384 classical 1.3 3 good"},
		{"staple required", fields{"staple": "require"}, "X25519MLKEM768 pq 1.3 3 good"},
		{"classical port", fields{"address": at.Classical}, "X25519 classical 1.3 3 good"},
		{"classical port, fail closed", fields{"address": at.Classical, "policy": "require-pq"}, "policy_refused"},
		{"ML-DSA port", fields{"address": at.MLDSA}, "X25519MLKEM768 pq 1.3 3 good"},
		{"mutual with a certificate", fields{"address": at.Mutual, "identity": true}, "X25519MLKEM768 pq 1.3 3 good"},
		{"mutual without", fields{"address": at.Mutual}, "alert"},
		{"expired staple", fields{"staple": "check", "at": time.Now().Add(5 * time.Hour)}, "staple_window"},
		{"other root", fields{"roots": ""}, "verify"},
		{"not loopback", fields{"address": "192.0.2.1:443"}, "dial_failed"},
		{"a name", fields{"address": "example.com:443"}, "dial_failed"},
		{"every address", fields{"address": "0.0.0.0:443"}, "dial_failed"},
		{"no listener", fields{"address": "127.0.0.1:1"}, "dial_failed"},
	}
	seen := 0
	for _, c := range cases {
		seen++
		got := dial(t, f, c.edit)
		text := got.Error.Code
		if got.Connected {
			text = fmt.Sprint(got.Group, " ", got.Class, " ", got.Version, " ", got.Chain, " ", got.Staple)
		}
		if text != c.want || got.Connected && got.Received != "hello" {
			t.Errorf("%s: %q, want %q: %+v", c.name, text, c.want, got)
		}
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
}

// TestPoolAndServerAgree: the counters of client and servers are those of the same handshakes.
func TestPoolAndServerAgree(t *testing.T) {
	f := start(t)
	pooled := fields{"pool": true, "alpn": []string{"echo"}}
	if got := dial(t, f, pooled); got.Reused || got.Chain != 3 {
		t.Errorf("first: %+v", got)
	}
	if got := dial(t, f, pooled); !got.Reused {
		t.Errorf("second: %+v", got)
	}
	if status, text := call(t, f, "POST", "/pool", `{"maxIdle":1,"idleTimeoutMillis":1}`); status != http.StatusOK {
		t.Fatalf("limits: %d %s", status, text)
	}
	idle := func() bool { _, text := call(t, f, "GET", "/pool", ""); return strings.Contains(text, `"idle":0`) }
	for end := time.Now().Add(patience); !idle(); {
		if time.Now().After(end) {
			t.Fatal("the connection stays idle")
		}
	}
	if got := dial(t, f, pooled); !got.Resumed || got.Reused {
		t.Errorf("third: %+v", got)
	}
	dial(t, f, fields{"groups": []string{"SecP384r1MLKEM1024", "P-256"}, "address": f.Addresses().Classical})
	var pool, server struct {
		Handshakes map[string]int
		Retries    int
		Resumed    map[string]int
	}
	for path, into := range map[string]any{"/pool": &pool, "/server": &server} {
		status, text := call(t, f, "GET", path, "")
		if err := json.Unmarshal([]byte(text), into); status != http.StatusOK || err != nil {
			t.Fatalf("%s: %d %s", path, status, text)
		}
	}
	if pool.Resumed["pq"] != 1 || pool.Retries != 1 || pool.Handshakes["X25519MLKEM768"] != 2 || pool.Handshakes["P-256"] != 1 {
		t.Errorf("pool %+v", pool)
	}
	delete(pool.Resumed, "classical") // a zero, which the server leaves out
	if diff := cmp.Diff(pool, server); diff != "" {
		t.Errorf("pool and server (-pool +server)\n%s", diff)
	}
	if status, _ := call(t, f, "POST", "/pool/reset", ""); status != http.StatusOK {
		t.Errorf("reset: %d", status)
	}
	want := `{"handshakes":{},"retries":0,"fallbacks":0,"resumed":{"pq":0,"classical":0},"reused":{"pq":0,"classical":0},` +
		`"requests":{"pq":0,"classical":0},"policyRefused":0,"idleClosed":0,"ageClosed":0,"errorClosed":0,"idle":0,"open":0}` + "\n"
	if _, text := call(t, f, "GET", "/pool", ""); text != want {
		t.Errorf("after a reset: %s", text)
	}
}

// TestIssue has a client key certified, uses it at the port that demands one, and revokes it.
func TestIssue(t *testing.T) {
	f := start(t)
	key, err := mldsa.GenerateKey(mldsa.MLDSA65())
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(fields{"csr": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr}))})
	if err != nil {
		t.Fatal(err)
	}
	status, text := call(t, f, "POST", "/issue", string(body))
	var issued struct{ Chain string }
	if err := json.Unmarshal([]byte(text), &issued); err != nil || status != http.StatusOK {
		t.Fatalf("issue: %d %s", status, text)
	}
	chain, err := pki.ParsePEM(issued.Chain)
	if err != nil || len(chain) != 2 || pki.CheckProfile(chain[0], pki.Client) != nil {
		t.Fatalf("chain of %d, %v", len(chain), err)
	}
	if err := greet(t, f, &tls.Certificate{Certificate: [][]byte{chain[0].Raw, chain[1].Raw}, PrivateKey: key}); err != nil {
		t.Errorf("the issued certificate is refused: %v", err)
	}
	serial := fmt.Sprintf(`{"serial":"%x"}`, chain[0].SerialNumber)
	if code := status1(ask(t, f, chain[0], chain[1])); code != ocsp.Good {
		t.Errorf("before: %v", code)
	}
	if status, text := call(t, f, "POST", "/revoke", serial); status != http.StatusOK {
		t.Errorf("revoke: %d %s", status, text)
	}
	if code := status1(ask(t, f, chain[0], chain[1])); code != ocsp.Revoked {
		t.Errorf("after: %v", code)
	}
}

func greet(t *testing.T, f *face.Face, own *tls.Certificate) error {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(f.Roots()))
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", f.Addresses().Mutual,
		&tls.Config{ServerName: face.ServerName, RootCAs: roots, Certificates: []tls.Certificate{*own}})
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write([]byte("hi")); err != nil {
		return err
	}
	_, err = io.ReadFull(conn, make([]byte, 2))
	return err
}

func ask(t *testing.T, f *face.Face, leaf, issuer *x509.Certificate) *ocsp.Response {
	t.Helper()
	_, text := call(t, f, "GET", "/ocsp", "")
	var at struct{ Responder string }
	if err := json.Unmarshal([]byte(text), &at); err != nil {
		t.Fatal(err)
	}
	der, _, err := ocsp.HTTP{URL: at.Responder}.Response(t.Context(), leaf, issuer)
	if err != nil {
		t.Fatal(err)
	}
	r, err := ocsp.ParseResponse(der)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func status1(r *ocsp.Response) ocsp.Status { return r.Singles[0].Status }

// TestResponderKnowsBothAuthorities asks over HTTP about the leaf of each chain, and refreshes after a
// revocation.
func TestResponderKnowsBothAuthorities(t *testing.T) {
	f := start(t)
	seen := 0
	for port, addr := range map[string]string{"classical": f.Addresses().Classical, "mldsa": f.Addresses().MLDSA} {
		seen++
		conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		st := conn.ConnectionState()
		_ = conn.Close()
		leaf, issuer := st.PeerCertificates[0], st.PeerCertificates[1]
		r := ask(t, f, leaf, issuer)
		if status1(r) != ocsp.Good {
			t.Errorf("%s: %v", port, status1(r))
		}
		if _, err := ocsp.Verify(st.OCSPResponse, leaf, issuer, time.Now(), ocsp.Options{}); err != nil {
			t.Errorf("%s: staple: %v", port, err)
		}
		if status, text := call(t, f, "POST", "/revoke", fmt.Sprintf(`{"serial":"%x"}`, leaf.SerialNumber)); status != http.StatusOK {
			t.Errorf("revoke: %d %s", status, text)
		}
		if status, text := call(t, f, "POST", "/ocsp/refresh", "{}"); status != http.StatusOK {
			t.Errorf("refresh: %d %s", status, text)
		}
		if got := dial(t, f, fields{"address": addr, "staple": "check"}); got.Error.Code != "staple_revoked" {
			t.Errorf("%s after the revocation: %+v", port, got)
		}
	}
	if seen == 0 {
		t.Fatal("no ports")
	}
}

func TestBadRequests(t *testing.T) {
	f := start(t)
	cases := []struct {
		method, path, body string
		status             int
		code               string
	}{
		{"POST", "/dial", `{"address":"127.0.0.1:1","colour":"red"}`, 400, "bad_request"},
		{"POST", "/dial", `{} {}`, 400, "bad_request"},
		{"POST", "/dial", `{}x`, 400, "bad_request"},
		{"POST", "/dial", `[]`, 400, "bad_request"},
		{"POST", "/dial", `{"policy":"perhaps"}`, 400, "bad_request"},
		{"POST", "/dial", `{"groups":["X448"]}`, 400, "bad_request"},
		{"POST", "/dial", `{"minVersion":"1.1"}`, 400, "bad_request"},
		{"POST", "/dial", `{"staple":"perhaps"}`, 400, "bad_request"},
		{"POST", "/dial", `{"roots":"none"}`, 400, "bad_request"},
		{"POST", "/dial", `{"at":"yesterday"}`, 400, "bad_request"},
		{"POST", "/dial", `{"alpn":[""]}`, 400, "bad_request"},
		{"POST", "/dial", `{"deadlineMillis":-1}`, 400, "bad_request"},
		{"POST", "/dial", `{"deadlineMillis":9223372036854775807}`, 400, "bad_request"},
		{"POST", "/dial", `{"send":"` + strings.Repeat("x", 1<<20) + `"}`, 413, "too_large"},
		{"POST", "/pool", `{"maxIdle":-1}`, 400, "bad_request"},
		{"POST", "/pool", `{"maxAgeMillis":-9223372036854775808}`, 400, "bad_request"},
		{"POST", "/pool", `{"idleTimeoutMillis":9223372036854775807}`, 400, "bad_request"},
		{"POST", "/issue", `{"csr":"none"}`, 400, "bad_request"},
		{"POST", "/revoke", `{"serial":"xyz"}`, 400, "bad_request"},
		{"POST", "/revoke", `{"serial":"-1"}`, 400, "bad_request"},
		{"POST", "/revoke", `{"serial":"` + strings.Repeat("1", 41) + `"}`, 400, "bad_request"},
		{"POST", "/revoke", `{"serial":"1234"}`, 404, "not_found"},
		{"GET", "/dial", ``, 404, "not_found"},
		{"DELETE", "/pool", ``, 404, "not_found"},
		{"GET", "/nowhere", ``, 404, "not_found"},
	}
	seen := 0
	for _, c := range cases {
		seen++
		status, text := call(t, f, c.method, c.path, c.body)
		var got struct{ Error struct{ Code, Text string } }
		if err := json.Unmarshal([]byte(text), &got); err != nil || status != c.status || got.Error.Code != c.code || got.Error.Text == "" {
			t.Errorf("%s %s %.60s: %d %s", c.method, c.path, c.body, status, text)
		}
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
}

// TestRandomBodies: no body ends the lab.
func TestRandomBodies(t *testing.T) {
	f := start(t)
	c := http.Client{Timeout: patience}
	defer c.CloseIdleConnections()
	random := mathrand.New(mathrand.NewPCG(1, 2))
	valid, err := json.Marshal(fields{"address": f.Addresses().TLS, "roots": f.Roots(), "groups": []string{"X25519"}, "send": "x", "at": time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	paths := []string{"/dial", "/pool", "/pool/reset", "/issue", "/revoke", "/ocsp/refresh"}
	for i := range 1000 {
		body := make([]byte, random.IntN(200))
		for j := range body {
			body[j] = byte(random.Uint32())
		}
		if i%2 == 0 { // a good one with a few bytes changed
			body = bytes.Clone(valid)
			for range 1 + random.IntN(4) {
				body[random.IntN(len(body))] = byte(random.Uint32())
			}
		}
		resp, err := c.Post("http://"+f.Addresses().Lab+paths[i%len(paths)], "application/json", bytes.NewReader(body))
		if err != nil {
			t.Fatalf("body %d: %v", i, err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode >= 500 {
			t.Errorf("body %d: %s", i, resp.Status)
		}
	}
	if got := dial(t, f, nil); !got.Connected {
		t.Errorf("afterwards: %+v", got)
	}
}

func TestPlantedAbsences(t *testing.T) {
	if got := dial(t, start(t, defect.TLSClientAbsent), nil); got.Connected || got.Error.Code != "dial_failed" || got.Error.Text != "never dials" {
		t.Errorf("absent client: %+v", got)
	}
	f := start(t, defect.PoolAbsent)
	for _, path := range []string{"/pool", "/server", "/ocsp"} {
		if status, text := call(t, f, "GET", path, ""); status != http.StatusNotFound {
			t.Errorf("absent lab: %d %s", status, text)
		}
	}
	if got := dial(t, start(t, defect.TLSAbsent), nil); got.Connected {
		t.Errorf("absent server: %+v", got)
	}
}

// TestEnd: nothing is left of a face, however it ends.
func TestEnd(t *testing.T) {
	for name, end := range map[string]func(*face.Face) error{
		"close": func(f *face.Face) error { f.Close(); return nil },
		"shutdown": func(f *face.Face) error {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			return f.Shutdown(ctx)
		},
	} {
		f := start(t)
		dial(t, f, fields{"pool": true})
		if err := end(f); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		left := ""
		for until := time.Now().Add(patience); time.Now().Before(until); time.Sleep(time.Millisecond) {
			if left = goroutines(); !strings.Contains(left, "reference/pqtls/") {
				break
			}
		}
		if strings.Contains(left, "reference/pqtls/") {
			t.Errorf("%s leaves goroutines:\n%s", name, left)
		}
		for _, addr := range []string{f.Addresses().TLS, f.Addresses().Mutual, f.Addresses().Lab, f.Addresses().Responder} {
			if conn, err := net.Dial("tcp", addr); err == nil {
				_ = conn.Close()
				t.Errorf("%s: %s still accepts", name, addr)
			}
		}
	}
}

// goroutines returns the stacks of all but the caller and its test runner.
func goroutines() string {
	buf := make([]byte, 1<<20)
	var others []string
	for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if !strings.Contains(g, "face_test.") {
			others = append(others, g)
		}
	}
	return strings.Join(others, "\n\n")
}

func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		start(b).Close()
	}
}
