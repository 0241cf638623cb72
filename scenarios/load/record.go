package load

import (
	"errors"
	"io"
	"net"

	"github.com/assay-bench/assay/results/histogram"
)

// outcome of an arrival that was sent.
type outcome int

const (
	outcomeOK outcome = iota
	outcomeError
	outcomeTimeout
	outcomes // how many there are
)

const (
	maxKinds    = 32  // distinct error texts kept
	maxKindText = 120 // bytes of each
	otherKind   = "other"
)

// recorder is what one goroutine has measured; merged when all have ended. Its
// histograms are made on first use, so an idle worker costs nothing.
type recorder struct {
	counts      [outcomes]int64
	okResponse  *histogram.Histogram
	badResponse *histogram.Histogram // errors and timeouts; "all" is the sum of both
	service     *histogram.Histogram
	lateness    *histogram.Histogram
	errors      map[string]int64
	stray       int64 // replies to nothing in flight
	lastEnd     int64
}

// into records ns in *h, made when needed.
func into(h **histogram.Histogram, ns int64) {
	if *h == nil {
		*h = histogram.New()
	}
	(*h).Record(ns)
}

// add records one finished arrival.
func (r *recorder) add(intended, start, end int64, out outcome, kind string) {
	r.counts[out]++
	r.lastEnd = max(r.lastEnd, end)
	if out == outcomeOK {
		into(&r.okResponse, end-intended)
	} else {
		into(&r.badResponse, end-intended)
	}
	into(&r.service, end-start)
	into(&r.lateness, start-intended)
	if out == outcomeError {
		r.errors = countKind(r.errors, kind, 1)
	}
}

// countKind adds n to the count of an error text, in a map of bounded size.
func countKind(kinds map[string]int64, kind string, n int64) map[string]int64 {
	if kinds == nil {
		kinds = make(map[string]int64)
	}
	if _, known := kinds[kind]; !known && len(kinds) >= maxKinds {
		kind = otherKind
	}
	kinds[kind] += n
	return kinds
}

// merge adds what another goroutine recorded.
func (r *recorder) merge(o *recorder) error {
	for i, n := range o.counts {
		r.counts[i] += n
	}
	for kind, n := range o.errors {
		r.errors = countKind(r.errors, kind, n)
	}
	r.stray += o.stray
	r.lastEnd = max(r.lastEnd, o.lastEnd)
	return errors.Join(
		mergeInto(&r.okResponse, o.okResponse),
		mergeInto(&r.badResponse, o.badResponse),
		mergeInto(&r.service, o.service),
		mergeInto(&r.lateness, o.lateness),
	)
}

// mergeInto adds from, which may be nil, to *h.
func mergeInto(h **histogram.Histogram, from *histogram.Histogram) error {
	if *h == nil {
		*h = histogram.New()
	}
	if from == nil {
		return nil
	}
	return (*h).Merge(from)
}

// errorKind reduces an error to a text without addresses, so that equal causes
// count as one kind.
func errorKind(err error) string {
	text := err.Error()
	var op *net.OpError
	switch {
	case errors.Is(err, io.EOF):
		text = "connection closed by peer"
	case errors.As(err, &op):
		text = op.Op + ": " + innermost(op.Err).Error()
	}
	return text[:min(len(text), maxKindText)]
}

func innermost(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}
