package dataset_test

import (
	"bytes"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/models/dataset"
)

func text(s string, class int) dataset.Example { return dataset.Example{Text: s, Class: class} }

func tiny(t *testing.T) *dataset.Dataset {
	t.Helper()
	d, err := dataset.New(dataset.Dataset{
		Name: "tiny", Digest: "d", Classes: []string{"mail", "rain"},
		Train:      []dataset.Example{text("send an email", 0), text("write a letter", 0), text("will it rain", 1), text("is it sunny", 1)},
		Validation: []dataset.Example{text("mail this", 0), text("snow tomorrow", 1), text("who was napoleon", dataset.Out)},
	}, []dataset.Example{text("reply to the message", 0), text("weather forecast", 1), text("what is a prime", dataset.Out)})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestTestSplitIsReadOnce proves router/decide/selection-on-validation: the configuration's digest stands in the log
// before the split is handed out, and there is no second time.
func TestTestSplitIsReadOnce(t *testing.T) {
	d := tiny(t)
	var log bytes.Buffer
	test, err := d.Open(&log, map[string]int{"a": 1})
	if err != nil || len(test) != 3 {
		t.Fatalf("%v, %v", test, err)
	}
	digest, err := dataset.Digest(map[string]int{"a": 1})
	if err != nil || !strings.Contains(log.String(), digest) {
		t.Errorf("log %q, digest %s", log.String(), digest)
	}
	if _, err := d.Open(&log, nil); !errors.Is(err, dataset.ErrTestRead) {
		t.Errorf("second reading: %v", err)
	}
	if _, err := tiny(t).Open(broken{}, nil); err == nil {
		t.Error("the split is read although nothing is logged")
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, fs.ErrClosed }

func TestShots(t *testing.T) {
	d := tiny(t)
	a, err := dataset.Shots(d.Train, 2, 1, 7)
	b, err2 := dataset.Shots(d.Train, 2, 1, 7)
	if err != nil || err2 != nil || !cmp.Equal(a, b) || len(a) != 2 || a[0].Class == a[1].Class {
		t.Errorf("%v %v %v", a, b, err)
	}
	if _, err := dataset.Shots(d.Train, 2, 3, 7); !errors.Is(err, dataset.ErrShots) {
		t.Errorf("too few: %v", err)
	}
	if s := dataset.Shuffled(d.Train, 1); cmp.Equal(s, d.Train) || len(s) != len(d.Train) {
		t.Errorf("%v", s)
	}
}

func TestNewDatasetRefuses(t *testing.T) {
	one := []dataset.Example{text("a", 0)}
	for name, c := range map[string]struct {
		d    dataset.Dataset
		test []dataset.Example
	}{
		"no test":       {dataset.Dataset{Classes: []string{"a"}, Train: one, Validation: one}, nil},
		"no training":   {dataset.Dataset{Classes: []string{"a"}, Validation: one}, one},
		"no such class": {dataset.Dataset{Classes: []string{"a"}, Train: one, Validation: one}, []dataset.Example{text("b", 1)}},
	} {
		if _, err := dataset.New(c.d, c.test); !errors.Is(err, dataset.ErrData) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := dataset.LoadCLINC150(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func FuzzParseCLINC150(f *testing.F) {
	f.Add([]byte(`{"train":[["a","x"],["b","y"]],"val":[["c","x"]],"oos_val":[["d","oos"]],"test":[["e","y"]],"oos_test":[]}`))
	f.Add([]byte(`{"train":[],"val":[["c","x"]]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := dataset.ParseCLINC150(b)
		if err != nil {
			if !errors.Is(err, dataset.ErrData) {
				t.Errorf("untyped error %v", err)
			}
			return
		}
		if len(d.Train) == 0 || len(d.Classes) == 0 {
			t.Errorf("%+v", d)
		}
	})
}
