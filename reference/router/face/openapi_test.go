package face

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/reference/router"
	"github.com/assay-bench/assay/reference/router/backend"
	"github.com/assay-bench/assay/reference/router/span"
	"github.com/assay-bench/assay/reference/router/table"
)

type object = map[string]any

func description(t *testing.T) object {
	t.Helper()
	text, err := os.ReadFile("../../../fixtures/idl/router.openapi.yaml")
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
	for step := range strings.SplitSeq(strings.TrimPrefix(pointer, "#/"), "/") {
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
	var described, served []string
	ids := map[string]bool{}
	for path, item := range description(t)["paths"].(object) {
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
	for _, r := range newFace(Config{}).routes() {
		served = append(served, r.method+" "+r.path)
	}
	slices.Sort(described)
	slices.Sort(served)
	if diff := cmp.Diff(served, described); diff != "" || len(served) == 0 {
		t.Errorf("served (-), described (+):\n%s", diff)
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
			if declared := fmt.Sprint(item.(object)["parameters"]); !strings.Contains(declared, "parameters/"+wild[1]) {
				t.Errorf("%s: %s is not declared", path, wild[1])
			}
		}
	}
}

// behind are the types of the schemas.
func behind() map[string]any {
	return map[string]any{
		"Problem": problem{}, "RouterList": routerList{}, "Settings": router.Settings{}, "Window": router.Window{},
		"FeedbackSettings": router.FeedbackSettings{}, "Threshold": table.Threshold{}, "ModelRef": router.ModelRef{},
		"State": router.State{}, "Policy": router.Policy{}, "Split": table.Split{}, "PolicyBatch": policyBatch{},
		"PoliciesSet": router.PoliciesSet{}, "PolicyList": policyList{}, "PolicySummary": router.PolicySummary{},
		"PolicyState": router.PolicyState{}, "RowState": router.RowState{}, "EmbedRequest": embedRequest{},
		"Embedded": router.Embedded{}, "Embedding": router.Embedding{}, "DecideRequest": router.DecideRequest{},
		"RequestFeatures": router.RequestFeatures{}, "DecideBatch": decideBatchRequest{}, "Decisions": decisions{},
		"Decision": router.Decision{}, "Vote": router.Vote{}, "Neighbour": router.Neighbour{}, "Example": router.Example{},
		"Calibration": router.Calibration{}, "Calibrated": router.Calibrated{}, "FeedbackBatch": feedbackRequest{},
		"FeedbackEvent": router.FeedbackEvent{}, "FeedbackAnswer": router.FeedbackAnswer{},
		"FeedbackResult": router.FeedbackResult{}, "GuardSet": guardRequest{}, "Guard": router.Guard{}, "Log": router.Log{},
		"LogEvent": router.LogEvent{}, "VersionList": router.VersionList{}, "VersionSummary": router.VersionSummary{},
		"Version": router.VersionRows{}, "Row": router.Row{}, "Rollback": rollbackRequest{}, "Weights": router.Weights{},
		"RouterStats": router.RouterStats{}, "CacheStats": router.CacheStats{}, "ShadowStats": router.ShadowStats{},
		"EngineState": router.EngineState{}, "Drift": router.Drift{}, "MeasureOrder": router.MeasureOrder{},
		"Measured": router.Measured{}, "Backend": backend.Spec{}, "BackendList": backendList{}, "BackendState": backend.State{},
		"Observation": observation{}, "Dispatch": router.Dispatch{}, "BackendAnswer": router.BackendAnswer{},
		"Rollout": router.Rollout{}, "RolloutState": router.RolloutState{}, "ArmStats": router.ArmStats{},
		"ModelList": router.ModelList{}, "Model": router.ModelInfo{}, "ModelUpload": modelUpload{}, "Trust": trustRequest{},
		"Spans": spanList{}, "Span": span.Finished{}, "OpenAIList": openAIList{}, "OpenAIModel": openAIModel{},
		"OpenAIErrorBody": openAIErrorBody{}, "OpenAIErrorDetail": openAIError{}, "Invocation": invocation{},
		"Input": input{}, "Invoked": invoked{},
	}
}

// TestSchemas: the members of each schema are those of the type behind it.
func TestSchemas(t *testing.T) {
	types := behind()
	for name, schema := range description(t)["components"].(object)["schemas"].(object) {
		properties, ok := schema.(object)["properties"].(object)
		if !ok {
			continue
		}
		of, ok := types[name]
		if !ok {
			t.Errorf("%s: no type", name)
			continue
		}
		delete(types, name)
		var want, got []string
		for f := range reflect.TypeOf(of).Fields() {
			member, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			want = append(want, member)
		}
		for member := range properties {
			got = append(got, member)
		}
		slices.Sort(want)
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: type (-), schema (+):\n%s", name, diff)
		}
		required, _ := schema.(object)["required"].([]any)
		for _, member := range required {
			if !slices.Contains(got, member.(string)) {
				t.Errorf("%s: %s is required and not there", name, member)
			}
		}
	}
	if len(types) != 0 {
		t.Errorf("not described: %v", types)
	}
}
