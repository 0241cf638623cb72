package load

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/assay-bench/assay/results/histogram"
)

// Format is the version of the files that Encode writes. Decode refuses any
// other.
const Format = "assay-load/v1"

// maxFile bounds what Decode reads: 600 intervals of three histograms and more.
const maxFile = 64 << 20

// ErrFormat is wrapped by every refusal of Decode.
var ErrFormat = errors.New("no load result")

// file is a result with its histograms, as text of HdrHistogram's V2 compressed
// encoding.
type file struct {
	Format string `json:"format"`
	*Result
	Texts map[string]string   `json:"histograms"`
	Parts []map[string]string `json:"interval_histograms"` // of each interval in turn; empty: nothing ended
}

// Encode returns the result with all its histograms as JSON, for Decode and
// Merge.
func (r *Result) Encode() ([]byte, error) {
	f := file{Format: Format, Result: r, Texts: texts(r.Histograms), Parts: []map[string]string{}}
	for _, v := range r.Intervals {
		f.Parts = append(f.Parts, texts(v.Histograms))
	}
	raw, err := json.MarshalIndent(f, "", " ")
	if err != nil {
		return nil, fmt.Errorf("encode load result: %w", err)
	}
	return append(raw, '\n'), nil
}

func texts(hists map[string][]byte) map[string]string {
	out := make(map[string]string, len(hists))
	for name, text := range hists {
		out[name] = string(text)
	}
	return out
}

// Decode reads what Encode wrote, from a file of any origin. Quantiles are
// computed from the histograms, and the accounts must hold; every error wraps
// ErrFormat.
func Decode(raw []byte) (*Result, error) {
	if len(raw) > maxFile {
		return nil, fmt.Errorf("%w: %d bytes, the limit is %d", ErrFormat, len(raw), maxFile)
	}
	var head struct {
		Format string `json:"format"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if head.Format != Format {
		return nil, fmt.Errorf("%w: format %q, want %q", ErrFormat, head.Format, Format)
	}
	f := file{Result: new(Result)}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: more than one value", ErrFormat)
	}
	if err := f.restore(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return f.Result, nil
}

// restore puts the histograms into the result and checks the one by the other.
func (f *file) restore() error {
	r := f.Result
	if r.Geometry != geometry {
		return fmt.Errorf("geometry of the histograms is %+v, want %+v", r.Geometry, geometry)
	}
	if err := r.plausible(); err != nil {
		return err
	}
	var err error
	if r.Histograms, r.Quantiles, err = readAll(f.Texts, Histograms()); err != nil {
		return err
	}
	if len(f.Parts) != len(r.Intervals) {
		return fmt.Errorf("histograms of %d intervals, want %d", len(f.Parts), len(r.Intervals))
	}
	for i := range r.Intervals {
		if err := r.Intervals[i].restore(i, f.Parts[i]); err != nil {
			return fmt.Errorf("interval %d: %w", i, err)
		}
	}
	if r.addsUp() == slices.Contains(r.Reasons, ReasonAccounting) {
		return fmt.Errorf("counts %+v do not agree with the histograms", r.Counts)
	}
	r.rate()
	return nil
}

// readAll decodes exactly the named histograms.
func readAll(from map[string]string, names []string) (map[string][]byte, map[string]Quantiles, error) {
	if len(from) != len(names) {
		return nil, nil, fmt.Errorf("%d histograms, want %d", len(from), len(names))
	}
	raw, quantiles := map[string][]byte{}, map[string]Quantiles{}
	for _, name := range names {
		h, err := histogram.Decode([]byte(from[name]))
		if err != nil {
			return nil, nil, fmt.Errorf("histogram %s: %w", name, err)
		}
		raw[name], quantiles[name] = []byte(from[name]), summarise(h)
	}
	return raw, quantiles, nil
}

// restore checks interval i and gives it its histograms.
func (v *Interval) restore(i int, from map[string]string) error {
	if v.Width <= 0 || v.Width > int64(maxDuration) || v.Start != int64(i)*v.Width {
		return fmt.Errorf("begins at %d ns and is %d ns wide", v.Start, v.Width)
	}
	if v.Count < 0 || v.Errors < 0 || v.Timeouts < 0 || v.Errors+v.Timeouts > v.Count {
		return fmt.Errorf("%d ends, %d errors, %d timeouts", v.Count, v.Errors, v.Timeouts)
	}
	if v.Count == 0 {
		if len(from) != 0 {
			return errors.New("nothing ended, but there are histograms")
		}
		return nil
	}
	raw, quantiles, err := readAll(from, intervalKinds)
	if err != nil {
		return err
	}
	all := quantiles[ResponseAll]
	if all.Count != v.Count {
		return fmt.Errorf("%d ends, %d in the histogram", v.Count, all.Count)
	}
	v.Histograms, v.P50, v.P99 = raw, all.P50, all.P99
	return nil
}

const (
	maxIntervalsRead = 2 * maxIntervals // with a drain as long as the schedule
	maxNotes         = 100
	maxNoteText      = 1000
	maxCount         = 1 << 53
)

// plausible refuses what no run writes.
func (r *Result) plausible() error {
	if r.Model != ModelOpen && r.Model != ModelClosed {
		return fmt.Errorf("unknown model %q", r.Model)
	}
	for _, n := range []int64{r.Counts.Scheduled, r.Counts.OK, r.Counts.Error, r.Counts.Timeout, r.Counts.Unsent, r.Overflow, r.Stray, r.Schedule.Count} {
		if n < 0 || n > maxCount {
			return fmt.Errorf("a count of %d", n)
		}
	}
	if limit := int64(maxDuration + maxDrain + maxTimeout); r.Elapsed <= 0 || r.Elapsed > limit || r.Schedule.Duration <= 0 || r.Schedule.Duration > limit {
		return fmt.Errorf("a schedule of %d ns that took %d ns", r.Schedule.Duration, r.Elapsed)
	}
	if err := r.Segment.Validate(); err != nil {
		return err
	}
	if len(r.Intervals) > maxIntervalsRead || len(r.Errors) > maxKinds+1 || len(r.Notes) > maxNotes || len(r.Nodes) > maxNodes || len(r.Schedule.Stages) > maxStages {
		return fmt.Errorf("%d intervals, %d kinds of errors, %d notes, %d nodes, %d stages: more than a run writes",
			len(r.Intervals), len(r.Errors), len(r.Notes), len(r.Nodes), len(r.Schedule.Stages))
	}
	for _, kind := range slices.Sorted(maps.Keys(r.Errors)) {
		n := r.Errors[kind]
		if len(kind) > maxKindText || n < 0 || n > maxCount {
			return fmt.Errorf("%d errors %.200q", n, kind)
		}
	}
	for _, note := range append([]string{r.Version, r.Mode, r.Label}, r.Notes...) {
		if len(note) > maxNoteText {
			return fmt.Errorf("a note of %d bytes", len(note))
		}
	}
	if !slices.Contains([]string{"", EndsKernel, EndsRead, EndsMixed}, r.Ends) {
		return fmt.Errorf("ends %.40q", r.Ends)
	}
	return r.plausibleReasons()
}

func (r *Result) plausibleReasons() error {
	for _, reason := range r.Reasons {
		if !slices.Contains(Reasons(), reason) {
			return fmt.Errorf("unknown reason %.200q", reason)
		}
	}
	if r.Valid != (len(r.Reasons) == 0) {
		return fmt.Errorf("valid is %v with %d reasons", r.Valid, len(r.Reasons))
	}
	if r.LatenessBound < 0 || r.LatenessAsked < 0 || r.LatenessAsked > maxCount {
		return fmt.Errorf("a lateness bound of %d ns", r.LatenessBound)
	}
	judged := r.LatenessJudged == Lateness || r.LatenessJudged == PacerLateness
	if judged == (r.Model == ModelClosed) {
		return fmt.Errorf("lateness judged by %.200q", r.LatenessJudged)
	}
	return nil
}
