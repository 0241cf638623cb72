package results

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
)

// Secrets never reach the disk (report/bundle/redaction). The patterns work on raw traffic; a value
// that HTTP/2 compresses with Huffman codes is unreadable to them and to a reader of the bundle alike.
// A header's value goes to the end of its line: cookies and Digest credentials hold quotes. A private
// key that was cut off before its end is as secret as a whole one.
var secrets = []*regexp.Regexp{
	regexp.MustCompile(`(?i)("(?:` + secretNames + `)")(\s*:\s*")((?:[^"\\]|\\.)*)`),
	regexp.MustCompile(`(?i)(` + secretNames + `)(\s*[:=]\s*)([^\r\n]+)`),
	regexp.MustCompile(`(?i)(bearer)(\s+)([A-Za-z0-9._~+/=-]{8,})`),
	regexp.MustCompile(`(-----BEGIN [A-Z ]*PRIVATE KEY-----)()([\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\z))`),
}

const secretNames = `(?:proxy-)?authorization|set-cookie|cookie|x-api-key`

var secretMember = regexp.MustCompile(`(?i)^(?:` + secretNames + `)$`)

// hints are what every secret's text contains in lower case. Looking for them first is what keeps
// recording quick: most traffic has none.
var hints = [][]byte{[]byte("authorization"), []byte("cookie"), []byte("x-api-key"), []byte("bearer"), []byte("private key")}

func suspect(b []byte) bool {
	lower := make([]byte, len(b))
	for i, c := range b { // bytes.ToLower is slow on what is no UTF-8
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		lower[i] = c
	}
	for _, h := range hints {
		if bytes.Contains(lower, h) {
			return true
		}
	}
	return false
}

func redactBytes(b []byte) []byte {
	if !suspect(b) {
		return b
	}
	for _, re := range secrets {
		if !re.Match(b) {
			continue
		}
		b = re.ReplaceAllFunc(b, func(m []byte) []byte {
			g := re.FindSubmatch(m)
			if bytes.HasPrefix(g[3], []byte("[redacted")) {
				return m
			}
			out := append([]byte{}, g[1]...)
			out = append(out, g[2]...)
			return append(out, redacted(len(g[3]))...)
		})
	}
	return b
}

func redacted(n int) string { return fmt.Sprintf("[redacted, %d bytes]", n) }

// Redact removes secrets from text that is about to be recorded.
func Redact(s string) string { return string(redactBytes([]byte(s))) }

// redactJSON redacts the strings of a JSON text one by one, so that what a target makes of its quotes
// can not turn the text into something that is no JSON. Every string below a member that is named like
// a secret goes whole.
func redactJSON(raw []byte) []byte {
	out := make([]byte, 0, len(raw))
	depth, hidden := 0, -1 // hidden: depth of the member whose value is secret
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; c {
		case '"':
			end := literalEnd(raw, i)
			text, name := unquote(raw[i:end]), isMember(raw, end)
			switch {
			case name && hidden < 0 && secretMember.MatchString(text):
				hidden = depth
				out = append(out, raw[i:end]...)
			case hidden >= 0 && !name:
				out = append(out, quote(redacted(len(text)))...)
			default:
				out = append(out, redactLiteral(raw[i:end], text)...)
			}
			i = end - 1
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		if depth < hidden || (depth == hidden && raw[i] == ',') {
			hidden = -1
		}
		out = append(out, raw[i])
	}
	return out
}

// redactLiteral leaves a string without secrets as it is, escapes included.
func redactLiteral(literal []byte, text string) []byte {
	if clean := Redact(text); clean != text {
		return quote(clean)
	}
	return literal
}

// literalEnd is where the string that begins at i ends, behind its closing quote.
func literalEnd(raw []byte, i int) int {
	for i++; i < len(raw); i++ {
		switch raw[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(raw)
}

// isMember tells whether the string that ends at i is a member's name.
func isMember(raw []byte, i int) bool {
	rest := bytes.TrimLeft(raw[i:], " \t\r\n")
	return len(rest) > 0 && rest[0] == ':'
}

func unquote(literal []byte) string {
	if len(literal) >= 2 && bytes.IndexByte(literal, '\\') < 0 {
		return string(literal[1 : len(literal)-1])
	}
	var s string
	_ = json.Unmarshal(literal, &s) // what Marshal wrote is a literal
	return s
}

func quote(s string) []byte {
	raw, _ := Marshal(s) // a string can always be written
	return raw
}
