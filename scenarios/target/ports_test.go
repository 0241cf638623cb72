package target

import (
	"net"
	"strconv"
	"testing"
)

func TestFreePorts(t *testing.T) {
	const n = 50
	ports, err := FreePorts(n)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for _, p := range ports {
		if seen[p] {
			t.Errorf("port %d twice", p)
		}
		seen[p] = true
		if first := ephemeral(); first-lowestPort >= fewestPorts && p >= first {
			t.Errorf("port %d is one that an outgoing connection may be given, from %d on", p, first)
		}
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(p)))
		if err != nil {
			t.Errorf("port %d is not free: %v", p, err)
			continue
		}
		closeAll(l)
	}
	if len(seen) != n {
		t.Errorf("%d ports, want %d", len(seen), n)
	}
}

// Ports that are taken are passed over, and a host without such a range has the kernel's choice.
func TestListenBelow(t *testing.T) {
	for _, first := range []int{0, lowestPort + fewestPorts - 1, lowestPort + fewestPorts} {
		l, err := listenBelow(first)
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		if below := port < first; below != (first == lowestPort+fewestPorts) {
			t.Errorf("first %d: port %d", first, port)
		}
		closeAll(l)
	}
}
