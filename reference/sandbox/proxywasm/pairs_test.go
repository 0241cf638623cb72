package proxywasm

import (
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	little   binary.ByteOrder = binary.LittleEndian
	bigOrder binary.ByteOrder = binary.BigEndian
)

// The worked example of the specification, with the digits that its text describes.
var example = []byte("\x02\x00\x00\x00" + "\x01\x00\x00\x00\x01\x00\x00\x00" + "\x01\x00\x00\x00\x02\x00\x00\x00" + "a\x001\x00b\x0022\x00")

func TestPairsEncoding(t *testing.T) {
	c := codec{order: little}
	want := []pair{{"a", "1"}, {"b", "22"}}
	if diff := cmp.Diff(example, c.encode(want)); diff != "" {
		t.Errorf("encode: %s", diff)
	}
	got, err := c.decode(example)
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(pair{})); err != nil || diff != "" {
		t.Errorf("decode: %v %s", err, diff)
	}
	for i := range example {
		if i == 0 {
			continue // empty: the empty map
		}
		if pairs, err := c.decode(example[:i]); err == nil {
			t.Errorf("cut at %d: %v, want an error", i, pairs)
		}
	}
	if _, err := c.decode(append(example[:len(example):len(example)], 0)); err == nil {
		t.Error("a byte behind the last pair is no error")
	}
	for _, empty := range [][]byte{nil, {0}, {0, 0, 0, 0}} {
		if pairs, err := c.decode(empty); err != nil || len(pairs) != 0 {
			t.Errorf("empty map %x: %v, %v", empty, pairs, err)
		}
	}
}

func TestFields(t *testing.T) {
	m := fields{{"a", "1"}, {"b", "2"}, {"a", "3"}}
	if v, found := m.get("a"); !found || v != "1,3" {
		t.Errorf("get = %q, %v", v, found)
	}
	opt := cmp.AllowUnexported(pair{})
	if diff := cmp.Diff(fields{{"a", "x"}, {"b", "2"}}, m.replaced("a", "x"), opt); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(fields{{"b", "2"}}, m.without("a"), opt); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(fields{{"a", "1"}, {"b", "2"}, {"a", "3"}}, m, opt); diff != "" {
		t.Errorf("the map itself changed: %s", diff)
	}
}

func TestAllowed(t *testing.T) {
	cases := []struct {
		id   int
		p    pair
		want bool
	}{
		{mapRequestHeaders, pair{"x-a", "b"}, true},
		{mapRequestHeaders, pair{"x a", "b"}, false},
		{mapRequestHeaders, pair{"", "b"}, false},
		{mapRequestHeaders, pair{"x-a", "b\nc"}, false},
		{mapRequestHeaders, pair{"x-a", "b\x00c"}, false},
		{mapRequestHeaders, pair{keyMethod, "PUT"}, true},
		{mapRequestHeaders, pair{keyMethod, "CONNECT"}, false},
		{mapRequestHeaders, pair{keyMethod, "PUT /"}, false},
		{mapRequestHeaders, pair{keyPath, "/a?b"}, true},
		{mapRequestHeaders, pair{keyPath, "a"}, false},
		{mapRequestHeaders, pair{keyPath, "/a HTTP/1.1\r\nx: y"}, false},
		{mapRequestHeaders, pair{keyScheme, "gopher"}, false},
		{mapRequestHeaders, pair{keyAuthority, "a b"}, false},
		{mapRequestHeaders, pair{keyStatus, "200"}, false},
		{mapRequestHeaders, pair{":other", "1"}, false},
		{mapResponseHeaders, pair{keyStatus, "204"}, true},
		{mapResponseHeaders, pair{keyStatus, "103"}, false},
		{mapResponseHeaders, pair{keyStatus, "+20"}, false},
		{mapResponseHeaders, pair{keyStatus, "600"}, false},
		{mapResponseHeaders, pair{keyPath, "/"}, false},
	}
	for _, c := range cases {
		if got := allowed(c.id, c.p); got != c.want {
			t.Errorf("map %d, %q: %v, want %v", c.id, c.p, got, c.want)
		}
	}
}
