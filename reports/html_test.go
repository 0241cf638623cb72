package reports

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/assay-bench/assay/results"
	"golang.org/x/net/html"
)

// attacks are what a target may call itself.
func attacks() []string {
	return []string{
		`"><script>alert(1)</script>`,
		`</style><img src=x onerror=alert(1)>`,
		`</title></pre></code><iframe src=//evil.example>`,
		`javascript:alert(1)`, `url(http://evil.example)`,
		"\x1b[2J\x1b]0;gone\x07\r\nPASS: all good\x00\u009b31m\u202egnp\xff\xfe",
		"`a` ``b`` | c || @maintainer #1 GH-2 owner/repo#3 https://evil.example www.evil.example <!-- x --> [l](http://e) ![i](http://e)",
		"\\| ` \\\\| @x\n\n# head\n- [ ] #1\n<!-- assay-report -->\n</details>\n```\n@y",
		"]]>&amp;&#x0;\ufffe\uffff\U000e0041",
		strings.Repeat("A@b`|<#1", 1<<13),
	}
}

func TestHTMLLoadsNothing(t *testing.T) {
	seen := 0
	for _, s := range bundles() {
		inspect(t, s.name, render(t, webpage{}, s.bundle()))
		seen++
	}
	for i, a := range attacks() {
		got := render(t, webpage{}, hostile(a))
		inspect(t, fmt.Sprintf("attack %d", i), got)
		if len(got) > 2<<20 {
			t.Errorf("attack %d makes a page of %d bytes", i, len(got))
		}
		seen++
	}
	if seen < 10 {
		t.Fatalf("inspected %d pages only", seen)
	}
}

// inspect fails on everything in a page that could run, load or leave.
func inspect(t *testing.T, name, page string) {
	t.Helper()
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	ids := map[string]bool{}
	var links []string
	csp, seen := false, 0
	for n := range root.Descendants() {
		if n.Type == html.CommentNode {
			t.Errorf("%s: a comment: %q", name, n.Data)
		}
		if n.Type != html.ElementNode {
			continue
		}
		seen++
		switch n.Data {
		case "script", "link", "iframe", "object", "embed", "img", "base", "form", "input", "audio", "video", "source", "foreignobject", "use", "image", "animate", "set":
			t.Errorf("%s: element <%s>", name, n.Data)
		}
		for _, a := range n.Attr {
			switch {
			case strings.HasPrefix(a.Key, "on"):
				t.Errorf("%s: event attribute %s on <%s>", name, a.Key, n.Data)
			case a.Key == "id":
				if ids[a.Val] {
					t.Errorf("%s: id %q twice", name, a.Val)
				}
				ids[a.Val] = true
			case a.Key == "href" && strings.HasPrefix(a.Val, "#"):
				links = append(links, a.Val[1:])
			case a.Key == "http-equiv":
				csp = csp || a.Val == "Content-Security-Policy" && strings.Contains(page, `content="default-src 'none'; style-src 'unsafe-inline'; img-src data:"`)
			case slices.Contains(strings.Fields("href src srcset action formaction data poster background ping cite longdesc manifest xlink:href"), a.Key):
				t.Errorf("%s: <%s %s=%q> refers to something", name, n.Data, a.Key, a.Val)
			case a.Key == "style" && (strings.Contains(a.Val, "url") || strings.Contains(a.Val, "@")):
				t.Errorf("%s: style %q", name, a.Val)
			}
		}
		if n.Data == "style" && n.FirstChild != nil && (strings.Contains(n.FirstChild.Data, "url(") || strings.Contains(n.FirstChild.Data, "@import")) {
			t.Errorf("%s: the style loads something", name)
		}
	}
	if !csp {
		t.Errorf("%s: no content security policy", name)
	}
	for _, l := range links {
		if !ids[l] {
			t.Errorf("%s: link to #%s leads nowhere", name, l)
		}
	}
	if seen < 50 || len(links) < 3 {
		t.Errorf("%s: %d elements and %d links only", name, seen, len(links))
	}
}

// TestTableUnderEachPlot compares the numbers in the page with those for tools.
func TestTableUnderEachPlot(t *testing.T) {
	b := mixed()
	b.Histograms["rpc-meta-binary-header--response.hdr"] = sample(500, 0.2)
	page := render(t, webpage{}, b)
	var doc document
	if err := json.Unmarshal([]byte(render(t, data{}, b)), &doc); err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(page, `<div class="plot">`)[1:]
	if len(blocks) != 2 || len(doc.Estimates) != 2 || strings.Count(page, "<svg") != 2 {
		t.Fatalf("%d plots, %d estimates, %d drawings, want 2 each", len(blocks), len(doc.Estimates), strings.Count(page, "<svg"))
	}
	seen := 0
	for i, block := range blocks {
		if strings.Count(block, "<svg") != 1 || strings.Count(block, "<table") < 1 {
			t.Errorf("plot %d: not one drawing with a table", i)
		}
		for _, c := range doc.Estimates[i].Curves {
			for _, p := range c.Points {
				seen++
				if want := "<td class=\"n\">" + html.EscapeString(seconds(p.Value)) + "</td>"; !strings.Contains(block, want) {
					t.Errorf("plot %d: %s of %s, %s, is not in the table", i, percentile(p.P), c.Kind, seconds(p.Value))
				}
			}
		}
	}
	if seen < 20 {
		t.Errorf("%d numbers only", seen)
	}
}

func TestPlotsOfOddHistograms(t *testing.T) {
	one := sample(1, 0.001)
	flat := sample(1, 0.001)
	zero := sample(0, 1)
	for name, text := range map[string][]byte{"one": one, "flat": flat, "none": zero, "damaged": []byte("%%%"), "few": sample(25, 1e-9), "long": sample(100_000, 100)} {
		b := passing()
		b.Histograms = map[string][]byte{"rpc-latency-p99--echo-500--response.hdr": text, "odd.hdr": text}
		page := render(t, webpage{}, b)
		inspect(t, name, page)
		if name == "damaged" && !strings.Contains(page, "could not be read") {
			t.Error("a damaged histogram is not named")
		}
		if strings.Contains(page, "NaN") || strings.Contains(page, "Inf") {
			t.Errorf("%s: the page has a number that is none", name)
		}
	}
}

func TestManyProblemsAreCut(t *testing.T) {
	page := render(t, webpage{}, many(700))
	if got := strings.Count(page, `class="case"`); got != maxCards {
		t.Errorf("%d cards, want %d", got, maxCards)
	}
	if !strings.Contains(page, "200 further cases not shown here") {
		t.Error("the cut is not stated")
	}
	if got := strings.Count(page, "rpc/many/n0699</code>"); got == 0 {
		t.Error("the last case is in no table")
	}
}

// many is a bundle with n failures.
func many(n int) *results.Bundle {
	b := &results.Bundle{Run: run(), Digest: digest, Verdicts: &results.Verdicts{APIVersion: results.APIVersion}}
	for i := range n {
		given{fmt.Sprintf("rpc/many/n%04d", i), "", "", "rpc", "one of many", "MUST", "standard", "RFC 9113", "3.4", "It holds.",
			results.Verdict{Status: results.Fail, Reason: "broken-rule", Cites: []uint64{1}, Why: results.Why{Expected: "this", Observed: "that"}}}.add(b)
	}
	for i := range 50 {
		given{fmt.Sprintf("rpc/pass/n%04d", i), "", "", "rpc", "passes", "MUST", "standard", "RFC 9113", "3.4", "It holds.",
			results.Verdict{Status: results.Pass, Cites: []uint64{1}}}.add(b)
	}
	return b
}
