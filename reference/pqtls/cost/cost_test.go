package cost

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The differences between key exchanges are exact, whatever the names in a chain: sizes of shares. A share
// goes up, one comes down; ECDSA signatures vary by a byte or two.
func TestBytesFollowTheShares(t *testing.T) {
	cells, err := Grid("ECDSA P-256", "Ed25519")
	if err != nil {
		t.Fatal(err)
	}
	for _, tcp := range []bool{false, true} {
		samples, err := Measure(t.Context(), cells, Options{Rounds: 7, TCP: tcp})
		if err != nil {
			t.Fatal(err)
		}
		rows := map[string]Row{}
		for _, r := range Summarise(cells, samples) {
			name := r.Exchange
			if r.Resumed {
				name = "PSK+" + name
			}
			rows[r.Chain+" "+name] = r
		}
		seen := 0
		for chain, slack := range map[string]int{"Ed25519": 0, "ECDSA P-256": 2} {
			base := rows[chain+" X25519"]
			for name, want := range map[string][2]int{
				"P-256": {33, 33}, "X25519MLKEM768": {1184, 1088}, "SecP256r1MLKEM768": {1217, 1121},
				"SecP384r1MLKEM1024": {1633, 1633}, "MLKEM1024": {1536, 1536},
			} {
				seen++
				r := rows[chain+" "+name]
				if up, down := r.Up-base.Up, r.Down-base.Down; up != want[0] || abs(down-want[1]) > slack {
					t.Errorf("%s %s (tcp %v): %+d up and %+d down of X25519, want %v", chain, name, tcp, up, down, want)
				}
			}
		}
		hrr := rows["ECDSA P-256 default client, P-256 server (HRR)"]
		if hrr.Retries != hrr.N || hrr.Flights <= rows["ECDSA P-256 P-256"].Flights {
			t.Errorf("HRR: %d of %d retried, %d flights", hrr.Retries, hrr.N, hrr.Flights)
		}
		if d := rows["ECDSA P-256 PSK+X25519MLKEM768"].Down - rows["ECDSA P-256 PSK+X25519"].Down; d != 1088 {
			t.Errorf("resumed: hybrid brings %+d bytes down, want +1088", d)
		}
		if seen != 10 {
			t.Fatalf("compared %d cells", seen)
		}
	}
}

func abs(n int) int { return max(n, -n) }

// Interval ranks against the tables of the sign test (two-sided 5 %): for n = 20 the 6th smallest and 6th
// largest value, for n = 50 the 18th.
func TestMedianRank(t *testing.T) {
	for n, want := range map[int]int{6: 0, 10: 1, 20: 5, 50: 17, 100: 39, 1000: 468} {
		if got := medianRank(n); got != want {
			t.Errorf("n = %d: rank %d, want %d", n, got, want)
		}
	}
	if a, b := medianRank(1000), medianRank(1001); math.Abs(float64(a-b)) > 2 {
		t.Errorf("the exact and the normal form part: %d and %d", a, b)
	}
}

func TestRatiosCompareNeighbours(t *testing.T) {
	at := func(ms int) Sample { return Sample{Client: time.Duration(ms) * time.Millisecond} }
	samples := map[string][]Sample{
		"a": {at(2), at(20), at(200), at(6)}, // a noisy host slows both of a pair
		"b": {at(1), at(10), at(100), at(3)},
	}
	want := &Ratio{To: "b", Median: 2, Low: 2, High: 2}
	if diff := cmp.Diff(want, RatioOf(samples, "a", "b")); diff != "" {
		t.Errorf("ratio (-want +got):\n%s", diff)
	}
	if RatioOf(samples, "a", "c") != nil {
		t.Error("a ratio to nothing")
	}
}

func TestReportSaysBothFigures(t *testing.T) {
	cells, err := Grid("ECDSA P-256")
	if err != nil {
		t.Fatal(err)
	}
	samples, err := Measure(t.Context(), cells, Options{Rounds: 3})
	if err != nil {
		t.Fatal(err)
	}
	primitives, err := Primitives(3)
	if err != nil {
		t.Fatal(err)
	}
	r := Report{Rows: Summarise(cells, samples), Primitives: primitives, Baseline: &Baseline{}, PSK: RatioOf(samples, "PSK+X25519MLKEM768 ECDSA P-256", "PSK+X25519 ECDSA P-256")}
	var md, js bytes.Buffer
	if err := r.WriteMarkdown(&md); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"12.30 ms", "34.70 ms", "mean, measured", "ML-DSA-65 sign", "PSK + X25519MLKEM768", "not of 3 samples"} {
		if !strings.Contains(md.String(), want) {
			t.Errorf("the report lacks %q", want)
		}
	}
	if err := r.WriteJSON(&js); err != nil || !json.Valid(js.Bytes()) {
		t.Errorf("JSON: %v", err)
	}
	if r.PSK == nil {
		t.Error("no ratio of resumptions")
	}
}

func TestUnknownChain(t *testing.T) {
	if _, err := Grid("DSA-1024"); err == nil || !strings.Contains(err.Error(), "ECDSA P-256") {
		t.Errorf("unknown chain: %v", err)
	}
}

// BenchmarkHybrid prints the CPU ratio of interleaved handshakes; the bound that users are promised is 1.45,
// for resumptions 1.8.
func BenchmarkHybrid(b *testing.B) {
	cells, err := Grid("ECDSA P-256")
	if err != nil {
		b.Fatal(err)
	}
	samples, err := Measure(b.Context(), cells, Options{Rounds: max(b.N, 20)})
	if err != nil {
		b.Fatal(err)
	}
	full := RatioOf(samples, "X25519MLKEM768 ECDSA P-256", "X25519 ECDSA P-256")
	psk := RatioOf(samples, "PSK+X25519MLKEM768 ECDSA P-256", "PSK+X25519 ECDSA P-256")
	b.ReportMetric(full.Median, "hybrid/classical")
	b.ReportMetric(psk.Median, "psk-hybrid/psk-classical")
}
