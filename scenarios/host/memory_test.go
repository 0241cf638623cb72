//go:build linux

package host_test

import (
	"encoding/json"
	"errors"
	"os"
	"runtime"
	"testing"

	"github.com/assay-bench/assay/chaos"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/host"
)

// recording returns an Env of a target with the given processes, and what it records.
func recording(t *testing.T, pids ...int) (*scenarios.Env, *[]results.Evidence) {
	t.Helper()
	var all []results.Evidence
	env := &scenarios.Env{Key: results.Key{Check: "x"}, Put: func(from results.Source, kind results.Kind, data any) error {
		raw, err := results.Marshal(data)
		all = append(all, results.Evidence{Seq: uint64(len(all) + 1), Source: from, Kind: kind, Data: raw})
		return err
	}}
	for _, pid := range pids {
		p, err := chaos.FindProcess(pid)
		if err != nil {
			p = chaos.Process{PID: pid}
		}
		env.Processes = append(env.Processes, p)
	}
	return env, &all
}

func TestPeakGrows(t *testing.T) {
	const block = 64 << 20
	env, all := recording(t, os.Getpid())
	peak, err := host.WatchPeak(env)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, block)
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1 // touched: only then it is resident
	}
	runtime.KeepAlive(b)
	if err := peak.Record(); err != nil {
		t.Fatal(err)
	}
	grown, seq, ok := host.Growth(*all)
	if !ok || seq != 1 || grown < block/2 || grown > 16*block {
		t.Errorf("after taking %d bytes: grown %d, evidence %d, %t", block, grown, seq, ok)
	}
	var m host.Memory
	if err := (*all)[0].Decode(&m); err != nil || m.Resident < 1<<20 || m.Peak < m.Resident+block/2 {
		t.Errorf("%+v, %v: a test binary takes more than 1 MiB", m, err)
	}
}

func TestPeakOfAProcessThatIsGone(t *testing.T) {
	env, all := recording(t, 1<<30)
	peak, err := host.WatchPeak(env)
	if err != nil {
		t.Fatal(err)
	}
	if err := peak.Record(); err != nil {
		t.Fatal(err)
	}
	var m host.Memory
	if err := (*all)[0].Decode(&m); err != nil || m.Detail == "" || m.Peak != 0 {
		t.Errorf("%+v, %v: want the reason why there are no numbers", m, err)
	}
	if _, seq, ok := host.Growth(*all); ok || seq != 1 {
		t.Errorf("growth is known (%t) from evidence %d", ok, seq)
	}
}

func TestPeakNeedsAProcess(t *testing.T) {
	env, _ := recording(t)
	if _, err := host.WatchPeak(env); err == nil {
		t.Error("the peak of nothing is watched")
	}
}

func TestPeakCanNotBeRecorded(t *testing.T) {
	env, _ := recording(t, os.Getpid())
	full := errors.New("disk is full")
	env.Put = func(results.Source, results.Kind, any) error { return full }
	peak, err := host.WatchPeak(env)
	if err != nil {
		t.Fatal(err)
	}
	if err := peak.Record(); !errors.Is(err, full) {
		t.Errorf("error %v", err)
	}
}

func TestGrowth(t *testing.T) {
	measured := func(from results.Source, kind results.Kind, data string) results.Evidence {
		return results.Evidence{Seq: 4, Source: from, Kind: kind, Data: json.RawMessage(data)}
	}
	tests := []struct {
		name     string
		evidence []results.Evidence
		grown    int64
		ok       bool
	}{
		{"nothing", nil, 0, false},
		{"grown", []results.Evidence{measured(results.FromHost, results.Measured, `{"residentBefore":10,"peakAfter":15}`)}, 5, true},
		{"not the host's", []results.Evidence{measured(results.FromScenario, results.Measured, `{"residentBefore":10,"peakAfter":15}`)}, 0, false},
		{"no measurement", []results.Evidence{measured(results.FromHost, results.Ended, `{"residentBefore":10,"peakAfter":15}`)}, 0, false},
		{"unreadable", []results.Evidence{measured(results.FromHost, results.Measured, `7`)}, 0, false},
		{"another measurement", []results.Evidence{measured(results.FromHost, results.Measured, `{}`)}, 0, false},
		{"no numbers", []results.Evidence{measured(results.FromHost, results.Measured, `{"residentBefore":1,"peakAfter":1,"detail":"gone"}`)}, 0, false},
	}
	for _, tt := range tests {
		if grown, _, ok := host.Growth(tt.evidence); grown != tt.grown || ok != tt.ok {
			t.Errorf("%s: %d, %t; want %d, %t", tt.name, grown, ok, tt.grown, tt.ok)
		}
	}
}
