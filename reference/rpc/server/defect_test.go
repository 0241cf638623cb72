package server_test

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/rpc/server"
	"github.com/assay-bench/assay/reference/rpc/wire"
)

// TestDefects shows that each planted defect changes what a caller sees. A function gets a server
// with that defect alone.
func TestDefects(t *testing.T) {
	g := golden(t)
	tthf, args := g["tthf-call"], g["buffered-call"][16:]
	list := []byte{12, 0, 1, 11, 0, 2, 0, 0, 0, 0, 12, 0, 5, 15, 0, 2, 10, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0}
	trailing := edited(append(bytes.Clone(g["framed-call"]), 0, 0), map[int]byte{3: 0x29})
	served := func(frame []byte) func(*testing.T, fixture) {
		return func(t *testing.T, f fixture) { f.dial(t).send(frame).expect(g["tthf-reply"]) }
	}
	hangs := func(frame []byte) func(*testing.T, fixture) {
		return func(t *testing.T, f fixture) { f.dial(t).send(frame).silent().send(g["framed-call"]).silent() }
	}
	framedReply := func(frame []byte, kind, exception int32) func(*testing.T, fixture) {
		return func(t *testing.T, f fixture) {
			m := f.dial(t).send(frame).message(wire.FormFramed)
			if m.Type != kind || (kind == wire.TypeException && lastInt(m.Body) != exception) {
				t.Errorf("reply of type %d: %x", m.Type, m.Body)
			}
		}
	}
	closes := func(frame []byte) func(*testing.T, fixture) {
		return func(t *testing.T, f fixture) { f.dial(t).send(frame).closed() }
	}
	closesAfter := func(frame []byte) func(*testing.T, fixture) {
		return func(t *testing.T, f fixture) {
			p := f.dial(t).send(frame)
			p.message(wire.FormFramed)
			p.closed()
		}
	}
	failing := echo("", wire.Op{Kind: wire.KindError})
	panicking := echo("", wire.Op{Kind: wire.KindPanic, Text: "marker"})
	cases := map[defect.Name]func(*testing.T, fixture){
		defect.RefuseBuffered:       closes(g["buffered-call"]),
		defect.RefuseFramed:         closes(g["framed-call"]),
		defect.RefuseTTHeader:       closes(g["tth-call"]),
		defect.RefuseTTHeaderFramed: closes(g["tthf-call"]),
		defect.BehaveAbsent:         framedReply(g["framed-call"], wire.TypeException, 1),
		defect.ReplyAlwaysFramed: func(t *testing.T, f fixture) {
			f.dial(t).send(g["buffered-call"]).expect(g["framed-reply"]).send(g["tth-call"]).expect(g["tthf-reply"])
		},
		defect.EchoBodyAltered: func(t *testing.T, f fixture) {
			f.dial(t).send(g["buffered-call"]).expect(edited(g["buffered-reply"], map[int]byte{35: 'i'}))
		},
		defect.LengthIgnored: func(t *testing.T, f fixture) {
			for _, frame := range [][]byte{
				edited(tthf, map[int]byte{3: 0x45 + 50}), edited(tthf, map[int]byte{3: 10}),
				edited(tthf, map[int]byte{33: 0x27 + 100}), edited(tthf, map[int]byte{33: 0x26}),
			} {
				f.dial(t).send(frame).expect(g["tthf-reply"])
			}
		},
		defect.TrailingBytesIgnored: func(t *testing.T, f fixture) {
			f.dial(t).send(trailing).expect(g["framed-reply"]).send(g["framed-call"]).expect(g["framed-reply"])
		},
		defect.LengthMismatchHangs: func(t *testing.T, f fixture) {
			hangs(edited(tthf, map[int]byte{3: 0x45 + 50}))(t, f)
			hangs(trailing)(t, f)
		},
		defect.NoLengthLimit:        func(t *testing.T, f fixture) { f.dial(t).send(edited(tthf, map[int]byte{0: 0x3f})).silent() },
		defect.PreallocLength:       closes(edited(tthf, map[int]byte{0: 0x3f})),
		defect.HeaderSizeZeroServed: served(headerless(g["framed-call"])),
		defect.HeaderSizeHangs:      hangs(edited(tthf, map[int]byte{13: 0})),
		defect.TransformIgnored:     served(withTransform(tthf)),
		defect.ProtocolIDIgnored:    served(edited(tthf, map[int]byte{14: 0x7f})),
		defect.InfoIDSkipped:        served(edited(tthf, map[int]byte{16: 0x55})),
		defect.SeqFromHeader: func(t *testing.T, f fixture) {
			if m := f.dial(t).send(edited(tthf, map[int]byte{11: 8})).message(wire.FormTTHeaderFramed); m.Seq != 8 {
				t.Errorf("seq %d", m.Seq)
			}
		},
		defect.SeqZero: func(t *testing.T, f fixture) {
			if m := f.dial(t).send(g["framed-call"]).message(wire.FormFramed); m.Seq != 0 {
				t.Errorf("seq %d", m.Seq)
			}
		},
		defect.UnknownMethodInternal: framedReply(framed(call(1, "Nope", args)), wire.TypeException, 6),
		defect.UnknownMethodCloses:   closes(framed(call(1, "Nope", args))),
		defect.UnknownClosesAfter:    closesAfter(framed(call(1, "Nope", args))),
		defect.DeclaredAsException:   framedReply(echo("", wire.Op{Kind: wire.KindThrow}), wire.TypeException, 6),
		defect.UndeclaredTypeZero:    framedReply(failing, wire.TypeException, 0),
		defect.ErrorCloses:           closesAfter(failing),
		defect.PanicLeaks: func(t *testing.T, f fixture) {
			m := f.dial(t).send(panicking).message(wire.FormFramed)
			if !bytes.Contains(m.Body, []byte("marker")) || !bytes.Contains(m.Body, []byte(".go:")) {
				t.Errorf("%q", m.Body)
			}
		},
		defect.OnewayAnswered:     framedReply(framed(g["oneway-call"]), wire.TypeReply, 0),
		defect.OnewayTypeAnswered: framedReply(framed(call(4, "Echo", args)), wire.TypeReply, 0),
		defect.OnewayDropped: func(t *testing.T, f fixture) {
			f.dial(t).send(framed(g["oneway-call"])).send(g["framed-call"]).expect(g["framed-reply"])
			if n := f.count(t, "ok"); n != 1 {
				t.Errorf("%d calls ran", n)
			}
		},
		defect.MessageTypeIgnored: framedReply(framed(call(6, "Echo", args)), wire.TypeReply, 0),
		defect.NonStrictServed: func(t *testing.T, f fixture) {
			old := append(append([]byte{0, 0, 0, 4}, "Echo\x01\x00\x00\x00\x07"...), args...)
			f.dial(t).send(old).expect(g["buffered-reply"]).send(framed(old)).expect(g["framed-reply"])
		},
		defect.NoReadDeadline: func(t *testing.T, f fixture) {
			p := f.dial(t).send(g["framed-call"][:20])
			time.Sleep(deadline) // nothing happens: that is the point
			p.silent()
		},
		defect.DeadlineFromFirstByte: func(t *testing.T, f fixture) {
			p := f.dial(t)
			time.Sleep(deadline) // likewise
			p.silent().send(g["framed-call"][:4]).closed()
		},
		defect.DeadlineEarly: func(t *testing.T, f fixture) {
			begin := time.Now()
			if took := f.dial(t).closed().Sub(begin); took > deadline*3/4 {
				t.Errorf("closed after %s", took)
			}
		},
		defect.DeadlineLate: func(t *testing.T, f fixture) {
			begin := time.Now()
			if took := f.dial(t).closed().Sub(begin); took < deadline*2 {
				t.Errorf("closed after %s", took)
			}
		},
		defect.NestingUnbounded:      framedReply(framed(call(1, "Echo", deepArgs(100))), wire.TypeReply, 0),
		defect.ContainerUnbounded:    framedReply(framed(call(1, "Echo", list)), wire.TypeException, 7),
		defect.ContainerClosesServed: framedReply(framed(call(1, "Echo", list)), wire.TypeReply, 0),
		defect.PipeliningReversed: func(t *testing.T, f fixture) {
			p := f.dial(t).send(append(bytes.Clone(g["framed-call"]), g["tthf-call"]...))
			p.expect(g["tthf-reply"]).expect(g["framed-reply"])
			p.send(g["framed-call"]).expect(g["framed-reply"])
		},
		defect.PipeliningDropsSecond: func(t *testing.T, f fixture) {
			p := f.dial(t).send(append(bytes.Clone(g["framed-call"]), g["tthf-call"]...))
			p.expect(g["framed-reply"]).silent().send(g["tthf-call"]).expect(g["tthf-reply"])
		},
		defect.Impatient: func(t *testing.T, f fixture) {
			p := f.dial(t)
			time.Sleep(100 * time.Millisecond) // the defect is about a late first byte
			p.send(g["framed-call"]).expect(g["framed-reply"]).closed()
		},
		defect.LosesCalls: func(t *testing.T, f fixture) {
			p := f.dial(t)
			for range 49 {
				p.send(g["framed-call"]).expect(g["framed-reply"])
			}
			p.send(g["framed-call"]).silent()
		},
	}
	seen := 0
	for name, check := range cases {
		seen++
		t.Run(string(name), func(t *testing.T) { check(t, start(t, name)) })
	}
	if seen == 0 {
		t.Fatal("no defects")
	}
}

func TestPanicKillsTheProcess(t *testing.T) {
	exits := make(chan int, 1)
	f := startWith(t, server.Config{Defects: defect.Of(defect.PanicKills), Exit: func(code int) { exits <- code }})
	f.dial(t).send(echo("", wire.Op{Kind: wire.KindPanic}))
	select {
	case code := <-exits:
		if code != 2 {
			t.Errorf("exit %d", code)
		}
	case <-time.After(patience):
		t.Error("the process lives")
	}
}

func lastInt(body []byte) int32 { return int32(binary.BigEndian.Uint32(body[len(body)-5:])) }

// headerless returns a TTHeader frame of header size 0 around a payload.
func headerless(payload []byte) []byte {
	b := append([]byte{0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 7, 0, 0}, payload...)
	wire.PutLength(b)
	return b
}

// withTransform returns a frame that claims one transform, with its id in place of padding.
func withTransform(frame []byte) []byte {
	b := append(bytes.Clone(frame[:15]), 1, 1)
	b = append(b, frame[16:29]...) // the header ends with padding, one byte of which makes room
	b = append(b, frame[30:]...)
	return b
}

// deepArgs returns good arguments with an unknown field of the given depth.
func deepArgs(depth int) []byte {
	b := []byte{12, 0, 1, 11, 0, 2, 0, 0, 0, 0, 0}
	b = append(b, bytes.Repeat([]byte{12, 0, 99}, depth)...)
	return append(b, make([]byte, depth+1)...)
}
