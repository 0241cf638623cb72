// Package dataset holds labelled texts with a fixed split, and hands out the test split once, after the configuration
// that is to be measured is written down. It trains and measures nothing.
package dataset

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
)

// Out is the class of a text that no class serves.
const Out = -1

// Example is a text and the index of its class, or Out.
type Example struct {
	Text  string
	Class int
}

// Dataset is labelled texts with a fixed split. The test split is sealed: see Open.
type Dataset struct {
	Name, Digest, Attribution string
	Classes                   []string
	Train, Validation         []Example // both may also hold what is out of scope
	test                      []Example
	opened                    bool
}

// Errors of this package.
var (
	ErrShots    = errors.New("too few examples of a class")
	ErrData     = errors.New("not a data set of this form")
	ErrTestRead = errors.New("the test split was read already: a figure read twice is a figure chosen")
)

// New seals test in a data set. Classes of examples index classes.
func New(d Dataset, test []Example) (*Dataset, error) {
	for _, e := range slices.Concat(d.Train, d.Validation, test) {
		if e.Class < Out || e.Class >= len(d.Classes) {
			return nil, fmt.Errorf("%w: %q is of class %d of %d", ErrData, e.Text, e.Class, len(d.Classes))
		}
	}
	if len(d.Train) == 0 || len(d.Validation) == 0 || len(test) == 0 {
		return nil, fmt.Errorf("%w: a split of %s is empty", ErrData, d.Name)
	}
	d.test = test
	return &d, nil
}

// Open returns the test split, once: it first writes the digest of the configuration that is to be measured to log,
// so that the log shows that the choice came before the reading. Later calls return ErrTestRead.
func (d *Dataset) Open(log io.Writer, configuration any) ([]Example, error) {
	if d.opened {
		return nil, fmt.Errorf("%s: %w", d.Name, ErrTestRead)
	}
	digest, err := Digest(configuration)
	if err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(log, "configuration %s is fixed; the test split of %s (%s) is read now\n", digest, d.Name, d.Digest); err != nil {
		return nil, err
	}
	d.opened = true
	return d.test, nil
}

// Digest returns the hex SHA-256 of a value's JSON.
func Digest(v any) (string, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}

// InScope returns the examples that have a class, OutOfScope the others.
func InScope(es []Example) []Example    { return filter(es, true) }
func OutOfScope(es []Example) []Example { return filter(es, false) }

func filter(es []Example, in bool) []Example {
	return slices.DeleteFunc(slices.Clone(es), func(e Example) bool { return (e.Class != Out) != in })
}

// clincFile is the file of CLINC150 that LoadCLINC150 reads, and how large it may be.
const (
	clincFile     = "data_full.json"
	clincMaxBytes = 64 << 20
)

// LoadCLINC150 reads data_full.json of CLINC150 (Larson et al. 2019, CC BY 3.0) from a directory. A missing file is
// an error that wraps fs.ErrNotExist.
func LoadCLINC150(dir string) (*Dataset, error) {
	path := filepath.Join(dir, clincFile)
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > clincMaxBytes {
		return nil, fmt.Errorf("%w: %s has %d bytes, at most %d", ErrData, path, info.Size(), clincMaxBytes)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	d, err := ParseCLINC150(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return d, nil
}

// ParseCLINC150 reads the JSON object split → array of [text, intent].
func ParseCLINC150(b []byte) (*Dataset, error) {
	var splits map[string][][2]string
	dec := json.NewDecoder(bytes.NewReader(b))
	if err := dec.Decode(&splits); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrData, err)
	}
	sum := sha256.Sum256(b)
	d := Dataset{
		Name: "CLINC150", Digest: hex.EncodeToString(sum[:]),
		Attribution: "An Evaluation Dataset for Intent Classification and Out-of-Scope Prediction (Larson et al., EMNLP 2019), clinc/oos-eval, CC BY 3.0, https://creativecommons.org/licenses/by/3.0/",
	}
	for _, row := range splits["train"] {
		d.Classes = append(d.Classes, row[1])
	}
	slices.Sort(d.Classes)
	d.Classes = slices.Compact(d.Classes)
	part := func(in, out string) (es []Example, err error) {
		for _, name := range []string{in, out} {
			for i, row := range splits[name] {
				class, found := slices.BinarySearch(d.Classes, row[1])
				if name == out {
					class, found = Out, true
				}
				if !found {
					return nil, fmt.Errorf("%w: %s, entry %d: intent %q has no training text", ErrData, name, i, row[1])
				}
				es = append(es, Example{row[0], class})
			}
		}
		return es, nil
	}
	var err, err2, err3 error
	d.Train, err = part("train", "oos_train")
	d.Validation, err2 = part("val", "oos_val")
	test, err3 := part("test", "oos_test")
	if err := errors.Join(err, err2, err3); err != nil {
		return nil, err
	}
	return New(d, test)
}

// Shots draws n examples of each class that has any, without repetition, by seed.
func Shots(examples []Example, classes, n int, seed uint64) ([]Example, error) {
	by := make([][]Example, classes)
	for _, x := range examples {
		if x.Class != Out {
			by[x.Class] = append(by[x.Class], x)
		}
	}
	random := rand.New(rand.NewPCG(seed, uint64(n)))
	var out []Example
	for class, es := range by {
		if len(es) == 0 {
			continue
		}
		if len(es) < n {
			return nil, fmt.Errorf("%w: class %d has %d, want %d", ErrShots, class, len(es), n)
		}
		random.Shuffle(len(es), func(i, j int) { es[i], es[j] = es[j], es[i] })
		out = append(out, es[:n]...)
	}
	return out, nil
}

// Shuffled returns the examples with their classes exchanged at random: what a router learns from them must be worth
// nothing, or the measurement leaks.
func Shuffled(examples []Example, seed uint64) []Example {
	out := slices.Clone(examples)
	rand.New(rand.NewPCG(seed, 0x5eed)).Shuffle(len(out), func(i, j int) { out[i].Class, out[j].Class = out[j].Class, out[i].Class })
	return out
}
