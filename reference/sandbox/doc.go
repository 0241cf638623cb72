// Package sandbox runs WebAssembly modules of tenants that do not trust each other, on wazero. It opens
// no sockets: package face serves it over HTTP.
//
// A module passes admission (size, signature, structure, validation of the original, rewrite, compile,
// instantiate, canary) before a name serves it. The rewriter adds fuel and call depth; the engine refills
// fuel in slices and compares the CPU time of the thread at each refill, so that no guest keeps the
// collector waiting and none outlives its quota. Every call gets an instance whose memory and globals are
// those of a fresh one.
//
// Tried: one runtime for all versions. Lost: the runtime's table of function types only grows, so that
// hostile uploads would be a leak, and an engine that holds a module in memory never looks at the disk
// cache again. Each version has a runtime of its own; closing it frees everything.
// Tried: wazero's close-on-done as the CPU quota. Lost: loop-free recursion evades it on the compiler and
// tight loops cost a hundred times more.
package sandbox
