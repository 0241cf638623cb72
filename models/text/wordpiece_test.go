package text_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/assay-bench/assay/models/static"
	"github.com/assay-bench/assay/models/text"
)

// bert returns the vocabulary of uncased BERT, which the static model carries.
func bert(t testing.TB) *text.Vocabulary {
	t.Helper()
	m, err := static.Load()
	if err != nil {
		t.Fatal(err)
	}
	return m.Vocabulary()
}

// TestTokensAreThoseOfTheReference compares with what tokenizers 0.23.3 (PyPI, Apache-2.0) made of the same texts
// with the tokenizer.json of the teacher, special tokens taken as text.
func TestTokensAreThoseOfTheReference(t *testing.T) {
	f, err := os.Open("testdata/wordpiece.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	v := bert(t)
	w, seen := text.NewWordPiece(v, make([]int32, v.Size()), 1), 0
	for lines := bufio.NewScanner(f); lines.Scan(); seen++ {
		var c struct {
			Text string
			IDs  []int32
		}
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		if got := w.Tokens(c.Text); !slices.Equal(got, c.IDs) {
			t.Errorf("%q: %v, want %v", c.Text, got, c.IDs)
		}
	}
	if seen < 400 {
		t.Errorf("%d texts, want 400 at least", seen)
	}
}

func TestVocabularyRefuses(t *testing.T) {
	for name, pieces := range map[string][]string{
		"nothing":        nil,
		"no unknown":     {"a", "##b"},
		"an empty piece": {"[UNK]", ""},
		"a double piece": {"[UNK]", "a", "##a", "a"},
	} {
		if _, err := text.NewVocabulary(pieces); !errors.Is(err, text.ErrVocabulary) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWordPieceCounts(t *testing.T) {
	v, err := text.NewVocabulary([]string{"[UNK]", "un", "##aff", "##able", "un##", "!"})
	if err != nil {
		t.Fatal(err)
	}
	w := text.NewWordPiece(v, []int32{-1, 2, 1, 0, 3, -1}, 4)
	b := w.Bag("Unaffable! unable unx")
	if !slices.Equal(b.IDs, []int64{0, 1, 2}) || b.Weights[0] != b.Weights[2] || b.Weights[1] >= b.Weights[0] {
		t.Errorf("%v", b)
	}
	if b := w.Bag("!!! x"); len(b.IDs) != 0 {
		t.Errorf("%v", b)
	}
}

func FuzzWordPiece(f *testing.F) {
	for _, s := range []string{"", "Where's my order?", "\xff\x00é\u0301", "我的 parcel 각", strings.Repeat("ab", 70)} {
		f.Add(s)
	}
	v := bert(f)
	rows := make([]int32, v.Size())
	for i := range rows {
		rows[i] = int32(i%300) - 1
	}
	w, fresh := text.NewWordPiece(v, rows, 299), text.NewWordPiece(v, rows, 299)
	f.Fuzz(func(t *testing.T, s string) {
		checkBag(t, w.Bag(s), 299)
		tokens := slices.Clone(w.Tokens(s))
		if again := fresh.Tokens(s); !slices.Equal(tokens, again) {
			t.Errorf("%q: %v and %v", s, tokens, again)
		}
		for _, id := range tokens {
			if id < 0 || int(id) >= v.Size() {
				t.Fatalf("%q: token %d", s, id)
			}
		}
	})
}

// BenchmarkLongText shows that the slowest kinds of text stay linear: compare the lines by their MB/s.
func BenchmarkLongText(b *testing.B) {
	v := bert(b)
	w := text.NewWordPiece(v, make([]int32, v.Size()), 1)
	h := text.NewHashed(16384, nil)
	for name, s := range map[string]string{
		"words": "the quick brown fox ", "one word": "a", "pieces": "qzxj vwkq ", "punctuation": "!", "han": "你", "hangul": "각",
		"accents": "é", "beyond the basic plane": "𝒜", "no utf-8": "\xff",
	} {
		long := strings.Repeat(s, 1<<20/len(s))
		b.Run("wordpiece "+name, func(b *testing.B) {
			b.SetBytes(int64(len(long)))
			for b.Loop() {
				w.Bag(long)
			}
		})
		b.Run("hashed "+name, func(b *testing.B) {
			b.SetBytes(int64(len(long)))
			for b.Loop() {
				h.Bag(long)
			}
		})
	}
}
