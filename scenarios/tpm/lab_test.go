package tpm

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
)

func TestLabRecordsAndHidesSecrets(t *testing.T) {
	env, rec := newEnv(t)
	answers := map[string]string{
		"/open":  `{"session":"1","issuerKey":"very secret","leaf":"x"}`,
		"/list":  `["very secret"]`,
		"/error": `{"error":{"code":"TPM_RC_SIZE","text":"too long"}}`,
		"/big":   `{"source":"` + strings.Repeat("x", 2*maxRecorded) + `"}`,
		"/huge":  `{"source":"` + strings.Repeat("x", maxAnswer) + `"}`,
		"/text":  `hello`,
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := w.Write([]byte(answers[r.URL.Path])); err != nil {
			t.Log(err)
		}
	}))
	defer server.Close()
	env.Endpoints[Endpoint] = strings.TrimPrefix(server.URL, "http://")
	lab := NewLab(env)
	want := map[string]bool{"/open": true, "/list": false, "/error": true, "/big": true, "/huge": false, "/text": false, "/empty": false}
	for path, good := range want {
		var a Opened
		ok, err := lab.Do(t.Context(), path, path, time.Second, map[string]int{"a": 1}, &a)
		if err != nil || ok != good {
			t.Errorf("%s: %t, %v", path, ok, err)
		}
		if path == "/open" && a.IssuerKey != "very secret" {
			t.Error("the key did not come")
		}
	}
	calls := rec.of(Called)
	if len(calls) != len(want) {
		t.Fatalf("%d calls recorded", len(calls))
	}
	for _, e := range calls {
		if strings.Contains(string(e.Data), "very secret") && !strings.Contains(string(e.Data), "/list") || len(e.Data) > 2*maxRecorded {
			t.Errorf("recorded %.200s", e.Data)
		}
	}
}

func TestLabBoundsTheWait(t *testing.T) {
	env, rec := newEnv(t)
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer server.Close()
	defer close(release)
	for name, addr := range map[string]string{"mute": strings.TrimPrefix(server.URL, "http://"), "closed": "127.0.0.1:1", "no address": "", "garbage": "%%%"} {
		env.Endpoints[Endpoint] = addr
		var a Stored
		if ok, err := NewLab(env).Do(t.Context(), name, "/get", 50*time.Millisecond, nil, &a); ok || err != nil {
			t.Errorf("%s: %t, %v", name, ok, err)
		}
	}
	if n := len(rec.of(Called)); n != 4 {
		t.Errorf("%d calls recorded", n)
	}
}

func TestFolder(t *testing.T) {
	env, rec := newEnv(t)
	f, err := NewFolder(env)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := f.Remove(); err != nil {
			t.Error(err)
		}
	}()
	first := Snapshot{"a": []byte("first content of a"), "b": []byte("first content of b")}
	if err := f.Write(first); err != nil {
		t.Fatal(err)
	}
	if err := f.Write(Snapshot{"a": []byte("changed"), "c": []byte("new")}); err != nil {
		t.Fatal(err)
	}
	if err := f.Restore("back", first); err != nil {
		t.Fatal(err)
	}
	got, err := f.Snapshot()
	if err != nil || len(got) != 2 || string(got["a"]) != "first content of a" {
		t.Errorf("%v, %v", got, err)
	}
	if x := got.Flipped("a", 3); string(x["a"]) == string(got["a"]) || string(got["a"]) != "first content of a" {
		t.Error("flipped wrongly")
	}
	if x := got.Swapped("a", "b"); string(x["a"]) != "first content of b" || string(x["b"]) != "first content of a" {
		t.Error("swapped wrongly")
	}
	if len(rec.of(Meddled)) != 1 {
		t.Error("the restoring is not recorded")
	}
}

func TestSearchFindsEncodings(t *testing.T) {
	env, rec := newEnv(t)
	f, err := NewFolder(env)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := f.Remove(); err != nil {
			t.Error(err)
		}
	}()
	secret := []byte("0123456789abcdefghijklmnopqrstuvwxyz")
	texts := map[string]bool{
		"xx0123456789abcdefyy": true, "xx" + "30313233343536373839414243444546": false,
		"30313233343536373839616263646566": true, "AAECMDEyMzQ1Njc4OWFiY2RlZg==": true,
		"ODAxMjM0NTY3ODlhYmNkZWY=": true, "eDAxMjM0NTY3ODlhYmNkZWZn": true, "0123456789abcde": false, "": false,
	}
	for text, want := range texts {
		if err := f.Write(Snapshot{"file": []byte(text)}); err != nil {
			t.Fatal(err)
		}
		if err := f.Search(text, "the secret", secret); err != nil {
			t.Fatal(err)
		}
		found := rec.of(Searched)
		var s Search
		if err := found[len(found)-1].Decode(&s); err != nil || (s.Found != "") != want {
			t.Errorf("%q: found %q, %v", text, s.Found, err)
		}
	}
	if err := f.SearchBytes("blob", "the secret", secret, secret); err != nil {
		t.Fatal(err)
	}
}

func TestNames(t *testing.T) {
	if got := CommandName(0x15e); got != "Unseal" {
		t.Error(got)
	}
	if got := CommandName(0xffff); got != "0xffff" {
		t.Error(got)
	}
	for code, want := range map[uint32]string{0: "TPM_RC_SUCCESS", 0x921: "TPM_RC_LOCKOUT", 0x922: "TPM_RC_RETRY", 0x99d: "TPM_RC_POLICY_FAIL", 0x1df: "TPM_RC_INTEGRITY"} {
		if got := ResponseName(tpm2.TPMRC(code)); got != want {
			t.Errorf("%#x: %s, want %s", code, got, want)
		}
	}
}
