package target_test

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/fixtures/schematest"
	"github.com/assay-bench/assay/scenarios/target"
)

func TestSchemaAgreesWithParse(t *testing.T) {
	s := schematest.Compile(t, target.Schema())
	good, bad := 0, 0
	for _, c := range fileCases() {
		err := schematest.Validate(s, c.text)
		switch {
		case len(c.want) == 0:
			good++
			if err != nil {
				t.Errorf("%s: good, and the schema refuses it: %v", c.name, err)
			}
		case !c.blind:
			bad++
			if err == nil {
				t.Errorf("%s: bad, and the schema accepts it", c.name)
			}
		}
	}
	if good < 5 || bad < 20 {
		t.Fatalf("%d good and %d bad cases: this test proves little", good, bad)
	}
}

// The names in the schema are those of the registry.
func TestSchemaNames(t *testing.T) {
	var schema struct {
		Properties struct {
			Claims struct {
				Items struct {
					OneOf []struct{ Const, Description string }
				}
			}
			Endpoints struct{ Properties map[string]any }
		}
		Defs struct {
			EndpointName struct{ Enum []string }
		} `json:"$defs"`
	}
	if err := json.Unmarshal(target.Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	titles, endpoints := map[string]string{}, map[string]bool{}
	for _, e := range features.All() {
		titles[string(e.Feature)] = e.Title
		endpoints[e.Endpoint] = true
	}
	got := map[string]string{}
	for _, f := range schema.Properties.Claims.Items.OneOf {
		got[f.Const] = f.Description
	}
	if diff := cmp.Diff(titles, got); diff != "" || len(got) == 0 {
		t.Errorf("features (-registry +schema):\n%s", diff)
	}
	for name := range endpoints {
		if _, ok := schema.Properties.Endpoints.Properties[name]; !ok || !slices.Contains(schema.Defs.EndpointName.Enum, name) {
			t.Errorf("endpoint %s is missing in the schema", name)
		}
	}
	if len(schema.Properties.Endpoints.Properties) != len(endpoints) || len(schema.Defs.EndpointName.Enum) != len(endpoints) {
		t.Errorf("endpoints %v and %v, want those of %v", schema.Properties.Endpoints.Properties, schema.Defs.EndpointName.Enum, endpoints)
	}
}

// An editor shows descriptions; a field without one helps nobody. The constant kind explains itself.
func TestSchemaDescribesEveryField(t *testing.T) {
	var schema map[string]any
	if err := json.Unmarshal(target.Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	seen := 0
	var walk func(path string, node map[string]any)
	walk = func(path string, node map[string]any) {
		fields, _ := node["properties"].(map[string]any)
		for name, field := range fields {
			f := field.(map[string]any)
			seen++
			if f["description"] == nil && f["$ref"] == nil && f["const"] == nil {
				t.Errorf("%s.%s has no description", path, name)
			}
			walk(path+"."+name, f)
		}
	}
	walk("", schema)
	for name, def := range schema["$defs"].(map[string]any) {
		walk(name, def.(map[string]any))
	}
	if seen == 0 {
		t.Fatal("no fields")
	}
}
