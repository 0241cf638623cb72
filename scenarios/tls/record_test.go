package tls

import (
	"encoding/json"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/rpc"
	wire "github.com/assay-bench/assay/scenarios/wire/tls"
)

// endless is a connection that takes and gives bytes without end.
type endless struct{ net.Conn }

func (endless) Read(b []byte) (int, error)  { return len(b), nil }
func (endless) Write(b []byte) (int, error) { return len(b), nil }

// silent ends each wait at once, and ended is a connection that the peer closed.
type silent struct{ endless }
type ended struct{ endless }

func (silent) Read([]byte) (int, error) { return 0, &net.OpError{Op: "read", Err: timeout{}} }
func (ended) Read([]byte) (int, error)  { return 0, io.EOF }

type timeout struct{}

func (timeout) Error() string { return "timeout" }
func (timeout) Timeout() bool { return true }

// book is an Env that keeps the evidence.
func book(steps *[]rpc.Step, kinds *[]results.Kind) *scenarios.Env {
	return &scenarios.Env{Clock: results.ClockSince(time.Now()), Put: func(_ results.Source, k results.Kind, data any) error {
		*steps, *kinds = append(*steps, data.(rpc.Step)), append(*kinds, k)
		return nil
	}}
}

func TestRecordedIsBounded(t *testing.T) {
	var steps []rpc.Step
	var kinds []results.Kind
	r := newRecorded(book(&steps, &kinds), "x", endless{})
	buf := make([]byte, 1<<20)
	for range 5 {
		if _, err := r.Read(buf); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Write(buf); err != nil {
		t.Fatal(err)
	}
	if err := r.record(results.FromScenario); err != nil {
		t.Fatal(err)
	}
	if r.kept != maxRecorded || len(steps) == 0 || steps[0].Bytes.Len != maxRecorded || !steps[0].More || steps[0].Bytes.SHA256 == "" {
		t.Errorf("kept %d, steps %+v", r.kept, steps)
	}
	steps, kinds = nil, nil
	r = newRecorded(book(&steps, &kinds), "x", endless{})
	for range maxRuns {
		_, _ = r.Read(buf[:1])
		_, _ = r.Write(buf[:1])
	}
	if err := r.record(results.FromScenario); err != nil || len(steps) != maxRuns || !steps[maxRuns-1].More {
		t.Errorf("%d steps, %v", len(steps), err)
	}
}

func TestRecordedEndings(t *testing.T) {
	cases := []struct {
		name string
		conn net.Conn
		then net.Conn // what the connection is after the first read; nil: the same
		want results.Kind
		how  string
	}{
		{"silent", silent{}, nil, results.Silent, ""},
		{"closed", ended{}, nil, results.Closed, "eof"},
		{"silent, then closed", silent{}, ended{}, results.Closed, "eof"},
		{"silent, then bytes", silent{}, endless{}, results.Received, ""},
		{"closed, then silent", ended{}, silent{}, results.Closed, "eof"},
	}
	for _, c := range cases {
		var steps []rpc.Step
		var kinds []results.Kind
		r := newRecorded(book(&steps, &kinds), "x", c.conn)
		_, _ = r.Read(make([]byte, 1))
		if c.then != nil {
			r.Conn = c.then
		}
		_, _ = r.Read(make([]byte, 1))
		if err := r.record(results.FromPeer); err != nil || len(kinds) != 1 || kinds[0] != c.want || steps[0].How != c.how {
			t.Errorf("%s: %v %+v, %v", c.name, kinds, steps, err)
		}
	}
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
}

// The largest that a connection can be found to be still fits into one line of evidence, and reads back.
func TestClippedFits(t *testing.T) {
	chain := [][]byte{make([]byte, 1<<19), make([]byte, 1<<19), make([]byte, 1<<19)}
	numbers := make([]uint16, 1<<16)
	o := wire.Outcome{
		Detail: strings.Repeat("\xff", 1<<20), App: make([]byte, 1<<20), Records: numbers, Tickets: make([]wire.TicketSeen, 1<<16),
		Server: &wire.ServerSeen{Extensions: numbers},
		Flight: &wire.FlightSeen{ALPN: "\xff", Certificates: chain, Staple: make([]byte, 1<<24), Messages: make([]uint8, 1<<20)},
		Legacy: &wire.LegacySeen{Messages: make([]uint8, 1<<20)},
	}
	clipOutcome(&o)
	fits(t, o)
	hello := func() *wire.HelloSeen {
		return &wire.HelloSeen{ServerName: strings.Repeat("\x01", 1<<16), ALPN: []string{strings.Repeat("\xff", 1<<16)}, Versions: numbers,
			Shares: make([]wire.ShareSeen, 1<<16), Extensions: numbers, Modes: make([]uint8, 1<<16)}
	}
	h := wire.Heard{Hello: hello(), Second: hello(), Certificates: chain, App: make([]byte, 1<<20), Records: numbers, Detail: "\xff"}
	clipHeard(&h)
	fits(t, h)
	if len(h.Certificates) != 2 || len(o.Flight.Certificates) != 2 {
		t.Errorf("%d and %d certificates", len(h.Certificates), len(o.Flight.Certificates))
	}
}

// fits checks that a value is a recordable line and the same when it is read back.
func fits[T any](t *testing.T, v T) {
	t.Helper()
	raw, err := results.Marshal(v)
	if err != nil || len(raw) > 4<<20-1<<10 {
		t.Fatalf("%d bytes, %v", len(raw), err)
	}
	var back T
	if err := json.Unmarshal(raw, &back); err != nil {
		t.Fatal(err)
	}
	again, err := results.Marshal(back)
	if err != nil || string(again) != string(raw) {
		t.Errorf("it reads back otherwise, %v", err)
	}
}
