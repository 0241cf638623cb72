// Package cost measures what a TLS 1.3 handshake costs: CPU of both ends, wall time, bytes and flights, for
// each key exchange, certificate chain and resumption. The combinations are interleaved, every one once a
// round in an order that rotates, so that a ratio is a ratio of neighbours on the same noisy host.
package cost

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Name is the server name of every chain here.
const Name = "server.test"

// Cell is one combination.
type Cell struct {
	Exchange string // group, or a description of what client and server offer
	Chain    string
	Resumed  bool
	Base     string // key of the cell that ratios refer to; empty: none
	client   *tls.Config
	server   *tls.Config
}

// Key names the cell.
func (c Cell) Key() string {
	if c.Resumed {
		return "PSK+" + c.Exchange + " " + c.Chain
	}
	return c.Exchange + " " + c.Chain
}

// exchange is what both ends offer.
type exchange struct {
	name           string
	client, server []tls.CurveID // nil: the default
}

func only(name string, g tls.CurveID) exchange {
	return exchange{name, []tls.CurveID{g}, []tls.CurveID{g}}
}

// Exchanges that every chain is measured with. The first is the one that ratios refer to.
func exchanges() []exchange {
	return []exchange{
		only("X25519", tls.X25519), only("P-256", tls.CurveP256),
		only("X25519MLKEM768", tls.X25519MLKEM768), only("SecP256r1MLKEM768", tls.SecP256r1MLKEM768),
		only("SecP384r1MLKEM1024", tls.SecP384r1MLKEM1024), only("MLKEM1024", tls.MLKEM1024),
	}
}

// negotiated are the exchanges in which a client of default settings meets a server that lacks what it
// shared: fallback without and with a HelloRetryRequest.
func negotiated() []exchange {
	return []exchange{
		{"default client, X25519 server", nil, []tls.CurveID{tls.X25519}},
		{"default client, P-256 server (HRR)", nil, []tls.CurveID{tls.CurveP256}},
		{"default client, SecP384r1MLKEM1024 server (HRR)", nil, []tls.CurveID{tls.SecP384r1MLKEM1024}},
	}
}

// Grid makes the cells for the named chains (see Chains; none: all). Making RSA keys takes a moment.
func Grid(chains ...string) ([]Cell, error) {
	if len(chains) == 0 {
		chains = Chains()
	}
	var out []Cell
	for _, name := range chains {
		ch, err := newChain(name)
		if err != nil {
			return nil, err
		}
		for _, x := range exchanges() {
			out = append(out, ch.cell(x, false))
		}
		if name != "ECDSA P-256" && name != "ML-DSA-65" {
			continue
		}
		for _, x := range []exchange{exchanges()[0], exchanges()[2]} {
			out = append(out, ch.cell(x, true))
		}
		if name == "ECDSA P-256" {
			for _, x := range negotiated() {
				out = append(out, ch.cell(x, false))
			}
		}
	}
	return out, nil
}

func (ch chain) cell(x exchange, resumed bool) Cell {
	roots := x509.NewCertPool()
	roots.AddCert(ch.root)
	c := Cell{Exchange: x.name, Chain: ch.name, Resumed: resumed, Base: "X25519 " + ch.name}
	c.client = &tls.Config{ServerName: Name, RootCAs: roots, MinVersion: tls.VersionTLS13, CurvePreferences: x.client}
	c.server = &tls.Config{
		Certificates: []tls.Certificate{ch.leaf}, MinVersion: tls.VersionTLS13, CurvePreferences: x.server,
		SessionTicketsDisabled: !resumed,
	}
	if resumed {
		c.client.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	}
	return c
}

// Sample is one handshake with one byte sent each way.
type Sample struct {
	Client, Server time.Duration // CPU of the thread
	Wall           time.Duration // until the client's handshake is done
	Up, Down       int           // bytes of the client, of the server
	Flights        int           // changes of direction on the wire
	Retried        bool
	Resumed        bool
}

// CPU is that of both ends.
func (s Sample) CPU() time.Duration { return s.Client + s.Server }

// Options bound a measurement.
type Options struct {
	Rounds int  // of every cell once; 0 means 50
	TCP    bool // over loopback TCP in place of a pipe in memory
	// Progress is told after each round; it may be nil.
	Progress func(done, total int)
}

// Measure runs the cells round by round. The samples of a cell are in the order of the rounds, so that
// those of two cells at the same index are neighbours.
func Measure(ctx context.Context, cells []Cell, o Options) (map[string][]Sample, error) {
	if len(cells) == 0 {
		return nil, errors.New("measure: no cells")
	}
	if o.Rounds <= 0 {
		o.Rounds = 50
	}
	server := newThread()
	defer server.close()
	client := newThread()
	defer client.close()
	out := map[string][]Sample{}
	for _, c := range cells { // one unmeasured handshake warms caches and fetches the ticket that resumptions need
		if _, err := once(ctx, client, server, c, o.TCP); err != nil {
			return nil, fmt.Errorf("%s: %w", c.Key(), err)
		}
	}
	for round := range o.Rounds {
		turn := round % len(cells)
		for _, c := range slices.Concat(cells[turn:], cells[:turn]) {
			s, err := once(ctx, client, server, c, o.TCP)
			if err != nil {
				return nil, fmt.Errorf("round %d: %s: %w", round+1, c.Key(), err)
			}
			if s.Resumed != c.Resumed {
				return nil, fmt.Errorf("round %d: %s: resumed is %v", round+1, c.Key(), s.Resumed)
			}
			out[c.Key()] = append(out[c.Key()], s)
		}
		if o.Progress != nil {
			o.Progress(round+1, o.Rounds)
		}
	}
	return out, nil
}
