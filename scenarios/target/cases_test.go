package target_test

import "strings"

// whole is a file that says everything there is to say.
const whole = `# yaml-language-server: $schema=target.schema.json
apiVersion: assay/v1
kind: Target
name: my-server
version: "1.2"
role: proxy
organization: Example Ltd
project: my-server
url: https://example.com/my-server
contact: ["@team-rpc", rpc@example.com]
start:
  command: ["./server", "-c", "{dir}/conf/nginx.conf", "--listen", "127.0.0.1:{port.rpc}"]
  dir: .
  env:
    LEVEL: warn
    EMPTY: ""
    GRPC: "{endpoint.grpc}"
  files:
    conf/nginx.conf: |
      http { server { listen 127.0.0.1:{port.grpc} http2; set $a ${b};
        location / { grpc_pass grpc://{backend.grpc-interop}; } } }
  ready: {http: "http://{endpoint.admin}/readyz"}
  timeout: 10s
  stopTimeout: 1m30s
endpoints:
  rpc: "127.0.0.1:{port.rpc}"
  grpc: "[::1]:{port.grpc}"
  admin: localhost:9100
claims: [rpc.framed, grpc.interop]
limits: {readDeadline: 1.5s, answer: 4s, maxFrameBytes: 16777216, maxDepth: 64}
tls: {serverName: server.test, app: echo}
router: {path: /api/v1, model: router, upstreams: ["127.0.0.1:9001", "[::1]:9002"]}
hooks:
  reload: "./reload.sh {endpoint.admin}"
  client: "./dial.sh {url} {host} {port} {sni} '{ca}'"
  run-wasm: "./run-wasm --at={endpoint.grpc} {module} '{function}' {args}"
  load: "./load.sh {port.rpc} {filter}"
  configure: "./configure.sh {endpoint.admin} {upstreams}"
allowHosts: [staging.example, 192.0.2.7, "2001:db8::1"]
rate: 0.5
`

// remote is the least that a served target needs.
const remote = `apiVersion: assay/v1
kind: Target
name: r
role: endpoint
endpoints: {grpc: "127.0.0.1:9000"}
claims: [grpc.interop]
`

// served claims a client beside the server.
const served = `apiVersion: assay/v1
kind: Target
name: s
role: endpoint
endpoints: {tls: "127.0.0.1:8443"}
claims: [tls.server, tls.client]
`

// started has a start that each case fills.
func started(start string) string {
	return strings.ReplaceAll(`apiVersion: assay/v1
kind: Target
name: s
role: endpoint
endpoints: {rpc: "127.0.0.1:{port.rpc}"}
claims: [rpc.framed]
start:
  command: [./s, "{port.rpc}"]
`, "  command: [./s, \"{port.rpc}\"]\n", start)
}

const ok = "  command: [./s, \"{port.rpc}\"]\n  ready: {tcp: rpc}\n"

// fileCase is a target file with the errors that Parse must give; none: it is good. The schema must
// agree with Parse, except where it is blind: rules that JSON Schema can not state, or YAML itself.
type fileCase struct {
	name  string
	text  string
	want  []string // whole lines, without the file's name
	blind bool
}

func fileCases() []fileCase {
	return []fileCase{
		{name: "whole", text: whole},
		{name: "remote", text: remote},
		{name: "started", text: started(ok)},
		{name: "line", text: "apiVersion: assay/v1\nkind: Target\nname: l\nrole: endpoint\nstart: {command: [a], ready: {line: json}}\n"},
		{name: "client", text: "apiVersion: assay/v1\nkind: Target\nname: c\nrole: client\nhooks: {client: ./dial.sh}\n"},
		{name: "client and server", text: served + "hooks: {client: \"./dial.sh {url}\"}\n"},
		{name: "client with claims", text: "apiVersion: assay/v1\nkind: Target\nname: c\nrole: client\nclaims: [tls.client]\nhooks: {client: ./dial.sh}\n"},
		{name: "no application data", text: remote + "tls: {app: none}\n"},
		{name: "commit", text: remote + "version: 8b1a9953c4611296\n"},
		{name: "release candidate", text: remote + "version: v2.0.0-rc.1+5\n"},
		{name: "shell variable", text: started("  command: [sh, -c, \"${x} {port.rpc}\"]\n  ready: {tcp: rpc}\n")},
		{name: "empty argument", text: started("  command: [./s, \"\", \"{port.rpc}\"]\n  ready: {tcp: rpc}\n")},
		{name: "hexadecimal limit", text: remote + "limits: {maxDepth: 0x10}\n"},

		{name: "empty", text: "", want: []string{"1: is empty: begin with apiVersion: assay/v1 and kind: Target"}},
		{name: "comment only", text: "# nothing\n", want: []string{"1: is empty: begin with apiVersion: assay/v1 and kind: Target"}},
		{name: "a list", text: "- a\n", want: []string{"1: is a list: it must be fields (name: value)"}},
		{name: "a word", text: "hello", want: []string{`1: "hello" is not fields (name: value)`}},
		{name: "two documents", text: remote + "---\n" + remote, want: []string{"8: holds more than one document: keep one"}, blind: true},
		{name: "broken YAML", text: "a: [\n", want: []string{"1: not valid YAML: sequence end token ']' not found"}, blind: true},
		{name: "deep", text: "a: " + strings.Repeat("[", 1000) + strings.Repeat("]", 1000), want: []string{"1: is nested deeper than 32"}},
		{name: "deep on one line", text: strings.Repeat("- ", 5000) + "a", want: []string{"1: is nested deeper than 32"}},
		{name: "many fields", text: strings.Repeat("a:\n", 8<<10), want: []string{"1: holds more than 8192 words and signs"}, blind: true},
		{name: "large", text: "#" + strings.Repeat("x", 64<<10), want: []string{"1: is larger than 65536 bytes"}, blind: true},

		{name: "nothing required", text: "project: p\n", want: []string{
			"1: apiVersion: is missing: write apiVersion: assay/v1",
			"1: kind: is missing: write kind: Target",
			"1: name: is missing: name the product, as it shall stand in reports",
			"1: role: is missing: write endpoint, proxy or client",
			"1: endpoints: is missing: name at least one, such as rpc: \"127.0.0.1:9000\"",
			"1: claims: is missing: list the features that the target claims",
		}},
		{name: "other version", text: strings.Replace(remote, "assay/v1", "assay/v2", 1), want: []string{`1: apiVersion: "assay/v2" must be assay/v1`}},
		{name: "other kind", text: strings.Replace(remote, "Target", "Pod", 1), want: []string{`2: kind: "Pod" must be Target`}},
		{name: "other role", text: strings.Replace(remote, "endpoint\n", "endpont\n", 1), want: []string{`4: role: "endpont" is none of endpoint, proxy, client: did you mean endpoint?`}},
		{name: "unknown field", text: remote + "clams: [a]\n", want: []string{"7: clams: unknown field: did you mean claims?"}},
		{name: "alien field", text: remote + "zzzzzzzzzz: 1\n", want: []string{"7: zzzzzzzzzz: unknown field: use one of apiVersion, kind, name, version, role, organization, project, url, contact, start, endpoints, claims, limits, tls, router, hooks, allowHosts, rate"}},
		{name: "duplicate key", text: remote + "name: other\n", want: []string{"7: name: appears twice: first on line 3, keep one"}, blind: true},
		{name: "number for a key", text: remote + "1: x\n", want: []string{"7: a field's name must be plain text"}},
		{name: "anchor", text: remote + "project: &p x\n", want: []string{"7: project: anchors, aliases, merge keys and tags are not read: write the value out"}, blind: true},
		{name: "alias", text: remote + "project: *p\n", want: []string{"7: project: anchors, aliases, merge keys and tags are not read: write the value out"}, blind: true},
		{name: "tag", text: remote + "project: !!str 5\n", want: []string{"7: project: anchors, aliases, merge keys and tags are not read: write the value out"}, blind: true},
		{name: "merge key", text: remote + "<<: {project: p}\n", want: []string{"7: a field's name must be plain text"}, blind: true},
		{name: "no value", text: remote + "project:\n", want: []string{"7: project: has no value: it must be text"}},
		{name: "empty text", text: remote + "project: \"\"\n", want: []string{"7: project: is empty: fill it or remove it"}},
		{name: "number for text", text: remote + "version: 1.20\n", want: []string{`7: version: 1.20 is not text: put it in quotes, "1.20"`}},
		{name: "flag for text", text: remote + "project: true\n", want: []string{`7: project: true is not text: put it in quotes, "true"`}},
		{name: "list for text", text: remote + "project: [p]\n", want: []string{"7: project: is a list: it must be text"}},
		{name: "fields for text", text: remote + "project: {p: q}\n", want: []string{"7: project: holds fields: it must be text"}},
		{name: "text for a list", text: remote + "contact: me\n", want: []string{`7: contact: "me" is not a list`}},
		{name: "list for fields", text: remote + "limits: [a]\n", want: []string{"7: limits: is a list: it must be fields (name: value)"}},
		{name: "long name", text: remote + "project: " + strings.Repeat("ü", 101) + "\n", want: []string{"7: project: has 101 characters: at most 100"}},
		{name: "escape in a name", text: remote + "project: \"\\x1b[2J\"\n", want: []string{"7: project: holds control characters: write one line of plain text"}},
		{name: "branch", text: remote + "version: main\n", want: []string{`7: version: "main" is neither a semantic version (1.2.3) nor a commit (7 to 64 hexadecimal digits): a branch does not say what was tested`}},
		{name: "URL without scheme", text: remote + "url: example.com\n", want: []string{`7: url: "example.com" is not an http:// or https:// address`}},
		{name: "contact twice", text: remote + "contact:\n- a\n- b\n- a\n", want: []string{`10: contact[2]: "a" stands in the list twice: keep one`}},
		{name: "no contact", text: remote + "contact: []\n", want: []string{"7: contact: is empty: fill it or remove it"}},

		{name: "unknown feature", text: strings.Replace(remote, "grpc.interop", "grpc.interopp", 1), want: []string{`6: claims[0]: unknown feature "grpc.interopp": did you mean grpc.interop?`}},
		{name: "claim without endpoint", text: strings.Replace(remote, "[grpc.interop]", "[rpc.framed, rpc.buffered, grpc.interop]", 1), want: []string{"6: claims: rpc.framed needs endpoints.rpc: add its address"}, blind: true},
		{name: "unknown endpoint", text: strings.Replace(remote, "{grpc:", "{rcp: a:1, grpc:", 1), want: []string{"5: endpoints.rcp: unknown field: did you mean rpc?"}},
		{name: "no port", text: strings.Replace(remote, ":9000", "", 1), want: []string{`5: endpoints.grpc: "127.0.0.1" is not host:port, such as 127.0.0.1:9000, [::1]:9000 or 127.0.0.1:{port.rpc}`}},
		{name: "port out of range", text: strings.Replace(remote, "9000", "70000", 1), want: []string{"5: endpoints.grpc: port 70000 is not from 1 to 65535"}, blind: true},
		{name: "bad IPv6", text: strings.Replace(remote, "127.0.0.1", "[::g]", 1), want: []string{`5: endpoints.grpc: "[::g]:9000" is not host:port, such as 127.0.0.1:9000, [::1]:9000 or 127.0.0.1:{port.rpc}`}},
		{name: "worse IPv6", text: strings.Replace(remote, "127.0.0.1", "[:::]", 1), want: []string{`5: endpoints.grpc: ":::" is not an IP address`}, blind: true},
		{name: "chosen port of a remote", text: strings.Replace(remote, "9000", "{port.g}", 1), want: []string{"5: endpoints.grpc: {port.g} is chosen when the target is started: add start, or write the port"}, blind: true},

		{name: "bad duration", text: remote + "limits: {readDeadline: 5 seconds}\n", want: []string{`7: limits.readDeadline: "5 seconds" is not a duration: write one such as 500ms, 10s or 1m30s`}},
		{name: "duration without unit", text: remote + "limits: {readDeadline: 5}\n", want: []string{`7: limits.readDeadline: 5 is not text: put it in quotes, "5"`}},
		{name: "zero duration", text: remote + "limits: {readDeadline: 0s}\n", want: []string{`7: limits.readDeadline: "0s" must be from 1ms to 1h`}},
		{name: "tiny duration", text: remote + "limits: {readDeadline: 0.1ms}\n", want: []string{`7: limits.readDeadline: "0.1ms" must be from 1ms to 1h`}, blind: true},
		{name: "huge duration", text: remote + "limits: {readDeadline: 99999999999h}\n", want: []string{`7: limits.readDeadline: "99999999999h" must be from 1ms to 1h`}, blind: true},
		{name: "limits", text: remote + "limits:\n  maxFrameBytes: -1\n  maxDepth: 1.5\n  maxDept: 3\n", want: []string{
			"8: limits.maxFrameBytes: must be from 1 to 1099511627776",
			"9: limits.maxDepth: 1.5 is not a whole number",
			"10: limits.maxDept: unknown field: did you mean maxDepth?",
		}},
		{name: "quoted number", text: remote + "limits: {maxDepth: \"64\"}\n", want: []string{`7: limits.maxDepth: "64" is not a whole number`}},
		{name: "rate of 0", text: remote + "rate: 0\n", want: []string{"7: rate: must be above 0 and at most 10000"}},
		{name: "endless rate", text: remote + "rate: 1000000\n", want: []string{"7: rate: must be above 0 and at most 10000"}},
		{name: "rate as text", text: remote + "rate: fast\n", want: []string{`7: rate: "fast" is not a number`}},
		{name: "host with port", text: remote + "allowHosts: [\"a:1\", \"x:1\", \"http://b\", \"*.c\"]\n", want: []string{
			`7: allowHosts[0]: "a:1" is not a host: write a name or an IP address without scheme, port, path or wildcard`,
			`7: allowHosts[1]: "x:1" is not a host: write a name or an IP address without scheme, port, path or wildcard`,
			`7: allowHosts[2]: "http://b" is not a host: write a name or an IP address without scheme, port, path or wildcard`,
			`7: allowHosts[3]: "*.c" is not a host: write a name or an IP address without scheme, port, path or wildcard`,
		}},
		{name: "runtime", text: strings.Replace(remote, "grpc.interop]", "grpc.interop, sandbox.run]", 1) + "hooks: {run-wasm: \"wasmtime run --invoke {function} {module} {args}\"}\n"},
		{name: "runtime without hook", text: strings.Replace(remote, "grpc.interop]", "grpc.interop, sandbox.run]", 1), want: []string{"6: claims: sandbox.run needs endpoints.sandbox: add its address"}, blind: true},
		{name: "sandbox API by hook", text: strings.Replace(remote, "grpc.interop]", "grpc.interop, sandbox.api]", 1) + "hooks: {run-wasm: \"x {module} {function} {args}\"}\n", want: []string{"6: claims: sandbox.api needs endpoints.sandbox: add its address"}, blind: true},
		{name: "run-wasm without a module", text: remote + "hooks: {run-wasm: \"x {function} {args}\"}\n", want: []string{`7: hooks.run-wasm: does not use {module}: write "./run-wasm {module} {function} {args}"`}},
		{name: "run-wasm without a function", text: remote + "hooks: {run-wasm: \"x {module} {args}\"}\n", want: []string{`7: hooks.run-wasm: does not use {function}: write "./run-wasm {module} {function} {args}"`}},
		{name: "run-wasm without arguments", text: remote + "hooks: {run-wasm: \"x {module} {function}\"}\n", want: []string{"7: hooks.run-wasm: needs {args} as a word of its own: it becomes one word for each argument"}},
		{name: "arguments within a word", text: remote + "hooks: {run-wasm: \"x {module} {function} --args={args}\"}\n", want: []string{"7: hooks.run-wasm: needs {args} as a word of its own: it becomes one word for each argument"}, blind: true},
		{name: "another placeholder of run-wasm", text: remote + "hooks: {run-wasm: \"x {module} {function} {args} {filter}\"}\n", want: []string{"7: hooks.run-wasm: {filter} is not known here: use {port.NAME}, {endpoint.NAME}, {module}, {function}, {args}"}, blind: true},
		{name: "load without a filter", text: remote + "hooks: {load: \"x\"}\n", want: []string{`7: hooks.load: does not use {filter}: write "./load.sh {filter}"`}},
		{name: "unknown hook", text: remote + "hooks: {relaod: x}\n", want: []string{"7: hooks.relaod: unknown field: did you mean reload?"}},
		{name: "client claimed without hook", text: served, want: []string{"6: claims: tls.client needs endpoints.tls-lab: add its address"}, blind: true},
		{name: "lab by hook", text: strings.Replace(served, "tls.client", "tls.lab", 1) + "hooks: {client: x}\n", want: []string{"6: claims: tls.lab needs endpoints.tls-lab: add its address"}, blind: true},
		{name: "client placeholder in another hook", text: remote + "hooks: {reload: \"x {ca}\"}\n", want: []string{"7: hooks.reload: {ca} is not known here: use {port.NAME}, {endpoint.NAME}"}, blind: true},
		{name: "unknown placeholder in the client hook", text: remote + "hooks: {client: \"x {dir} {url.x}\"}\n", want: []string{
			"7: hooks.client: {dir} is not known here: use {port.NAME}, {endpoint.NAME}, {url}, {host}, {port}, {sni}, {ca}",
			"7: hooks.client: {url.x} is not known here: use {port.NAME}, {endpoint.NAME}, {url}, {host}, {port}, {sni}, {ca}",
		}, blind: true},
		{name: "open quote", text: remote + "hooks: {client: \"x 'y\"}\n", want: []string{"7: hooks.client: the quote ' is not closed"}, blind: true},
		{name: "hook of blanks", text: remote + "hooks: {client: \" \"}\n", want: []string{"7: hooks.client: names no program"}, blind: true},
		{name: "tls", text: remote + "tls: {serverName: \"a:1\", app: ftp, cert: x}\n", want: []string{
			`7: tls.cert: unknown field: use one of serverName, ca, app`,
			`7: tls.serverName: "a:1" is not a host name, such as server.test`,
			`7: tls.app: "ftp" is none of echo, http, none: did you mean http?`,
		}},
		{name: "empty tls", text: remote + "tls: {}\n", want: []string{"7: tls: is empty: fill it or remove it"}},
		{name: "address as server name", text: remote + "tls: {serverName: \"127.0.0.1\"}\n", want: []string{`7: tls.serverName: "127.0.0.1" is not a host name, such as server.test`}, blind: true},
		{name: "long server name", text: remote + "tls: {serverName: " + strings.Repeat("a", 254) + "}\n", want: []string{`7: tls.serverName: "` + strings.Repeat("a", 60) + `" is not a host name, such as server.test`}},
		{name: "missing roots", text: remote + "tls: {ca: no-such.pem}\n", want: []string{"7: tls.ca: stat no-such.pem: no such file or directory"}, blind: true},
		{name: "device for roots", text: remote + "tls: {ca: /dev/zero}\n", want: []string{"7: tls.ca: /dev/zero is not a file"}, blind: true},
		{name: "router", text: remote + "router: {path: v1, modle: x, upstreams: [\"127.0.0.1\", \"127.0.0.1:{port.x}\"]}\n", want: []string{
			`7: router.modle: unknown field: did you mean model?`,
			`7: router.path: "v1" is not a path such as /v1 or /api/v1`,
			`7: router.upstreams[0]: "127.0.0.1" is not host:port, such as 127.0.0.1:9000, [::1]:9000 or 127.0.0.1:{port.rpc}`,
			`7: router.upstreams[1]: holds a placeholder: write the port that "assay backends --openai N --port openai-1=9001" serves`,
		}},
		{name: "configure without upstreams", text: remote + "hooks: {configure: \"x\"}\n", want: []string{`7: hooks.configure: does not use {upstreams}: write "./configure.sh {upstreams}"`}},
		{name: "client without hook", text: "apiVersion: assay/v1\nkind: Target\nname: c\nrole: client\n", want: []string{`1: hooks.client: is missing: a client has to be told what to dial, "./dial.sh {url}"`}},

		{name: "no command", text: started("  ready: {tcp: rpc}\n"), want: []string{
			"5: endpoints.rpc: nothing tells the program of {port.rpc}: use it in start.command, start.env or start.files",
			`7: start.command: is missing: write the program and its arguments, ["./server", "--port", "{port.rpc}"]`,
		}},
		{name: "no ready", text: started("  command: [./s, \"{port.rpc}\"]\n"), want: []string{
			"7: start.ready: is missing: say how it shows that it serves: {line: json}, {tcp: ENDPOINT}, {http: URL} or {grpcHealth: ENDPOINT}",
		}},
		{name: "command as text", text: started("  command: ./s {port.rpc}\n  ready: {tcp: rpc}\n"), want: []string{
			"5: endpoints.rpc: nothing tells the program of {port.rpc}: use it in start.command, start.env or start.files",
			`8: start.command: "./s {port.rpc}" is not a list`,
		}},
		{name: "empty program", text: started("  command: [\"\", \"{port.rpc}\"]\n  ready: {tcp: rpc}\n"), want: []string{"8: start.command[0]: is empty: fill it or remove it"}},
		{name: "number as argument", text: started("  command:\n  - ./s\n  - 8080\n  - \"{port.rpc}\"\n  ready: {tcp: rpc}\n"), want: []string{`10: start.command[1]: 8080 is not text: put it in quotes, "8080"`}},
		{name: "NUL", text: started("  command: [./s, \"{port.rpc}\\0\"]\n  ready: {tcp: rpc}\n"), want: []string{
			"5: endpoints.rpc: nothing tells the program of {port.rpc}: use it in start.command, start.env or start.files",
			"8: start.command[1]: holds a NUL byte",
		}, blind: true},
		{name: "port told to nobody", text: started("  command: [./s, \"{port.rcp}\"]\n  ready: {tcp: rpc}\n"), want: []string{
			"5: endpoints.rpc: nothing tells the program of {port.rpc}: use it in start.command, start.env or start.files",
		}, blind: true},
		{name: "unknown placeholder", text: started("  command: [./s, \"{port.rpc} {prot.x} {port} {dir.x}\"]\n  ready: {tcp: rpc}\n"), want: []string{
			"8: start.command[1]: {prot.x} is not known here: use {port.NAME}, {backend.NAME}, {endpoint.NAME}, {dir}",
			"8: start.command[1]: {port} is not known here: use {port.NAME}, {backend.NAME}, {endpoint.NAME}, {dir}",
			"8: start.command[1]: {dir.x} is not known here: use {port.NAME}, {backend.NAME}, {endpoint.NAME}, {dir}",
		}, blind: true},
		{name: "unknown endpoint placeholder", text: started("  command: [./s, \"{endpoint.rcp} {port.rpc}\"]\n  ready: {tcp: rpc}\n"), want: []string{
			"8: start.command[1]: {endpoint.rcp} names no endpoint of this file: did you mean rpc?",
		}, blind: true},
		{name: "backend of an endpoint", text: started("  command: [./s, \"{backend.x} {port.rpc}\"]\n  ready: {tcp: rpc}\n"), want: []string{
			"8: start.command[1]: {backend.x} is for role: proxy",
		}, blind: true},
		{name: "bad variable", text: started(ok + "  env: {A-B: c, D: 5}\n"), want: []string{
			"10: start.env.A-B: is not the name of a variable: use letters, digits and _",
			`10: start.env.D: 5 is not text: put it in quotes, "5"`,
		}},
		{name: "file outside", text: started(ok + "  files: {../x: a, /y: b, z/../w: c}\n"), want: []string{
			"10: start.files.../x: is not a path below {dir}: write one such as conf/server.conf",
			"10: start.files./y: is not a path below {dir}: write one such as conf/server.conf",
			"10: start.files.z/../w: is not a path below {dir}: write one such as conf/server.conf",
		}, blind: true},
		{name: "file and folder", text: started(ok + "  files: {a: x, a/b: y}\n"), want: []string{`10: start.files: "a" is both a file and the folder of "a/b"`}, blind: true},
		{name: "two conditions", text: started("  command: [./s, \"{port.rpc}\"]\n  ready: {tcp: rpc, grpcHealth: rpc}\n"), want: []string{"9: start.ready: holds 2 conditions: keep exactly one"}},
		{name: "ready at no endpoint", text: started("  command: [./s, \"{port.rpc}\"]\n  ready: {tcp: rcp}\n"), want: []string{`9: start.ready.tcp: "rcp" names no endpoint of this file: did you mean rpc?`}},
		{name: "ready by another line", text: started("  command: [./s, \"{port.rpc}\"]\n  ready: {line: text}\n"), want: []string{`9: start.ready.line: "text" must be json`}},
		{name: "ready by https", text: started("  command: [./s, \"{port.rpc}\"]\n  ready: {http: \"https://{endpoint.rpc}/\"}\n"), want: []string{`9: start.ready.http: "https://{endpoint.rpc}/" is not an address such as http://{endpoint.admin}/readyz`}},
		{name: "start as text", text: strings.Replace(remote, "claims", "start: ./s\nclaims", 1), want: []string{`6: start: "./s" is not fields (name: value)`}},
		{name: "many problems", text: "a:\n" + strings.Repeat("- b\n", 3) + strings.Repeat("x: 1\n", 30), want: append(manyProblems(), ": and 11 more"), blind: true},
	}
}

func manyProblems() []string {
	all := "apiVersion, kind, name, version, role, organization, project, url, contact, start, endpoints, claims, limits, tls, router, hooks, allowHosts, rate"
	out := []string{"1: a: unknown field: use one of " + all, "5: x: unknown field: use one of " + all}
	for line := 6; len(out) < 20; line++ {
		out = append(out, itoa(line)+": x: appears twice: first on line 5, keep one")
	}
	return out
}
