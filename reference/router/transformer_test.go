package router_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/assay-bench/assay/models/manifest"
	"github.com/assay-bench/assay/models/transformer/transformertest"
	"github.com/assay-bench/assay/reference/router"
)

// TestTransformerRoutes: a sentence transformer is loaded as a router's model, decides in ONNX Runtime, and stands in
// the decision with its digest; the engine that does not run it is refused, and the old state kept.
func TestTransformerRoutes(t *testing.T) {
	needRuntime(t)
	s := service(t)
	file := transformertest.File(transformertest.Pieces, 1)
	info, err := s.Load("transformer", file, trusted(t, s).sign(t, "transformer", file))
	if err != nil || info.Format != "transformer" || info.Dimension != 128 {
		t.Fatalf("%+v %v", info, err)
	}
	if _, err := s.Set("test", router.Settings{Model: "transformer", Engine: router.Auto}); err != nil {
		t.Fatal(err)
	}
	r, err := s.Router("test")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.SetPolicies(map[string]router.Policy{
		"billing": {Examples: []string{"refund my payment", "send me the invoice"}}, "weather": {Examples: []string{"will it rain tomorrow", "weather forecast"}},
	}); err != nil {
		t.Fatal(err)
	}
	if d := decide(t, r, "refund my last payment please"); d.Policy != "billing" || d.Model.Digest != info.Digest || d.Model.Engine != router.ONNXRuntime || len(d.Vector) != 128 {
		t.Errorf("%s by %+v, %d values", d.Policy, d.Model, len(d.Vector))
	}
	if d := decide(t, r, "где моя посылка"); d.Reason != "unknown-text" {
		t.Errorf("a text in another script: %+v", d)
	}
	long := strings.Repeat("parcel ", 300)
	_, err = r.Decide(t.Context(), router.DecideRequest{Text: &long})
	if e, ok := errors.AsType[*router.Error](err); !ok || e.Kind != router.TooLarge || e.Limit != 254 {
		t.Errorf("a long text: %v", err)
	}
	text := "refund it"
	_, err = r.Decide(t.Context(), router.DecideRequest{Text: &text, Engine: router.PureGo})
	if e, ok := errors.AsType[*router.Error](err); !ok || e.Reason != "engine" {
		t.Errorf("in pure Go: %v", err)
	}
	_, err = s.Set("test", router.Settings{Model: "transformer", Engine: router.PureGo})
	if e, ok := errors.AsType[*router.Error](err); !ok || e.Reason != "engine" {
		t.Errorf("set to pure Go: %v", err)
	}
	if d := decide(t, r, "refund my last payment please"); d.Policy != "billing" {
		t.Errorf("the old state is lost: %+v", d)
	}
	other := transformertest.File(1000, 1)
	_, err = s.Load("other", other, trusted(t, s).sign(t, "other", other))
	if e, ok := errors.AsType[*router.Error](err); !ok || e.Kind != router.Refused || e.Reason != "metadata" {
		t.Errorf("another vocabulary: %v", err)
	}
}

// TestTransformerNeedsTheLibrary: without ONNX Runtime the model is refused with the place that was tried.
func TestTransformerNeedsTheLibrary(t *testing.T) {
	s, err := router.New(router.Config{Library: "/nonexistent/libonnxruntime.so"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(t.Context()) })
	file := transformertest.File(transformertest.Pieces, 1)
	_, err = s.Load("transformer", file, trusted(t, s).sign(t, "transformer", file))
	if e, ok := errors.AsType[*router.Error](err); !ok || e.Kind != router.Conflict || e.Reason != "engine" || !strings.Contains(e.Detail, "/nonexistent") && !strings.Contains(e.Detail, "cgo") && !strings.Contains(e.Detail, "is loaded") {
		t.Errorf("%v", err)
	}
	if list := s.Models(); len(list.Models) != 1 {
		t.Errorf("%+v", list.Models)
	}
}

// TestModelFileAtTheStart: a default model that is missing, or not listed, is an error of the start. The real teacher,
// where ASSAY_TEACHER names it, decides.
func TestModelFileAtTheStart(t *testing.T) {
	if _, err := router.New(router.Config{Model: "/nonexistent/teacher.onnx"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	path := t.TempDir() + "/model.onnx"
	if err := os.WriteFile(path, transformertest.File(transformertest.Pieces, 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := router.New(router.Config{Model: path}); !errors.Is(err, manifest.ErrNotListed) || !strings.Contains(err.Error(), "assay models pull") {
		t.Errorf("an unlisted file: %v", err)
	}
	teacher := os.Getenv("ASSAY_TEACHER")
	if teacher == "" {
		t.Skip("ASSAY_TEACHER does not name the file that assay models pull fetches")
	}
	needRuntime(t)
	s, err := router.New(router.Config{Model: teacher})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(t.Context()) })
	r, err := s.Router("")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.SetPolicies(map[string]router.Policy{
		"refunds": {Examples: []string{"I want my money back"}}, "outages": {Examples: []string{"nothing loads any more"}},
	}); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{"please reimburse me for the last order": "refunds", "your website is down": "outages"} {
		if d := decide(t, r, text); d.Policy != want || d.Model.Name != "all-minilm-l6-v2-int8" || d.Model.Digest == "" {
			t.Errorf("%q goes to %s by %+v", text, d.Policy, d.Model)
		}
	}
}

func needRuntime(t *testing.T) {
	t.Helper()
	if state, loaded := router.Engine(""); !loaded {
		if os.Getenv("CI") == "true" {
			t.Fatal(state.Detail)
		}
		t.Skip(state.Detail)
	}
}
