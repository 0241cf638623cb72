// Package ngram trains the text tower that learns from labelled requests: an embedding bag of hashed n-grams and of
// the static model's word pieces, and a prototype row a class. Training is plain Go on one thread and the same seed
// gives the same bytes on the same architecture. The package reads no data sets and chooses no thresholds.
package ngram

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/assay-bench/assay/models/encode"
	"github.com/assay-bench/assay/models/modelfile"
	"github.com/assay-bench/assay/models/static"
	"github.com/assay-bench/assay/models/text"
)

const (
	kind    = "ngram"
	name    = "assay-ngram"
	version = "1"
	scheme  = "fnv1a64 u,b,c3-5" // how features are made and hashed
)

// ErrTraining is wrapped by the errors of Train for data that cannot be learned from.
var ErrTraining = errors.New("cannot train")

// None is the class of a request that belongs to no class: training keeps it away from all of them alike.
const None = -1

// Example is a request and the index of its class, or None.
type Example struct {
	Text  string
	Class int
}

// Model is a trained tower. It is immutable and an encode.Bagged.
type Model struct {
	identity   encode.Identity
	Classes    []string
	prototypes []float32
	features   features
	table      []float32
	config     Config
}

// features is how a model turns texts into bags: rows below buckets are n-grams, the others word pieces.
type features struct {
	buckets int
	known   *known
	pieces  *static.Model // nil: n-grams only
	rowOf   []int32       // by token of pieces, -1: not seen in training
	tokens  []int32       // the tokens that have a row, ascending
	share   float32       // of the squared norm that word pieces take
}

// newFeatures learns which features there are.
func newFeatures(examples []Example, c Config) (features, error) {
	f := features{buckets: c.Buckets, known: count(examples), share: c.Pieces}
	if c.Pieces == 0 {
		return f, nil
	}
	m, err := static.Load()
	if err != nil {
		return f, err
	}
	f.pieces = m
	seen := make([]bool, m.Vocabulary().Size())
	all := make([]int32, len(seen))
	w := text.NewWordPiece(m.Vocabulary(), all, 1)
	for _, x := range examples {
		for _, token := range w.Tokens(x.Text) {
			seen[token] = true
		}
	}
	for token, s := range seen {
		if s && m.Row(token) != nil {
			f.tokens = append(f.tokens, int32(token))
		}
	}
	f.indexTokens()
	return f, nil
}

func (f *features) indexTokens() {
	f.rowOf = slices.Repeat([]int32{-1}, f.pieces.Vocabulary().Size())
	for row, token := range f.tokens {
		f.rowOf[token] = int32(row)
	}
}

func (f *features) rows() int { return f.buckets + len(f.tokens) }

// bagger makes bags of both kinds of features. Scratch of one goroutine.
type bagger struct {
	grams  *text.Hashed
	pieces *text.WordPiece
	f      *features
	bag    text.Bag
}

func (f *features) bagger() *bagger {
	b := &bagger{grams: text.NewHashed(f.buckets, f.known), f: f}
	if f.pieces != nil {
		b.pieces = text.NewWordPiece(f.pieces.Vocabulary(), f.rowOf, len(f.tokens))
	}
	return b
}

// Bag returns the n-grams of s, then its word pieces, with norm 1 if there are both.
func (b *bagger) Bag(s string) text.Bag {
	grams := b.grams.Bag(s)
	if b.pieces == nil {
		return grams
	}
	b.bag.IDs, b.bag.Weights = b.bag.IDs[:0], b.bag.Weights[:0]
	b.append(grams, 0, float32(math.Sqrt(float64(1-b.f.share))))
	b.append(b.pieces.Bag(s), int64(b.f.buckets), float32(math.Sqrt(float64(b.f.share))))
	return b.bag
}

func (b *bagger) append(part text.Bag, offset int64, weight float32) {
	for i, id := range part.IDs {
		b.bag.IDs = append(b.bag.IDs, id+offset)
		b.bag.Weights = append(b.bag.Weights, part.Weights[i]*weight)
	}
}

// Identity returns name, version and digest of the model's file.
func (m *Model) Identity() encode.Identity { return m.identity }

// Table returns the rows, encode.Dimensions numbers each. It is shared: read only.
func (m *Model) Table() []float32 { return m.table }

// NewSession returns the scratch of one goroutine.
func (m *Model) NewSession() encode.Session { return encode.NewBagSession(m) }

// NewFeatures returns a featurizer; what training did not see counts nowhere.
func (m *Model) NewFeatures() encode.Features { return encode.Limit(m.features.bagger()) }

// Prototypes returns the row of each class, of norm 1. They are shared: read only.
func (m *Model) Prototypes() [][]float32 {
	rows := make([][]float32, len(m.Classes))
	for i := range rows {
		rows[i] = m.prototypes[i*encode.Dimensions:][:encode.Dimensions:encode.Dimensions]
	}
	return rows
}

// Config returns what the model was trained with.
func (m *Model) Config() Config { return m.config }

// File returns the model as the bytes of a model file.
func (m *Model) File() ([]byte, error) {
	f := &m.features
	meta := modelfile.Meta{Kind: kind, Name: name, Version: version, Attributes: map[string]string{
		"features": scheme, "buckets": strconv.Itoa(f.buckets), "pieces": strconv.FormatFloat(float64(f.share), 'g', -1, 32),
		"config": m.config.String(),
	}}
	if f.pieces != nil {
		meta.Attributes["static"] = f.pieces.Identity().Digest
	}
	var tokens []byte
	for _, t := range f.tokens {
		tokens = binary.LittleEndian.AppendUint32(tokens, uint32(t))
	}
	return modelfile.Encode(meta, append(f.known.sections(),
		modelfile.Section{Name: "tokens", Bytes: tokens},
		modelfile.Section{Name: "table", Bytes: floats(m.table)},
		modelfile.Section{Name: "classes", Bytes: []byte(strings.Join(m.Classes, "\n"))},
		modelfile.Section{Name: "prototypes", Bytes: floats(m.prototypes)}))
}

func floats(xs []float32) []byte {
	b := make([]byte, 0, 4*len(xs))
	for _, x := range xs {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b
}

// Decode reads a model file. Errors wrap modelfile.ErrFormat or modelfile.ErrMismatch; a model that was trained over
// another static model than the embedded one is refused with the latter.
func Decode(b []byte) (*Model, error) {
	file, err := modelfile.Decode(b, kind)
	if err != nil {
		return nil, err
	}
	part := map[string][]byte{}
	for _, name := range []string{"hashes", "idf", "tokens", "table", "classes", "prototypes"} {
		if part[name], err = file.Section(name); err != nil {
			return nil, err
		}
	}
	m := &Model{
		identity: encode.Identity{Name: file.Name, Version: file.Version, Digest: file.Digest, Dimensions: encode.Dimensions},
		Classes:  strings.Split(string(part["classes"]), "\n"),
	}
	if err := json.Unmarshal([]byte(file.Attributes["config"]), &m.config); err != nil {
		return nil, fmt.Errorf("%w: config: %w", modelfile.ErrFormat, err)
	}
	if err := m.features.decode(file, part); err != nil {
		return nil, err
	}
	if m.table, err = decodeFloats("table", part["table"], m.features.rows()); err != nil {
		return nil, err
	}
	m.prototypes, err = decodeFloats("prototypes", part["prototypes"], len(m.Classes))
	return m, err
}

func (f *features) decode(file *modelfile.File, part map[string][]byte) (err error) {
	if got := file.Attributes["features"]; got != scheme {
		return fmt.Errorf("%w: features %q, want %q", modelfile.ErrFormat, got, scheme)
	}
	f.buckets, err = strconv.Atoi(file.Attributes["buckets"])
	share, err2 := strconv.ParseFloat(file.Attributes["pieces"], 32)
	if err := errors.Join(err, err2); err != nil || f.buckets < 1 || f.buckets > maxBuckets || !(share >= 0 && share < 1) {
		return fmt.Errorf("%w: %q buckets, share %q of pieces", modelfile.ErrFormat, file.Attributes["buckets"], file.Attributes["pieces"])
	}
	f.share = float32(share)
	if f.known, err = decodeKnown(part["hashes"], part["idf"]); err != nil {
		return err
	}
	if share == 0 {
		return nil
	}
	if f.pieces, err = static.Load(); err != nil {
		return err
	}
	if got, want := file.Attributes["static"], f.pieces.Identity().Digest; got != want {
		return fmt.Errorf("%w: trained over the static model %.64q, this is %s", modelfile.ErrMismatch, got, want)
	}
	for i := 0; i+4 <= len(part["tokens"]); i += 4 {
		token := binary.LittleEndian.Uint32(part["tokens"][i:])
		if int64(token) >= int64(f.pieces.Vocabulary().Size()) || i > 0 && int32(token) <= f.tokens[len(f.tokens)-1] {
			return fmt.Errorf("%w: token %d", modelfile.ErrFormat, token)
		}
		f.tokens = append(f.tokens, int32(token))
	}
	f.indexTokens()
	return nil
}

func decodeFloats(name string, b []byte, rows int) ([]float32, error) {
	if len(b) != 4*rows*encode.Dimensions {
		return nil, fmt.Errorf("%w: %s has %d bytes, want %d rows of %d numbers", modelfile.ErrFormat, name, len(b), rows, encode.Dimensions)
	}
	xs := make([]float32, rows*encode.Dimensions)
	for i := range xs {
		xs[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
		if math.IsNaN(float64(xs[i])) || math.IsInf(float64(xs[i]), 0) {
			return nil, fmt.Errorf("%w: %s, number %d is %v", modelfile.ErrFormat, name, i, xs[i])
		}
	}
	return xs, nil
}
