package text

import (
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// maxWordRunes is the longest word that BERT's WordPiece takes apart; a longer one is [UNK].
const maxWordRunes = 100

// WordPiece is the tokenizer of uncased BERT (Devlin et al. 2019, with the reference's cleaning rules): control
// characters dropped, Han characters and punctuation set apart, accents stripped (NFD without Mn), lower case,
// then the longest piece first. It is scratch of one goroutine.
type WordPiece struct {
	vocabulary *Vocabulary
	rows       []int32
	sum        accumulator
	tokens     []int32
	count      bool // pieces go to sum, not to tokens
	word       []byte
	runes      int
	pieces     []int32
	folded     [(unicode.MaxRune + 1) / page]*[page]rune // found out when first met
}

// NewWordPiece returns a tokenizer over v. rows[id] is the feature that a piece counts towards in Bag, negative
// for a piece that counts nowhere; features are below n.
func NewWordPiece(v *Vocabulary, rows []int32, n int) *WordPiece {
	return &WordPiece{vocabulary: v, rows: rows, sum: newAccumulator(n)}
}

// Bag returns the features of text with their counts, scaled to norm 1.
func (w *WordPiece) Bag(text string) Bag {
	w.count = true
	w.run(text)
	return w.sum.take()
}

// Tokens returns the ids of the pieces of text in order, without [CLS] and [SEP]. Bytes that are no UTF-8 are
// dropped. The slice is valid until the next call.
func (w *WordPiece) Tokens(text string) []int32 {
	w.count, w.tokens = false, w.tokens[:0]
	w.run(text)
	return w.tokens
}

func (w *WordPiece) run(text string) {
	for i := 0; i < len(text); {
		if c := text[i]; c < utf8.RuneSelf {
			w.ascii(c)
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(text[i:])
		w.wide(r, text[i:i+size])
		i += size
	}
	w.endWord()
}

// ascii takes the next character below 0x80.
func (w *WordPiece) ascii(c byte) {
	switch {
	case 'a' <= c && c <= 'z' || '0' <= c && c <= '9':
		w.word = append(w.word, c)
		w.runes++
	case 'A' <= c && c <= 'Z':
		w.word = append(w.word, c-'A'+'a')
		w.runes++
	case c == ' ' || c == '\t' || c == '\n' || c == '\r':
		w.endWord()
	case c < ' ' || c == 0x7f: // control characters vanish, and do not part words
	default:
		w.endWord()
		w.emit(w.vocabulary.single[c])
	}
}

// page is how many characters are remembered together.
const page = 256

// What a character beyond ASCII becomes, if it is not the one character that it stands for.
const (
	unmet   rune = -iota
	dropped      // control, format, private use, no character at all
	space        // parts words
	alone        // Han and punctuation: a word of its own
	several      // takes more than a look-up
)

// fold looks up what r becomes; s is its encoding.
func (w *WordPiece) fold(r rune, s string) rune {
	p := w.folded[r/page]
	if p == nil {
		p = new([page]rune)
		w.folded[r/page] = p
	}
	if p[r%page] == unmet {
		p[r%page] = foldOf(r, s)
	}
	return p[r%page]
}

// foldOf sorts a character. Unassigned characters are letters, as they are to the reference.
func foldOf(r rune, s string) rune {
	switch {
	case r == utf8.RuneError || unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co):
		return dropped
	case unicode.IsSpace(r):
		return space
	}
	d := norm.NFD.PropertiesString(s).Decomposition()
	switch {
	case d == nil && (isHan(r) || unicode.IsPunct(r)):
		return alone
	case d == nil && unicode.Is(unicode.Mn, r):
		return dropped
	case d == nil && !isSyllable(r):
		return unicode.ToLower(r)
	}
	base, size := utf8.DecodeRune(d)
	mark, last := utf8.DecodeRune(d[size:])
	if size+last == len(d) && unicode.Is(unicode.Mn, mark) && unicode.IsLetter(base) {
		return unicode.ToLower(base)
	}
	return several
}

// wide takes the next character beyond ASCII; s is its encoding.
func (w *WordPiece) wide(r rune, s string) {
	switch f := w.fold(r, s); f {
	case dropped:
	case space:
		w.endWord()
	case alone:
		w.endWord()
		w.word, w.runes = append(w.word, s...), 1
		w.endWord()
	case several:
		w.decompose(r, s)
	default:
		w.word = utf8.AppendRune(w.word, f)
		w.runes++
	}
}

// decompose takes the canonical decomposition of r without its accents, in lower case.
func (w *WordPiece) decompose(r rune, s string) {
	if isSyllable(r) {
		w.hangul(r - firstSyllable)
		return
	}
	han := isHan(r)
	if han {
		w.endWord()
	}
	d := norm.NFD.PropertiesString(s).Decomposition()
	if d == nil {
		w.plain(r)
	}
	for len(d) > 0 {
		part, size := utf8.DecodeRune(d)
		w.plain(part)
		d = d[size:]
	}
	if han {
		w.endWord()
	}
}

const firstSyllable = 0xac00

func isSyllable(r rune) bool { return firstSyllable <= r && r <= 0xd7a3 }

// hangul appends the two or three letters of a syllable (Unicode 3.12).
func (w *WordPiece) hangul(index rune) {
	w.word = utf8.AppendRune(utf8.AppendRune(w.word, 0x1100+index/588), 0x1161+index%588/28)
	w.runes += 2
	if t := index % 28; t != 0 {
		w.word = utf8.AppendRune(w.word, 0x11a7+t)
		w.runes++
	}
}

// plain takes a character that has no decomposition.
func (w *WordPiece) plain(r rune) {
	switch {
	case r < utf8.RuneSelf:
		w.ascii(byte(r))
	case unicode.Is(unicode.Mn, r):
	case unicode.IsPunct(r):
		w.endWord()
		w.word, w.runes = utf8.AppendRune(w.word, r), 1
		w.endWord()
	default:
		w.word = utf8.AppendRune(w.word, unicode.ToLower(r))
		w.runes++
	}
}

// isHan tells the blocks that BERT sets apart.
func isHan(r rune) bool {
	return 0x4e00 <= r && r <= 0x9fff || 0x3400 <= r && r <= 0x4dbf || 0x20000 <= r && r <= 0x2a6df ||
		0x2a700 <= r && r <= 0x2ceaf || 0xf900 <= r && r <= 0xfaff || 0x2f800 <= r && r <= 0x2fa1f
}

// endWord emits the pieces of the word so far, or [UNK] if it has no full split.
func (w *WordPiece) endWord() {
	if len(w.word) == 0 {
		return
	}
	if w.runes > maxWordRunes || !w.split() {
		w.pieces = append(w.pieces[:0], w.vocabulary.unknown)
	}
	for _, id := range w.pieces {
		w.emit(id)
	}
	w.word, w.runes = w.word[:0], 0
}

// split fills pieces with those of the word, the longest first.
func (w *WordPiece) split() bool {
	w.pieces = w.pieces[:0]
	root := int32(rootFirst)
	for rest := w.word; len(rest) > 0; root = rootNext {
		id, length := w.vocabulary.longest(root, rest)
		if length == 0 {
			return false
		}
		w.pieces = append(w.pieces, id)
		rest = rest[length:]
	}
	return true
}

func (w *WordPiece) emit(id int32) {
	if !w.count {
		w.tokens = append(w.tokens, id)
	} else if row := w.rows[id]; row >= 0 {
		w.sum.add(int(row), 1)
	}
}
