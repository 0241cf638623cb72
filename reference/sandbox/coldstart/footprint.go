package coldstart

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/tetratelabs/wazero/api"
)

// Footprint is the memory of an instance that has served one call.
type Footprint struct {
	Guest         string `json:"guest"`
	Engine        Engine `json:"engine"`
	Instances     int    `json:"instances"`              // alive at once
	LinearBytes   int64  `json:"linearBytes"`            // of one: the guest's own memory
	HeapBytes     int64  `json:"heapBytes"`              // of one: growth of Go's heap after a collection, linear memory included
	ResidentBytes int64  `json:"residentBytes,omitzero"` // of one: growth of the process; 0 where the system does not say
	Note          string `json:"note,omitempty"`         // why there is no figure
}

// The number of instances that a footprint is the mean of: as many as footprintBytes of linear memory hold.
const (
	footprintBytes = 64 << 20
	minInstances   = 4
	maxInstances   = 64
)

// errAnswer says that a guest did not answer as it should.
var errAnswer = errors.New("wrong answer")

// Footprints measures every guest on every engine. The heap is the process's, so nothing else may run in it
// meanwhile. A guest whose answer is wrong has a note in place of figures. Errors are those of Measure.
func Footprints(ctx context.Context, o Options) ([]Footprint, error) {
	guests, err := o.fill()
	if err != nil {
		return nil, err
	}
	var rows []Footprint
	for _, g := range guests {
		for _, e := range o.Engines {
			row, err := o.footprint(ctx, g, e)
			if errors.Is(err, errAnswer) {
				row, err = Footprint{Guest: g.Name, Engine: e, Note: err.Error()}, nil
			}
			if err != nil {
				return nil, fmt.Errorf("guest %s: %s: footprint: %w", g.Name, e, err)
			}
			rows = append(rows, row)
		}
	}
	return rows, nil
}

func (o *Options) footprint(ctx context.Context, g *prepared, e Engine) (row Footprint, err error) {
	w, err := o.heat(ctx, g, e, "")
	if err != nil {
		return Footprint{}, err
	}
	defer func() { err = errors.Join(err, w.stage.close(context.Background())) }()
	first, err := w.served(ctx) // also brings the engine to the state of a serving process
	if err != nil {
		return Footprint{}, err
	}
	size := int64(len(linear(first)))
	if err := first.Close(ctx); err != nil {
		return Footprint{}, err
	}
	n := maxInstances
	if size > 0 {
		n = int(min(max(footprintBytes/size, minInstances), maxInstances))
	}
	alive := make([]api.Module, 0, n)
	heap, resident := usage()
	for range n {
		mod, err := w.served(ctx)
		if err != nil {
			return Footprint{}, err
		}
		alive = append(alive, mod)
	}
	heapAfter, residentAfter := usage()
	runtime.KeepAlive(alive)
	return Footprint{
		Guest: g.Name, Engine: e, Instances: n, LinearBytes: size,
		HeapBytes: (heapAfter - heap) / int64(n), ResidentBytes: max(residentAfter-resident, 0) / int64(n),
	}, nil
}

// served returns a new instance that has answered one call.
func (w *warm) served(ctx context.Context) (api.Module, error) {
	mod, err := w.stage.instantiate(ctx, w.compiled)
	if err != nil {
		return nil, err
	}
	got, err := w.guest.call(ctx, mod)
	if why := w.guest.wrong(got, err); why != "" {
		return nil, fmt.Errorf("%w: %s", errAnswer, why)
	}
	return mod, nil
}

// usage returns the bytes of live heap and of resident memory, after a collection that gives free memory back.
func usage() (heap, resident int64) {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc), residentBytes()
}

// residentBytes reads /proc/self/statm: pages in all, then pages resident. It is 0 where there is no such file.
func residentBytes() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}
