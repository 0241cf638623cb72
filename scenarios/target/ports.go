package target

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
)

// The ports that programs are given: below those that the kernel gives to outgoing connections, of which a load has
// thousands, and above those of well-known services.
const (
	lowestPort  = 10_240
	fewestPorts = 2_000 // of a range that is worth choosing from
	portTries   = 200
	rangeFile   = "/proc/sys/net/ipv4/ip_local_port_range"
)

// FreePorts returns n different ports of 127.0.0.1 that nobody listens on now. A program binds them a moment later: who
// takes one in between makes its start fail, which is seen.
func FreePorts(n int) ([]int, error) {
	held := make([]net.Listener, 0, n) // until the last is known, so that they differ
	defer func() {
		for _, l := range held {
			closeAll(l)
		}
	}()
	var ports []int
	for range n {
		l, err := listenBelow(ephemeral())
		if err != nil {
			return nil, fmt.Errorf("choose a port: %w", err)
		}
		held = append(held, l)
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// listenBelow listens on a port from lowestPort up to first, or on one that the kernel chooses where that is no range.
func listenBelow(first int) (net.Listener, error) {
	if first-lowestPort >= fewestPorts {
		for range portTries {
			l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(lowestPort+rand.IntN(first-lowestPort))))
			if err == nil {
				return l, nil
			}
		}
	}
	return net.Listen("tcp", "127.0.0.1:0")
}

// ephemeral is the first port that the kernel gives to outgoing connections; 0: unknown.
func ephemeral() int {
	raw, err := os.ReadFile(rangeFile)
	if err != nil {
		return 0
	}
	first, last := 0, 0
	if n, err := fmt.Sscan(string(raw), &first, &last); n != 2 || err != nil {
		return 0
	}
	return first
}
