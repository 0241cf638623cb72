// Package profiles compares pprof profiles of two sides function by function.
package profiles

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"

	"github.com/google/pprof/profile"
)

// Kind is what a profile counts.
type Kind string

// The kinds of profile.
const (
	CPU    Kind = "cpu"    // seconds of processor time
	Allocs Kind = "allocs" // bytes allocated
)

// sampleType is the name of the value within the profile, and what turns it into the kind's unit.
func (k Kind) sampleType() (name string, unit float64) {
	if k == CPU {
		return "cpu", 1e-9
	}
	return "alloc_space", 1
}

// Comparison is how two profiles differ: the data of profiled evidence.
type Comparison struct {
	Scenario  string     `json:"scenario"`
	Of        Kind       `json:"of"`
	Files     [2]string  `json:"files"` // of baseline and candidate, within the bundle
	Calls     [2]float64 `json:"calls"` // requests, or runs of a benchmark, that the profiles cover
	Total     [2]float64 `json:"total"` // seconds or bytes in all
	Functions []Function `json:"functions"`
}

// Function is what one function took in both profiles. Self leaves out what it called; a call is one of Comparison.Calls.
type Function struct {
	Name  string     `json:"name"`
	Self  [2]float64 `json:"self"`  // seconds or bytes a call
	Share [2]float64 `json:"share"` // of the total, self
	With  [2]float64 `json:"with"`  // a call, with all that it called
}

func (f Function) change() float64 { return f.Self[1] - f.Self[0] }

// Most is how many functions a comparison names.
const Most = 20

// Bounds on one profile.
const (
	MaxBytes    = 64 << 20
	maxUnpacked = 256 << 20
)

// ErrTooLarge says that a profile is beyond its bound.
var ErrTooLarge = errors.New("larger than a profile may be")

// Parse reads a profile, gzipped or not. It is bounded, and refuses what pprof's own checks refuse.
func Parse(raw []byte) (*profile.Profile, error) {
	if len(raw) > MaxBytes {
		return nil, ErrTooLarge
	}
	if len(raw) >= 2 && raw[0] == 0x1f && raw[1] == 0x8b {
		zr, err := gzip.NewReader(bytes.NewReader(raw))
		if err != nil {
			return nil, fmt.Errorf("profile: %w", err)
		}
		if raw, err = io.ReadAll(io.LimitReader(zr, maxUnpacked+1)); err != nil {
			return nil, fmt.Errorf("profile: %w", err)
		}
		if len(raw) > maxUnpacked {
			return nil, ErrTooLarge
		}
	}
	p, err := profile.ParseUncompressed(raw)
	if err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	if err := p.CheckValid(); err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	return p, nil
}

// ReadFile reads a profile from a file.
func ReadFile(path string) (*profile.Profile, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return Parse(raw)
}

// Merge adds profiles up and packs the sum.
func Merge(all []*profile.Profile) ([]byte, error) {
	sum, err := profile.Merge(all)
	if err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	var out bytes.Buffer
	if err := sum.Write(&out); err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	return out.Bytes(), nil
}

// Since takes an earlier state of a profile that counts from the start of a process off a later one.
func Since(before, after *profile.Profile) (*profile.Profile, error) {
	before = before.Copy()
	before.Scale(-1)
	diff, err := profile.Merge([]*profile.Profile{before, after})
	if err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	return diff, nil
}

// Compare names the functions whose own part changed most in a call, the largest change first, and the totals of both.
func Compare(kind Kind, raw [2][]byte, calls [2]float64) (out []Function, total [2]float64, err error) {
	all := map[string]*Function{}
	for side := range raw {
		p, err := Parse(raw[side])
		if err != nil {
			return nil, total, err
		}
		if !(calls[side] > 0) {
			return nil, total, errors.New("a profile of no call")
		}
		if total[side], err = add(all, p, kind, side); err != nil {
			return nil, total, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		f := *all[name]
		for side := range calls {
			if total[side] > 0 {
				f.Share[side] = f.Self[side] / total[side]
			}
			f.Self[side] /= calls[side]
			f.With[side] /= calls[side]
		}
		if f.Self != [2]float64{} {
			out = append(out, f)
		}
	}
	slices.SortStableFunc(out, func(a, b Function) int { return cmp.Compare(math.Abs(b.change()), math.Abs(a.change())) })
	return out[:min(Most, len(out))], total, nil
}

// add sums a profile up by function.
func add(all map[string]*Function, p *profile.Profile, kind Kind, side int) (total float64, err error) {
	name, unit := kind.sampleType()
	at := slices.IndexFunc(p.SampleType, func(t *profile.ValueType) bool { return t.Type == name })
	if at < 0 {
		return 0, fmt.Errorf("the profile has no values of type %q", name)
	}
	get := func(name string) *Function {
		f, ok := all[name]
		if !ok {
			f = &Function{Name: name}
			all[name] = f
		}
		return f
	}
	for _, s := range p.Sample {
		v := float64(s.Value[at]) * unit
		total += v
		seen := map[string]bool{}
		for i, loc := range s.Location {
			for j, frame := range frames(loc) {
				if i == 0 && j == 0 {
					get(frame).Self[side] += v
				}
				if !seen[frame] {
					seen[frame] = true
					get(frame).With[side] += v
				}
			}
		}
	}
	return total, nil
}

// frames are the functions at a location, the innermost first; more than one where the compiler inlined.
func frames(loc *profile.Location) []string {
	var out []string
	for _, l := range loc.Line {
		if l.Function != nil {
			out = append(out, l.Function.Name)
		}
	}
	if len(out) == 0 {
		out = []string{fmt.Sprintf("%#x", loc.Address)}
	}
	return out
}

// Near tells whether sums that were made in the same order agree, whatever the processor.
func Near(a, b [2]float64) bool {
	for i := range a {
		if math.Abs(a[i]-b[i]) > 1e-9*max(math.Abs(a[i]), math.Abs(b[i])) {
			return false
		}
	}
	return true
}

// Same compares two lists of functions.
func Same(a, b []Function) bool {
	return slices.EqualFunc(a, b, func(x, y Function) bool {
		return x.Name == y.Name && Near(x.Self, y.Self) && Near(x.Share, y.Share) && Near(x.With, y.With)
	})
}
