package ngram

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/blas/gonum"

	"github.com/assay-bench/assay/models/encode"
)

// maxBuckets bounds a table at half a gigabyte.
const maxBuckets = 1 << 20

// Config is how a model is trained.
type Config struct {
	Seed         uint64  `json:"seed"`
	Buckets      int     `json:"buckets"`   // rows of hashed n-grams
	Pieces       float32 `json:"pieces"`    // share of the bag's squared norm that word pieces take, 0 for none
	PieceNorm    float32 `json:"pieceNorm"` // root mean square norm at which their rows start
	Epochs       int     `json:"epochs"`
	LearningRate float32 `json:"learningRate"` // of AdaGrad, falling linearly to 0
	Scale        float32 `json:"scale"`        // of the cosines in the softmax
	Dropout      float64 `json:"dropout"`      // share of features left out of a step
	Smoothing    float32 `json:"smoothing"`    // of the labels
	Margin       float32 `json:"margin"`       // by which the right cosine must win
	Repeats      int     `json:"repeats"`      // how often an epoch takes a request without class, 0 for never
	Attribution  string  `json:"attribution"`  // of the training texts, as their licence asks
}

// DefaultConfig is what was chosen on the validation split of CLINC150 (see MODEL_CARD.md).
func DefaultConfig(seed uint64) Config {
	return Config{Seed: seed, Buckets: 16384, Pieces: 0.5, PieceNorm: 1, Epochs: 8, LearningRate: 0.1, Scale: 12, Dropout: 0.5, Repeats: 5}
}

// String returns the configuration as JSON.
func (c Config) String() string {
	b, err := json.Marshal(c)
	if err != nil {
		return err.Error() // a NaN, which check refuses
	}
	return string(b)
}

func (c Config) check(examples []Example, classes int) error {
	if c.Buckets < 1 || c.Buckets > maxBuckets || c.Epochs < 1 || !(c.Scale > 0) || !(c.LearningRate > 0) ||
		!(c.Dropout >= 0 && c.Dropout < 1) || !(c.Smoothing >= 0 && c.Smoothing < 1) || !(c.Pieces >= 0 && c.Pieces < 1) || c.Repeats < 0 || c.Repeats > 1000 {
		return fmt.Errorf("%w: configuration %s", ErrTraining, c)
	}
	if len(examples) == 0 || classes < 2 {
		return fmt.Errorf("%w: %d examples of %d classes", ErrTraining, len(examples), classes)
	}
	for _, x := range examples {
		if x.Class < None || x.Class >= classes {
			return fmt.Errorf("%w: %q is of class %d of %d", ErrTraining, x.Text, x.Class, classes)
		}
		if err := encode.CheckLength(x.Text); err != nil {
			return err
		}
	}
	return nil
}

const dim = encode.Dimensions

// blas is gonum's own implementation: fixed order, so that a seed gives the same bits.
var blas gonum.Implementation

// trainer holds the state of a run.
type trainer struct {
	Config
	random     *rand.Rand
	bags       []sparse
	class      []int
	table      []float32
	tableSum   []float32 // AdaGrad: sum of squared gradients of a row
	prototypes []float32
	protoSum   []float32

	// scratch of a step
	kept     sparse
	unit     []float32 // prototypes with norm 1
	norm     []float32
	z, grad  []float32
	cosine   []float32
	delta    []float32
	protoRow []float32
}

type sparse struct {
	ids     []int32
	weights []float32
}

// Train learns a model from examples. The same arguments give the same model. Errors wrap ErrTraining or
// encode.ErrTextTooLong.
func Train(classes []string, examples []Example, c Config) (*Model, error) {
	if err := c.check(examples, len(classes)); err != nil {
		return nil, err
	}
	f, err := newFeatures(examples, c)
	if err != nil {
		return nil, err
	}
	t := newTrainer(f, classes, examples, c)
	order := orderOf(examples, c.Repeats)
	steps, step := float32(c.Epochs*len(order)), 0
	for range c.Epochs {
		t.random.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, i := range order {
			t.step(i, c.LearningRate*(1-float32(step)/steps))
			step++
		}
	}
	m := &Model{Classes: slices.Clone(classes), features: f, table: t.table, prototypes: t.prototypes, config: c}
	for _, row := range m.Prototypes() {
		encode.Normalize(row)
	}
	b, err := m.File()
	if err != nil {
		return nil, err
	}
	return Decode(b) // what is served is what is stored
}

// orderOf returns the indices of the examples that an epoch takes, in order.
func orderOf(examples []Example, repeats int) []int {
	var order []int
	for i, x := range examples {
		if x.Class != None {
			order = append(order, i)
			continue
		}
		order = append(order, slices.Repeat([]int{i}, repeats)...)
	}
	return order
}

func newTrainer(f features, classes []string, examples []Example, c Config) *trainer {
	t := &trainer{
		Config: c, random: rand.New(rand.NewPCG(c.Seed, 0x61737361)),
		table: make([]float32, f.rows()*dim), tableSum: make([]float32, f.rows()),
		prototypes: make([]float32, len(classes)*dim), protoSum: make([]float32, len(classes)),
		unit: make([]float32, len(classes)*dim), norm: make([]float32, len(classes)),
		z: make([]float32, dim), grad: make([]float32, dim), protoRow: make([]float32, dim),
		cosine: make([]float32, len(classes)), delta: make([]float32, len(classes)),
	}
	t.fill(t.table[:f.buckets*dim], 0.05)
	t.fill(t.prototypes, 0.1)
	t.startPieces(f)
	b := f.bagger()
	for _, x := range examples {
		bag := b.Bag(x.Text)
		s := sparse{weights: slices.Clone(bag.Weights)}
		for _, id := range bag.IDs {
			s.ids = append(s.ids, int32(id))
		}
		t.bags, t.class = append(t.bags, s), append(t.class, x.Class)
	}
	for k := range classes {
		t.renorm(k)
	}
	return t
}

func (t *trainer) fill(xs []float32, deviation float64) {
	for i := range xs {
		xs[i] = float32(t.random.NormFloat64() * deviation)
	}
}

// startPieces copies the rows of the static model, scaled to the wanted norm.
func (t *trainer) startPieces(f features) {
	if len(f.tokens) == 0 {
		return
	}
	var squares float64
	for i, token := range f.tokens {
		row := t.table[(f.buckets+i)*dim:][:dim]
		copy(row, f.pieces.Row(int(token)))
		squares += float64(blas.Sdot(dim, row, 1, row, 1))
	}
	scale := t.PieceNorm / float32(math.Sqrt(squares/float64(len(f.tokens))))
	blas.Sscal(len(f.tokens)*dim, scale, t.table[f.buckets*dim:], 1)
}

// renorm writes the prototype of class k with norm 1 to unit.
func (t *trainer) renorm(k int) {
	p, u := t.prototypes[k*dim:][:dim], t.unit[k*dim:][:dim]
	t.norm[k] = float32(math.Sqrt(float64(blas.Sdot(dim, p, 1, p, 1)))) + 1e-12
	copy(u, p)
	blas.Sscal(dim, 1/t.norm[k], u, 1)
}

// step takes one example.
func (t *trainer) step(i int, rate float32) {
	t.drop(t.bags[i])
	if len(t.kept.ids) == 0 {
		return
	}
	length := t.embed()
	t.softmax(t.class[i])
	t.learnPrototypes(rate)
	// the gradient through z = u/|u|
	blas.Saxpy(dim, -blas.Sdot(dim, t.grad, 1, t.z, 1), t.z, 1, t.grad, 1)
	blas.Sscal(dim, 1/length, t.grad, 1)
	square := blas.Sdot(dim, t.grad, 1, t.grad, 1) / dim
	for j, id := range t.kept.ids {
		w := t.kept.weights[j]
		t.tableSum[id] += w * w * square
		blas.Saxpy(dim, -rate*w/sqrt(t.tableSum[id]), t.grad, 1, t.table[int(id)*dim:], 1)
	}
}

func sqrt(x float32) float32 { return float32(math.Sqrt(float64(x))) + 1e-8 }

// drop keeps each feature with probability 1 - Dropout.
func (t *trainer) drop(b sparse) {
	t.kept.ids, t.kept.weights = t.kept.ids[:0], t.kept.weights[:0]
	for j, id := range b.ids {
		if t.Dropout == 0 || t.random.Float64() >= t.Dropout {
			t.kept.ids, t.kept.weights = append(t.kept.ids, id), append(t.kept.weights, b.weights[j])
		}
	}
}

// embed sets z to the vector of the kept features and returns its length before it was normalised.
func (t *trainer) embed() float32 {
	clear(t.z)
	for j, id := range t.kept.ids {
		blas.Saxpy(dim, t.kept.weights[j], t.table[int(id)*dim:], 1, t.z, 1)
	}
	length := float32(math.Sqrt(float64(blas.Sdot(dim, t.z, 1, t.z, 1)))) + 1e-12
	blas.Sscal(dim, 1/length, t.z, 1)
	return length
}

// softmax sets cosine, and delta to the gradient of the loss by each cosine.
func (t *trainer) softmax(class int) {
	classes := len(t.cosine)
	top := float32(math.Inf(-1))
	for k := range t.cosine {
		t.cosine[k] = blas.Sdot(dim, t.unit[k*dim:], 1, t.z, 1)
		t.delta[k] = t.Scale * t.cosine[k]
		if k == class {
			t.delta[k] -= t.Scale * t.Margin
		}
		top = max(top, t.delta[k])
	}
	var sum float32
	for k := range t.delta {
		t.delta[k] = float32(math.Exp(float64(t.delta[k] - top)))
		sum += t.delta[k]
	}
	for k := range t.delta {
		want := t.Smoothing / float32(classes)
		switch class {
		case k:
			want += 1 - t.Smoothing
		case None:
			want = 1 / float32(classes)
		}
		t.delta[k] = t.Scale * (t.delta[k]/sum - want)
	}
}

// negligible is the gradient below which a class is left alone.
const negligible = 1e-3

// learnPrototypes moves the prototypes and sets grad to the gradient by z.
func (t *trainer) learnPrototypes(rate float32) {
	clear(t.grad)
	for k, d := range t.delta {
		if d < negligible && d > -negligible {
			continue
		}
		unit := t.unit[k*dim:][:dim]
		blas.Saxpy(dim, d, unit, 1, t.grad, 1)
		copy(t.protoRow, t.z)
		blas.Saxpy(dim, -t.cosine[k], unit, 1, t.protoRow, 1)
		g := d / t.norm[k]
		t.protoSum[k] += g * g * blas.Sdot(dim, t.protoRow, 1, t.protoRow, 1) / dim
		blas.Saxpy(dim, -rate*g/sqrt(t.protoSum[k]), t.protoRow, 1, t.prototypes[k*dim:], 1)
		t.renorm(k)
	}
}
