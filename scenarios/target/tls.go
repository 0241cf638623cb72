package target

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"

	"github.com/assay-bench/assay/fixtures/features"
)

// noApp is how a target file says that nothing is sent over TLS.
const noApp = "none"

// maxCA bounds a file of root certificates.
const maxCA = 256 << 10

// serverNames is a host name, as server_name takes it (RFC 6066 section 3).
var serverNames = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$`)

func (f *File) readTLS(o object) {
	v, ok := o.fields["tls"]
	if !ok {
		return
	}
	t, _ := v.object("serverName", "ca", "app")
	f.TLS = &TLS{
		ServerName: t.matching("serverName", badServerName),
		App:        t.choice("app", "echo", "http", noApp),
	}
	if path := t.text("ca"); path != "" {
		roots, err := ReadRoots(within(filepath.Dir(f.Path), path))
		if err != nil {
			t.fields["ca"].fail("%v", err)
		}
		f.TLS.Roots = roots
	}
}

func badServerName(s string) string {
	if len(s) > 253 || !serverNames.MatchString(s) || net.ParseIP(s) != nil {
		return fmt.Sprintf("%.60q is not a host name, such as server.test", s)
	}
	return ""
}

// ReadRoots reads a PEM file of at most 256 KiB that holds one certificate or more and nothing else.
func ReadRoots(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() { // reading a pipe could last for ever
		return "", fmt.Errorf("%.200s is not a file", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer closeAll(file)
	raw, err := io.ReadAll(io.LimitReader(file, maxCA+1))
	if err != nil {
		return "", err
	}
	if len(raw) > maxCA {
		return "", fmt.Errorf("%.200s is larger than %d bytes", path, maxCA)
	}
	if err := checkRoots(raw); err != nil {
		return "", fmt.Errorf("%.200s: %w", path, err)
	}
	return string(raw), nil
}

func checkRoots(raw []byte) error {
	found := 0
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("holds a PEM block %.40q: keep certificates alone", block.Type)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("certificate %d: %.200s", found, err.Error())
		}
		found++
	}
	if found == 0 {
		return errors.New("holds no certificate in PEM")
	}
	return nil
}

// mergeTLS lays what the file says of TLS over what the target says of itself, and adds the client hook
// where the target claims to be a client.
func (f *File) mergeTLS(said Claims, s scope) *TLS {
	var t TLS
	if said.TLS != nil {
		t = *said.TLS
	}
	if own := f.TLS; own != nil {
		t = TLS{
			ServerName: either(own.ServerName, t.ServerName), Roots: either(own.Roots, t.Roots),
			App: either(own.App, t.App), Client: either(own.Client, t.Client), Folder: either(own.Folder, t.Folder),
		}
	}
	if t.App == noApp {
		t.App = ""
	}
	if hook := f.Hooks["client"]; hook != "" && said.Has(string(features.TLSClient)) {
		t.Client, t.Folder = s.expand(hook), f.folder()
	}
	if t == (TLS{}) && f.TLS == nil && said.TLS == nil {
		return nil
	}
	return &t
}

func either(first, otherwise string) string {
	if first != "" {
		return first
	}
	return otherwise
}

// folder is where the file lies, absolute where the host can tell.
func (f *File) folder() string {
	dir := filepath.Dir(f.Path)
	if abs, err := filepath.Abs(dir); err == nil {
		return abs
	}
	return dir
}

// byHook tells whether a claim needs no endpoint, because a hook makes the target dial, run a module or
// load a filter.
func (f *File) byHook(claim string) bool {
	switch features.Feature(claim) {
	case features.TLSClient, features.TLSClientPQ, features.TLSClientDSA:
		return f.Hooks["client"] != ""
	case features.SandboxRun:
		return f.Hooks[hookRunWasm] != ""
	case features.SandboxProxy:
		return f.Hooks[hookLoad] != ""
	}
	return false
}
