package face

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/reference/sandbox"
	"github.com/assay-bench/assay/reference/sandbox/coldstart"
)

func description(t *testing.T) object {
	t.Helper()
	text, err := os.ReadFile("../../../fixtures/idl/sandbox.openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var doc object
	if err := yaml.UnmarshalWithOptions(text, &doc, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	return doc
}

// at follows a JSON pointer.
func at(t *testing.T, doc any, pointer string) any {
	t.Helper()
	for _, step := range strings.Split(strings.TrimPrefix(pointer, "#/"), "/") {
		member, ok := doc.(object)[step]
		if !ok {
			t.Fatalf("%s: no %s", pointer, step)
		}
		doc = member
	}
	return doc
}

// TestDescribed: the description has the operations of the API, no more and no fewer.
func TestDescribed(t *testing.T) {
	doc := description(t)
	if v := fmt.Sprint(doc["openapi"]); !strings.HasPrefix(v, "3.1.") {
		t.Errorf("openapi is %s", v)
	}
	var described, served []string
	ids := map[string]bool{}
	for path, item := range doc["paths"].(object) {
		for method, operation := range item.(object) {
			if method == "parameters" {
				continue
			}
			described = append(described, strings.ToUpper(method)+" "+path)
			id, _ := operation.(object)["operationId"].(string)
			if id == "" || ids[id] {
				t.Errorf("%s %s: operationId %q", method, path, id)
			}
			ids[id] = true
			if _, ok := operation.(object)["responses"].(object)["default"]; !ok {
				t.Errorf("%s %s: no default response", method, path)
			}
		}
	}
	for _, r := range new(Face).routes() {
		served = append(served, r.method+" "+r.path)
	}
	slices.Sort(described)
	slices.Sort(served)
	if diff := cmp.Diff(served, described); diff != "" || len(served) == 0 {
		t.Errorf("served (-), described (+):\n%s", diff)
	}
}

// TestDescribedIsServed asks the mux itself: no operation is unknown to it.
func TestDescribedIsServed(t *testing.T) {
	f := startFake(t, &fake{err: sandbox.ErrArguments})
	seen := 0
	for path, item := range description(t)["paths"].(object) {
		for method := range item.(object) {
			if method == "parameters" {
				continue
			}
			seen++
			status, got := call(t, f, strings.ToUpper(method), filled(path), nil)
			if status == http.StatusNotFound || status == http.StatusMethodNotAllowed {
				t.Errorf("%s %s: %d %v", method, path, status, got)
			}
		}
	}
	if seen == 0 {
		t.Fatal("no operations")
	}
}

// TestReferences: every $ref leads somewhere, and every parameter of a path is declared.
func TestReferences(t *testing.T) {
	doc := description(t)
	seen := 0
	var walk func(any)
	walk = func(node any) {
		switch node := node.(type) {
		case object:
			if ref, ok := node["$ref"].(string); ok {
				seen++
				at(t, doc, ref)
			}
			for _, child := range node {
				walk(child)
			}
		case []any:
			for _, child := range node {
				walk(child)
			}
		}
	}
	walk(doc)
	if seen == 0 {
		t.Fatal("no references")
	}
	for path, item := range doc["paths"].(object) {
		for _, wild := range regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(path, -1) {
			declared, _ := json.Marshal(item.(object)["parameters"])
			if !strings.Contains(string(declared), "parameters/"+wild[1]) {
				t.Errorf("%s: %s is not declared", path, wild[1])
			}
		}
	}
}

// TestSchemas: the members of each schema are those of the type behind it.
func TestSchemas(t *testing.T) {
	doc := description(t)
	types := map[string]any{
		"Problem": problem{}, "Tenant": tenantRequest{}, "Keys": signatures{}, "TenantSet": tenantAnswer{},
		"Signatures": signatures{}, "Signature": sandbox.Signature{}, "Canary": sandbox.Canary{},
		"Upload": uploadRequest{}, "Published": sandbox.Published{}, "Call": callRequest{}, "Answer": sandbox.Answer{},
		"Stats": sandbox.Stats{}, "TenantStats": sandbox.TenantStats{}, "Audit": auditAnswer{}, "Event": sandbox.Event{},
		"ColdstartOrder": coldstartRequest{}, "Coldstart": coldstartAnswer{}, "ColdstartRow": coldstart.Row{}, "Overhead": coldstart.Overhead{},
		"Collected": collectAnswer{}, "Filter": filterRequest{}, "FilterLoaded": filterAnswer{}, "FilterState": filterState{},
	}
	for name, schema := range doc["components"].(object)["schemas"].(object) {
		properties, ok := schema.(object)["properties"].(object)
		if !ok {
			continue
		}
		behind, ok := types[name]
		if !ok {
			t.Errorf("%s: no type", name)
			continue
		}
		delete(types, name)
		var want []string
		for f := range reflect.TypeOf(behind).Fields() {
			member, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if member != "-" {
				want = append(want, member)
			}
		}
		var got []string
		for member := range properties {
			got = append(got, member)
		}
		slices.Sort(want)
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: type (-), schema (+):\n%s", name, diff)
		}
		for _, member := range asList(schema.(object)["required"]) {
			if !slices.Contains(got, member.(string)) {
				t.Errorf("%s: %s is required and not there", name, member)
			}
		}
	}
	if len(types) != 0 {
		t.Errorf("not described: %v", types)
	}
}

func asList(v any) []any {
	list, _ := v.([]any)
	return list
}
