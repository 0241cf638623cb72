package target

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/assay-bench/assay/fixtures/features"
)

const (
	apiVersion = "assay/v1"
	kind       = "Target"

	roleEndpoint = "endpoint"
	roleProxy    = "proxy"
	roleClient   = "client"

	maxName     = 100
	maxRate     = 10_000 // new connections per second
	maxLimit    = 1 << 40
	maxMaxDepth = 1 << 20
)

// The shapes of single values. target.schema.json holds the same ones.
var (
	durations = regexp.MustCompile(`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`)
	versions  = regexp.MustCompile(`^(v?[0-9]+(\.[0-9]+){0,2}([-+][0-9A-Za-z.+-]+)?|[0-9a-f]{7,64})$`)
	addresses = regexp.MustCompile(`^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?):([0-9]{1,5}|\{port\.[A-Za-z0-9_-]+\})$`)
	hosts     = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*)$`)
	variables = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	webURLs   = regexp.MustCompile(`^https?://[^\s]+$`)
	probeURLs = regexp.MustCompile(`^http://[^\s]+$`)
)

// File is a target as the user described it: in target.yaml, or by a bare address.
type File struct {
	Path   string // as given; the address itself for a bare address
	Digest string // SHA-256 of the file's bytes, hexadecimal; empty for a bare address

	Name         string
	Version      string // a semantic version or a commit
	Role         string // endpoint, proxy or client
	Organization string // this and the next three are for the conformance report
	Project      string
	URL          string
	Contact      []string

	Start      *Launch   // nil: someone else started it
	Endpoints  Endpoints // may hold placeholders where Start is set
	Claims     []string  // features
	Offered    []string  // of a bare address: features that its scheme could have, to be probed and then claimed
	Limits     Limits
	TLS        *TLS              // nil: nothing is said; App may be none, which overrules the target
	Router     *Router           // nil: nothing is said
	Hooks      map[string]string // reload, client, run-wasm, load, configure: command lines
	AllowHosts []string          // hosts beyond loopback that the run may dial
	Rate       float64           // new connections per second to them; 0: the dialer's default

	used usage
}

// Launch says how to start a target on this host. Texts may hold placeholders.
type Launch struct {
	Command     []string
	Dir         string // working folder, relative to the file's; empty: the file's
	Env         map[string]string
	Files       map[string]string // by path below {dir}
	Ready       Readiness
	Timeout     time.Duration // 0: 10 s
	StopTimeout time.Duration // 0: 5 s
}

// Readiness says how a started target shows that it serves. Exactly one field is set.
type Readiness struct {
	Line       bool   // prints one JSON line with endpoints and claims
	TCP        string // the endpoint of this name accepts connections
	HTTP       string // GET of this URL answers 200 to 299
	GRPCHealth string // the gRPC health service at the endpoint of this name says SERVING
}

// ReadFile reads a target.yaml.
func ReadFile(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("target file: %w", err)
	}
	defer closeAll(f)
	raw, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("target file: %w", err)
	}
	return Parse(path, raw)
}

// Parse reads the bytes of a target.yaml. Its error holds one line for each problem, with the name,
// the line, the field and what to do. Paths in the file are relative to the folder of name.
func Parse(name string, raw []byte) (*File, error) {
	d := &document{name: name}
	f := &File{Path: name, used: *newUsage()}
	if root, ok := d.parse(raw); ok {
		if o, ok := root.object("apiVersion", "kind", "name", "version", "role", "organization", "project", "url",
			"contact", "start", "endpoints", "claims", "limits", "tls", "router", "hooks", "allowHosts", "rate"); ok {
			f.read(o)
		}
	}
	if err := d.err(); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(raw)
	f.Digest = hex.EncodeToString(sum[:])
	return f, nil
}

func (f *File) read(o object) {
	o.need("apiVersion", "write apiVersion: "+apiVersion)
	o.need("kind", "write kind: "+kind)
	o.need("name", "name the product, as it shall stand in reports")
	o.need("role", "write endpoint, proxy or client")
	o.choice("apiVersion", apiVersion)
	o.choice("kind", kind)
	f.Name = o.matching("name", plainName)
	f.Version = o.matching("version", matches(versions, "is neither a semantic version (1.2.3) nor a commit (7 to 64 hexadecimal digits): a branch does not say what was tested"))
	f.Role = o.choice("role", roleEndpoint, roleProxy, roleClient)
	f.Organization = o.matching("organization", plainName)
	f.Project = o.matching("project", plainName)
	f.URL = o.matching("url", matches(webURLs, "is not an http:// or https:// address"))
	f.Contact = o.distinct("contact", plainName)
	f.readEndpoints(o)
	if v, ok := o.fields["start"]; ok {
		f.readStart(v)
	}
	f.readClaims(o)
	f.readLimits(o)
	f.readTLS(o)
	f.readRouter(o)
	f.readHooks(o)
	f.AllowHosts = o.distinct("allowHosts", badHost)
	f.Rate = o.number("rate", maxRate)
	f.checkWhole(o)
}

func plainName(s string) string {
	if n := utf8.RuneCountInString(s); n > maxName {
		return fmt.Sprintf("has %d characters: at most %d", n, maxName)
	}
	if oneLine(s) != s {
		return "holds control characters: write one line of plain text"
	}
	return ""
}

func matches(re *regexp.Regexp, wrong string) func(string) string {
	return func(s string) string {
		if re.MatchString(s) {
			return ""
		}
		return fmt.Sprintf("%.60q %s", s, wrong)
	}
}

func (f *File) readEndpoints(o object) {
	v, ok := o.fields["endpoints"]
	if !ok {
		return
	}
	e, _ := v.object(endpointNames()...)
	f.Endpoints = Endpoints{}
	for _, name := range sortedKeys(e.fields) {
		addr := e.text(name)
		if addr == "" {
			continue
		}
		at := e.fields[name]
		f.Endpoints[name] = addr
		f.used.note(at, addr, usable{kinds: []string{"port"}})
		if wrong := badAddress(addr); wrong != "" {
			at.fail("%s", wrong)
		}
	}
}

// endpointNames lists the endpoints that any feature lives on.
func endpointNames() []string {
	names := map[string]bool{}
	for _, e := range features.All() {
		names[e.Endpoint] = true
	}
	return sortedKeys(names)
}

func featureNames() []string {
	var names []string
	for _, e := range features.All() {
		names = append(names, string(e.Feature))
	}
	slices.Sort(names)
	return names
}

func badAddress(addr string) string {
	if !addresses.MatchString(addr) {
		return fmt.Sprintf("%.80q is not host:port, such as 127.0.0.1:9000, [::1]:9000 or 127.0.0.1:{port.rpc}", addr)
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Sprintf("%.80q is not host:port", addr)
	}
	if strings.Contains(host, ":") && net.ParseIP(host) == nil {
		return fmt.Sprintf("%.60q is not an IP address", host)
	}
	if n, err := strconv.Atoi(port); err == nil && (n < 1 || n > 65535) {
		return fmt.Sprintf("port %d is not from 1 to 65535", n)
	}
	return ""
}

func badHost(s string) string {
	if !hosts.MatchString(s) || strings.Contains(s, ":") && net.ParseIP(s) == nil {
		return fmt.Sprintf("%.60q is not a host: write a name or an IP address without scheme, port, path or wildcard", s)
	}
	return ""
}

func (f *File) readClaims(o object) {
	f.Claims = o.distinct("claims", func(s string) string {
		if _, ok := features.Find(s); ok {
			return ""
		}
		return fmt.Sprintf("unknown feature %.60q%s", s, suggest(s, featureNames()))
	})
}

func (f *File) readLimits(o object) {
	v, ok := o.fields["limits"]
	if !ok {
		return
	}
	l, _ := v.object("readDeadline", "maxFrameBytes", "maxDepth", "answer")
	f.Limits = Limits{
		ReadDeadlineMillis: l.duration("readDeadline").Milliseconds(),
		AnswerMillis:       l.duration("answer").Milliseconds(),
		MaxFrameBytes:      l.whole("maxFrameBytes", maxLimit),
		MaxDepth:           int(l.whole("maxDepth", maxMaxDepth)),
	}
}

func (f *File) readHooks(o object) {
	v, ok := o.fields["hooks"]
	if !ok {
		return
	}
	h, _ := v.object("reload", "client", hookRunWasm, hookLoad, hookConfigure)
	f.Hooks = map[string]string{}
	for _, name := range sortedKeys(h.fields) {
		may := usable{kinds: []string{"port", "endpoint"}, endpoints: sortedKeys(f.Endpoints), bare: hookFills(name)}
		f.Hooks[name] = h.text(name)
		f.used.note(h.fields[name], f.Hooks[name], may)
		words, err := Words(f.Hooks[name])
		if err != nil && f.Hooks[name] != "" {
			h.fields[name].fail("%v", err)
		} else if wrong := either(badSandboxHook(name, words), badRouterHook(name, words)); wrong != "" && f.Hooks[name] != "" {
			h.fields[name].fail("%s", wrong)
		}
	}
}

// hookFills lists the placeholders without a name that a hook may hold.
func hookFills(name string) []string {
	switch name {
	case "client":
		return []string{"url", "host", "port", "sni", "ca"}
	case hookRunWasm:
		return []string{fillModule, fillFunction, fillArgs}
	case hookLoad:
		return []string{fillFilter, fillUpstream, fillConfiguration, fillVM}
	case hookConfigure:
		return []string{fillUpstreams}
	}
	return nil
}

func (f *File) readStart(v value) {
	o, ok := v.object("command", "dir", "env", "files", "ready", "timeout", "stopTimeout")
	if !ok {
		return
	}
	o.need("command", `write the program and its arguments, ["./server", "--port", "{port.rpc}"]`)
	o.need("ready", "say how it shows that it serves: {line: json}, {tcp: ENDPOINT}, {http: URL} or {grpcHealth: ENDPOINT}")
	may := usable{kinds: []string{"port", "backend", "endpoint"}, bare: []string{"dir"}, endpoints: sortedKeys(f.Endpoints)}
	f.Start = &Launch{
		Command:     f.readCommand(o, may),
		Dir:         o.text("dir"),
		Env:         f.readEnv(o, may),
		Timeout:     o.duration("timeout"),
		StopTimeout: o.duration("stopTimeout"),
	}
	may.lenient = true // a configuration file has braces of its own
	f.Start.Files = f.readFiles(o, may)
	if d, ok := o.fields["dir"]; ok {
		f.used.note(d, f.Start.Dir, usable{bare: []string{"dir"}})
	}
	if r, ok := o.fields["ready"]; ok {
		f.Start.Ready = f.readReady(r)
	}
	f.checkPorts(o)
}

func (f *File) readCommand(o object, may usable) []string {
	var out []string
	for i, item := range o.list("command") {
		read := item.text
		if i == 0 {
			read = item.filled
		}
		if s, ok := read(); ok {
			f.used.note(item, s, may)
			out = append(out, s)
		}
	}
	return out
}

func (f *File) readEnv(o object, may usable) map[string]string {
	v, ok := o.fields["env"]
	if !ok {
		return nil
	}
	out := map[string]string{}
	for _, e := range v.entries() {
		if !variables.MatchString(e.key) {
			e.fail("is not the name of a variable: use letters, digits and _")
			continue
		}
		if s, ok := e.text(); ok {
			f.used.note(e.value, s, may)
			out[e.key] = s
		}
	}
	return out
}

func (f *File) readFiles(o object, may usable) map[string]string {
	v, ok := o.fields["files"]
	if !ok {
		return nil
	}
	out := map[string]string{}
	for _, e := range v.entries() {
		if !filepath.IsLocal(e.key) || strings.ContainsRune(e.key, 0) || filepath.Clean(e.key) != e.key || e.key == "." {
			e.fail("is not a path below {dir}: write one such as conf/server.conf")
			continue
		}
		if s, ok := e.text(); ok {
			f.used.note(e.value, s, may)
			out[e.key] = s
		}
	}
	for name := range out {
		for up := filepath.Dir(name); up != "."; up = filepath.Dir(up) {
			if _, ok := out[up]; ok {
				v.fail("%.60q is both a file and the folder of %.60q", up, name)
			}
		}
	}
	return out
}

func (f *File) readReady(v value) Readiness {
	o, ok := v.object("line", "tcp", "http", "grpcHealth")
	if !ok {
		return Readiness{}
	}
	if len(o.fields) != 1 {
		v.fail("holds %d conditions: keep exactly one", len(o.fields))
	}
	endpoint := func(s string) string {
		if _, ok := f.Endpoints[s]; ok {
			return ""
		}
		return fmt.Sprintf("%.40q names no endpoint of this file%s", s, suggest(s, sortedKeys(f.Endpoints)))
	}
	r := Readiness{
		Line:       o.choice("line", "json") != "",
		TCP:        o.matching("tcp", endpoint),
		GRPCHealth: o.matching("grpcHealth", endpoint),
		HTTP:       o.matching("http", badProbeURL),
	}
	if r.HTTP != "" {
		f.used.note(o.fields["http"], r.HTTP, usable{kinds: []string{"port", "endpoint"}, endpoints: sortedKeys(f.Endpoints)})
	}
	return r
}

func badProbeURL(s string) string {
	filled := placeholders.ReplaceAllStringFunc(s, func(whole string) string {
		if strings.HasPrefix(whole, "{endpoint.") {
			return "127.0.0.1:1"
		}
		return "1"
	})
	if u, err := url.Parse(filled); err != nil || u.Host == "" || !probeURLs.MatchString(s) {
		return fmt.Sprintf("%.80q is not an address such as http://{endpoint.admin}/readyz", s)
	}
	return ""
}

// checkPorts finds ports that are chosen but never told to the program.
func (f *File) checkPorts(o object) {
	l, told := f.Start, map[string]bool{}
	texts := slices.Concat(l.Command, slices.Collect(maps.Values(l.Env)), slices.Collect(maps.Values(l.Files)))
	for _, m := range placeholders.FindAllStringSubmatch(strings.Join(texts, "\n"), -1) {
		switch m[1] {
		case "port":
			told[m[2]] = true
		case "endpoint": // tells the port of that endpoint too
			for _, p := range placeholders.FindAllStringSubmatch(f.Endpoints[m[2]], -1) {
				told[p[2]] = true
			}
		}
	}
	for _, name := range sortedKeys(f.used.ports) {
		if !told[name] {
			f.used.ports[name].fail("nothing tells the program of {port.%s}: use it in start.command, start.env or start.files", name)
		}
	}
}

// checkWhole checks what spans several fields.
func (f *File) checkWhole(o object) {
	client := f.Role == roleClient
	speaks := f.Start != nil && f.Start.Ready.Line
	if !client && !speaks {
		if f.Hooks[hookRunWasm] == "" { // a runtime that is a command needs no address
			o.need("endpoints", "name at least one, such as rpc: \"127.0.0.1:9000\"")
		}
		o.need("claims", "list the features that the target claims")
		f.checkClaims(o)
	}
	if client && f.Hooks["client"] == "" && f.Role != "" {
		o.doc.fail(o.line, "hooks.client", "is missing: a client has to be told what to dial, \"./dial.sh {url}\"")
	}
	if f.Start == nil {
		for _, name := range sortedKeys(f.used.ports) {
			f.used.ports[name].fail("{port.%s} is chosen when the target is started: add start, or write the port", name)
		}
	}
	if f.Role != "" && f.Role != roleProxy {
		for _, name := range sortedKeys(f.used.backends) {
			f.used.backends[name].fail("{backend.%s} is for role: proxy", name)
		}
	}
}

// checkClaims finds features on endpoints that the file does not name.
func (f *File) checkClaims(o object) {
	if !o.has("endpoints") && f.Hooks[hookRunWasm] == "" {
		return
	}
	asked := map[string]bool{}
	for _, claim := range f.Claims {
		e, _ := features.Find(claim)
		if _, ok := f.Endpoints[e.Endpoint]; ok || asked[e.Endpoint] || f.byHook(claim) {
			continue
		}
		asked[e.Endpoint] = true
		o.fields["claims"].fail("%s needs endpoints.%s: add its address", claim, e.Endpoint)
	}
}

// NeedsBackends lists the upstreams of the harness that the target has to be told of.
func (f *File) NeedsBackends() []string { return sortedKeys(f.used.backends) }
