package face

import (
	"net/http"

	"github.com/assay-bench/assay/fixtures/wasm"
	"github.com/assay-bench/assay/reference/sandbox"
	"github.com/assay-bench/assay/reference/sandbox/coldstart"
)

// maxSamples bounds a measurement of cold starts.
const maxSamples = 1000

// coldstartRequest is the body of POST /coldstart.
type coldstartRequest struct {
	Samples int `json:"samples"`
}

type coldstartAnswer struct {
	Rows      []coldstart.Row      `json:"rows"`
	Overheads []coldstart.Overhead `json:"overheads"`
	Wazero    string               `json:"wazero"`
}

// coldstart measures one order at a time: two would measure each other.
func (f *Face) coldstart(r *http.Request, q *coldstartRequest) (any, error) {
	if q.Samples < 1 || q.Samples > maxSamples {
		return nil, bad("samples is %d, want 1 to %d", q.Samples, maxSamples)
	}
	if !f.measuring.TryLock() {
		return nil, &problem{Status: http.StatusTooManyRequests, Detail: "a measurement is under way"}
	}
	defer f.measuring.Unlock()
	o := coldstart.Options{Samples: q.Samples, Defects: f.cfg.Defects, Guests: coldGuests()}
	rows, err := coldstart.Measure(r.Context(), o)
	if err != nil {
		return nil, err
	}
	overheads, err := coldstart.Overheads(r.Context(), o)
	if err != nil {
		return nil, err
	}
	return coldstartAnswer{rows, overheads, sandbox.WazeroVersion}, nil
}

// coldGuests are what a cold start is measured with: a guest of C, whose answer is known.
func coldGuests() []coldstart.Guest {
	return []coldstart.Guest{{
		Name: "compute-c", Built: "C, clang -O2", Wasm: wasm.Module("compute-c"), Function: "fib", Args: []uint64{10}, Want: []uint64{55},
		Warm: &coldstart.Call{Function: "fib", Args: []uint64{15}, Want: []uint64{610}},
	}}
}
