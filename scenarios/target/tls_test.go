package target_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/scenarios/target"
	"github.com/assay-bench/assay/scenarios/target/targettest"
)

func rootPEM(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{Subject: pkix.Name{CommonName: "root"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func claimsOf(t *testing.T, f *target.File) target.Claims {
	t.Helper()
	tg, err := f.Target(target.Build{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := tg.Claims(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTLSClaims(t *testing.T) {
	dir, roots := t.TempDir(), rootPEM(t)
	write(t, filepath.Join(dir, "roots.pem"), roots)
	head := strings.Replace(served, "name: s", "name: s\nlimits: {answer: 1s}", 1)
	cases := []struct {
		name, text string
		want       *target.TLS
	}{
		{"all", head + "tls: {serverName: server.test, ca: roots.pem, app: http}\nhooks: {client: \"./dial.sh {endpoint.tls} {url} {port}\"}\n",
			&target.TLS{ServerName: "server.test", Roots: roots, App: "http", Client: "./dial.sh 127.0.0.1:8443 {url} {port}", Folder: dir}},
		{"no application", strings.Replace(head, ", tls.client", "", 1) + "tls: {app: none}\nhooks: {client: x}\n", &target.TLS{}},
		{"only a hook", "apiVersion: assay/v1\nkind: Target\nname: c\nrole: client\nclaims: [tls.client]\nhooks: {client: x}\n", &target.TLS{Client: "x", Folder: dir}},
		{"no TLS", remote + "hooks: {client: x}\n", nil},
	}
	for _, c := range cases {
		got := claimsOf(t, mustParse(t, filepath.Join(dir, "target.yaml"), c.text)).TLS
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
	raw, err := json.Marshal(target.TLS{Folder: dir})
	if err != nil || string(raw) != "{}" {
		t.Errorf("the folder of this host is written: %s, %v", raw, err)
	}
}

// What the file says of TLS replaces what the ready line says, field by field, and leaves it unchanged.
func TestTLSOverReadyLine(t *testing.T) {
	t.Parallel()
	line := `{"endpoints":{"tls":"127.0.0.1:1"},"claims":{"name":"l","features":["tls.server"],"tls":{"serverName":"from.line","roots":"R","app":"echo"}}}`
	dir := t.TempDir()
	targettest.Script(t, filepath.Join(dir, "run.sh"), "#!/bin/sh\necho '"+line+"'\ncat >/dev/null\n")
	seen := 0
	for tls, want := range map[string]target.TLS{
		"":                              {ServerName: "from.line", Roots: "R", App: "echo"},
		"tls: {app: none}\n":            {ServerName: "from.line", Roots: "R"},
		"tls: {serverName: by.file}\n":  {ServerName: "by.file", Roots: "R", App: "echo"},
		"claims: [tls.client]\n":        {ServerName: "from.line", Roots: "R", App: "echo", Client: "./d {url}", Folder: dir},
		"tls: {app: http}\nversion: v1": {ServerName: "from.line", Roots: "R", App: "http"},
	} {
		seen++
		f := mustParse(t, filepath.Join(dir, "target.yaml"), "apiVersion: assay/v1\nkind: Target\nname: l\nrole: endpoint\n"+
			"start: {command: [./run.sh], ready: {line: json}}\nhooks: {client: \"./d {url}\"}\n"+tls)
		tg, err := f.Target(target.Build{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tg.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			c, err := tg.Claims(t.Context())
			if diff := cmp.Diff(&want, c.TLS); diff != "" || err != nil {
				t.Errorf("%q: %v (-want +got):\n%s", tls, err, diff)
			}
		}
		if err := tg.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
}

func TestReadRoots(t *testing.T) {
	dir, root := t.TempDir(), rootPEM(t)
	good := write(t, filepath.Join(dir, "good.pem"), root+"\n# a comment\n"+root)
	if got, err := target.ReadRoots(good); err != nil || strings.Count(got, "BEGIN CERTIFICATE") != 2 {
		t.Errorf("roots = %.80q, %v", got, err)
	}
	cases := map[string]struct{ text, wrong string }{
		"empty.pem": {"", "holds no certificate"},
		"text.pem":  {"hello", "holds no certificate"},
		"key.pem":   {root + "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n", "keep certificates alone"},
		"bad.pem":   {"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "certificate 0"},
		"large.pem": {strings.Repeat(root, 1+(256<<10)/len(root)), "larger than"},
	}
	seen := 0
	for name, c := range cases {
		seen++
		if _, err := target.ReadRoots(write(t, filepath.Join(dir, name), c.text)); err == nil || !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%s: %v, want …%s…", name, err, c.wrong)
		}
	}
	for _, path := range []string{dir, filepath.Join(dir, "missing"), "/dev/zero"} {
		if _, err := target.ReadRoots(path); err == nil {
			t.Errorf("%s was read", path)
		}
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
}

func TestWords(t *testing.T) {
	good := map[string][]string{
		"a":                         {"a"},
		"  a\tb\n c ":               {"a", "b", "c"},
		`a "b c" d'e f'g '' "it's"`: {"a", "b c", "de fg", "", "it's"},
		`a\ b`:                      {`a\`, "b"},
	}
	seen := 0
	for line, want := range good {
		seen++
		got, err := target.Words(line)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%q: %v (-want +got):\n%s", line, err, diff)
		}
	}
	for _, line := range []string{"", " ", `a "b`, `'`, `"" a`} {
		if got, err := target.Words(line); err == nil {
			t.Errorf("%q = %q", line, got)
		}
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
}

func FuzzWords(f *testing.F) {
	for _, s := range []string{"", "a b", `a "b c"`, "a 'b", "\x00\xff \""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		words, err := target.Words(line)
		if (err == nil) != (len(words) > 0 && words[0] != "") {
			t.Errorf("%q = %q, %v", line, words, err)
		}
		total := 0
		for _, w := range words {
			total += len([]rune(w))
		}
		if total > len([]rune(line)) {
			t.Errorf("%q grew to %q", line, words)
		}
	})
}

func TestRunHook(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	targettest.Script(t, filepath.Join(dir, "hook.sh"), "#!/bin/sh\npwd\nfor a; do echo \"<$a>\"; done\nexit ${1#e}\n")
	fill := map[string]string{"url": "https://h:1/", "ca": "/a b/c"}
	ran, err := target.RunHook(t.Context(), dir, `./hook.sh e7 {url} "x {ca}" {host} ${url}`, fill)
	want := target.Ran{PID: ran.PID, Exit: 7, State: "exit status 7", Output: strings.Join([]string{dir, "<e7>", "<https://h:1/>", "<x /a b/c>", "<{host}>", "<${url}>"}, "\n")}
	if diff := cmp.Diff(want, ran); diff != "" || err != nil {
		t.Errorf("hook, %v (-want +got):\n%s", err, diff)
	}
	if ran, err := target.RunHook(t.Context(), dir, "true", nil); err != nil || ran.Exit != 0 || ran.Late {
		t.Errorf("true = %+v, %v", ran, err)
	}
	ran, err = target.RunHook(t.Context(), dir, `sh -c "head -c 100000 /dev/zero | tr '\000' x; echo end"`, nil)
	if err != nil || len(ran.Output) > 4<<10 || !strings.HasSuffix(ran.Output, "xend") {
		t.Errorf("a flood = %d bytes, %v", len(ran.Output), err)
	}
	for _, line := range []string{"", "./missing", "no-such-program-at-all", "/etc/hostname"} {
		if _, err := target.RunHook(t.Context(), dir, line, nil); !errors.Is(err, target.ErrNotReady) {
			t.Errorf("%q: %v, want ErrNotReady", line, err)
		}
	}
}

// A hook that outlasts its time is killed with its descendants, also one that holds the output open.
func TestRunHookLate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fifo := filepath.Join(dir, "begun")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for {
			if _, err := os.Stat(fifo); err == nil || ctx.Err() != nil {
				cancel()
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	defer cancel()
	began := time.Now()
	ran, err := target.RunHook(ctx, dir, fmt.Sprintf(`sh -c "sleep 60 & touch %s; wait"`, fifo), nil)
	if err != nil || !ran.Late || ran.Exit == 0 {
		t.Errorf("late hook = %+v, %v", ran, err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
}
