package tower

import (
	_ "embed"
	"sync"

	"github.com/assay-bench/assay/models/onnx"
)

//go:generate go run ./train

//go:embed synthetic.onnx
var shipped []byte

// The training of the shipped towers.
const (
	ShippedSeed     = 1
	ShippedExamples = 2000
)

// File returns the shipped towers as an ONNX file, to publish or to check. They were trained on the synthetic
// task alone (see MODEL_CARD.md). It is shared: read only.
func File() []byte { return shipped }

// Shipped returns the shipped towers. Text vectors are to be those of the model in their metadata "text".
func Shipped() (*onnx.Model, error) { return parse() }

var parse = sync.OnceValues(func() (*onnx.Model, error) { return onnx.Parse(shipped) })

// TrainShipped trains the shipped towers and returns their file. The same text model gives the same bytes on one
// architecture.
func TrainShipped(task *Task) ([]byte, error) {
	examples, err := task.Train(ShippedSeed, ShippedExamples)
	if err != nil {
		return nil, err
	}
	m, err := Train(examples, task.Routes(), Training{Seed: ShippedSeed})
	if err != nil {
		return nil, err
	}
	o, err := m.Export(map[string]string{"text": task.text, "training": "synthetic"})
	if err != nil {
		return nil, err
	}
	return onnx.Marshal(o)
}
