package proto

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
)

// Bounds of data.
const (
	maxDataFile = 64 << 20 // bytes
	maxRows     = 1_000_000
	maxRendered = 256 << 20 // bytes of all requests together
)

// Rows is data for requests: one row a request, by arrival number modulo rows. A template names a column
// as {{name}}.
type Rows struct {
	names []string
	rows  [][]string
}

// Len returns the number of rows.
func (r *Rows) Len() int { return len(r.rows) }

// ReadRows reads data by the extension of its name: .csv with a first line of names (RFC 4180), .jsonl or
// .ndjson with an object a line. A JSON value that is no string is taken as its JSON text.
func ReadRows(name string, from io.Reader) (*Rows, error) {
	raw, err := io.ReadAll(io.LimitReader(from, maxDataFile+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxDataFile {
		return nil, refuse("data %s: more than %d bytes", name, maxDataFile)
	}
	var r *Rows
	switch filepath.Ext(name) {
	case ".csv":
		r, err = readCSV(raw)
	case ".jsonl", ".ndjson":
		r, err = readJSONLines(raw)
	default:
		return nil, refuse("data %s: want a file named .csv, .jsonl or .ndjson", name)
	}
	if err != nil {
		return nil, refuse("data %s: %v", name, err)
	}
	if len(r.rows) == 0 {
		return nil, refuse("data %s: no rows", name)
	}
	return r, nil
}

func readCSV(raw []byte) (*Rows, error) {
	in := csv.NewReader(bytes.NewReader(raw))
	names, err := in.Read()
	if err != nil {
		return nil, fmt.Errorf("line of names: %w", err)
	}
	if err := distinct(names); err != nil {
		return nil, err
	}
	r := &Rows{names: names}
	for {
		row, err := in.Read()
		if errors.Is(err, io.EOF) {
			return r, nil
		}
		if err != nil {
			return nil, err
		}
		if len(r.rows) == maxRows {
			return nil, fmt.Errorf("more than %d rows", maxRows)
		}
		r.rows = append(r.rows, row)
	}
}

func distinct(names []string) error {
	seen := map[string]bool{}
	for _, n := range names {
		if n == "" || seen[n] {
			return fmt.Errorf("column name %.40q is empty or doubled", n)
		}
		seen[n] = true
	}
	return nil
}

func readJSONLines(raw []byte) (*Rows, error) {
	r := &Rows{}
	line := 0
	for text := range bytes.Lines(raw) {
		line++
		if len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		var object map[string]json.RawMessage
		if err := json.Unmarshal(text, &object); err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		if len(r.rows) == maxRows {
			return nil, fmt.Errorf("more than %d rows", maxRows)
		}
		if r.names == nil {
			for name := range object {
				r.names = append(r.names, name)
			}
			slices.Sort(r.names)
		}
		row, err := r.row(object)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		r.rows = append(r.rows, row)
	}
	return r, nil
}

func (r *Rows) row(object map[string]json.RawMessage) ([]string, error) {
	if len(object) != len(r.names) {
		return nil, fmt.Errorf("%d members, the first object has %d", len(object), len(r.names))
	}
	row := make([]string, len(r.names))
	for i, name := range r.names {
		value, ok := object[name]
		if !ok {
			return nil, fmt.Errorf("no member %q", name)
		}
		if json.Unmarshal(value, &row[i]) != nil || string(value) == "null" {
			row[i] = string(value)
		}
	}
	return row, nil
}

// render fills a template with row i, each value as escape writes it; without rows a template is text.
func (r *Rows) render(template string, i int, escape func(string) string) (string, error) {
	if r == nil {
		return template, nil
	}
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(template, "{{")
		out.WriteString(before)
		if !found {
			return out.String(), nil
		}
		name, after, closed := strings.Cut(rest, "}}")
		column := slices.Index(r.names, strings.TrimSpace(name))
		if !closed || column < 0 {
			return "", refuse("placeholder {{%.40s}}: the data has the columns %s", name, strings.Join(r.names, ", "))
		}
		out.WriteString(escape(r.rows[i][column]))
		template = after
	}
}

func verbatim(s string) string { return s }

// message is one request of any protocol, rendered.
type message struct {
	path   string // with the query
	header []Field
	body   []byte
}

// messages renders the requests: one for each row, or one.
func (c Config) messages() ([]message, error) {
	list, size := []message{}, 0
	for i := range c.requests() {
		m, err := c.message(i)
		if err != nil {
			return nil, err
		}
		if size += len(m.path) + len(m.body) + 256; size > maxRendered {
			return nil, refuse("the requests of %d rows take more than %d bytes", c.requests(), maxRendered)
		}
		list = append(list, m)
	}
	return list, nil
}

func (c Config) requests() int {
	if c.Rows == nil {
		return 1
	}
	return c.Rows.Len()
}

func (c Config) message(i int) (m message, err error) {
	if m.path, err = c.target(i); err != nil {
		return m, err
	}
	for _, f := range c.Header {
		value, err := c.Rows.render(f.Value, i, verbatim)
		if err != nil {
			return m, err
		}
		m.header = append(m.header, Field{f.Name, value})
	}
	body, err := c.Rows.render(string(c.Body), i, verbatim)
	m.body = []byte(body)
	return m, err
}

// target renders path and query; url.Parse has escaped the braces of placeholders.
func (c Config) target(i int) (string, error) {
	path, err := url.PathUnescape(c.URL.EscapedPath())
	if err != nil || c.Rows == nil {
		return c.URL.RequestURI(), nil
	}
	path, err = c.Rows.render(path, i, url.PathEscape)
	if err != nil {
		return "", err
	}
	if path == "" {
		path = "/"
	}
	if c.URL.RawQuery == "" {
		return path, nil
	}
	query := strings.NewReplacer("%7B", "{", "%7D", "}", "%7b", "{", "%7d", "}").Replace(c.URL.RawQuery)
	query, err = c.Rows.render(query, i, url.QueryEscape)
	return path + "?" + query, err
}

// filler is a payload of n bytes.
func filler(n int) []byte { return bytes.Repeat([]byte("x"), n) }
