package router

import (
	"math"
	"regexp"
	"time"

	"github.com/assay-bench/assay/reference/router/table"
)

// Bounds of what a router keeps.
const (
	maxRouters     = 64
	maxPolicies    = 16384
	maxPerPolicy   = 1024 // examples or vectors
	maxWindows     = 32
	maxCache       = 16384
	maxAllRows     = 4 * table.MaxRows // live rows of all routers together: 128 MiB
	maxBackends    = 256
	keptDecisions  = 4096
	keptDispatches = 256
	keptVersions   = 256
	keptLog        = 32768
	keptRows       = 4 << 20 // rows of all versions together
)

var clock = regexp.MustCompile(`^([01][0-9]|2[0-3]):([0-5][0-9])$`)

// effective returns the settings with every default filled in, or what is wrong with them.
func (s Settings) effective() (Settings, error) {
	f := &s.Feedback
	s.K, s.Margin, s.Cache, s.Adaptive = or(s.K, 5), or(s.Margin, 0), or(s.Cache, 0), or(s.Adaptive, true)
	f.Eta, f.Clip, f.CapDegrees = or(f.Eta, 0.05), or(f.Clip, 0.1), or(f.CapDegrees, 15)
	f.RatePerMinute, f.Share, f.GuardLoss = or(f.RatePerMinute, 60), or(f.Share, 0.5), or(f.GuardLoss, 0.5)
	if s.Engine == "" {
		s.Engine = Auto
	}
	for _, c := range []struct {
		name     string
		v        float64
		min, max float64
	}{
		{"k", float64(*s.K), 1, table.MaxK}, {"margin", *s.Margin, 0, 1}, {"cache", float64(*s.Cache), 0, maxCache},
		{"feedback.eta", *f.Eta, 0, 1}, {"feedback.clip", *f.Clip, math.SmallestNonzeroFloat32, 2},
		{"feedback.capDegrees", *f.CapDegrees, math.SmallestNonzeroFloat32, 180},
		{"feedback.ratePerMinute", float64(*f.RatePerMinute), 1, 1e6},
		{"feedback.share", *f.Share, math.SmallestNonzeroFloat32, 1}, {"feedback.guardLoss", *f.GuardLoss, 0, 100},
		{"threshold", *or(s.Threshold, 0), -1, 1},
	} {
		if !(c.v >= c.min && c.v <= c.max) {
			return s, bad("%s is %v, want %.3g to %.3g", c.name, c.v, c.min, c.max)
		}
	}
	switch s.Engine {
	case Auto, PureGo, ONNXRuntime:
	default:
		return s, bad("engine is %.32q, want auto, purego or onnxruntime", s.Engine)
	}
	return s, checkWindows(s.Windows)
}

func or[T any](v *T, otherwise T) *T {
	if v == nil {
		return &otherwise
	}
	return v
}

func checkWindows(windows []Window) error {
	if len(windows) > maxWindows {
		return bad("%d windows, at most %d", len(windows), maxWindows)
	}
	for i, w := range windows {
		if !clock.MatchString(w.From) || !clock.MatchString(w.To) {
			return bad("window %d is from %.8q to %.8q, want HH:MM", i, w.From, w.To)
		}
		for policy, f := range w.Factors {
			if !(f >= 0 && f <= 1000) {
				return bad("window %d: the factor of %.64q is %v, want 0 to 1,000", i, policy, f)
			}
		}
	}
	return nil
}

// holds reports whether a minute of the day lies in the window. A window that ends before it begins goes on
// after midnight; one that ends where it begins is the whole day.
func (w Window) holds(at time.Time) bool {
	now := at.UTC().Format("15:04") // compares like the times it spells
	if w.From < w.To {
		return w.From <= now && now < w.To
	}
	return now >= w.From || now < w.To
}
