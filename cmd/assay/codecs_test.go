package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	golden "github.com/assay-bench/assay/fixtures/rpc"
	"github.com/assay-bench/assay/reference/defect"
	reference "github.com/assay-bench/assay/reference/rpc/wire"
	"github.com/assay-bench/assay/scenarios/wire/behave"
	"github.com/assay-bench/assay/scenarios/wire/thrift"
	"github.com/assay-bench/assay/scenarios/wire/ttheader"
)

// The reference and the harness share no codec. These fuzz targets hold the two against each other: what
// one accepts the other must accept too, with the same content, apart from the differences named here.

func seedCodecs(f *testing.F) {
	f.Helper()
	vectors, err := golden.Golden()
	if err != nil {
		f.Fatal(err)
	}
	edited, err := golden.Edited()
	if err != nil {
		f.Fatal(err)
	}
	for _, v := range append(vectors, edited...) {
		f.Add(v.Bytes)
		if len(v.Bytes) > 34 {
			f.Add(v.Bytes[34:]) // the message behind the usual header and frame length
		}
	}
}

// harnessOnly lists why the reference may refuse a message that the harness reads: its own limits, which
// the harness, having to read anything that a server sends, does not have.
var harnessOnly = map[reference.Reason]bool{
	reference.ReasonNesting: true, reference.ReasonElements: true, reference.ReasonMessageHead: true, reference.ReasonTooLarge: true,
}

// FuzzMessageCodecs compares the decoders of Thrift messages.
func FuzzMessageCodecs(f *testing.F) {
	seedCodecs(f)
	rules := reference.NewRules(reference.DefaultMaxFrame, defect.Of())
	f.Fuzz(func(t *testing.T, b []byte) {
		theirs, rerr := reference.DecodeMessage(b, rules)
		ours, n, herr := thrift.ReadMessage(b)
		switch {
		case rerr == nil && herr != nil:
			if strings.Contains(herr.Error(), "bool") {
				return // the reference takes any byte for a bool, the harness only 0 and 1, which is what is ever sent
			}
			t.Fatalf("the reference reads %x, the harness does not: %v", b, herr)
		case rerr != nil && herr == nil:
			var refusal *reference.Refusal
			if !errors.As(rerr, &refusal) || !harnessOnly[refusal.Reason] {
				t.Fatalf("the harness reads %x, the reference does not: %v", b, rerr)
			}
			return
		case rerr != nil:
			return
		}
		if n != theirs.Size || ours.Name != string(theirs.Name) || ours.Seq != theirs.Seq || int32(ours.Type) != theirs.Type {
			t.Fatalf("of %x the harness reads %d bytes: %s %s %d, the reference %d bytes: %d %s %d",
				b, n, ours.Type, ours.Name, ours.Seq, theirs.Size, theirs.Type, theirs.Name, theirs.Seq)
		}
		compareArgs(t, ours.Body, theirs.Body)
	})
}

// compareArgs compares what both read as the request of the behave service. Fields of another type than
// the IDL's are skipped by the reference, as Thrift readers do, and refused by the harness, which knows
// what its own service sends.
func compareArgs(t *testing.T, ours thrift.Struct, theirs []byte) {
	msg, herr := behave.ReadArgs(ours)
	ref, rerr := reference.DecodeArgs(theirs)
	if herr != nil || rerr != nil {
		return
	}
	if msg.Body != string(ref.Body) || len(msg.Ops) != len(ref.Ops) {
		t.Fatalf("the harness reads body %q and %d operations, the reference %q and %d", msg.Body, len(msg.Ops), ref.Body, len(ref.Ops))
	}
	if (msg.Tag != nil) != (ref.Tag != nil) || (msg.Tag != nil && *msg.Tag != string(ref.Tag)) {
		t.Fatalf("the harness reads tag %v, the reference %q", msg.Tag, ref.Tag)
	}
}

// FuzzHeaderCodecs compares the decoders of TTHeader frames.
func FuzzHeaderCodecs(f *testing.F) {
	seedCodecs(f)
	rules := reference.NewRules(reference.DefaultMaxFrame, defect.Of())
	f.Fuzz(func(t *testing.T, b []byte) {
		ours, herr := ttheader.Decode(b)
		theirs, rerr := readReferenceHeader(b, rules)
		switch {
		case rerr == nil && herr != nil:
			t.Fatalf("the reference reads %x, the harness does not: %v", b, herr)
		case rerr != nil:
			return // the reference serves fewer protocol ids and flags than the harness can read
		}
		if ours.Header.Seq != theirs.Seq || len(ours.Header.IntKeys) != len(theirs.Int) {
			t.Fatalf("of %x the harness reads %+v, the reference %+v", b, ours.Header, theirs)
		}
		for k, v := range theirs.Int {
			if ours.Header.IntKeys[k] != v {
				t.Fatalf("key %d: %q and %q", k, ours.Header.IntKeys[k], v)
			}
		}
		for k, v := range theirs.Str {
			if k != reference.StrKeyACLToken && ours.Header.StrKeys[k] != v {
				t.Fatalf("key %q: %q and %q", k, ours.Header.StrKeys[k], v)
			}
		}
	})
}

// readReferenceHeader reads a frame that fills b, as the server does.
func readReferenceHeader(b []byte, rules reference.Rules) (reference.Header, error) {
	if reference.Sniff(b) != reference.TTHeader || len(b) < reference.PreambleSize {
		return reference.Header{}, errors.New("no TTHeader frame")
	}
	p, err := reference.ReadPreamble(b, rules)
	if err != nil {
		return reference.Header{}, err
	}
	if int64(p.Length)+4 != int64(len(b)) || p.HeaderSize > len(b) {
		return reference.Header{}, errors.New("the frame does not fill the bytes")
	}
	return reference.ReadHeader(p, bytes.Clone(b), rules)
}
