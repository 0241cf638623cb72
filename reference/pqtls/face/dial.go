package face

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/pqtls"
	"github.com/assay-bench/assay/reference/pqtls/client"
	"github.com/assay-bench/assay/reference/pqtls/pki"
)

// dialRequest is the body of POST /dial.
type dialRequest struct {
	Address        string     `json:"address"`
	ServerName     string     `json:"serverName"`
	Roots          string     `json:"roots"` // PEM; empty trusts nobody
	ALPN           []string   `json:"alpn"`
	Policy         string     `json:"policy"`     // require-pq, prefer-pq, any
	Groups         []string   `json:"groups"`     // restricts the offer
	MinVersion     string     `json:"minVersion"` // 1.2 or 1.3
	Staple         string     `json:"staple"`     // ignore, check, require
	At             *time.Time `json:"at"`
	Send           string     `json:"send"`
	Pool           bool       `json:"pool"`
	Identity       bool       `json:"identity"`
	DeadlineMillis int64      `json:"deadlineMillis"`
}

// dialAnswer is the answer of POST /dial. Without a connection its strings are empty.
type dialAnswer struct {
	Connected bool     `json:"connected"`
	Error     *problem `json:"error,omitempty"`
	Group     string   `json:"group"`
	Class     string   `json:"class"`
	Version   string   `json:"version"`
	Retry     bool     `json:"retry"`
	Resumed   bool     `json:"resumed"`
	Reused    bool     `json:"reused"`
	Chain     int      `json:"chain"`
	Received  string   `json:"received"`
	Staple    string   `json:"staple"`
}

const maxDeadlineMillis = 30_000

func (f *Face) dial(r *http.Request, in *dialRequest) (any, *refusal) {
	request, err := in.request()
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "bad_request", "%v", err)
	}
	if f.cfg.Defects.On(defect.TLSClientAbsent) {
		return failedDial(&client.Error{Code: client.DialFailed, Text: "never dials"}), nil
	}
	if err := loopback(in.Address); err != nil {
		return failedDial(&client.Error{Code: client.DialFailed, Text: err.Error()}), nil
	}
	result, err := f.client.Do(r.Context(), request)
	out := described(result)
	if own, ok := errors.AsType[*client.Error](err); ok {
		out.Error = &problem{string(own.Code), own.Text}
	}
	return out, nil
}

func failedDial(err *client.Error) dialAnswer {
	return dialAnswer{Error: &problem{string(err.Code), err.Text}}
}

func described(r client.Result) dialAnswer {
	out := dialAnswer{Connected: r.Connected, Retry: r.Retry, Resumed: r.Resumed, Reused: r.Reused,
		Chain: r.Chain, Received: string(r.Received), Staple: r.Staple}
	if r.Version != 0 { // there was a handshake
		out.Group, out.Class, out.Version = pqtls.GroupName(r.Group), r.Class.String(), versionName(r.Version)
	}
	return out
}

func versionName(version uint16) string {
	switch version {
	case tls.VersionTLS13:
		return "1.3"
	case tls.VersionTLS12:
		return "1.2"
	}
	return fmt.Sprintf("%#04x", version)
}

// request translates the body and refuses what can not be meant.
func (d *dialRequest) request() (client.Request, error) {
	r := client.Request{Address: d.Address, ServerName: d.ServerName, ALPN: d.ALPN, Send: []byte(d.Send),
		Staple: client.Staple(d.Staple), Pool: d.Pool, Identity: d.Identity}
	var err error
	if r.Policy, err = pqtls.ParsePolicy(cmp.Or(d.Policy, string(pqtls.PreferPQ))); err != nil {
		return r, err
	}
	if r.Groups, err = parseGroups(d.Groups); err != nil {
		return r, err
	}
	if r.Roots, err = parseRoots(d.Roots); err != nil {
		return r, fmt.Errorf("roots: %w", err)
	}
	switch d.MinVersion {
	case "", "1.3":
		r.MinVersion = tls.VersionTLS13
	case "1.2":
		r.MinVersion = tls.VersionTLS12
	default:
		return r, fmt.Errorf("minVersion %q, want 1.2 or 1.3", d.MinVersion)
	}
	switch r.Staple {
	case "", client.StapleIgnore, client.StapleCheck, client.StapleRequire:
	default:
		return r, fmt.Errorf("staple %q, want ignore, check or require", d.Staple)
	}
	if d.At != nil {
		r.At = *d.At
	}
	if d.DeadlineMillis < 0 || d.DeadlineMillis > maxDeadlineMillis {
		return r, fmt.Errorf("deadlineMillis %d, want 1 to %d", d.DeadlineMillis, maxDeadlineMillis)
	}
	r.Deadline = time.Duration(d.DeadlineMillis) * time.Millisecond
	return r, d.checkNames()
}

// checkNames bounds what goes into a hello (RFC 6066 section 3, RFC 7301 section 3.1).
func (d *dialRequest) checkNames() error {
	if len(d.Address) > 256 || len(d.ServerName) > 253 {
		return errors.New("address or serverName too long")
	}
	if len(d.ALPN) > 16 {
		return fmt.Errorf("alpn: %d protocols, at most 16 are offered", len(d.ALPN))
	}
	for _, protocol := range d.ALPN {
		if len(protocol) == 0 || len(protocol) > 255 {
			return fmt.Errorf("alpn: a protocol of %d bytes, want 1 to 255", len(protocol))
		}
	}
	return nil
}

func parseGroups(names []string) ([]tls.CurveID, error) {
	if len(names) > 32 {
		return nil, fmt.Errorf("groups: %d names, at most 32 are read", len(names))
	}
	groups := make([]tls.CurveID, 0, len(names))
	for _, name := range names {
		group, err := pqtls.ParseGroup(name)
		if err != nil {
			return nil, err
		}
		groups = append(groups, group)
	}
	return groups, nil
}

func parseRoots(text string) ([]*x509.Certificate, error) {
	if text == "" {
		return nil, nil
	}
	return pki.ParsePEM(text)
}

// loopback refuses addresses before a name of theirs is looked up.
func loopback(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if host == "localhost" {
		return nil
	}
	if ip, err := netip.ParseAddr(host); err != nil || !ip.Unmap().IsLoopback() {
		return fmt.Errorf("address %q: the lab dials loopback addresses alone", address)
	}
	return nil
}

// loopbackOnly looks at the address that is really dialled. The lab has no authentication: it must not
// lend its host's network to others.
func loopbackOnly(_, address string, _ syscall.RawConn) error { return loopback(address) }
