package face

import (
	"bytes"
	"slices"
	"sync/atomic"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/router/backend"
)

// mistakes is what planted defects of the chat face remember.
type mistakes struct {
	asked, under atomic.Int64 // chat completions so far, and under way
	before       atomic.Pointer[[]byte]
}

// wander is where a planted defect turns the order of the backends.
func (f *Face) wander(all []*backend.Backend) []*backend.Backend {
	if !f.cfg.Defects.On(defect.RouterChoiceWanders) || len(all) == 0 {
		return all
	}
	n := int(f.mistakes.asked.Add(1)) % len(all)
	return slices.Concat(all[n:], all[:n])
}

// garble is where planted defects change an answer that is whole.
func (f *Face) garble(whole []byte) []byte {
	switch d := f.cfg.Defects; {
	case d.On(defect.RouterCompletionBare):
		return bytes.Replace(whole, []byte(`"chat.completion"`), []byte(`"completion"`), 1)
	case d.On(defect.RouterAnswersCrossed) && f.mistakes.under.Load() > 4:
		if other := f.mistakes.before.Swap(&whole); other != nil {
			return *other
		}
	}
	return whole
}
