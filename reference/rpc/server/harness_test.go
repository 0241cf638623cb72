package server_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/rpc/server"
	"github.com/assay-bench/assay/reference/rpc/wire"
)

// deadline is the read deadline of servers under test: short, and far above a loopback exchange.
const deadline = 400 * time.Millisecond

// patience is how long a test waits for what must come.
const patience = 5 * time.Second

// quiet is how long a test listens for what must not come.
const quiet = 80 * time.Millisecond

type fixture struct {
	*server.Server
	registry *prometheus.Registry
}

func start(t *testing.T, defects ...defect.Name) fixture {
	t.Helper()
	return startWith(t, server.Config{Defects: defect.Of(defects...)})
}

// startWith serves until the test ends, then checks that no goroutine is left.
func startWith(t *testing.T, cfg server.Config) fixture {
	t.Helper()
	before := runtime.NumGoroutine()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	cfg.Registerer = registry
	if cfg.ReadDeadline == 0 {
		cfg.ReadDeadline = deadline
	}
	s, err := server.New(l, cfg)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	t.Cleanup(func() {
		s.Close()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
		noLeak(t, before)
	})
	return fixture{s, registry}
}

func noLeak(t *testing.T, before int) {
	t.Helper()
	for end := time.Now().Add(patience); runtime.NumGoroutine() > before; {
		if time.Now().After(end) {
			stacks := make([]byte, 1<<16)
			t.Errorf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
			return
		}
		time.Sleep(time.Millisecond) // there is no event for the end of a goroutine
	}
}

// errorsBy returns the protocol error counter of a reason.
func (f fixture) errorsBy(t *testing.T, reason string) float64 {
	t.Helper()
	families, err := f.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != "assay_rpc_protocol_errors_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			if m.GetLabel()[0].GetValue() == reason {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

type peer struct {
	t *testing.T
	net.Conn
}

func (f fixture) dial(t *testing.T) peer {
	t.Helper()
	conn, err := net.Dial("tcp", f.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return peer{t, conn}
}

func (p peer) send(b []byte) peer {
	p.t.Helper()
	if _, err := p.Write(b); err != nil {
		p.t.Fatal(err)
	}
	return p
}

// expect reads exactly want.
func (p peer) expect(want []byte) peer {
	p.t.Helper()
	_ = p.SetReadDeadline(time.Now().Add(patience))
	got := make([]byte, len(want))
	n, err := io.ReadFull(p, got)
	if err != nil || !bytes.Equal(got, want) {
		p.t.Fatalf("got %x (%v)\nwant %x", got[:n], err, want)
	}
	return p
}

// silent checks that nothing comes and the connection stays open.
func (p peer) silent() peer {
	p.t.Helper()
	_ = p.SetReadDeadline(time.Now().Add(quiet))
	n, err := p.Read(make([]byte, 1))
	if n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		p.t.Fatalf("%d bytes, %v; want silence", n, err)
	}
	return p
}

// closed checks that the connection ends, without a byte, and returns when.
func (p peer) closed() time.Time {
	p.t.Helper()
	_ = p.SetReadDeadline(time.Now().Add(patience))
	n, err := p.Read(make([]byte, 1))
	if n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		p.t.Fatalf("%d bytes, %v; want the end", n, err)
	}
	return time.Now()
}

// exception reads a framed or TTHeader-framed or buffered exception and returns its type.
func (p peer) exception(form wire.Form) int32 {
	p.t.Helper()
	m := p.message(form)
	if m.Type != wire.TypeException {
		p.t.Fatalf("message of type %d, want an exception", m.Type)
	}
	return int32(binary.BigEndian.Uint32(m.Body[len(m.Body)-5:]))
}

// message reads one reply of the given form.
func (p peer) message(form wire.Form) wire.Message {
	p.t.Helper()
	_ = p.SetReadDeadline(time.Now().Add(patience))
	if form == wire.FormBuffered {
		m, err := wire.ScanMessage(&oneByOne{p: p}, wire.NewRules(0, defect.Set{}))
		if err != nil {
			p.t.Fatal(err)
		}
		return m
	}
	frame := make([]byte, 4)
	if _, err := io.ReadFull(p, frame); err != nil {
		p.t.Fatal(err)
	}
	frame = append(frame, make([]byte, binary.BigEndian.Uint32(frame))...)
	if _, err := io.ReadFull(p, frame[4:]); err != nil {
		p.t.Fatal(err)
	}
	at := 4
	if form.HasHeader() {
		at = 14 + 4*int(binary.BigEndian.Uint16(frame[12:]))
		if form.HasFrame() {
			at += 4
		}
	}
	m, err := wire.DecodeMessage(frame[at:], wire.NewRules(0, defect.Set{}))
	if err != nil || at+m.Size != len(frame) {
		p.t.Fatalf("reply %x: %v", frame, err)
	}
	return m
}

type oneByOne struct {
	p   peer
	buf []byte
}

func (o *oneByOne) Fill(n int) ([]byte, error) {
	for len(o.buf) < n {
		b := make([]byte, 1)
		if _, err := io.ReadFull(o.p, b); err != nil {
			return nil, err
		}
		o.buf = append(o.buf, b...)
	}
	return o.buf, nil
}

func golden(t testing.TB) map[string][]byte {
	t.Helper()
	text, err := os.ReadFile("../wire/testdata/golden.txt")
	if err != nil {
		t.Fatal(err)
	}
	frames := make(map[string][]byte)
	for line := range strings.Lines(string(text)) {
		if name, digits, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name != "#" {
			if frames[name], err = hex.DecodeString(digits); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(frames) == 0 {
		t.Fatal("no golden frames")
	}
	return frames
}

// edited returns a copy of b with the byte at each offset replaced.
func edited(b []byte, changes map[int]byte) []byte {
	b = bytes.Clone(b)
	for at, v := range changes {
		b[at] = v
	}
	return b
}

// framed puts a frame length in front of a message.
func framed(message []byte) []byte {
	b := append(make([]byte, 4), message...)
	wire.PutLength(b)
	return b
}

// call returns a buffered message.
func call(kind byte, method string, args []byte) []byte {
	b := []byte{0x80, 1, 0, kind, 0, 0, 0, byte(len(method))}
	b = append(b, method...)
	return append(append(b, 0, 0, 0, 7), args...)
}

// echo returns a framed call of Echo with operations.
func echo(tag string, ops ...wire.Op) []byte {
	msg := wire.Msg{Tag: []byte(tag), Body: []byte("hi"), Ops: ops}
	return framed(call(1, "Echo", wire.AppendArgs(nil, &msg)))
}

// count returns how often calls with the tag ran.
func (f fixture) count(t *testing.T, tag string) int64 {
	t.Helper()
	m := f.dial(t).send(echo(tag, wire.Op{Kind: wire.KindCount})).message(wire.FormFramed)
	result, err := wire.DecodeArgs(append([]byte{12, 0, 1}, m.Body[3:]...)) // success is field 0, an argument field 1
	if err != nil || result.Report == nil {
		t.Fatalf("report %+v, %v", result.Report, err)
	}
	return *result.Report.Count
}
