package tls

import (
	"encoding/json"
	"testing"

	"github.com/assay-bench/assay/results"
)

// Whatever the lab answers to a dial becomes an answer that can be recorded and read back.
func FuzzParseAnswer(f *testing.F) {
	for _, s := range []string{"", "{}", `{"connected":true}`, `{"connected":false,"error":{"code":"alert","text":"x"}}`, `{"connected":true,"received":"\ud800"}`, `[`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		a := parseAnswer(body)
		if a.Broken == "" && a.Connected == (a.Error.Code != "") {
			t.Errorf("%q = %+v", body, a)
		}
		raw, err := results.Marshal(a)
		if err != nil || len(raw) > 1<<20 {
			t.Fatalf("%d bytes, %v", len(raw), err)
		}
		var back DialAnswer
		if err := json.Unmarshal(raw, &back); err != nil || back != a {
			t.Errorf("%+v was read back as %+v, %v", a, back, err)
		}
		if answer := recordable(body); answer != nil && !json.Valid(answer) {
			t.Errorf("%q is recorded as %q", body, answer)
		}
	})
}
