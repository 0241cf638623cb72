package drift

import (
	_ "embed"
	"sync"
)

//go:embed snapshot.json
var shipped []byte

// Shipped returns the snapshot of the texts that the shipped routes are learned from (fixtures/routes, training
// split). It holds texts alone: latencies, codes and devices are not compared with it. It is written by this
// package's tests with -update.
func Shipped() (Snapshot, error) { return parse() }

var parse = sync.OnceValues(func() (Snapshot, error) { return ParseSnapshot(shipped) })
