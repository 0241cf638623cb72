package router

import (
	"math"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/assay-bench/assay/models/encode"
	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/router/table"
)

// spoil is where planted defects change a vector after the engine.
func (e *embedder) spoil(dst []float32, text string) {
	e.calls++
	switch {
	case e.defects.On(defect.RouterVectorUnnormalised):
		for i := range dst {
			dst[i] *= 1.0005 // a table refuses what is farther from 1
		}
	case e.defects.On(defect.RouterVectorNondeterministic):
		dst[0] = math.Float32frombits(math.Float32bits(dst[0]) ^ uint32(e.calls&1))
	case e.defects.On(defect.RouterVectorOrder):
		dst[0], e.last = dst[0]+e.last*1e-3, dst[0]
		encode.Normalize(dst)
	case e.defects.On(defect.RouterUnseenCounted):
		dst[1] += 1e-3 * float32(strings.Count(text, " "))
		encode.Normalize(dst)
	case e.defects.On(defect.RouterEngineDiffers) && e.foreign:
		dst[0] += 1e-3
	case e.defects.On(defect.RouterEngineReversed) && e.foreign:
		slices.Reverse(dst)
	case e.defects.On(defect.RouterCacheHidden) && len(e.hoard) < 4096:
		if e.hoard == nil {
			e.hoard = map[string][]float32{}
		}
		e.hoard[text] = append([]float32(nil), dst...)
	}
}

// dawdle is a reader of texts without a bound.
func (e *embedder) dawdle(text string) string {
	time.Sleep(time.Duration(len(text)) * time.Microsecond)
	return text[:min(len(text), encode.MaxTextBytes)]
}

// misreport is where planted defects change what a decision says.
func (r *Router) misreport(d *Decision) {
	defects := r.service.cfg.Defects
	if !defects.Any() {
		return
	}
	switch {
	case defects.On(defect.RouterExplanationLies):
		for i := range d.Neighbours {
			d.Neighbours[i].Cosine += 0.01
		}
	case defects.On(defect.RouterCosinesInverted):
		d.TopCosine = 1 - d.TopCosine
	case defects.On(defect.RouterDecidesFirst):
		if all := r.live.Load().version.Policies; len(all) > 10 {
			d.Policy, d.Votes = all[0].ID, []Vote{{Policy: all[0].ID, Sum: 1, Weight: 1}}
		}
	case defects.On(defect.RouterNeighboursUnsorted):
		slices.Reverse(d.Neighbours)
	case defects.On(defect.RouterVersionsMixed):
		if l := r.live.Load(); l.version.Parent != 0 && r.counters.decisions.Load()%7 == 0 {
			d.Version = l.version.Parent
		}
	case defects.On(defect.RouterThresholdUnsourced):
		d.Threshold.Split, d.Threshold.Quantile = "", 0
	case defects.On(defect.RouterThresholdMoves):
		d.Threshold.Value += 1e-4 * float64(r.counters.decisions.Load())
	case defects.On(defect.RouterDecideDials):
		if b, ok := r.backends.Get(d.Backend); ok {
			if u, err := url.Parse(b.Spec.URL); err == nil {
				if c, err := net.DialTimeout("tcp", u.Host, time.Second); err == nil {
					_ = c.Close()
				}
			}
		}
	}
}

// shortened is where a planted defect takes the last value of a vector.
func (r *Router) shortened(d Decision) Decision {
	if r.service.cfg.Defects.On(defect.RouterVectorShort) && len(d.Vector) > 1 {
		d.Vector = d.Vector[:len(d.Vector)-1]
	}
	return d
}

// kept is where a planted defect changes policies that nobody set.
func (r *Router) kept(p *table.Policy) *table.Policy {
	if !r.service.cfg.Defects.On(defect.RouterAdditionReshuffles) || len(p.Rows) == 0 {
		return p
	}
	turned := slices.Clone(p.Rows[0].Live)
	slices.Reverse(turned)
	q, err := p.WithRow(0, turned)
	if err != nil {
		return p
	}
	return q
}

// loiter is where planted defects make a decision slow.
func (s *Service) loiter() {
	defects := s.cfg.Defects
	switch {
	case defects.On(defect.RouterSlow):
		time.Sleep(2 * time.Millisecond)
	case defects.On(defect.RouterStalls):
		if s.slow.Add(1)%64 == 0 {
			time.Sleep(100 * time.Millisecond)
		}
	case defects.On(defect.RouterAllocates):
		waste.Store(new([1024]byte))
	}
}

var waste atomic.Pointer[[1024]byte] // of a planted defect: what escapes is on the heap
