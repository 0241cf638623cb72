// Package behave runs the operations of the behave service. It knows no transport: the Thrift and
// the gRPC face map its errors to their own.
package behave

import (
	"context"
	"fmt"
	"time"

	"github.com/assay-bench/assay/reference/rpc/wire"
)

// maxDelay bounds one DELAY operation, which otherwise holds memory for as long as a client likes.
const maxDelay = 10 * time.Minute

// Service holds the counts of calls by tag. It is safe for concurrent use and shared by the faces.
type Service struct {
	counts *tally
}

// New returns a Service without counts.
func New() *Service { return &Service{counts: newTally(maxTags)} }

// Call is what a face knows about one call.
type Call struct {
	Tag  []byte // nil or empty: the call is not counted
	Ops  []wire.Op
	Meta func() map[string]string // the metadata that arrived with the call; asked at most once an operation
}

// Thrown is the declared exception.
type Thrown struct{ wire.Fault }

// Error implements error.
func (t *Thrown) Error() string { return fmt.Sprintf("fault %d: %s", t.Code, t.Reason) }

// Failed is an undeclared error that a caller asked for.
type Failed struct {
	Code int32 // as in the operation; gRPC alone uses it
	Text string
}

// Error implements error.
func (f *Failed) Error() string { return f.Text }

// NotServed is the error of an operation that this service, or this face, does not have.
type NotServed struct{ Kind wire.Kind }

// Error implements error; its text is part of the contract in behave.thrift.
func (n *NotServed) Error() string { return "operation not served: " + n.Kind.String() }

// Run counts the call and runs its operations in order. The report is nil unless an operation asked
// for one. The error is one of this package's types, or ctx's. Run panics if an operation says so.
func (s *Service) Run(ctx context.Context, call Call) (*wire.Report, error) {
	s.Count(call)
	var report *wire.Report
	for i := range call.Ops {
		if err := s.Step(ctx, call, &call.Ops[i], &report); err != nil {
			return nil, err
		}
	}
	return report, nil
}

// Count counts the call under its tag, unless it is one that asks for the count.
func (s *Service) Count(call Call) {
	if len(call.Tag) == 0 || asksForCount(call.Ops) {
		return
	}
	s.counts.add(call.Tag)
}

func asksForCount(ops []wire.Op) bool {
	for i := range ops {
		if ops[i].Kind == wire.KindCount {
			return true
		}
	}
	return false
}

// Step runs one operation; it creates the report when the operation is the first to need it.
func (s *Service) Step(ctx context.Context, call Call, op *wire.Op, report **wire.Report) error {
	switch op.Kind {
	case wire.KindEcho, wire.KindOneway:
		return nil
	case wire.KindDelay:
		return delay(ctx, op.Millis)
	case wire.KindThrow:
		return &Thrown{wire.Fault{Code: op.Code, Reason: op.Text}}
	case wire.KindError:
		return &Failed{Code: op.Code, Text: op.Text}
	case wire.KindPanic:
		panic(op.Text)
	case wire.KindCount:
		observed(report).Count = new(s.counts.get(call.Tag))
		return nil
	case wire.KindMeta:
		observed(report).Meta = call.Meta()
		return nil
	}
	return &NotServed{op.Kind}
}

func observed(report **wire.Report) *wire.Report {
	if *report == nil {
		*report = new(wire.Report)
	}
	return *report
}

func delay(ctx context.Context, millis int64) error {
	if millis > maxDelay.Milliseconds() { // compared before the multiplication can overflow
		return &Failed{Text: fmt.Sprintf("delay of %d ms is over the limit of %s", millis, maxDelay)}
	}
	return Wait(ctx, time.Duration(max(millis, 0))*time.Millisecond)
}

// Wait waits for d or until ctx is done.
func Wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
