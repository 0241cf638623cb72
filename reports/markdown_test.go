package reports

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/assay-bench/assay/results"
)

func TestMarkdownLimit(t *testing.T) {
	got := render(t, markdown{}, many(5000))
	if len(got) > maxMarkdown {
		t.Errorf("%d bytes, want at most %d", len(got), maxMarkdown)
	}
	first, _, _ := strings.Cut(got, "\n")
	if !strings.HasPrefix(first, "**assay: fail.** 5000 of 5050 executed checks failed.") {
		t.Errorf("first line is %q", first)
	}
	cut := regexp.MustCompile(`Cut: (\d+) of 5000 rows that need attention are not shown`).FindStringSubmatch(got)
	if cut == nil {
		t.Fatal("the cut is not stated")
	}
	missing := 0
	for i := range 5000 {
		if !strings.Contains(got, fmt.Sprintf("rpc/many/n%04d", i)) {
			missing++
		}
	}
	if fmt.Sprint(missing) != cut[1] {
		t.Errorf("%d rows are missing, the text says %s", missing, cut[1])
	}
	if !strings.Contains(got, "assay judge DIR") || !strings.Contains(got, "<!-- assay-report ") {
		t.Error("the end was cut")
	}
}

func TestMarkdownCutsPassesFirst(t *testing.T) {
	got := render(t, markdown{}, many(1000))
	if len(got) > maxMarkdown {
		t.Errorf("%d bytes", len(got))
	}
	b := many(3)
	for i := range 3000 {
		r := rows()[3]
		r.check = fmt.Sprintf("rpc/pass/more-%04d", i)
		r.add(b)
	}
	got = render(t, markdown{}, b)
	if len(got) > maxMarkdown {
		t.Errorf("%d bytes", len(got))
	}
	if strings.Count(got, "Ready to paste into an issue") != 3 {
		t.Error("failures were cut before passes")
	}
	if !regexp.MustCompile(`cut: \d+ of 3050 lines not shown`).MatchString(got) {
		t.Error("the cut of passes is not stated")
	}
}

func TestMarkdownEscapes(t *testing.T) {
	seen := 0
	var all []*results.Bundle
	for _, a := range attacks() {
		all = append(all, hostile(a), hostileLoad(a))
	}
	for i, b := range all {
		got := render(t, markdown{}, b)
		seen++
		if len(got) > maxMarkdown {
			t.Errorf("attack %d: %d bytes", i, len(got))
		}
		outside := withoutCode(t, got)
		for _, bad := range []string{`@`, `#\d`, `GH-`, `http`, `www\.`, `<img`, `<script`, `\[`, "`"} {
			if at := regexp.MustCompile(bad).FindStringIndex(outside); at != nil {
				t.Errorf("attack %d: %q outside of code: %q", i, bad, outside[max(0, at[0]-60):min(len(outside), at[0]+60)])
			}
		}
		if n := strings.Count(outside, "<!--"); n != 1 {
			t.Errorf("attack %d: %d comments, want the marker alone", i, n)
		}
		tags := regexp.MustCompile(`</?[a-z]+>`).FindAllString(outside, -1)
		for _, tag := range tags {
			if !strings.Contains("<details></details><summary></summary>", tag) {
				t.Errorf("attack %d: tag %s", i, tag)
			}
		}
		if strings.Count(outside, "<details>") != strings.Count(outside, "</details>") {
			t.Errorf("attack %d: details do not pair up", i)
		}
	}
	if seen == 0 {
		t.Fatal("no attack")
	}
}

// withoutCode drops fenced blocks and code spans as CommonMark reads them, and checks that each row
// of a table has as many cells as its head.
func withoutCode(t *testing.T, text string) string {
	t.Helper()
	var out strings.Builder
	fence := ""
	cells, tables := 0, 0
	for line := range strings.SplitSeq(text, "\n") {
		run := line[:len(line)-len(strings.TrimLeft(line, "`"))]
		switch {
		case fence != "":
			if strings.TrimRight(line, " ") == run && len(run) >= len(fence) {
				fence = ""
			}
			continue
		case len(run) >= 3 && !strings.Contains(line[len(run):], "`"):
			fence = run
			continue
		}
		if strings.HasPrefix(line, "|") {
			n := len(regexp.MustCompile(`(^|[^\\])\|`).FindAllString(line, -1))
			if cells == 0 {
				cells, tables = n, tables+1
			} else if n != cells {
				t.Errorf("a row of %d cells in a table of %d: %.300s", n, cells, line)
			}
		} else {
			cells = 0
		}
		out.WriteString(withoutSpans(line) + "\n")
	}
	if fence != "" {
		t.Error("a fenced block does not end")
	}
	if tables == 0 {
		t.Error("no table")
	}
	return out.String()
}

func withoutSpans(line string) string {
	runs := regexp.MustCompile("`+").FindAllStringIndex(line, -1)
	var out strings.Builder
	at := 0
	for i := 0; i < len(runs); i++ {
		for j := i + 1; j < len(runs); j++ {
			if runs[j][1]-runs[j][0] == runs[i][1]-runs[i][0] {
				out.WriteString(line[at:runs[i][0]])
				at, i = runs[j][1], j
				break
			}
		}
	}
	out.WriteString(line[at:])
	return out.String()
}

func TestCodeSpan(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"a", "`a`"}, {"a`b", "`` a`b ``"}, {"``", "``` `` ```"}, {"", "(none)"}, {" x", "`  x `"}, {"a\nb", "`a\\nb`"},
	} {
		if got := code(c.in); got != c.want {
			t.Errorf("code(%q) = %q, want %q", c.in, got, c.want)
		}
	}
	for _, c := range []struct{ in, want string }{
		{"a|b", `a\|b`}, {`a\|b`, `a\\x7cb`},
	} {
		if got := cell(c.in); got != c.want {
			t.Errorf("cell(%q) = %q, want %q", c.in, got, c.want)
		}
	}
}

func FuzzCodeSpan(f *testing.F) {
	for _, s := range []string{"a`b", "``|@x", "\\|`", " \n```", "#1 <!--"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		line := "x " + code(clean(s, true)) + " y"
		if got := strings.TrimSpace(withoutSpans(line)); got != "x  y" && !strings.Contains(line, "(none)") {
			t.Errorf("%q leaves %q outside of its span", s, got)
		}
		if strings.Contains(line, "\n") {
			t.Errorf("%q breaks the line", s)
		}
	})
}
