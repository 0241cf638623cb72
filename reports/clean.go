package reports

import (
	"encoding/hex"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/assay-bench/assay/results"
)

// Everything a target said is hostile. It is made harmless once, where the model is built: no
// control character, no invisible or reordering one, and no string longer than a reader would read.
// What is special to one format (markup, fences, pipes) is escaped by that format.
const (
	maxLine = 1 << 10 // bytes of a name, an id, a command
	maxText = 4 << 10 // bytes of what was expected, observed or decoded
	maxHex  = 1 << 10 // bytes of traffic shown of one piece of evidence
	hexFold = 32      // bytes a line of traffic
)

// several are the fields that may keep their line breaks.
var several = map[string]bool{"Expected": true, "Observed": true, "Decoded": true, "Probe": true}

// scrub returns a deep copy of v in which every string is clean.
func scrub[T any](v T) T {
	return scrubValue(reflect.ValueOf(&v).Elem(), "").Interface().(T)
}

func scrubValue(v reflect.Value, field string) reflect.Value {
	out := reflect.New(v.Type()).Elem()
	out.Set(v)
	switch v.Kind() {
	case reflect.String:
		if field != "Hex" { // checked and cut where it is shown
			out.SetString(clean(v.String(), several[field]))
		}
	case reflect.Pointer:
		if !v.IsNil() {
			out.Set(reflect.New(v.Type().Elem()))
			out.Elem().Set(scrubValue(v.Elem(), field))
		}
	case reflect.Slice:
		if !v.IsNil() && v.Type().Elem().Kind() != reflect.Uint8 {
			out.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
			for i := range v.Len() {
				out.Index(i).Set(scrubValue(v.Index(i), field))
			}
		}
	case reflect.Map:
		if !v.IsNil() {
			out.Set(reflect.MakeMapWithSize(v.Type(), v.Len()))
			for _, k := range v.MapKeys() {
				out.SetMapIndex(scrubValue(k, field), scrubValue(v.MapIndex(k), field))
			}
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			break
		}
		for i := range v.NumField() {
			out.Field(i).Set(scrubValue(v.Field(i), v.Type().Field(i).Name))
		}
	}
	return out
}

// clean writes control, invisible and reordering characters as escapes and cuts what is too long.
func clean(s string, lines bool) string {
	limit := maxLine
	if lines {
		limit = maxText
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		if b.Len() >= limit {
			fmt.Fprintf(&b, "… [cut, %d bytes in all]", len(s))
			break
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case lines && (r == '\n' || r == '\t'):
			b.WriteRune(r)
		case hidden(r):
			b.WriteString(escape(r))
		default:
			b.WriteRune(r)
		}
		i += size
	}
	return b.String()
}

// hidden says that a character can not be seen as itself: controls, format characters such as the
// bidirectional overrides, separators of lines, and code points that are no characters.
func hidden(r rune) bool {
	return unicode.Is(unicode.C, r) || unicode.In(r, unicode.Zl, unicode.Zp) || r&0xfffe == 0xfffe
}

func escape(r rune) string {
	switch {
	case r == '\n':
		return `\n`
	case r == '\r':
		return `\r`
	case r == '\t':
		return `\t`
	case r < 0x100:
		return fmt.Sprintf(`\x%02x`, r)
	}
	return fmt.Sprintf(`\u{%x}`, r)
}

// oneLine joins a cleaned text into one line.
func oneLine(s string) string {
	return strings.NewReplacer("\n", `\n`, "\t", `\t`).Replace(s)
}

// shell quotes an argument for a POSIX shell where it needs it.
func shell(arg string) string {
	plain := func(r rune) bool {
		return r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("-_./:@%+,=*", r))
	}
	if arg != "" && strings.IndexFunc(arg, func(r rune) bool { return !plain(r) }) < 0 && !strings.Contains(arg, "*") {
		return arg
	}
	return "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
}

// transcript writes the traffic of a verdict as text: number, time, direction, bytes and meaning. It
// begins no further piece of evidence beyond room bytes.
func transcript(all []results.Exchange, room int) string {
	var b strings.Builder
	for i, e := range all {
		if b.Len() > room {
			fmt.Fprintf(&b, "… cut, %d further pieces of evidence: see the bundle\n", len(all)-i)
			break
		}
		fmt.Fprintf(&b, "#%d  %s  %s", e.Seq, stamp(e.At), direction(e))
		if e.Len > 0 {
			fmt.Fprintf(&b, "  %d bytes", e.Len)
		}
		b.WriteByte('\n')
		b.WriteString(dump(e.Hex, e.Len))
		for line := range strings.SplitSeq(e.Decoded, "\n") {
			if line != "" {
				b.WriteString("  = " + line + "\n")
			}
		}
	}
	return b.String()
}

func direction(e results.Exchange) string {
	switch e.Kind {
	case results.Sent:
		return "assay -> target"
	case results.Received:
		return "target -> assay"
	}
	return string(e.From) + ": " + string(e.Kind)
}

func stamp(at time.Duration) string {
	return strconv.FormatFloat(at.Seconds(), 'f', 6, 64) + " s"
}

// dump folds hex digits to 32 bytes a line and stops after maxHex bytes.
func dump(digits string, whole int) string {
	if digits == "" {
		return ""
	}
	raw, err := hex.DecodeString(digits[:min(len(digits)&^1, 2*maxHex)])
	if err != nil {
		return "  (the recorded bytes are not hexadecimal)\n"
	}
	var b strings.Builder
	for off := 0; off < len(raw); off += hexFold {
		fmt.Fprintf(&b, "  %04x ", off)
		line := raw[off:min(off+hexFold, len(raw))]
		for i := 0; i < len(line); i += 4 {
			fmt.Fprintf(&b, " %x", line[i:min(i+4, len(line))])
		}
		b.WriteByte('\n')
	}
	if whole = max(whole, len(digits)/2); whole > len(raw) {
		fmt.Fprintf(&b, "  … cut, %d of %d bytes shown: see the bundle\n", len(raw), whole)
	}
	return b.String()
}

// ranges writes evidence numbers as 3, 7-9, at most 24 of them.
func ranges(seqs []uint64) string {
	var parts []string
	for i := 0; i < len(seqs); {
		j := i
		for j+1 < len(seqs) && seqs[j+1] == seqs[j]+1 {
			j++
		}
		if len(parts) == 24 {
			parts = append(parts, fmt.Sprintf("and %d more", len(seqs)-i))
			break
		}
		part := strconv.FormatUint(seqs[i], 10)
		if j > i {
			part += "-" + strconv.FormatUint(seqs[j], 10)
		}
		parts = append(parts, part)
		i = j + 1
	}
	return strings.Join(parts, ", ")
}

// figure prints a number with its unit for people; report.json has it unrounded.
func figure(f results.Figure) string {
	switch f.Unit {
	case "seconds":
		return seconds(f.Value)
	case "":
		return round(f.Value)
	case "ratio":
		return round(f.Value) + " ×"
	}
	return round(f.Value) + " " + f.Unit
}

func seconds(s float64) string {
	switch {
	case s == 0:
		return "0 s"
	case s < 1e-6 && s > -1e-6:
		return round(s*1e9) + " ns"
	case s < 1e-3 && s > -1e-3:
		return round(s*1e6) + " µs"
	case s < 1 && s > -1:
		return round(s*1e3) + " ms"
	}
	return round(s) + " s"
}

// round keeps four significant digits, and all digits of whole numbers.
func round(v float64) string {
	if v == float64(int64(v)) {
		return strconv.FormatInt(int64(v), 10)
	}
	short, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 4, 64), 64)
	return strconv.FormatFloat(short, 'f', -1, 64)
}
