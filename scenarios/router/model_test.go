package router

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"testing"
)

func TestModelFileIsTheSameEachTime(t *testing.T) {
	m := ModelFile{Name: "m", Seed: 7}
	if !bytes.Equal(m.Bytes(), m.Bytes()) {
		t.Error("two writings differ")
	}
	others := 0
	for _, other := range []ModelFile{{Name: "m", Seed: 8}, {Name: "n", Seed: 7}, {Name: "m", Seed: 7, Flat: true}, {Name: "m", Seed: 7, Bend: func(s map[string][]byte) { s["rows"][0]++ }}} {
		others++
		if bytes.Equal(m.Bytes(), other.Bytes()) {
			t.Errorf("%+v is the same file", other)
		}
	}
	if others == 0 {
		t.Fatal("no cases")
	}
}

func TestManifestVerifiesUntilItIsAltered(t *testing.T) {
	p := NewPublisher(1)
	raw, err := p.Manifest("m", []byte("file"))
	if err != nil {
		t.Fatal(err)
	}
	altered, err := Altered(raw)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		file []byte
		want bool
	}{"as signed": {raw, true}, "altered": {altered, false}} {
		var e struct {
			PayloadType string
			Payload     []byte
			Signatures  []struct{ Sig []byte }
		}
		if err := json.Unmarshal(c.file, &e); err != nil || len(e.Signatures) != 1 {
			t.Fatalf("%s: %v", name, err)
		}
		signed := fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(e.PayloadType), e.PayloadType, len(e.Payload), e.Payload)
		if got := ed25519.Verify(p.Public(), signed, e.Signatures[0].Sig); got != c.want {
			t.Errorf("%s: verifies %v", name, got)
		}
	}
}

func TestRoutingNamesAnIntentAnUpstream(t *testing.T) {
	addrs := make([]string, len(Intents()))
	for i := range addrs {
		addrs[i] = fmt.Sprintf("127.0.0.1:%d", 9001+i)
	}
	r, err := NewRouting("auto", addrs)
	if err != nil || len(r.Upstreams) != len(addrs) || r.Upstreams[1].URL != "http://127.0.0.1:9002/v1" || r.Fallback != "openai-1" {
		t.Errorf("%v %+v", err, r)
	}
	for _, bad := range [][]string{nil, append(addrs, "127.0.0.1:1")} {
		if _, err := NewRouting("auto", bad); err == nil {
			t.Errorf("%d upstreams are taken", len(bad))
		}
	}
	seen := map[string]bool{}
	for _, in := range Intents() {
		for _, text := range append(in.Examples, in.Unseen...) {
			if seen[text] {
				t.Errorf("%q stands twice", text)
			}
			seen[text] = true
		}
		if len(in.Examples) != 10 || len(in.Unseen) != 4 {
			t.Errorf("%s: %d examples, %d unseen", in.Name, len(in.Examples), len(in.Unseen))
		}
	}
}
