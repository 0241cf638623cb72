// Package encode says what a text encoder is: text in, a unit vector of 128 numbers out. It knows no policies and
// no thresholds, opens no files and no sockets.
package encode

import (
	"errors"
	"fmt"
)

// Dimensions is the length of every vector (spec router/vector/dimension).
const Dimensions = 128

// MaxTextBytes is the longest text that an encoder takes; a longer one is refused whole with ErrTextTooLong,
// because a vector of its beginning would be a vector of another text (spec router/vector/long-input).
const MaxTextBytes = 1 << 20

// ErrTextTooLong is wrapped by the error for a text of more than MaxTextBytes.
var ErrTextTooLong = errors.New("text too long")

// Identity says which model made a vector. Vectors of different digests are not comparable.
type Identity struct {
	Name       string `json:"name"`
	Version    string `json:"version"`
	Digest     string `json:"digest"` // hex SHA-256 of the model file's bytes
	Dimensions int    `json:"dimensions"`
}

// Encoder is a model of one version: tokenizer, feature weights and table in one. It is safe for concurrent use.
type Encoder interface {
	Identity() Identity
	// NewSession makes the scratch of one goroutine.
	NewSession() Session
}

// Session is an encoder with the scratch of one goroutine; in steady state it allocates nothing.
type Session interface {
	// Encode writes the vector of text, of norm 1, to dst (length Dimensions) and returns how many different
	// features of text the model knows. With 0 of them dst is zeroed: the text has no vector, and the caller
	// abstains. Errors wrap ErrTextTooLong; then dst is untouched.
	Encode(dst []float32, text string) (known int, err error)
}

// Features turns a text into the bag that an embedding table is summed by. Scratch of one goroutine.
type Features interface {
	// Bag returns the ids of the known features of text in ascending order, each once, and their weights. Both
	// stay the Features' own and are valid until the next call. Errors are those of Session.Encode.
	Bag(text string) (ids []int64, weights []float32, err error)
}

// Bagged is an Encoder that is an embedding bag, vector = normalise(Σ weight × row), so that another engine can
// run the sum.
type Bagged interface {
	Encoder
	NewFeatures() Features
	// Table returns the rows one after the other, Dimensions numbers each. It is shared: read only.
	Table() []float32
}

// CheckLength returns nil or the error for a text that is too long.
func CheckLength(text string) error {
	if len(text) > MaxTextBytes {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTextTooLong, len(text), MaxTextBytes)
	}
	return nil
}
