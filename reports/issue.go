package reports

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/assay-bench/assay/results"
)

// issue is the part of a report that can be pasted into an issue as it is: Markdown in which every
// string of the target stands in a code span or a fenced block. traffic bounds the bytes that the
// exchange takes.
func (m *report) issue(r row, traffic int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "**%s** %s", r.Status, code(r.Name))
	if r.Reason != "" {
		fmt.Fprintf(&b, ", reason %s", code(r.Reason))
	}
	b.WriteString("\n\n")
	if r.Known() {
		fmt.Fprintf(&b, "- Known failing: %s\n", code(r.Verdict.Expected))
	}
	const most = 8 // clauses
	for i, q := range r.Rules {
		if i == most {
			fmt.Fprintf(&b, "- and %d further requirements\n", len(r.Rules)-most)
			break
		}
		fmt.Fprintf(&b, "- Requirement: %s (%s, %s), %s: %s\n",
			code(q.ID), prose(q.Level), prose(q.Basis), prose(clause(q)), prose(q.Statement))
	}
	if r.Why.Expected != "" {
		fmt.Fprintf(&b, "- Expected: %s\n", code(r.Why.Expected))
	}
	if r.Why.Observed != "" {
		fmt.Fprintf(&b, "- Observed: %s\n", code(r.Why.Observed))
	}
	fmt.Fprintf(&b, "- Reproduce: %s\n", code(r.Why.Reproduce))
	if len(r.Cites) > 0 {
		fmt.Fprintf(&b, "- Evidence: %s\n", ranges(r.Cites))
	}
	fmt.Fprintf(&b, "- Bundle: %s\n", code(m.Digest))
	fmt.Fprintf(&b, "- Target: %s, assay %s, suite %s\n", code(named(m.Run.Target)), code(m.Run.Tool.Version), code(m.Run.Suite.Version))
	if text := transcript(r.Exchange, traffic); text != "" {
		b.WriteString("\n" + block(text))
	}
	return b.String()
}

// named is the target's name and version.
func named(t results.Target) string { return strings.TrimSpace(t.Name + " " + t.Version) }

// code is a code span with a fence longer than any run of backticks in s.
func code(s string) string {
	s = oneLine(s)
	if strings.TrimSpace(s) == "" {
		return "(none)"
	}
	fence := strings.Repeat("`", longestRun(s)+1)
	if len(fence) > 1 || s[0] == ' ' || s[len(s)-1] == ' ' {
		return fence + " " + s + " " + fence
	}
	return fence + s + fence
}

// block is a fenced block that its content can not end.
func block(s string) string {
	fence := strings.Repeat("`", max(longestRun(s)+1, 3))
	return fence + "text\n" + strings.TrimSuffix(s, "\n") + "\n" + fence + "\n"
}

func longestRun(s string) int {
	longest, run := 0, 0
	for _, r := range s {
		if r == '`' {
			run++
			longest = max(longest, run)
		} else {
			run = 0
		}
	}
	return longest
}

// plainProse is text in which no markup, mention, issue link or address can hide.
var plainProse = regexp.MustCompile(`^[\p{L}\p{N} ,.;:'"()/%=+–—!?×≤≥<-]*$`)

var autolink = regexp.MustCompile(`(?i)://|www\.|\bgh-\d|[0-9a-f]{7}|<[^ ]`)

// prose writes text of the catalogue as it is where that is safe, and as a code span elsewhere.
func prose(s string) string {
	s = oneLine(s)
	if plainProse.MatchString(s) && !autolink.MatchString(s) {
		return strings.ReplaceAll(s, "<", "&lt;")
	}
	return code(s)
}

// cell makes inline Markdown safe inside a table. A pipe behind a backslash can not be escaped in
// all readers alike, so it is written as a number.
func cell(s string) string {
	s = strings.ReplaceAll(s, `\|`, `\\x7c`)
	return strings.ReplaceAll(s, "|", `\|`)
}
