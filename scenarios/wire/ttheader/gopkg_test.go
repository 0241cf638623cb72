package ttheader

import (
	"encoding/binary"
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	peer "github.com/cloudwego/gopkg/protocol/ttheader"
)

// Known divergences from github.com/cloudwego/gopkg v0.2.0, each of which makes this decoder stricter:
//   - LENGTH is not compared with the bytes there are: PayloadLen can be negative or reach past the end;
//   - transform ids are read and thrown away, so a transformed payload would be taken as plain;
//   - protocol id 0x03 (compact v2) is accepted although no codec for it exists.
//
// And one of shape: the ACL token appears among the string keys.
var stricter = map[Reason]bool{BadLength: true, BadTransform: true, BadProtocol: true}

// merged puts the token where the peer has it. When a frame carries the token in both places the order of
// the blocks decides, and the caller must not compare.
func merged(f Frame) map[string]string {
	m := maps.Clone(f.Header.StrKeys)
	for _, id := range f.Layout.Blocks {
		if id != InfoACL {
			continue
		}
		if m == nil {
			m = map[string]string{}
		}
		m[peer.GDPRToken] = f.Header.ACLToken
	}
	return m
}

// FuzzDecodeAgainstGopkg: whatever this decoder accepts the peer accepts with the same meaning; whatever it
// refuses and the peer accepts is a known divergence.
func FuzzDecodeAgainstGopkg(f *testing.F) {
	for _, o := range []Options{
		{}, {Between: 1}, {Length: new(uint32(10))}, {Transforms: new(byte(1))}, {Blocks: []byte{InfoInts, InfoACL}},
	} {
		f.Add(encode(f, full(), "payload", o))
	}
	f.Add(encode(f, Header{ProtocolID: 3}, "", Options{}))
	f.Fuzz(func(t *testing.T, b []byte) {
		mine, err := Decode(b)
		theirs, peerErr := peer.DecodeFromBytes(t.Context(), b)
		if err != nil {
			if peerErr == nil && !stricter[reason(err)] {
				t.Fatalf("only the peer accepts: %v", err)
			}
			return
		}
		if peerErr != nil {
			t.Fatalf("only the peer refuses: %v", peerErr)
		}
		want := peer.DecodeParam{
			Flags: peer.HeaderFlags(mine.Header.Flags), SeqID: mine.Header.Seq, ProtocolID: peer.ProtocolID(mine.Header.ProtocolID),
			IntInfo: mine.Header.IntKeys, StrInfo: merged(mine),
			HeaderLen: len(b) - len(mine.Payload), PayloadLen: len(mine.Payload),
		}
		if _, both := mine.Header.StrKeys[peer.GDPRToken]; both {
			want.StrInfo, theirs.StrInfo = nil, nil
		}
		if d := cmp.Diff(want, theirs, cmpopts.EquateEmpty()); d != "" {
			t.Fatal(d)
		}
	})
}

// FuzzEncodeAgainstGopkg: each side reads what the other wrote, with the same meaning.
func FuzzEncodeAgainstGopkg(f *testing.F) {
	f.Add(uint16(0), int32(7), uint16(9), "Echo", "isn", "Echo", "tok")
	f.Add(uint16(2), int32(-1), uint16(27), "2", "", "", "")
	f.Fuzz(func(t *testing.T, flags uint16, seq int32, key uint16, value, strKey, strValue, token string) {
		if len(value)+len(strKey)+len(strValue)+len(token) > 60000 || strKey == peer.GDPRToken {
			return
		}
		h := Header{
			Flags: flags, Seq: seq, ACLToken: token,
			IntKeys: map[uint16]string{key: value}, StrKeys: map[string]string{strKey: strValue},
		}
		mine := encode(t, h, "payload", Options{})
		strs := maps.Clone(h.StrKeys)
		if token != "" {
			strs[peer.GDPRToken] = token
		}
		read, err := peer.DecodeFromBytes(t.Context(), mine)
		if err != nil {
			t.Fatalf("peer reads: %v", err)
		}
		want := peer.DecodeParam{
			Flags: peer.HeaderFlags(flags), SeqID: seq, IntInfo: h.IntKeys, StrInfo: strs,
			HeaderLen: len(mine) - len("payload"), PayloadLen: len("payload"),
		}
		if d := cmp.Diff(want, read); d != "" {
			t.Fatalf("peer reads: %s", d)
		}
		theirs, err := peer.EncodeToBytes(t.Context(), peer.EncodeParam{Flags: peer.HeaderFlags(flags), SeqID: seq, IntInfo: h.IntKeys, StrInfo: strs})
		if err != nil {
			t.Fatalf("peer writes: %v", err)
		}
		theirs = append(theirs, "payload"...)
		binary.BigEndian.PutUint32(theirs, uint32(len(theirs)-4)) // the peer leaves LENGTH to its caller
		back, err := Decode(theirs)
		if err != nil {
			t.Fatalf("reading the peer: %v", err)
		}
		if d := cmp.Diff(h, back.Header); d != "" {
			t.Fatalf("reading the peer: %s", d)
		}
	})
}
