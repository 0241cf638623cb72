package face

import (
	"errors"
	"net/http"

	"github.com/assay-bench/assay/reference/sandbox"
	"github.com/assay-bench/assay/reference/sandbox/proxywasm"
)

const (
	// filterName is the name of every filter in the bytes that its tenant signs.
	filterName = "proxy"
	// stepProxy is the step that refuses what Proxy-Wasm itself does not allow.
	stepProxy = "proxy"
)

// filterRequest is the body of PUT /proxy/filter.
type filterRequest struct {
	Tenant          string     `json:"tenant"`
	Wasm            []byte     `json:"wasm"`
	Version         uint64     `json:"version"`
	Signatures      signatures `json:"signatures"`
	Configuration   string     `json:"configuration"`
	VMConfiguration string     `json:"vmConfiguration"`
	Upstream        string     `json:"upstream"`
}

type filterAnswer struct {
	Version uint64 `json:"version"`
}

// loadFilter admits a filter, starts it and swaps it in, one at a time: the newest accepted one serves.
func (f *Face) loadFilter(r *http.Request, q *filterRequest) (any, error) {
	tenant, err := name("tenant", q.Tenant)
	if err != nil {
		return nil, err
	}
	if err := proxywasm.CheckUpstream(q.Upstream); err != nil {
		return nil, bad("%v", err)
	}
	box, err := f.core.tenants()
	if err != nil {
		return nil, err
	}
	f.loading.Lock()
	defer f.loading.Unlock()
	admitted, err := box.Admit(r.Context(), tenant, filterName, sandbox.Upload{
		Wasm: q.Wasm, Version: q.Version, ABI: sandbox.Proxy, Engine: sandbox.Compiler,
		Signatures: sandbox.Signatures(q.Signatures),
	})
	if err != nil {
		return nil, err
	}
	// the filter outlives the request
	filter, err := proxywasm.Load(f.ctx, admitted.Wasm, proxywasm.Options{
		Configuration: []byte(q.Configuration), VMConfiguration: []byte(q.VMConfiguration), Defects: f.cfg.Defects,
		MaxPages: admitted.Quota.Pages, Meter: proxywasm.NewFuelMeter(admitted.Quota.Fuel),
	})
	if err != nil {
		return nil, err
	}
	if err := f.proxy.Swap(filter, q.Upstream); err != nil {
		return nil, errors.Join(err, filter.Close(r.Context()))
	}
	admitted.Commit()
	f.loaded.Store(q.Version)
	return filterAnswer{q.Version}, nil
}

type filterState struct {
	Loaded  bool     `json:"loaded"`
	Version uint64   `json:"version"`
	Log     []string `json:"log"`
}

func (f *Face) filterState(*http.Request) (any, error) {
	return filterState{f.proxy.Loaded(), f.loaded.Load(), f.proxy.Log()}, nil
}
