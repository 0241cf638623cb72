package target

import (
	"fmt"
	"net"
	"net/url"
	"slices"

	"github.com/assay-bench/assay/fixtures/features"
)

// addressForms says what a bare address looks like.
const addressForms = "grpc://host:port, thrift://host:port or tls://host:port"

// schemes maps the scheme of a bare address to the endpoint that it is.
func schemes() map[string]string {
	return map[string]string{"grpc": "grpc", "thrift": "rpc", "tls": "tls"}
}

// ParseAddress makes a target of a bare address, grpc://host:port, thrift://host:port or tls://host:port,
// that someone else serves. It claims nothing: Offered lists what could be there, and the caller probes that and
// sets Claims to what answers. The host is allowed to be dialled, as the user named it.
func ParseAddress(raw string) (*File, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("target %.100q is not an address: write %s", raw, addressForms)
	}
	endpoint, ok := schemes()[u.Scheme]
	if !ok || u.Host == "" {
		return nil, fmt.Errorf("target %.100q does not say its protocol: write %s", raw, addressForms)
	}
	if u.User != nil || u.Path != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return nil, fmt.Errorf("target %.100q holds more than an address: write %s://%s", raw, u.Scheme, u.Host)
	}
	if wrong := badAddress(u.Host); wrong != "" {
		return nil, fmt.Errorf("target %.100q: %s", raw, wrong)
	}
	f := &File{Path: raw, Name: u.Host, Role: roleEndpoint, Endpoints: Endpoints{endpoint: u.Host}, used: *newUsage()}
	for _, e := range features.All() {
		if e.Endpoint == endpoint {
			f.Offered = append(f.Offered, string(e.Feature))
		}
	}
	slices.Sort(f.Offered)
	host := u.Hostname()
	if !isLoopback(host) {
		f.AllowHosts = []string{host}
	}
	if endpoint == "tls" {
		f.TLS = &TLS{}
		if net.ParseIP(host) == nil { // an address is no server name
			f.TLS.ServerName = host
		}
	}
	return f, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
