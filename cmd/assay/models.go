package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-bench/assay/fixtures/routes"
	"github.com/assay-bench/assay/models/dataset"
	"github.com/assay-bench/assay/models/encode"
	"github.com/assay-bench/assay/models/engine/ort"
	"github.com/assay-bench/assay/models/eval"
	"github.com/assay-bench/assay/models/ngram"
	"github.com/assay-bench/assay/models/static"
	"github.com/assay-bench/assay/models/transformer"
)

// designClaim is what the design of the router promises; it is printed beside every figure, never in its place.
const designClaim = "The design claims 92.4 % routing accuracy. The figures above are measured; the claim is printed for comparison only."

func (a *app) modelsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "models", GroupID: "about", Args: none,
		Short: "measure the router's text models, or fetch the optional teacher",
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.modelsEvalCommand(), a.modelsPullCommand())
	return cmd
}

// modelsEvalFlags are the flags of assay models eval.
type modelsEvalFlags struct {
	data, model, out string
	teacher          string // file
	seeds            int
	json             bool
}

func (a *app) modelsEvalCommand() *cobra.Command {
	var f modelsEvalFlags
	cmd := &cobra.Command{
		Use: "eval", Args: none,
		Short: "print accuracy, abstention, calibration and baselines of a text model",
		Long: `eval trains or prepares a model on the training split, takes thresholds from the validation
split, logs the configuration's digest and then reads the test split, once.

Without --data it measures on the corpus of service routes that comes with assay; --data names a
directory with data_full.json of CLINC150 (CC BY 3.0).

  static  the embedded model: prototypes from 10 examples a class, no training
  ngram   hashed n-grams and word pieces, trained on the training split
  teacher the sentence transformer of --teacher in ONNX Runtime: prototypes from 10 examples a class`,
		Example: "  assay models eval\n  assay models eval --data ../clinc150 --model ngram --seeds 5 -o accuracy.md",
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.evalModels(cmd.Context(), f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.data, "data", "", "directory of CLINC150 (default: assay's own corpus)")
	fl.StringVar(&f.model, "model", "", "static, ngram or teacher (default: the first two)")
	fl.StringVar(&f.teacher, "teacher", "", "file that assay models pull has fetched")
	fl.IntVar(&f.seeds, "seeds", 3, "seeds to train and draw examples with")
	fl.BoolVar(&f.json, "json", false, "print JSON in place of Markdown")
	fl.StringVarP(&f.out, "out", "o", "", "file to write to; NAME.md also gives NAME.json of the same run (default: standard output)")
	return cmd
}

func (a *app) evalModels(ctx context.Context, f modelsEvalFlags) error {
	if f.seeds < 1 || f.seeds > 100 {
		return usagef("--seeds is %d, want 1 to 100", f.seeds)
	}
	names := []string{"static", "ngram"}
	if f.model != "" {
		names = []string{f.model}
	}
	var reports []*eval.Report
	for _, name := range names {
		d, err := loadTexts(f.data)
		if err != nil {
			return usage(err)
		}
		plan, err := planOf(name, d, f, a.err)
		if err != nil {
			return usage(err)
		}
		r, err := eval.Measure(ctx, d, plan)
		if err != nil {
			return err
		}
		reports = append(reports, r)
	}
	markdown := func(w io.Writer) error { return eval.WriteMarkdown(w, reports, designClaim) }
	asJSON := func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", " ")
		return e.Encode(reports)
	}
	base, both := strings.CutSuffix(f.out, ".md")
	switch {
	case f.out == "" && f.json:
		return asJSON(a.out)
	case f.out == "":
		return markdown(a.out)
	case f.json:
		return writeWhole(f.out, asJSON)
	case both:
		if err := writeWhole(base+".json", asJSON); err != nil {
			return err
		}
	}
	return writeWhole(f.out, markdown)
}

// loadTexts reads CLINC150 from a directory, or assay's own corpus for none.
func loadTexts(dir string) (*dataset.Dataset, error) {
	if dir != "" {
		return dataset.LoadCLINC150(dir)
	}
	c, err := routes.Load()
	if err != nil {
		return nil, err
	}
	d := dataset.Dataset{Name: "assay routes", Digest: routes.Digest()}
	var test []dataset.Example
	for class, r := range c.Routes {
		d.Classes = append(d.Classes, r.ID)
		d.Train = append(d.Train, labelled(class, r.Train)...)
		d.Validation = append(d.Validation, labelled(class, r.Validation)...)
		test = append(test, labelled(class, r.Test)...)
	}
	d.Validation = append(d.Validation, labelled(dataset.Out, c.Validation)...)
	return dataset.New(d, append(test, labelled(dataset.Out, c.Test)...))
}

func labelled(class int, texts []string) []dataset.Example {
	out := make([]dataset.Example, len(texts))
	for i, t := range texts {
		out[i] = dataset.Example{Text: t, Class: class}
	}
	return out
}

// shotsOfStatic is how many examples a class the static model's router is made from.
const shotsOfStatic = 10

// planOf says how a model is measured.
func planOf(name string, d *dataset.Dataset, f modelsEvalFlags, log io.Writer) (eval.Plan, error) {
	p := eval.Plan{Model: name, Log: log, Now: time.Now, CPU: spentCPU, AddedShots: 5}
	for i := range f.seeds {
		p.Seeds = append(p.Seeds, uint64(i+1))
	}
	switch name {
	case "static":
		m, err := static.Load()
		if err != nil {
			return p, err
		}
		fewShots(&p, m)
	case "teacher":
		m, err := openTeacher(f.teacher)
		if err != nil {
			return p, err
		}
		fewShots(&p, eval.Remember(m)) // it reads a text in milliseconds
	case "ngram":
		c := ngram.DefaultConfig(0)
		c.Attribution = d.Attribution
		p.Configuration = map[string]any{"model": "ngram", "training": c, "quantile": eval.Quantile}
		p.Learn = func(train []dataset.Example, classes int, seed uint64) (*eval.Prototypes, error) {
			return trainTower(d.Classes, train, c, seed)
		}
	default:
		return p, fmt.Errorf("--model is %q, want static, ngram or teacher", name)
	}
	return p, nil
}

// fewShots makes a plan that of prototypes from a few examples.
func fewShots(p *eval.Plan, e encode.Encoder) {
	p.Configuration = map[string]any{"model": e.Identity(), "shots": shotsOfStatic, "quantile": eval.Quantile}
	p.Shots, p.Few = []int{1, 5, 10}, e
	p.Learn = func(train []dataset.Example, classes int, seed uint64) (*eval.Prototypes, error) {
		return fewOf(e, train, classes, seed)
	}
}

// openTeacher opens the sentence transformer of a file in ONNX Runtime.
func openTeacher(path string) (*transformer.Model, error) {
	if path == "" {
		return nil, errors.New("--model teacher wants --teacher FILE: assay models pull fetches it")
	}
	file, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	library, err := ort.Open("")
	if err != nil {
		return nil, err
	}
	m, err := transformer.Open(file, library)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// fewOf makes prototypes from a few examples of each class that has any.
func fewOf(m encode.Encoder, train []dataset.Example, classes int, seed uint64) (*eval.Prototypes, error) {
	shots, err := dataset.Shots(train, classes, shotsOfStatic, seed)
	if err != nil {
		return nil, err
	}
	return eval.NewPrototypes(m, classes, shots)
}

func trainTower(names []string, train []dataset.Example, c ngram.Config, seed uint64) (*eval.Prototypes, error) {
	c.Seed = seed
	examples := make([]ngram.Example, len(train))
	for i, x := range train {
		examples[i] = ngram.Example{Text: x.Text, Class: x.Class}
	}
	m, err := ngram.Train(names, examples, c)
	if err != nil {
		return nil, err
	}
	return &eval.Prototypes{Encoder: m, Rows: m.Prototypes()}, nil
}
