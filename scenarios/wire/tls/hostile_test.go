package tls

import (
	"bytes"
	"context"
	"net"
	"strings"
	"testing"
	"time"
)

// against runs both roles against a peer that only does what play says.
func against(t *testing.T, wait time.Duration, play func(net.Conn)) (Outcome, Heard) {
	t.Helper()
	run := func(f func(net.Conn)) {
		mine, theirs := loopback(t)
		done := make(chan struct{})
		go func() { defer close(done); play(theirs) }()
		f(mine)
		<-done
	}
	var out Outcome
	var heard Heard
	run(func(c net.Conn) { out = Client{Offer: offerOf(X25519MLKEM768), Wait: wait}.Run(within(t), c) })
	run(func(c net.Conn) { heard = Server{Identity: authorities()["ecdsa"].id, Wait: wait}.Run(within(t), c) })
	return out, heard
}

// absorb reads until the prober closes.
func absorb(c net.Conn) {
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	b := make([]byte, 4096)
	for {
		if _, err := c.Read(b); err != nil {
			return
		}
	}
}

func say(b []byte) func(net.Conn) {
	return func(c net.Conn) { _, _ = c.Write(b); absorb(c) }
}

func TestHostilePeers(t *testing.T) {
	repeat := func(b []byte) func(net.Conn) {
		return func(c net.Conn) {
			many := bytes.Repeat(b, 1+4096/len(b))
			for {
				if _, err := c.Write(many); err != nil {
					return
				}
			}
		}
	}
	cases := []struct {
		name   string
		play   func(net.Conn)
		ending Ending
		detail string
	}{
		{"silence", absorb, Silent, ""},
		{"close", func(c net.Conn) { _ = c.(*net.TCPConn).CloseWrite(); absorb(c) }, EOF, ""},
		{"reset", func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0); _ = c.Close() }, Reset, ""},
		{"http", say([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")), Garbled, "no TLS record"},
		{"half a header", say([]byte{22, 3}), Silent, "inside a record"},
		{"half a record", say([]byte{22, 3, 3, 0, 9, 1}), Silent, "inside a record"},
		{"half a record and close", func(c net.Conn) {
			_, _ = c.Write([]byte{22, 3, 3, 0, 9, 1})
			_ = c.(*net.TCPConn).CloseWrite()
			absorb(c)
		}, EOF, "inside a record"},
		{"long record", say([]byte{22, 3, 3, 0xff, 0xff}), Garbled, "too many"},
		{"long message", say([]byte{22, 3, 3, 0, 4, 2, 0xff, 0xff, 0xff}), Garbled, "too many"},
		{"alert of one byte", say([]byte{21, 3, 3, 0, 1, 2}), Garbled, "alert of 1"},
		{"odd change_cipher_spec", say([]byte{20, 3, 3, 0, 1, 2}), Garbled, "change_cipher_spec"},
		{"early protected record", say([]byte{23, 3, 3, 0, 4, 1, 2, 3, 4}), Unreadable, "before there are keys"},
		{"finished first", say([]byte{22, 3, 3, 0, 4, 20, 0, 0, 0}), Garbled, "in place of"},
		{"cut off hello", say([]byte{22, 3, 3, 0, 6, 2, 0, 0, 2, 3, 3}), Garbled, ""},
		{"endless empty records", repeat([]byte{22, 3, 3, 0, 0}), Garbled, "more than"},
		{"endless warnings", repeat([]byte{21, 3, 3, 0, 2, 1, 90}), Garbled, "more than"},
		{"endless zeros", repeat([]byte{0}), Garbled, "no TLS record"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			wait := 10 * time.Second
			if c.ending == Silent {
				wait = 250 * time.Millisecond
			}
			out, heard := against(t, wait, c.play)
			if out.Ending != c.ending || !strings.Contains(out.Detail, c.detail) {
				t.Errorf("client: %v %q", out.Ending, out.Detail)
			}
			if heard.Ending != c.ending || !strings.Contains(heard.Detail, c.detail) {
				t.Errorf("server: %v %q", heard.Ending, heard.Detail)
			}
		})
	}
}

func TestUnreadAlertBeforeKeys(t *testing.T) {
	sealed := append([]byte{23, 3, 3, 0, sealedAlert}, make([]byte, sealedAlert)...)
	out, heard := against(t, time.Second, say(sealed))
	for _, a := range []*Alert{out.Alert, heard.Alert} {
		if a == nil || !a.Encrypted || !a.Unread {
			t.Errorf("alert = %+v", a)
		}
	}
	if out.Ending != Alerted || heard.Ending != Alerted || heard.Protected != 0 {
		t.Errorf("%v, %v", out.Ending, heard.Ending)
	}
}

// A peer that never reads must not hold a write: net.Pipe has no buffer at all.
func TestWriteDoesNotBlock(t *testing.T) {
	a, b := net.Pipe()
	defer func() { _ = b.Close() }()
	out := Client{Offer: offerOf(X25519), Wait: 50 * time.Millisecond}.Run(within(t), a)
	if out.Ending != Silent || !strings.Contains(out.Detail, "bytes written") {
		t.Errorf("%v %q", out.Ending, out.Detail)
	}
}

func TestContextEndsEverything(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	a, b := loopback(t)
	go func() {
		_, _ = b.Read(make([]byte, 1))
		cancel()
	}()
	out := Client{Offer: offerOf(X25519), Wait: time.Minute}.Run(ctx, a)
	if out.Ending != Silent || !strings.Contains(out.Detail, "canceled") {
		t.Errorf("client: %v %q", out.Ending, out.Detail)
	}
	_, c := loopback(t)
	if heard := (Server{Wait: time.Minute}).Run(ctx, c); heard.Ending != Silent {
		t.Errorf("server: %v %q", heard.Ending, heard.Detail)
	}
}

// A client that takes a flight which does not decrypt goes on sending: its records are counted.
func TestServerCountsUnreadable(t *testing.T) {
	a, b := loopback(t)
	ctx := within(t)
	done := make(chan Heard, 1)
	go func() {
		done <- Server{Identity: authorities()["ecdsa"].id, Wait: time.Second}.Run(ctx, b)
	}()
	hello := sampleHello(t)
	hello.Remove(extPSK)
	_, _ = a.Write(plainRecord(recordHandshake, 0x0301, hello.Marshal()))
	for _, n := range []int{53, 21, sealedAlert} {
		_, _ = a.Write(plainRecord(recordApplication, version12, make([]byte, n)))
	}
	_ = a.(*net.TCPConn).CloseWrite()
	heard := <-done
	if heard.Ending != Unreadable || heard.Protected != 2 || heard.Alert == nil || !heard.Alert.Unread {
		t.Errorf("%v %q, protected %d, alert %+v", heard.Ending, heard.Detail, heard.Protected, heard.Alert)
	}
}

func TestPlanThatCannotBeCarriedOut(t *testing.T) {
	a, b := loopback(t)
	ctx := within(t)
	done := make(chan Heard, 1)
	go func() { done <- (Server{}).Run(ctx, b) }()
	_ = Client{Offer: offerOf(X25519)}.Run(ctx, a)
	if heard := <-done; heard.Ending != Broken || !strings.Contains(heard.Detail, "no key") {
		t.Errorf("%v %q", heard.Ending, heard.Detail)
	}
}
