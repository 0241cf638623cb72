package router_test

import (
	"math"
	"testing"

	"github.com/assay-bench/assay/fixtures/routes"
	"github.com/assay-bench/assay/reference/router"
)

// TestEnginesAgree: in one router both engines choose the same policy for every test text of the corpus, and no
// cosine differs by more than 1e-5 (router/onnx/parity-argmax, router/onnx/parity-scores).
func TestEnginesAgree(t *testing.T) {
	needRuntime(t)
	c, err := routes.Load()
	if err != nil {
		t.Fatal(err)
	}
	s := service(t)
	state, err := s.Set("test", router.Settings{Engine: router.Auto})
	if err != nil || state.Model.Engine != router.ONNXRuntime {
		t.Fatalf("%+v %v", state.Model, err)
	}
	r, err := s.Router("test")
	if err != nil {
		t.Fatal(err)
	}
	policies := map[string]router.Policy{}
	for _, of := range c.Routes {
		policies[of.ID] = router.Policy{Examples: of.Train}
	}
	if _, err := r.SetPolicies(policies); err != nil {
		t.Fatal(err)
	}
	seen, most := 0, 0.0
	for _, of := range c.Routes {
		for _, text := range of.Test {
			seen++
			var by [2]router.Decision
			for i, engine := range []string{router.PureGo, router.ONNXRuntime} {
				if by[i], err = r.Decide(t.Context(), router.DecideRequest{Text: &text, Engine: engine}); err != nil {
					t.Fatal(err)
				}
			}
			most = max(most, math.Abs(float64(by[0].TopCosine-by[1].TopCosine)))
			if by[0].Policy != by[1].Policy || by[0].Model.Engine == by[1].Model.Engine {
				t.Errorf("%q: %s by %s, %s by %s", text, by[0].Policy, by[0].Model.Engine, by[1].Policy, by[1].Model.Engine)
			}
		}
	}
	if seen == 0 || most > 1e-5 {
		t.Errorf("%d texts, cosines differ by up to %v", seen, most)
	}
	t.Logf("%d texts, cosines differ by up to %.2g", seen, most)
}
