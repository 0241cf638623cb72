//go:build !race

package tower

// racing says that the race detector slows everything down.
const racing = false
