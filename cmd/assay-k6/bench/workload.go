package main

import "fmt"

// workload is one call, as k6's script makes it and as the engine does.
type workload struct {
	name   string
	title  string
	script string // of k6, %s is the server's address
	url    string // of the engine; empty: a call that does nothing
	few    int    // calls of the shorter k6 run
	many   int    // and of the longer
	native int    // the engine's runs have so many times more, to last as long
	want   float64
}

// The wanted ratios are those of the requirement: CPU for each call at most 1/2.5 of k6's JavaScript, of an
// empty iteration 1/20.
var workloads = []workload{
	{
		name: "empty", title: "empty iteration", few: 20_000, many: 220_000, native: 15, want: 20,
		script: `export default function () {}`,
	},
	{
		name: "tcp", title: "TCP echo, 64 bytes", few: 2_000, many: 42_000, native: 4, want: 2.5, url: "tcp://%s",
		script: `import { echo } from 'k6/x/assay';
export default function () { if (!echo('%s').ok) throw new Error('no echo'); }`,
	},
	{
		name: "http", title: "HTTP/1.1 GET, 64 bytes", few: 1_000, many: 16_000, native: 4, want: 2.5, url: "http://%s/",
		script: `import http from 'k6/http';
export default function () { if (http.get('http://%s/').status !== 200) throw new Error('no answer'); }`,
	},
	{
		name: "grpc", title: "gRPC unary, empty message", few: 500, many: 10_500, native: 4, want: 2.5, url: "grpc://%s/grpc.testing.TestService/EmptyCall",
		script: `import grpc from 'k6/net/grpc';
const client = new grpc.Client();
client.load(['.'], 'service.proto');
export default function () {
  if (__ITER === 0) client.connect('%s', { plaintext: true });
  const r = client.invoke('grpc.testing.TestService/EmptyCall', {});
  if (r.status !== grpc.StatusOK) throw new Error('no answer');
}`,
	},
}

// service is the protobuf definition that k6 needs at run time.
const service = `syntax = "proto3";
package grpc.testing;
message Empty {}
service TestService { rpc EmptyCall(Empty) returns (Empty); }
`

func names() (all []string) {
	for _, w := range workloads {
		all = append(all, w.name)
	}
	return all
}

// options are the script's options: a closed loop of so many calls.
func (w workload) options(users, calls int) string {
	return fmt.Sprintf("\nexport const options = { scenarios: { s: { executor: 'shared-iterations', vus: %d, iterations: %d, maxDuration: '10m' } } };\n", users, calls)
}
