package coldstart

import (
	"slices"
	"strings"
	"time"
)

func newRow(w *warm, s Start, e End, samples []time.Duration, void int) Row {
	slices.Sort(samples)
	r := Row{
		Guest: w.guest.Name, Built: w.guest.Built, Engine: w.engine, Start: s, End: e,
		N: len(samples), Void: void, ModuleBytes: len(w.guest.Wasm), Threads: 1,
	}
	if r.N == 0 {
		return r
	}
	r.P50Nanos = rank(samples, 50).Nanoseconds()
	if r.N >= minP99 {
		r.P99Nanos = rank(samples, 99).Nanoseconds()
	}
	sum := time.Duration(0)
	for _, d := range samples {
		sum += d
	}
	if sum > 0 {
		r.PerSecond = float64(r.N) / sum.Seconds()
	}
	return r
}

// rank returns the percentile by the nearest rank: a value that was measured, never one between two. sorted is
// not empty.
func rank[T any](sorted []T, percent int) T {
	i := (len(sorted)*percent + 99) / 100
	return sorted[max(i, 1)-1]
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return rank(values, 50)
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// Gain is what the disk cache saves: the time to an instance from bytes, over the time from a warm cache.
type Gain struct {
	Guest     string  `json:"guest"`
	Engine    Engine  `json:"engine"`
	FromBytes int64   `json:"fromBytesNanos"` // medians
	FromDisk  int64   `json:"fromDiskNanos"`
	Ratio     float64 `json:"ratio"`
}

// Gains returns one Gain for each guest and engine that has both rows to the end point Instantiated. The
// interpreter stores nothing on disk and has none.
func Gains(rows []Row) []Gain {
	var gains []Gain
	for _, disk := range rows {
		if disk.Start != FromDisk || disk.End != Instantiated || disk.Engine == Interpreter || disk.P50Nanos == 0 {
			continue
		}
		i := slices.IndexFunc(rows, func(r Row) bool {
			return r.Guest == disk.Guest && r.Engine == disk.Engine && r.Start == FromBytes && r.End == disk.End && r.N > 0
		})
		if i < 0 {
			continue
		}
		gains = append(gains, Gain{
			Guest: disk.Guest, Engine: disk.Engine, FromBytes: rows[i].P50Nanos, FromDisk: disk.P50Nanos,
			Ratio: float64(rows[i].P50Nanos) / float64(disk.P50Nanos),
		})
	}
	return gains
}
