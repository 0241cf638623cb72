package proxywasm

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// maxFieldBytes bounds the keys and values of one header map, in bytes.
const maxFieldBytes = 64 << 10

// Pseudo headers, as the guest sees them.
const (
	keyMethod    = ":method"
	keyPath      = ":path"
	keyAuthority = ":authority"
	keyScheme    = ":scheme"
	keyStatus    = ":status"
)

// fields is an ordered header map with keys in lower case.
type fields []pair

// bytes is the length of all keys and values.
func (f fields) bytes() int {
	n := 0
	for _, p := range f {
		n += len(p.key) + len(p.value)
	}
	return n
}

// fits reports whether f is within the bounds of one map.
func (f fields) fits() bool { return len(f) <= maxPairs && f.bytes() <= maxFieldBytes }

// get returns the values of key, joined by commas (RFC 9110 section 5.3).
func (f fields) get(key string) (value string, found bool) {
	var values []string
	for _, p := range f {
		if p.key == key {
			values = append(values, p.value)
		}
	}
	return strings.Join(values, ","), len(values) > 0
}

// first returns the first value of key, or otherwise.
func (f fields) first(key, otherwise string) string {
	for _, p := range f {
		if p.key == key {
			return p.value
		}
	}
	return otherwise
}

// without returns f without key. f is unchanged.
func (f fields) without(key string) fields {
	return slices.DeleteFunc(slices.Clone(f), func(p pair) bool { return p.key == key })
}

// replaced returns f with one value for key, in the place of the first one, or at the end.
func (f fields) replaced(key, value string) fields {
	at := slices.IndexFunc(f, func(p pair) bool { return p.key == key })
	if at < 0 {
		return append(slices.Clone(f), pair{key, value})
	}
	out := append(slices.Clone(f[:at]), pair{key, value})
	for _, p := range f[at+1:] {
		if p.key != key {
			out = append(out, p)
		}
	}
	return out
}

// normalized is the key under which a map of the given id holds what a guest calls key: names have no
// case, and the host of a request is its :authority.
func normalized(id int, key string) string {
	key = strings.ToLower(key)
	if id == mapRequestHeaders && key == "host" {
		return keyAuthority
	}
	return key
}

// allowed reports whether a guest may put the pair into the map: nothing that could split a message.
func allowed(id int, p pair) bool {
	if !strings.HasPrefix(p.key, ":") {
		return httpguts.ValidHeaderFieldName(p.key) && httpguts.ValidHeaderFieldValue(p.value)
	}
	switch {
	case id == mapRequestHeaders && p.key == keyMethod:
		return httpguts.ValidHeaderFieldName(p.value) && p.value != http.MethodConnect
	case id == mapRequestHeaders && p.key == keyPath:
		return validPath(p.value)
	case id == mapRequestHeaders && p.key == keyAuthority:
		return httpguts.ValidHostHeader(p.value)
	case id == mapRequestHeaders && p.key == keyScheme:
		return p.value == "http" || p.value == "https"
	case id == mapResponseHeaders && p.key == keyStatus:
		n, err := strconv.Atoi(p.value)
		return err == nil && len(p.value) == 3 && finalStatus(n)
	}
	return false
}

// validPath reports whether path can stand in a request line: origin form without spaces or controls.
func validPath(path string) bool {
	if !strings.HasPrefix(path, "/") && path != "*" {
		return false
	}
	return !strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r == 0x7f })
}

// finalStatus reports whether n ends an exchange (RFC 9110 section 15): interim responses and made-up
// classes do not.
func finalStatus(n int) bool { return n >= 200 && n <= 599 }

// hopByHop are the fields that end at this proxy (RFC 9110 section 7.6.1).
var hopByHop = [...]string{"connection", "keep-alive", "proxy-authenticate", "proxy-authorization",
	"proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}

// endToEnd returns h in a fixed order and in lower case, without the fields that end at this proxy.
func endToEnd(h http.Header) fields {
	named := make(map[string]bool)
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			named[strings.ToLower(strings.TrimSpace(name))] = true
		}
	}
	out := make(fields, 0, len(h))
	for _, name := range slices.Sorted(maps.Keys(h)) {
		key := strings.ToLower(name)
		if named[key] || slices.Contains(hopByHop[:], key) {
			continue
		}
		for _, v := range h[name] {
			out = append(out, pair{key, v})
		}
	}
	return out
}

// requestFields is the header map of a request as the guest gets it.
func requestFields(r *http.Request) fields {
	path := r.URL.RequestURI()
	out := fields{{keyMethod, r.Method}, {keyScheme, "http"}, {keyAuthority, r.Host}, {keyPath, path}}
	return append(out, endToEnd(r.Header)...)
}

// responseFields is the header map of a response as the guest gets it.
func responseFields(r *http.Response) fields {
	return append(fields{{keyStatus, strconv.Itoa(r.StatusCode)}}, endToEnd(r.Header)...)
}

// header converts the plain fields for net/http, without what the proxy sets itself.
func (f fields) header() http.Header {
	h := make(http.Header, len(f))
	for _, p := range f {
		if strings.HasPrefix(p.key, ":") || p.key == "content-length" || p.key == "host" || slices.Contains(hopByHop[:], p.key) {
			continue
		}
		h.Add(p.key, p.value)
	}
	return h
}
