package results_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/assay-bench/assay/results"
)

// canary is part of every secret below: it must never reach the evidence file.
const canary = "c4n4ry0123456789"

const key = "-----BEGIN EC PRIVATE KEY-----\n" + canary + "\n" + canary + "\n-----END EC PRIVATE KEY-----\n"

func secretTraffic() map[string]string {
	return map[string]string{
		"authorization":       "GET / HTTP/1.1\r\nAuthorization: Basic " + canary + "\r\nHost: x\r\n\r\n",
		"proxy-authorization": "GET / HTTP/1.1\r\nProxy-Authorization: Basic " + canary + "\r\nHost: x\r\n\r\n",
		"digest":              "Host: x\r\nAuthorization: Digest username=\"Mufasa\", response=\"" + canary + "\"\r\n",
		"cookie":              "cookie: a=b; session=" + canary + "\r\nHost: x",
		"quoted cookie":       "Cookie: session=\"" + canary + "\"; x=y\r\nHost: x",
		"set-cookie":          "SET-COOKIE: session=" + canary + "; HttpOnly\nHost: x",
		"api key":             "X-Api-Key=" + canary + "\nHost: x",
		"bearer":              "\x00\x01\x82bearer " + canary + "\x00 Host: x",
		"key":                 "some file:\n" + key + "Host: x",
		"two keys":            key + "Host: x\n" + key,
		"json body":           `{"Host: x":1,"authorization":"` + canary + `\"` + canary + `"}`,
		"key without its end": "Host: x\n-----BEGIN PRIVATE KEY-----\n" + canary,
	}
}

func TestSecretsInTraffic(t *testing.T) {
	for name, text := range secretTraffic() {
		b := results.BytesOf([]byte(text))
		got, whole := b.Whole()
		switch {
		case !whole:
			t.Errorf("%s: %d bytes are not whole", name, b.Len)
		case bytes.Contains(got, []byte(canary)):
			t.Errorf("%s: the secret was recorded: %q", name, got)
		case !bytes.Contains(got, []byte("[redacted, ")):
			t.Errorf("%s: nothing says that something is missing: %q", name, got)
		case !bytes.Contains(got, []byte("Host: x")):
			t.Errorf("%s: what is no secret is gone: %q", name, got)
		}
		if again := results.BytesOf(got); again != b {
			t.Errorf("%s: redacting twice differs: %q", name, got)
		}
	}
}

func TestSecretsInLargeTraffic(t *testing.T) {
	pad := strings.Repeat("\r\nx: y", results.MaxWhole/4)
	b := results.BytesOf([]byte("Authorization: " + canary + pad + "\r\nCookie: " + canary))
	for name, part := range map[string]string{"head": b.Head, "tail": b.Tail} {
		raw, err := hex.DecodeString(part)
		if err != nil || len(raw) == 0 || bytes.Contains(raw, []byte(canary)) {
			t.Errorf("%s: %q, %v", name, raw[:min(len(raw), 64)], err)
		}
	}
}

func TestTrafficWithoutSecretsIsKept(t *testing.T) {
	for _, text := range []string{"", "Bearer", "a cookie jar", "\x00\x01cookies\xff", "-----BEGIN CERTIFICATE-----\nx"} {
		if got, _ := results.BytesOf([]byte(text)).Whole(); string(got) != text {
			t.Errorf("%q was changed to %q", text, got)
		}
	}
}

// nasty is data as a target can bring it into the evidence: secrets beside quotes and escapes.
func nasty() map[string]any {
	out := map[string]any{
		"member":          map[string]any{"Authorization": "Basic " + canary, "kept": 1},
		"members":         map[string]any{"cookie": []string{canary, canary}, "kept": "kept"},
		"nested":          map[string]any{"set-cookie": map[string]any{"a": []any{1, canary, true}}, "kept": []int{1}},
		"number":          map[string]any{"cookie": 1, "kept": nil},
		"quote":           map[string]any{"detail": `authorization: "` + canary + `" "kept`, "kept": `"`},
		"backslash":       map[string]any{"detail": `cookie=` + canary + `\`, "kept": `\\"`},
		"bearer":          []string{"kept", "it said Bearer " + canary},
		"key":             map[string]any{"output": key, "kept": "\n"},
		"key in pieces":   []string{"-----BEGIN PRIVATE KEY-----", "kept", "-----END PRIVATE KEY-----"},
		"named like this": map[string]any{"authorization: kept": "kept"},
		"html":            map[string]any{"x": "<kept> cookie=" + canary},
	}
	for name, text := range secretTraffic() {
		out["traffic as text: "+name] = map[string]string{"detail": text, "kept": "kept"}
	}
	return out
}

func TestSecretsInData(t *testing.T) {
	for name, data := range nasty() {
		var file bytes.Buffer
		rec := results.NewRecorder(&file, &steps{})
		if _, err := rec.Record(keyA, results.FromTarget, results.Exited, data); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if bytes.Contains(file.Bytes(), []byte(canary)) || strings.Contains(string(rec.All()[0].Data), canary) {
			t.Errorf("%s: the secret was recorded: %s", name, file.Bytes())
		}
		all, torn, err := results.ReadEvidence(&file)
		if err != nil || torn || len(all) != 1 {
			t.Errorf("%s: read back %d, torn %t, %v", name, len(all), torn, err)
			continue
		}
		if name != "number" && !strings.Contains(string(all[0].Data), "kept") {
			t.Errorf("%s: what is no secret is gone: %s", name, all[0].Data)
		}
		sameShape(t, name, data, all[0].Data)
	}
}

func TestRedactedDataIsExact(t *testing.T) {
	tests := []struct{ in, want string }{
		{`{"cookie":"abc","a":"b"}`, `{"cookie":"[redacted, 3 bytes]","a":"b"}`},
		{`{"a":{"Cookie":{"b":["x","y"],"c":"z"},"d":"e"},"f":"g"}`, `{"a":{"Cookie":{"b":["[redacted, 1 bytes]","[redacted, 1 bytes]"],"c":"[redacted, 1 bytes]"},"d":"e"},"f":"g"}`},
		{`[{"x-api-key":"k"},"a"]`, `[{"x-api-key":"[redacted, 1 bytes]"},"a"]`},
		{`{"cookie":7,"a":"b"}`, `{"cookie":7,"a":"b"}`},
		{`["cookie","a"]`, `["cookie","a"]`},
		{`{"a":"cookie=\"x\"\r\nb=c"}`, `{"a":"cookie=[redacted, 3 bytes]\r\nb=c"}`},
		{`{"a":"é\\u00e9"}`, `{"a":"é\\u00e9"}`},
	}
	for _, tt := range tests {
		rec := results.NewRecorder(io.Discard, &steps{})
		if _, err := rec.Record(keyA, results.FromTarget, results.Exited, json.RawMessage(tt.in)); err != nil {
			t.Fatal(err)
		}
		if got := string(rec.All()[0].Data); got != tt.want {
			t.Errorf("%s became %s, want %s", tt.in, got, tt.want)
		}
	}
}

// sameShape demands that redaction changed strings only.
func sameShape(t *testing.T, name string, data any, recorded json.RawMessage) {
	t.Helper()
	raw, err := json.Marshal(data)
	if err != nil {
		t.Fatal(err)
	}
	var want, got any
	if err := json.Unmarshal(raw, &want); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(recorded, &got); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if !similar(want, got) {
		t.Errorf("%s: %s became %s", name, raw, recorded)
	}
}

func similar(a, b any) bool {
	switch a := a.(type) {
	case string:
		s, ok := b.(string)
		return ok && (s == a || strings.Contains(s, "[redacted, "))
	case []any:
		l, ok := b.([]any)
		if !ok || len(l) != len(a) {
			return false
		}
		for i := range a {
			if !similar(a[i], l[i]) {
				return false
			}
		}
		return true
	case map[string]any:
		m, ok := b.(map[string]any)
		if !ok || len(m) != len(a) {
			return false
		}
		for k := range a {
			if v, ok := m[k]; ok && !similar(a[k], v) {
				return false
			}
		}
		return true
	}
	return a == b
}

// FuzzRecordedText brings arbitrary text of a target into evidence: it must stay readable.
func FuzzRecordedText(f *testing.F) {
	for _, text := range secretTraffic() {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var file bytes.Buffer
		rec := results.NewRecorder(&file, &steps{})
		data := map[string]any{"detail": text, "cookie": []string{text}, text: text}
		if _, err := rec.Record(keyA, results.FromTarget, results.Exited, data); err != nil {
			t.Fatal(err)
		}
		if all, torn, err := results.ReadEvidence(&file); err != nil || torn || len(all) != 1 {
			t.Fatalf("read back %d, torn %t, %v", len(all), torn, err)
		}
	})
}

// BenchmarkRecord records traffic of the largest size that is kept whole.
func BenchmarkRecord(b *testing.B) {
	for b.Loop() {
		rec := results.NewRecorder(io.Discard, &steps{})
		step := map[string]any{"bytes": results.BytesOf(bytes.Repeat([]byte{0x80, 1, 0, 7}, results.MaxWhole/4))}
		if _, err := rec.Record(keyA, results.FromScenario, results.Received, step); err != nil {
			b.Fatal(err)
		}
	}
}
