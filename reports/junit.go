package reports

import (
	"encoding/xml"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/assay-bench/assay/results"
)

// junit writes the subset of JUnit XML that every CI reads: one suite an area, house rules apart,
// one case a verdict. A failure that does not count towards the exit code is skipped with its
// reason, because a CI turns red on any failure.
type junit struct{}

var _ = add(junit{})

func (junit) Name() string { return "junit" }
func (junit) File() string { return "junit.xml" }

type testSuites struct {
	XMLName xml.Name `xml:"testsuites"`
	Name    string   `xml:"name,attr"`
	sums
	Suites []testSuite `xml:"testsuite"`
}

type testSuite struct {
	Name string `xml:"name,attr"`
	sums
	Stamp      string     `xml:"timestamp,attr"`
	Properties []property `xml:"properties>property"`
	Cases      []testCase `xml:"testcase"`
}

type sums struct {
	Tests    int    `xml:"tests,attr"`
	Failures int    `xml:"failures,attr"`
	Errors   int    `xml:"errors,attr"`
	Skipped  int    `xml:"skipped,attr"`
	Time     millis `xml:"time,attr"`
}

// millis is a time in whole milliseconds, printed in seconds, so that sums add up to the digit.
type millis int64

func (m millis) MarshalXMLAttr(name xml.Name) (xml.Attr, error) {
	return xml.Attr{Name: name, Value: fmt.Sprintf("%d.%03d", m/1000, m%1000)}, nil
}

type property struct {
	Name  string `xml:"name,attr"`
	Value string `xml:"value,attr"`
}

type testCase struct {
	Name       string     `xml:"name,attr"`
	Class      string     `xml:"classname,attr"`
	Time       millis     `xml:"time,attr"`
	Properties []property `xml:"properties>property,omitempty"`
	Failure    *finding   `xml:"failure"`
	Error      *finding   `xml:"error"`
	Skipped    *finding   `xml:"skipped"`
}

type finding struct {
	Type    string `xml:"type,attr,omitempty"`
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

func (junit) Write(w io.Writer, b *results.Bundle) error {
	m := build(b)
	driven := spans(b.Evidence)
	all := testSuites{Name: "assay: " + m.Outcome.Word}
	for _, a := range m.areas() {
		for _, standard := range []bool{true, false} {
			rows := m.rows(func(r row) bool { return r.Area == a && r.Standard == standard })
			if len(rows) == 0 {
				continue
			}
			s := m.suite(a)
			if !standard {
				s.Name += " (house rules)"
			}
			for _, r := range rows {
				s.add(m.testCase(s.Name, r, driven[r.Key]))
			}
			all.add(s)
		}
	}
	if m.Tally.Executed == 0 { // no CI may take an empty file for a success
		s := m.suite("assay")
		s.add(testCase{Name: "run", Class: "assay", Error: &finding{Type: "harness", Message: m.Outcome.Sentence}})
		all.add(s)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	enc := xml.NewEncoder(w)
	enc.Indent("", "  ")
	if err := enc.Encode(all); err != nil {
		return fmt.Errorf("junit.xml: %w", err)
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func (m *report) suite(name string) testSuite {
	s := testSuite{Name: name, Stamp: m.Run.Started.UTC().Format("2006-01-02T15:04:05")}
	s.Properties = []property{
		{"bundle", m.Digest}, {"plan", m.Plan()}, {"target", named(m.Run.Target)},
		{"suite", m.Run.Suite.Version}, {"suiteDigest", m.Run.Suite.Digest},
	}
	if len(m.Run.Target.Defects) > 0 {
		s.Properties = append(s.Properties, property{"certifiable", "false: " + uncertifiable})
	}
	return s
}

func (s *testSuite) add(c testCase) {
	s.Cases = append(s.Cases, c)
	s.Tests++
	s.Time += c.Time
	switch {
	case c.Failure != nil:
		s.Failures++
	case c.Error != nil:
		s.Errors++
	case c.Skipped != nil:
		s.Skipped++
	}
}

func (t *testSuites) add(s testSuite) {
	t.Suites = append(t.Suites, s)
	t.Tests += s.Tests
	t.Failures += s.Failures
	t.Errors += s.Errors
	t.Skipped += s.Skipped
	t.Time += s.Time
}

func (m *report) testCase(suite string, r row, driven time.Duration) testCase {
	c := testCase{Name: r.Name, Class: "assay." + suite, Time: millis(driven.Milliseconds())}
	c.Properties = []property{{"status", r.Status.String()}, {"level", r.Level()}, {"basis", r.Basis()}}
	for _, q := range r.Rules {
		c.Properties = append(c.Properties, property{"requirement", q.ID + ", " + clause(q)})
	}
	if len(r.Cites) > 0 {
		c.Properties = append(c.Properties, property{"evidence", ranges(r.Cites)})
	}
	for _, f := range r.Figures {
		c.Properties = append(c.Properties, property{f.Name, strconv.FormatFloat(f.Value, 'g', -1, 64) + unit(f.Unit)})
	}
	why := &finding{Message: r.Reason, Text: ""}
	switch {
	case r.Red():
		c.Failure = why
		c.Failure.Type, c.Failure.Text = r.Reason, m.issue(r, 16<<10)
	case r.Known():
		c.Skipped = why
		why.Message = "known failing: " + oneLine(r.Verdict.Expected)
		c.Properties = append(c.Properties, property{"knownFailing", oneLine(r.Verdict.Expected)})
	case r.Status == results.Fail:
		c.Skipped = why
		why.Message = "house rule, does not count: " + r.Reason
	case r.Status == results.Broken:
		c.Error = why
		why.Type, why.Text = "harness", m.issue(r, 16<<10)
	case r.Status == results.Unproven:
		c.Error = why
		why.Type = "unproven"
	case r.Status == results.Inconclusive:
		c.Skipped = why
		why.Message = "inconclusive: " + r.Reason
		if r.Why.Observed != "" {
			why.Message += ": " + oneLine(r.Why.Observed)
		}
	case r.Status == results.NotClaimed:
		c.Skipped = why
		why.Message = "not claimed"
	case r.Status != results.Pass: // a status of a later version is no success
		c.Error = why
		why.Type = "unproven"
	}
	return c
}

func unit(u string) string {
	if u == "" {
		return ""
	}
	return " " + u
}
