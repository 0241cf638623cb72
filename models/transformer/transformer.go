// Package transformer runs a sentence transformer that is an ONNX file as a text encoder: the word pieces of uncased
// BERT in, the mean of the last hidden states out, projected from 384 to 128 numbers and scaled to length 1. The file
// is not part of the repository and never required; ONNX Runtime executes it, because its operators are more than the
// pure-Go engine has. It trains nothing.
package transformer

import (
	"crypto/sha256"
	_ "embed"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/assay-bench/assay/models/encode"
	"github.com/assay-bench/assay/models/engine"
	"github.com/assay-bench/assay/models/engine/ort"
	"github.com/assay-bench/assay/models/modelfile"
	"github.com/assay-bench/assay/models/onnx"
	"github.com/assay-bench/assay/models/static"
	"github.com/assay-bench/assay/models/text"
)

const (
	// Width is the length of a hidden state.
	Width = 384
	// MaxPieces is the longest text, in word pieces: with [CLS] and [SEP] the 256 that the teacher was trained with. A
	// longer one is refused whole, because a vector of its beginning would be a vector of another text.
	MaxPieces = 254
)

// ErrSignature is wrapped where a graph takes or gives something else than a sentence transformer of BERT's
// vocabulary.
var ErrSignature = errors.New("not a sentence transformer of uncased BERT")

// The ports of the graph, as exporters of Hugging Face's models name them.
var inputs = []string{"input_ids", "attention_mask", "token_type_ids"}

const output = "last_hidden_state"

// Recognise reports whether a file has the inputs and outputs of a sentence transformer. It executes nothing.
func Recognise(file []byte) bool {
	in, out, err := onnx.Ports(file)
	if err != nil || len(out) != 1 || out[0].Name != output || out[0].Type != onnx.Float || len(in) != len(inputs) {
		return false
	}
	for _, p := range in {
		if !slices.Contains(inputs, p.Name) || p.Type != onnx.Int64 || len(p.Dims) != 2 {
			return false
		}
	}
	return len(out[0].Dims) == 3
}

// Model is a sentence transformer. It is safe for concurrent use.
type Model struct {
	identity   encode.Identity
	file       []byte
	library    *ort.Library
	vocabulary *static.Model // its tokenizer is the teacher's, and its rows say which pieces mean something
	begin, end int64
	projection []float32 // Width rows of encode.Dimensions numbers
}

// Open loads a file into ONNX Runtime and tries it. Errors wrap ErrSignature, or are those of the library for a file
// that is damaged.
func Open(file []byte, library *ort.Library) (*Model, error) {
	if !Recognise(file) {
		return nil, fmt.Errorf("%w: want int64 inputs %q of two dimensions and a float output %q of three", ErrSignature, inputs, output)
	}
	words, err := static.Load()
	if err != nil {
		return nil, err
	}
	p, version, err := projection()
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(file)
	m := &Model{
		identity: encode.Identity{Name: "sentence-transformer", Version: "projection " + version, Digest: hex.EncodeToString(sum[:]), Dimensions: encode.Dimensions},
		file:     file, library: library, vocabulary: words, projection: p,
	}
	for piece, id := range map[string]*int64{"[CLS]": &m.begin, "[SEP]": &m.end} {
		found, there := words.Vocabulary().Find(piece)
		if !there {
			return nil, fmt.Errorf("%w: no %s in the vocabulary", text.ErrVocabulary, piece)
		}
		*id = int64(found)
	}
	return m, m.try()
}

// try runs the last piece of the vocabulary, which must be there, and the one after it, which must not: a model of
// another vocabulary would make vectors that mean nothing.
func (m *Model) try() error {
	s, err := m.Open()
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }() // it is not used again
	size := m.vocabulary.Vocabulary().Size()
	if err := s.run([]int64{m.begin, int64(size - 1), m.end}); err != nil {
		return fmt.Errorf("%w: it does not take piece %d of %d: %w", ErrSignature, size-1, size, err)
	}
	if err := s.run([]int64{m.begin, int64(size), m.end}); err == nil {
		return fmt.Errorf("%w: it takes a piece %d, the vocabulary has %d", ErrSignature, size, size)
	}
	return nil
}

// Identity returns name, projection and digest of the model.
func (m *Model) Identity() encode.Identity { return m.identity }

// File returns the bytes of the graph. They are shared: read only.
func (m *Model) File() []byte { return m.file }

// NewSession returns a session of one goroutine; one that can not be opened refuses every text.
func (m *Model) NewSession() encode.Session {
	s, err := m.Open()
	if err != nil {
		return broken{err}
	}
	return s
}

type broken struct{ err error }

func (b broken) Encode([]float32, string) (int, error) { return 0, b.err }

// Session is a transformer for one goroutine. Its tensors lie over memory of its own, which is kept: a run whose
// number of pieces was there before allocates and copies nothing.
type Session struct {
	of      *Model
	session engine.Session
	tokens  *text.WordPiece
	order   [3]int          // of the graph's inputs
	ids     [3][]int64      // input_ids, attention_mask, token_type_ids
	hidden  []float32       // of MaxPieces+2 states
	mean    [Width]float32  // of the states
	in      [3]engine.Value // in the graph's order
	out     [1]engine.Value
}

// Open loads the graph for one goroutine. Close the session.
func (m *Model) Open() (*Session, error) {
	session, err := m.library.NewSession(m.file, ort.Options{})
	if err != nil {
		return nil, err
	}
	s := &Session{of: m, session: session, tokens: text.NewWordPiece(m.vocabulary.Vocabulary(), nil, 0), hidden: make([]float32, (MaxPieces+2)*Width)}
	for i, p := range session.Inputs() {
		s.order[i] = slices.Index(inputs, p.Name) // Recognise has seen them
		s.in[i].Dims = make([]int, 2)
	}
	for i := range s.ids {
		s.ids[i] = make([]int64, MaxPieces+2)
	}
	for i := range s.ids[1] {
		s.ids[1][i] = 1 // every piece counts: nothing is padded
	}
	s.out[0].Dims = make([]int, 3)
	return s, nil
}

// Name returns the executor's name and version.
func (s *Session) Name() string { return s.session.Name() }

// Close frees the session.
func (s *Session) Close() error { return s.session.Close() }

// Encode implements encode.Session. Known are the pieces of the text that mean something in English; a text without
// any never reaches the engine.
func (s *Session) Encode(dst []float32, words string) (known int, err error) {
	if len(dst) != encode.Dimensions {
		return 0, fmt.Errorf("vector of length %d, want %d", len(dst), encode.Dimensions)
	}
	if err := encode.CheckLength(words); err != nil {
		return 0, err
	}
	pieces := s.tokens.Tokens(words)
	for _, id := range pieces {
		if s.of.vocabulary.Row(int(id)) != nil {
			known++
		}
	}
	if known == 0 {
		clear(dst)
		return 0, nil
	}
	if len(pieces) > MaxPieces {
		return 0, fmt.Errorf("%w: %d word pieces, at most %d", encode.ErrTextTooLong, len(pieces), MaxPieces)
	}
	ids := s.ids[0][:len(pieces)+2]
	ids[0], ids[len(ids)-1] = s.of.begin, s.of.end
	for i, id := range pieces {
		ids[i+1] = int64(id)
	}
	if err := s.run(ids); err != nil {
		return 0, err
	}
	return s.project(dst, len(ids), known), nil
}

// run has the engine write the states of the pieces to s.hidden.
func (s *Session) run(ids []int64) error {
	n := len(ids)
	copy(s.ids[0], ids) // of Encode they are there already
	for i, which := range s.order {
		s.in[i].Dims[0], s.in[i].Dims[1], s.in[i].Ints = 1, n, s.ids[which][:n]
	}
	d := s.out[0].Dims
	d[0], d[1], d[2] = 1, n, Width
	s.out[0].Floats = s.hidden[:n*Width]
	return s.session.Run(s.in[:], s.out[:])
}

// project writes the vector of n states: their mean, projected, of length 1. It returns known, or 0 for states that
// have no direction.
func (s *Session) project(dst []float32, n, known int) int {
	clear(s.mean[:])
	for i := range n {
		for j, x := range s.hidden[i*Width:][:Width] {
			s.mean[j] += x
		}
	}
	clear(dst)
	engine.Combine(dst, s.mean[:], s.of.projection)
	if !encode.Normalize(dst) {
		clear(dst)
		return 0
	}
	return known
}

//go:embed projection.model
var embedded []byte

// kind is that of the projection's file.
const kind = "projection"

// projection returns the embedded projection and the first digits of its digest.
var projection = func() func() ([]float32, string, error) {
	type made struct {
		rows    []float32
		version string
	}
	load := sync.OnceValues(func() (made, error) {
		f, err := modelfile.Decode(embedded, kind)
		if err != nil {
			return made{}, err
		}
		b, err := f.Section("rows")
		if err != nil {
			return made{}, err
		}
		if len(b) != 4*Width*encode.Dimensions {
			return made{}, fmt.Errorf("%w: %d bytes of projection", modelfile.ErrFormat, len(b))
		}
		rows := make([]float32, len(b)/4)
		for i := range rows {
			rows[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
		}
		return made{rows, f.Digest[:12]}, nil
	})
	return func() ([]float32, string, error) { m, err := load(); return m.rows, m.version, err }
}()
