package target

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/agnivade/levenshtein"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds on a target file. The parser takes quadratic time in depth and in fields, so that both are
// counted before it runs.
const (
	maxFileBytes  = 64 << 10
	maxFileTokens = 8 << 10
	maxFileDepth  = 32
	maxProblems   = 20
)

// Tried: yaml.Unmarshal into structs with Strict. Lost: it stops at the first problem, names Go types,
// tells no field path, takes 1.20 for a text and follows aliases.

// document gathers all that is wrong with a file, so that one run tells the user everything.
type document struct {
	name     string
	problems []problem
}

type problem struct {
	line int
	text string
}

// value is a place in the file.
type value struct {
	doc  *document
	node ast.Node
	line int
	path string // start.ready.tcp; empty for the whole file
}

// object is a mapping with a fixed set of fields.
type object struct {
	value
	fields map[string]value
}

// entry is one pair of a mapping whose keys the user chooses.
type entry struct {
	value
	key string
}

func (d *document) fail(line int, path, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if path != "" {
		text = path + ": " + text
	}
	d.problems = append(d.problems, problem{line, text})
}

func (v value) fail(format string, args ...any) { v.doc.fail(v.line, v.path, format, args...) }

// err joins the problems in the order of their lines, one line of text each.
func (d *document) err() error {
	slices.SortStableFunc(d.problems, func(a, b problem) int { return a.line - b.line })
	var errs []error
	for i, p := range d.problems {
		if i == maxProblems {
			errs = append(errs, fmt.Errorf("%s: and %d more", d.name, len(d.problems)-i))
			break
		}
		errs = append(errs, fmt.Errorf("%s:%d: %s", d.name, p.line, oneLine(p.text)))
	}
	return errors.Join(errs...)
}

// oneLine keeps text that quotes the file from breaking a line or driving a terminal.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}

// parse returns the one mapping that the file consists of.
func (d *document) parse(raw []byte) (v value, ok bool) {
	v = value{doc: d, line: 1}
	defer func() {
		if r := recover(); r != nil { // a panic of the parser: hostile input is the user's error, not a crash
			d.fail(1, "", "not readable as YAML")
			ok = false
		}
	}()
	if len(raw) > maxFileBytes {
		d.fail(1, "", "is larger than %d bytes", maxFileBytes)
		return v, false
	}
	tokens := lexer.Tokenize(string(raw))
	if len(tokens) > maxFileTokens {
		d.fail(1, "", "holds more than %d words and signs", maxFileTokens)
		return v, false
	}
	if line := tooDeep(tokens); line > 0 {
		d.fail(line, "", "is nested deeper than %d", maxFileDepth)
		return v, false
	}
	file, err := parser.ParseBytes(raw, 0, parser.AllowDuplicateMapKey()) // told by us, with the field
	if err != nil {
		d.syntax(err)
		return v, false
	}
	var bodies []ast.Node
	for _, doc := range file.Docs {
		if doc.Body != nil {
			bodies = append(bodies, doc.Body)
		}
	}
	switch len(bodies) {
	case 0:
		d.fail(1, "", "is empty: begin with apiVersion: %s and kind: %s", apiVersion, kind)
		return v, false
	case 1:
		v.node = bodies[0]
		return v, true
	default:
		d.fail(lineOf(bodies[1]), "", "holds more than one document: keep one")
		return v, false
	}
}

// tooDeep returns the line where brackets, or sequences within one line, nest too deep; else 0.
// Other nesting needs deeper and deeper indentation, which the size of the file bounds.
func tooDeep(tokens token.Tokens) int {
	brackets, line, entries := 0, 0, 0
	for _, t := range tokens {
		if t.Position.Line != line {
			line, entries = t.Position.Line, 0
		}
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			brackets++
		case token.SequenceEndType, token.MappingEndType:
			brackets--
		case token.SequenceEntryType, token.MappingKeyType, token.AnchorType, token.TagType:
			entries++
		}
		if brackets > maxFileDepth || entries > maxFileDepth {
			return max(line, 1)
		}
	}
	return 0
}

func (d *document) syntax(err error) {
	var y yaml.Error
	if errors.As(err, &y) && y.GetToken() != nil {
		d.fail(y.GetToken().Position.Line, "", "not valid YAML: %s", y.GetMessage())
		return
	}
	first, _, _ := strings.Cut(err.Error(), "\n")
	d.fail(1, "", "not valid YAML: %s", first)
}

func lineOf(n ast.Node) int {
	if n == nil || n.GetToken() == nil {
		return 1
	}
	return max(n.GetToken().Position.Line, 1)
}

// entries returns the pairs of a mapping, in order.
func (v value) entries() []entry {
	var pairs []*ast.MappingValueNode
	switch n := v.node.(type) {
	case *ast.MappingNode:
		pairs = n.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{n}
	default:
		v.mismatch("fields (name: value)")
		return nil
	}
	if len(pairs) == 0 {
		v.fail("is empty: fill it or remove it")
	}
	var out []entry
	first := map[string]int{}
	for _, pair := range pairs {
		line := lineOf(pair.Key)
		key, ok := scalarText(pair.Key)
		if !ok {
			v.doc.fail(line, v.path, "a field's name must be plain text")
			continue
		}
		if before, twice := first[key]; twice {
			v.doc.fail(line, v.child(key), "appears twice: first on line %d, keep one", before)
			continue
		}
		first[key] = line
		out = append(out, entry{value{v.doc, pair.Value, line, v.child(key)}, key})
	}
	return out
}

func (v value) child(key string) string {
	if len(key) > 40 {
		key = strings.ToValidUTF8(key[:40], "") + "…"
	}
	if v.path == "" {
		return key
	}
	return v.path + "." + key
}

// object reads a mapping whose fields are known.
func (v value) object(known ...string) (object, bool) {
	o := object{v, map[string]value{}}
	before := len(v.doc.problems)
	for _, e := range v.entries() {
		if !slices.Contains(known, e.key) {
			e.fail("unknown field%s", suggest(e.key, known))
			continue
		}
		o.fields[e.key] = e.value
	}
	return o, len(o.fields) > 0 || len(v.doc.problems) == before
}

// need reports fields that are missing, each with what to write.
func (o object) need(name, advice string) {
	if _, ok := o.fields[name]; !ok {
		o.doc.fail(o.line, o.child(name), "is missing: %s", advice)
	}
}

func (o object) has(name string) bool { _, ok := o.fields[name]; return ok }

// text returns a field that is text and not empty; the empty string when it is absent or wrong.
func (o object) text(name string) string {
	v, ok := o.fields[name]
	if !ok {
		return ""
	}
	s, _ := v.filled()
	return s
}

// matching is text that a rule accepts; the rule returns what is wrong.
func (o object) matching(name string, rule func(string) string) string {
	s := o.text(name)
	if s == "" {
		return ""
	}
	if wrong := rule(s); wrong != "" {
		o.fields[name].fail("%s", wrong)
		return ""
	}
	return s
}

// choice is text out of a set.
func (o object) choice(name string, options ...string) string {
	return o.matching(name, func(s string) string {
		if slices.Contains(options, s) {
			return ""
		}
		if len(options) == 1 {
			return fmt.Sprintf("%.60q must be %s", s, options[0])
		}
		return fmt.Sprintf("%.60q is none of %s%s", s, strings.Join(options, ", "), suggest(s, options))
	})
}

// text returns a scalar that is text; other scalars have to be put in quotes.
func (v value) text() (string, bool) {
	switch v.node.(type) {
	case *ast.StringNode, *ast.LiteralNode:
		s, _ := scalarText(v.node)
		if strings.ContainsRune(s, 0) {
			v.fail("holds a NUL byte")
			return "", false
		}
		return s, true
	}
	v.mismatch("text")
	return "", false
}

func (v value) filled() (string, bool) {
	s, ok := v.text()
	if ok && s == "" {
		v.fail("is empty: fill it or remove it")
	}
	return s, ok && s != ""
}

// list returns the items of a field that is a sequence.
func (o object) list(name string) []value {
	v, ok := o.fields[name]
	if !ok {
		return nil
	}
	seq, ok := v.node.(*ast.SequenceNode)
	if !ok {
		v.mismatch("a list")
		return nil
	}
	if len(seq.Values) == 0 {
		v.fail("is empty: fill it or remove it")
	}
	var out []value
	for i, n := range seq.Values {
		item := value{v.doc, n, v.line, fmt.Sprintf("%s[%d]", v.path, i)}
		if n != nil && n.GetToken() != nil {
			item.line = lineOf(n)
		}
		out = append(out, item)
	}
	return out
}

// distinct returns the texts of a list in which nothing stands twice and each passes the rule.
func (o object) distinct(name string, rule func(string) string) []string {
	var out []string
	for _, item := range o.list(name) {
		s, ok := item.filled()
		if !ok {
			continue
		}
		if slices.Contains(out, s) {
			item.fail("%.60q stands in the list twice: keep one", s)
			continue
		}
		if wrong := rule(s); wrong != "" {
			item.fail("%s", wrong)
			continue
		}
		out = append(out, s)
	}
	return out
}

// number returns a field in (0, most], or 0.
func (o object) number(name string, most float64) float64 {
	v, ok := o.fields[name]
	if !ok {
		return 0
	}
	var f float64
	switch n := v.node.(type) {
	case *ast.IntegerNode:
		f, _ = strconv.ParseFloat(fmt.Sprint(n.Value), 64)
	case *ast.FloatNode:
		f = n.Value
	default:
		v.mismatch("a number")
		return 0
	}
	if !(f > 0 && f <= most) {
		v.fail("must be above 0 and at most %g", most)
		return 0
	}
	return f
}

// whole returns a field that is a whole number in [1, most], or 0.
func (o object) whole(name string, most int64) int64 {
	v, ok := o.fields[name]
	if !ok {
		return 0
	}
	n, ok := v.node.(*ast.IntegerNode)
	if !ok {
		v.mismatch("a whole number")
		return 0
	}
	i, ok := n.Value.(uint64)
	if !ok || i < 1 || i > uint64(most) {
		v.fail("must be from 1 to %d", most)
		return 0
	}
	return int64(i)
}

// duration returns a field such as 500ms or 1m30s, at least a millisecond and at most an hour, or 0.
func (o object) duration(name string) time.Duration {
	s := o.text(name)
	if s == "" {
		return 0
	}
	v := o.fields[name]
	if !durations.MatchString(s) {
		v.fail("%.40q is not a duration: write one such as 500ms, 10s or 1m30s", s)
		return 0
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < time.Millisecond || d > time.Hour {
		v.fail("%.40q must be from 1ms to 1h", s)
		return 0
	}
	return d
}

// mismatch says what was found in place of what is wanted.
func (v value) mismatch(want string) {
	switch n := v.node.(type) {
	case nil, *ast.NullNode:
		v.fail("has no value: it must be %s", want)
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		what := fmt.Sprintf("%.40s", n.GetToken().Value)
		if want == "text" {
			v.fail("%s is not text: put it in quotes, %q", what, what)
			return
		}
		v.fail("%s is not %s", what, want)
	case *ast.StringNode, *ast.LiteralNode:
		s, _ := scalarText(v.node)
		v.fail("%.40q is not %s", s, want)
	case *ast.SequenceNode:
		v.fail("is a list: it must be %s", want)
	case *ast.MappingNode, *ast.MappingValueNode:
		v.fail("holds fields: it must be %s", want)
	default:
		v.fail("anchors, aliases, merge keys and tags are not read: write the value out")
	}
}

func scalarText(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	}
	return "", false
}

// suggest names the option nearest to a misspelt word, where one is near.
func suggest(word string, options []string) string {
	best, least := "", max(2, len(word)/3)+1
	for _, o := range options {
		if d := levenshtein.ComputeDistance(word[:min(len(word), 64)], o); d < least {
			best, least = o, d
		}
	}
	if best == "" {
		return ": use one of " + strings.Join(options, ", ")
	}
	return fmt.Sprintf(": did you mean %s?", best)
}
