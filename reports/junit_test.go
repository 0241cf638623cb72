package reports

import (
	"bytes"
	"encoding/xml"
	"io"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/assay-bench/assay/results"
	"github.com/google/go-cmp/cmp"
)

// tests, failures, errors, skipped
type numbers [4]int

// decoded reads the file as a strict consumer with types: each suite must add up, and so must all.
func decoded(t *testing.T, text string) numbers {
	t.Helper()
	type body struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr"`
	}
	type count struct {
		Tests    int     `xml:"tests,attr"`
		Failures int     `xml:"failures,attr"`
		Errors   int     `xml:"errors,attr"`
		Skipped  int     `xml:"skipped,attr"`
		Time     float64 `xml:"time,attr"`
	}
	var file struct {
		XMLName xml.Name `xml:"testsuites"`
		count
		Suites []struct {
			count
			Cases []struct {
				Name                    string  `xml:"name,attr"`
				Time                    float64 `xml:"time,attr"`
				Failure, Error, Skipped *body
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	raw := strings.NewReplacer("<failure", "<Failure", "</failure", "</Failure", "<error", "<Error", "</error", "</Error", "<skipped", "<Skipped", "</skipped", "</Skipped").Replace(text)
	if err := xml.Unmarshal([]byte(raw), &file); err != nil {
		t.Fatalf("strict decode: %v", err)
	}
	var sum numbers
	var time float64
	for _, s := range file.Suites {
		var own numbers
		own[0] = len(s.Cases)
		var spent float64
		for _, c := range s.Cases {
			spent += c.Time
			switch {
			case c.Failure != nil:
				own[1]++
			case c.Error != nil:
				own[2]++
			case c.Skipped != nil:
				own[3]++
				if c.Skipped.Message == "" {
					t.Errorf("%s is skipped without a message", c.Name)
				}
			}
		}
		if got := (numbers{s.Tests, s.Failures, s.Errors, s.Skipped}); got != own {
			t.Errorf("a suite says %v and has %v", got, own)
		}
		if diff := spent - s.Time; diff > 1e-6 || diff < -1e-6 {
			t.Errorf("a suite says %v s, its cases %v s", s.Time, spent)
		}
		for i := range sum {
			sum[i] += own[i]
		}
		time += s.Time
	}
	if got := (numbers{file.Tests, file.Failures, file.Errors, file.Skipped}); got != sum {
		t.Errorf("the file says %v, its suites %v", got, sum)
	}
	if diff := time - file.Time; diff > 1e-6 || diff < -1e-6 {
		t.Errorf("the file says %v s, its suites %v s", file.Time, time)
	}
	return sum
}

// walked reads the file as a consumer without types: a walk over tokens that believes the elements
// and compares the root's attributes with them.
func walked(t *testing.T, text string) numbers {
	t.Helper()
	dec := xml.NewDecoder(bytes.NewReader([]byte(text)))
	var sum, root numbers
	var path []string
	kinds := map[string]int{"testcase": 0, "failure": 1, "error": 2, "skipped": 3}
	parents := map[string]string{"testsuite": "testsuites", "testcase": "testsuite", "failure": "testcase", "error": "testcase", "skipped": "testcase", "property": "properties"}
	for {
		tok, err := dec.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("walk: %v", err)
		}
		switch e := tok.(type) {
		case xml.StartElement:
			name := e.Name.Local
			if want, ok := parents[name]; ok && (len(path) == 0 || path[len(path)-1] != want) {
				t.Errorf("<%s> stands in %v", name, path)
			}
			if i, ok := kinds[name]; ok {
				sum[i]++
			}
			if name == "testsuites" {
				for _, a := range e.Attr {
					for i, k := range []string{"tests", "failures", "errors", "skipped"} {
						if a.Name.Local == k {
							root[i], err = strconv.Atoi(a.Value)
							if err != nil {
								t.Error(err)
							}
						}
					}
				}
			}
			path = append(path, name)
		case xml.EndElement:
			path = path[:len(path)-1]
		}
	}
	if root != sum {
		t.Errorf("root says %v, a walk finds %v", root, sum)
	}
	return sum
}

func TestJUnitCounts(t *testing.T) {
	broken := passing()
	broken.Verdicts.Verdicts[0].Status, broken.Verdicts.Verdicts[0].Reason = results.Broken, "harness-error"
	for _, c := range []struct {
		name   string
		bundle *results.Bundle
		want   numbers
	}{
		// known failing, house fail, inconclusive and not claimed are skipped
		{"mixed", mixed(), numbers{10, 1, 2, 4}},
		{"empty", empty(), numbers{1, 0, 1, 0}},
		{"killed", killed(), numbers{11, 0, 11, 0}},
		{"passing", passing(), numbers{3, 0, 0, 0}},
		{"broken", broken, numbers{3, 0, 1, 0}},
	} {
		text := render(t, junit{}, c.bundle)
		if diff := cmp.Diff(c.want, decoded(t, text)); diff != "" {
			t.Errorf("%s, strict (-want +got):\n%s", c.name, diff)
		}
		if diff := cmp.Diff(c.want, walked(t, text)); diff != "" {
			t.Errorf("%s, walked (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestJUnitHostile(t *testing.T) {
	want := decoded(t, render(t, junit{}, mixed()))
	seen := 0
	for i, a := range attacks() {
		text := render(t, junit{}, hostile(a))
		if !utf8.ValidString(text) {
			t.Errorf("attack %d: not UTF-8", i)
		}
		if got := decoded(t, text); got != want {
			t.Errorf("attack %d: %v, want %v", i, got, want)
		}
		if got := walked(t, text); got != want {
			t.Errorf("attack %d, walked: %v, want %v", i, got, want)
		}
		seen++
	}
	if seen == 0 {
		t.Fatal("no attack")
	}
}

func TestJUnitFailureExplainsItself(t *testing.T) {
	text := render(t, junit{}, mixed())
	for _, want := range []string{
		`<failure type="goaway-first" message="goaway-first">`,
		"Expected: `a SETTINGS frame as the first frame of the server`",
		"Observed: `GOAWAY, code HTTP_1_1_REQUIRED", "Reproduce: `assay run rpc/wire/settings-first",
		`<error type="harness" message="harness-error">`, `<error type="unproven" message="not-finished">`,
		`<skipped message="not claimed">`, `<skipped message="known failing: fixed in 1.11, ticket 4711">`,
		`<skipped message="inconclusive: fault-not-witnessed: the fault was not witnessed`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing", want)
		}
	}
}
