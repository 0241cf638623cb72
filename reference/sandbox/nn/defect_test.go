package nn

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tetratelabs/wazero"

	"github.com/assay-bench/assay/reference/defect"
)

// TestDefects proves that each planted defect shows where its absence does not.
func TestDefects(t *testing.T) {
	cases := map[defect.Name]func(t *testing.T, s *server) (shown bool){
		defect.SandboxNnAbsent: func(t *testing.T, s *server) bool {
			g := s.guest(t, Policy{})
			g.put(atName, []byte(theName))
			return g.call("load_by_name", atName, uint32(len(theName)), atGraph) == NotFound
		},
		defect.SandboxHandlesShared: func(t *testing.T, s *server) bool {
			a, b := s.guest(t, Policy{}), s.guest(t, Policy{})
			return b.call("init_execution_context", a.graph(), atCtx) == Success
		},
		defect.SandboxNnWrong: func(t *testing.T, s *server) bool {
			g, ctx := computed(t, s)
			g.want(Success, "get_output", ctx, 0, atOut, 12, atWrote)
			return cmp.Diff([]float32{3, 7, 11}, g.output(3), approximately) != ""
		},
		defect.SandboxNnBadHandleOk: func(t *testing.T, s *server) bool {
			g := s.guest(t, Policy{})
			return g.call("init_execution_context", wrong, atCtx) == Success && g.call("compute", wrong) == Success &&
				g.call("set_input", wrong, 0, atTensor) == Success && g.call("get_output", wrong, 0, atOut, 12, atWrote) == Success
		},
		defect.SandboxNnEncodingIgnored: func(t *testing.T, s *server) bool {
			g := s.guest(t, Policy{LoadBytes: true})
			g.words(atModel, 0, 16)
			return g.call("load", atModel, 1, 99, 0, atGraph) == Success && g.call("load", atModel, 1, 0, 0, atGraph) == Success
		},
		defect.SandboxNnOverflows: func(t *testing.T, s *server) bool {
			g, ctx := computed(t, s)
			g.words(atOut+4, 0xa5a5a5a5)
			g.call("get_output", ctx, 0, atOut, 4, atWrote)
			return g.word(atOut+4) != 0xa5a5a5a5
		},
		defect.SandboxNnTensorUnchecked: func(t *testing.T, s *server) bool {
			g := s.guest(t, Policy{})
			ctx := g.context()
			g.tensor(atData, []uint32{1, 400}, 1)
			return g.call("set_input", ctx, 0, atTensor) == Success && g.call("compute", ctx) == Success
		},
		defect.SandboxNnUnknownNameOk: func(t *testing.T, s *server) bool {
			g := s.guest(t, Policy{})
			g.put(atName, []byte("none"))
			return g.call("load_by_name", atName, 4, atGraph) == Success
		},
		defect.SandboxNnBytesOnFree: func(t *testing.T, s *server) bool {
			g := s.guest(t, Policy{})
			g.words(atModel, 0, 16)
			return g.call("load", atModel, 1, 1, 0, atGraph) != UnsupportedOperation && s.counters.ParserCalls.Load() == 1
		},
		defect.SandboxNnContextsUnbounded: func(t *testing.T, s *server) bool {
			g := s.guest(t, Policy{MaxContexts: 4, MaxBytes: 8192})
			graph := g.graph()
			for range 1000 {
				if g.call("init_execution_context", graph, atCtx) != Success {
					return false
				}
			}
			return true
		},
	}
	onBoth(t, func(t *testing.T, config wazero.RuntimeConfig) {
		seen := 0
		for name, shown := range cases {
			seen++
			t.Run(string(name), func(t *testing.T) {
				if name != defect.SandboxNnAbsent && shown(t, serve(t, config)) {
					t.Error("shown without being planted")
				}
				if !shown(t, serve(t, config, name)) {
					t.Error("planted, and not shown")
				}
			})
		}
		if seen == 0 {
			t.Fatal("no defects")
		}
	})
}
