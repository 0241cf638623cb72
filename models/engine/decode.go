package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// MaxModelBytes bounds a model that Decode reads. Parsing takes at most a few tens of times as much memory.
const MaxModelBytes = 1 << 20

// ErrFormat is wrapped by the errors of Decode for bytes that are not a model of a known format.
var ErrFormat = errors.New("not a model of a known format")

// layerJSON is Layer as it is written down.
type layerJSON struct {
	Weights    [][]float32 `json:"weights"`
	Bias       []float32   `json:"bias"`
	Activation string      `json:"activation"`
}

// Decode reads a network in the engine's own format, a JSON object:
//
//	{"name": "m", "layers": [{"weights": [[1, 2], [3, 4]], "bias": [0, 1], "activation": "relu"}]}
//
// weights[i][j] leads from input i to output j; bias and activation may be missing (zero, identity). Errors
// wrap ErrFormat where the bytes are no such object; otherwise they are those of NewMLP.
func Decode(b []byte) (Model, error) {
	if len(b) > MaxModelBytes {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrFormat, len(b), MaxModelBytes)
	}
	var doc struct {
		Name   string      `json:"name"`
		Layers []layerJSON `json:"layers"`
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&doc); err != nil {
		return nil, fmt.Errorf("%w: offset %d: %w", ErrFormat, d.InputOffset(), err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: offset %d: more than one value", ErrFormat, d.InputOffset())
	}
	layers := make([]Layer, 0, len(doc.Layers))
	for i, l := range doc.Layers {
		a, err := activationOf(l.Activation)
		if err != nil {
			return nil, fmt.Errorf("%s: layer %d: %w", doc.Name, i, err)
		}
		layers = append(layers, Layer{Weights: l.Weights, Bias: l.Bias, Activation: a})
	}
	return NewMLP(doc.Name, layers...)
}

func activationOf(name string) (Activation, error) {
	if name == "" {
		return Identity, nil
	}
	i := slices.Index(activations[:], name)
	if i < 0 {
		return 0, fmt.Errorf("unknown activation %q", name)
	}
	return Activation(i), nil
}
