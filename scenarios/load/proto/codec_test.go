package proto

import (
	"bytes"
	"testing"

	"github.com/assay-bench/assay/scenarios/load"
	"github.com/assay-bench/assay/scenarios/wire/behave"
	"github.com/assay-bench/assay/scenarios/wire/rpcframe"
	"github.com/assay-bench/assay/scenarios/wire/thrift"
)

// codecs are those of every multiplexed protocol, with a reply to request 7 that is to be granted and one
// that is not.
func codecs(t testing.TB) map[string]load.Codec {
	t.Helper()
	list := map[string]load.Codec{"tcp": echoCodec{filler(DefaultSize)}}
	for scheme, form := range thriftForms {
		c := config(t, scheme+"://127.0.0.1:1")
		c.Body = behave.Args(behave.Msg{Body: "x"})
		codec, err := newThriftCodec(c, form, behave.MethodEcho)
		if err != nil {
			t.Fatal(err)
		}
		list[scheme] = codec
	}
	return list
}

func replyOf(t testing.TB, form rpcframe.Form, kind thrift.MessageType, seq int32) []byte {
	t.Helper()
	b, err := rpcframe.Call{Form: form, Method: behave.MethodEcho, Type: kind, Seq: seq, Args: []byte{0}}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Whole replies are recognised with their id, from the first byte that decides on, and never before.
func TestThriftReplies(t *testing.T) {
	all := codecs(t)
	for scheme, form := range thriftForms {
		codec := all[scheme]
		request := codec.Request([]byte("before"), 0x01020304)[len("before"):]
		call, err := rpcframe.Unwrap(form, request)
		if err != nil || call.Message.Seq != 0x01020304 || (form != rpcframe.Framed && call.HeaderSeq != 0x01020304) {
			t.Errorf("%s: request %+v, %v", scheme, call, err)
		}
		for kind, granted := range map[thrift.MessageType]bool{thrift.Reply: true, thrift.Exception: false, thrift.Call: false} {
			b := replyOf(t, form, kind, 0x7fffffff)
			for cut := range b {
				if n, _, _, err := codec.Reply(b[:cut]); n != 0 || err != nil {
					t.Fatalf("%s: %d of %d bytes give %d, %v", scheme, cut, len(b), n, err)
				}
			}
			n, id, ok, err := codec.Reply(append(b, "next"...))
			if n != len(b) || id != 0x7fffffff || ok != granted || err != nil {
				t.Errorf("%s %v: n %d of %d, id %#x, granted %v, %v", scheme, kind, n, len(b), id, ok, err)
			}
		}
	}
}

// FuzzReply: no codec takes more than there is, grants what is not whole, or changes its mind when more
// bytes follow.
func FuzzReply(f *testing.F) {
	all := codecs(f)
	for scheme, form := range thriftForms {
		f.Add(scheme, replyOf(f, form, thrift.Reply, 7))
		f.Add(scheme, []byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	}
	f.Add("tcp", echoCodec{filler(DefaultSize)}.Request(nil, 7))
	f.Add("ttheader", []byte{0, 0, 0, 10, 0x10, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, scheme string, b []byte) {
		codec := all[scheme]
		if codec == nil {
			return
		}
		n, id, ok, err := codec.Reply(b)
		if n < 0 || n > len(b) || (ok && (n == 0 || err != nil)) {
			t.Errorf("%s: n %d of %d, granted %v, %v", scheme, n, len(b), ok, err)
		}
		if n2, id2, ok2, _ := codec.Reply(append(bytes.Clone(b), 0)); n > 0 && (n2 != n || id2 != id || ok2 != ok) {
			t.Errorf("%s: a further byte changes the reply", scheme)
		}
	})
}

// FuzzGRPCWeb: only a trailer of status 0 grants, and no body makes the reader fail.
func FuzzGRPCWeb(f *testing.F) {
	f.Add(200, "", append(lengthPrefixed([]byte("m")), append([]byte{trailerFlag}, lengthPrefixed([]byte("grpc-status: 0\r\n"))[1:]...)...))
	f.Add(200, "0", []byte{})
	f.Add(200, "", []byte{0, 0xff, 0xff, 0xff, 0xff})
	f.Add(503, "0", []byte{})
	f.Fuzz(func(t *testing.T, status int, field string, body []byte) {
		err := grantGRPCWeb(reply{status: status, field: field, body: body})
		if err == nil && (status != 200 || (field == "" && !bytes.Contains(bytes.ToLower(body), []byte("grpc-status")))) {
			t.Errorf("status %d, field %q, body %q is granted", status, field, body)
		}
	})
}
