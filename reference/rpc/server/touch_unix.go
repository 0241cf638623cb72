//go:build unix

package server

import "golang.org/x/sys/unix"

// touch is what planted defects do to memory: it takes n bytes from the system, writes to every page of them
// and gives them back. Of the heap they would be there already when an earlier call left as much behind: then
// the peak does not grow, and the defect shows only now and then.
func touch(n int) {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return // n is 0, or there is no memory: nothing can be shown
	}
	for i := 0; i < n; i += 4096 {
		b[i] = 1
	}
	_ = unix.Munmap(b)
}
