package duet

import (
	"strings"
	"testing"
)

func TestParseImage(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4)
	name, got, err := parseImage([]byte(`[{"Id":"sha256:`+id+`","RepoDigests":["r/x@sha256:1"]}]`), "x:1")
	if err != nil || got != id || name != "r/x@sha256:1" {
		t.Errorf("%q, %q, %v", name, got, err)
	}
	for _, bad := range []string{"", "[]", "{}", `[{"Id":"latest"}]`, `[{"Id":"sha256:00"}]`, `[{},{}]`} {
		if _, _, err := parseImage([]byte(bad), "x:1"); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func FuzzParseImage(f *testing.F) {
	f.Add([]byte(`[{"Id":"sha256:0123","RepoDigests":[]}]`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if _, id, err := parseImage(raw, "x:1"); err == nil && !imageID.MatchString("sha256:"+id) {
			t.Errorf("%q is read as %q", raw, id)
		}
	})
}

func TestWordsThatAreImages(t *testing.T) {
	for word, want := range map[string]bool{
		"service:1.4": true, "registry:5000/team/service:1.4": true, "service@sha256:00": true,
		"merge-base:origin/main": false, "last-release": false, "v1.2.3": false, ".": false, "HEAD~2": false,
	} {
		if isImage(word) != want {
			t.Errorf("%s: %v", word, !want)
		}
	}
}
