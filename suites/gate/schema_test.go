package gate_test

import (
	"encoding/json"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/fixtures/schematest"
	"github.com/assay-bench/assay/suites/gate"
)

// everyField is a policy with every field of the format.
const everyField = `apiVersion: assay/v1
kind: Gate
name: all
build: go build -o {out} .
start:
  command: ["{out}", -listen, "127.0.0.1:{port}"]
  ready: /healthz
  timeout: 10s
  warmup: 1m30s
  processors: all
  env: {LEVEL: error}
  setup: ./up {port}
  teardown: ./down {port}
  container: {args: [serve], port: 8080}
counters: {path: /debug/vars, allocs: memstats.Mallocs}
scenarios:
  - name: one
    requests: [{method: POST, path: /x, headers: {Accept: text/plain}, body: hello, status: 201}]
    requestsPerEpoch: 600
    metrics: {p50: {failAbove: 2%, passBelow: 0.05, gating: true}, errors: {margin: 0.5%, gating: false}, mean: , peak: {}, wire: {}, p90: {}, p99: {}, allocs: {}, cpu: {}}
    thresholds: {http_req_duration: ["p(99)<25"], http_req_failed: ["rate<0.01"]}
  - {name: two, mode: slice, rate: 2000, users: 8, span: 100ms, within: 20ms, requests: [{path: /}], metrics: {p50: {}, goodput: {}}}
  - {name: three, mode: block, requests: [{path: /}], metrics: {throughput: {}}}
accepts: [{metric: one/p50, upTo: 8%, reason: checksums, expires: 2027-03-31}]
creep: {metrics: {p50: {failAbove: 2%, passBelow: 3%}}}
`

// What the parser takes the schema takes, and what the schema refuses the parser refuses. blind says that the mistake spans several
// fields, or the text of an expression, so that only the parser finds it.
func TestSchemaAgreesWithTheParser(t *testing.T) {
	s := schematest.Compile(t, gate.Schema())
	for name, text := range map[string]string{"sample": policyText, "every field": everyField, "template": gate.Template(gate.Service{Name: "s", Main: ".", Args: []string{"{port}"}})} {
		if _, err := gate.ParsePolicy([]byte(text)); err != nil {
			t.Errorf("%s: the parser refuses it: %v", name, err)
		}
		if err := schematest.Validate(s, text); err != nil {
			t.Errorf("%s: the schema refuses it: %v", name, err)
		}
	}
	for _, c := range []struct {
		from, to string
		blind    bool
	}{
		{"kind: Gate", "kind: Target", false},
		{"apiVersion: assay/v1", "apiVersion: assay/v2", false},
		{"name: all", "nmae: all", false},
		{"timeout: 10s", "timeout: 10", false},
		{"timeout: 10s", "timeout: soon", false},
		{"processors: all", "processors: two", false},
		{"ready: /healthz", "ready: healthz", false},
		{"port: 8080", "port: 80800", false},
		{"port: 8080", "host: 8080", false},
		{", allocs: memstats.Mallocs}", "}", false},
		{"path: /x", "path: x", false},
		{"- name: one", "- name: one/two", false},
		{"failAbove: 2%", "failAbove: much", false},
		{"failAbove: 2%", "failAbove: -1", false},
		{"failAbove: 2%", "margin: 2%", false},
		{"margin: 0.5%, ", "", false},
		{"margin: 0.5%", "failAbove: 0.5%", false},
		{"peak: {}", "peek: {}", false},
		{`["p(99)<25"]`, "[]", false},
		{`["p(99)<25"]`, "p(99)<25", false},
		{`["p(99)<25"]`, `["p(99)>25"]`, true},
		{"mode: slice", "mode: slices", false},
		{"rate: 2000", "rate: -1", false},
		{"rate: 2000", "rate: 2000000", false},
		{"rate: 2000", "rate: 1", true}, // more rounds than an epoch may have
		{"users: 8", "users: 5000", false},
		{"span: 100ms", "span: 100", false},
		{"span: 100ms", "span: 10s", true},
		{", within: 20ms", "", true},
		{"mode: block, ", "", true},
		{"requestsPerEpoch: 600", "requestsPerEpoch: -1", false},
		{"metric: one/p50", "metric: one/p51", true},
		{"reason: checksums", `reason: ""`, false},
		{"expires: 2027-03-31", "expires: spring", false},
		{`"127.0.0.1:{port}"`, `"127.0.0.1:80"`, true},
		{"  command: [\"{out}\", -listen, \"127.0.0.1:{port}\"]\n", "  command: []\n", false},
	} {
		text := strings.Replace(everyField, c.from, c.to, 1)
		if text == everyField {
			t.Fatalf("the policy has no %q", c.from)
		}
		if strings.HasPrefix(c.to, "  command: []") { // alone it is that of images
			text = strings.Replace(text, "  container: {args: [serve], port: 8080}\n", "", 1)
		}
		_, parsed := gate.ParsePolicy([]byte(text))
		if parsed == nil {
			t.Errorf("%q for %q: the parser takes it", c.to, c.from)
		}
		if err := schematest.Validate(s, text); (err == nil) != c.blind {
			t.Errorf("%q for %q: the schema says %v", c.to, c.from, err)
		}
	}
}

// Every field of Policy is in the schema and the other way round, each with a description.
func TestSchemaHasEveryField(t *testing.T) {
	var schema map[string]any
	if err := json.Unmarshal(gate.Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	fields := map[string]bool{}
	var ofType func(path string, typ reflect.Type)
	ofType = func(path string, typ reflect.Type) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice || typ.Kind() == reflect.Map {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct {
			return
		}
		for i := range typ.NumField() {
			at := path + "." + typ.Field(i).Tag.Get("yaml")
			fields[at] = true
			ofType(at, typ.Field(i).Type)
		}
	}
	ofType("", reflect.TypeFor[gate.Policy]())
	described := map[string]bool{}
	metric := regexp.MustCompile(`^(\.scenarios\.metrics)\.\w+`)
	var ofSchema func(path string, node map[string]any)
	ofSchema = func(path string, node map[string]any) {
		if ref, ok := node["$ref"].(string); ok {
			node = schema["$defs"].(map[string]any)[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any)
		}
		if items, ok := node["items"].(map[string]any); ok {
			ofSchema(path, items)
		}
		if named, ok := node["additionalProperties"].(map[string]any); ok {
			ofSchema(path, named)
		}
		properties, _ := node["properties"].(map[string]any)
		for name, field := range properties {
			at := path + "." + name
			if field.(map[string]any)["description"] == nil {
				t.Errorf("%s has no description", at)
			}
			if name := metric.ReplaceAllString(at, "$1"); name != ".scenarios.metrics" || at == ".scenarios.metrics" {
				described[name] = true
			}
			ofSchema(at, field.(map[string]any))
		}
	}
	ofSchema("", schema)
	if diff := cmp.Diff(slices.Sorted(maps.Keys(fields)), slices.Sorted(maps.Keys(described))); diff != "" || len(fields) < 30 {
		t.Errorf("fields (-parser +schema), %d:\n%s", len(fields), diff)
	}
}

// The metrics of the schema are those that can be measured.
func TestSchemaHasEveryMetric(t *testing.T) {
	var schema struct {
		Defs struct {
			Scenario struct {
				Properties struct {
					Metrics struct{ Properties map[string]any }
				}
			}
		} `json:"$defs"`
	}
	if err := json.Unmarshal(gate.Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	_, err := gate.ParsePolicy([]byte(withMetrics("{none: {}}")))
	if err == nil {
		t.Fatal("metric none was taken")
	}
	names := strings.Join(slices.Sorted(maps.Keys(schema.Defs.Scenario.Properties.Metrics.Properties)), ", ")
	if !strings.Contains(err.Error(), "none of "+names+"\n") && !strings.HasSuffix(err.Error(), "none of "+names) {
		t.Errorf("the schema has %s; the parser says %v", names, err)
	}
}
