package coldstart

// Claim is a figure that somebody published, with the points of this measurement that come nearest to it.
type Claim struct {
	System     string `json:"system"`
	Figure     string `json:"figure"`
	Is         string `json:"is"` // what was measured, as far as it was said
	Start      Start  `json:"start,omitempty"`
	End        End    `json:"end,omitempty"` // both empty: nothing here compares
	Difference string `json:"difference"`    // between that definition and this one
}

const elsewhere = "another machine"

// Claims returns the published figures, and the three of assay's own design.
func Claims() []Claim {
	return []Claim{
		{
			System: "wasmtime, pooling allocator with copy-on-write", Figure: "0.77 us (large module), 1.17 to 5.5 us (small), 21 to 26 us at 16 threads",
			Is: "instantiation only, criterion benchmarks", Start: FromCompiled, End: Instantiated,
			Difference: elsewhere + "; memory comes from a preallocated slot, here it is allocated and zeroed; no call is made and no answer compared",
		},
		{
			System: "Lucet", Figure: "under 50 us", Is: "instantiation", Start: FromCompiled, End: Instantiated,
			Difference: elsewhere + "; compiled ahead of time, no call, no percentile given",
		},
		{
			System: "Spin, Akamai", Figure: "half a millisecond", Is: "a claim without a protocol; guest of 284 kB", Start: FromCompiled, End: FirstResult,
			Difference: elsewhere + "; neither start nor end point is said, the nearest is a guess; another guest",
		},
		{
			System: "Sightglass", Figure: "A is 1.01 to 1.02 times faster, with 99 % confidence", Is: "ratio of two builds over compile, instantiate and execute",
			Difference: "a ratio between two builds of one engine, not a time; the method (interleaved, shuffled) is the one used here",
		},
		{
			System: "wago, wazy", Figure: "12.2 down to 0.73 us", Is: "instantiation with memory reused", Start: FromPool, End: Instantiated,
			Difference: elsewhere + "; here memory and every global are compared and restored before an instance counts as ready",
		},
		{
			System: "libsodium suite", Figure: "ratios to native", Is: "run time of representative code",
			Difference: "no start at all; the table of overheads is nearer, and its ratios are over the unmetered guest, not over native code",
		},
		{
			System: "Proxy-Wasm in mosn", Figure: "60 us", Is: "one call of a header filter", Start: FromPool, End: FirstResult,
			Difference: elsewhere + "; a filter's machine lives on between calls and is not reset; header maps are copied in and out",
		},
		{
			System: "wazero, measured earlier", Figure: "30 us", Is: "instantiation of a guest of 401 bytes", Start: FromCompiled, End: Instantiated,
			Difference: "two shared cores at another time; the original module, here the rewritten one",
		},
		{
			System: "wazero, measured earlier", Figure: "116 us", Is: "a whole fresh request: instantiate, allocate 1 KiB, write, sum", Start: FromCompiled, End: FirstResult,
			Difference: "two shared cores at another time; closing the instance was inside the clock, here it is not; another call",
		},
		{
			System: "wazero, measured earlier", Figure: "15 to 41 us", Is: "a pooled request, without and with a reset", Start: FromPool, End: FirstResult,
			Difference: "two shared cores at another time; the lower figure has no reset, here there always is one; another call",
		},
		design("87 ms"), design("42 ms"), design("39 ms"),
	}
}

// design is one of the three figures that assay's design gives without saying how they were obtained.
func design(figure string) Claim {
	return Claim{
		System: "assay's design", Figure: figure, Is: "a cold start; start point, end point, guest, engine, machine and percentile are not said",
		Start: FromBytes, End: FirstResult,
		Difference: "no definition to compare: the longest pair of points is set beside it; a guest's size alone moves that by three orders of magnitude",
	}
}
