package echo

import (
	"testing"

	"github.com/assay-bench/assay/scenarios/wire/rpcframe"
)

func TestRequestIsOneWholeCall(t *testing.T) {
	codec, err := NewTTHeader()
	if err != nil {
		t.Fatal(err)
	}
	b := codec.Request([]byte("before"), 0x01020304)[len("before"):]
	call, err := rpcframe.Unwrap(rpcframe.TTHeaderFramed, b)
	if err != nil {
		t.Fatal(err)
	}
	if call.HeaderSeq != 0x01020304 || call.Message.Seq != 0x01020304 {
		t.Errorf("sequence ids %#x and %#x", call.HeaderSeq, call.Message.Seq)
	}
	n, id, granted, err := codec.Reply(b)
	if n != len(b) || id != 0x01020304 || granted || err != nil {
		t.Errorf("a call read as a reply: n %d of %d, id %#x, granted %v, %v; want it whole and not granted", n, len(b), id, granted, err)
	}
}

func FuzzReply(f *testing.F) {
	codec, err := NewTTHeader()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(codec.Request(nil, 7))
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	f.Add([]byte{0, 0, 0, 10, 0x10, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		n, _, granted, err := codec.Reply(b)
		if n < 0 || n > len(b) {
			t.Errorf("n = %d of %d bytes", n, len(b))
		}
		if granted && (n == 0 || err != nil) {
			t.Error("granted what is not whole")
		}
	})
}
