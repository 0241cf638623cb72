package eval

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/assay-bench/assay/models/dataset"
	"github.com/assay-bench/assay/models/encode"
)

// Choices that every report shares.
const (
	Quantile       = 0.05 // share of validation texts in scope that the threshold refuses
	neighbours     = 10
	bins           = 15
	curvePoints    = 40
	mostConfusions = 15
	addedRoutes    = 10 // classes that are held out and added, one at a time
	shuffleSeed    = 1
)

// Plan is a measurement. Nothing of it may depend on the test split.
type Plan struct {
	Model         string                                                                       // name, for the reader
	Configuration any                                                                          // what was chosen on validation; its digest is logged before the test split is read
	Seeds         []uint64                                                                     // at least one
	Learn         func(train []dataset.Example, classes int, seed uint64) (*Prototypes, error) // deterministic
	Shots         []int                                                                        // n-shot figures with the encoder Few; nil for none
	Few           encode.Encoder                                                               // an encoder that has seen no training text; nil without Shots
	AddedShots    int                                                                          // examples of each route that is added to a trained router; 0 for no such figure
	Log           io.Writer
	Now           func() time.Time
	CPU           func() time.Duration // of this process so far, user and system
}

// Seeded is one seed's result.
type Seeded struct {
	Seed           uint64    `json:"seed"`
	ModelDigest    string    `json:"modelDigest"`
	Seconds        float64   `json:"trainSeconds"`
	CPU            float64   `json:"trainCPUSeconds,omitempty"` // 0: not known
	Validation     Rate      `json:"validation"`
	Accuracy       Rate      `json:"accuracy"`
	Threshold      Threshold `json:"threshold"`
	Recall         Rate      `json:"outOfScopeRecall"`
	FalseRejection Rate      `json:"falseRejection"`
	Kept           Rate      `json:"accuracyOfKept"`
	ECE            float64   `json:"ece"`
	Scale          float64   `json:"scale"` // of the confidences, from validation
	AURC           float64   `json:"aurc"`
}

// Baseline is another router on the same texts.
type Baseline struct {
	Name     string `json:"name"`
	Accuracy Rate   `json:"accuracy"`
}

// NShot is the accuracy of prototypes from n examples a class.
type NShot struct {
	N      int       `json:"n"`
	Mean   float64   `json:"mean"`
	Spread float64   `json:"spread"` // sample standard deviation over the seeds
	Each   []float64 `json:"each"`
}

// Added is what happens when a route is added to a trained router from a few examples.
type Added struct {
	Routes      int     `json:"routes"` // each added alone
	Shots       int     `json:"shots"`
	New         Rate    `json:"newRouteAccuracy"`
	LargestDrop float64 `json:"largestDropOfOldRoutes"`
}

// Named is a confusion with the names of its classes.
type Named struct {
	Truth, Answer string
	Count         int
	Example       string
}

// Report is a whole measurement.
type Report struct {
	Model         string     `json:"model"`
	Data          string     `json:"data"`
	DataDigest    string     `json:"dataDigest"`
	Attribution   string     `json:"attribution"`
	Configuration any        `json:"configuration"`
	ConfigDigest  string     `json:"configurationDigest"`
	Classes       int        `json:"classes"`
	Train         int        `json:"trainTexts"`
	TestIn        int        `json:"testInScope"`
	TestOut       int        `json:"testOutOfScope"`
	Seeds         []Seeded   `json:"seeds"`
	Mean          float64    `json:"meanAccuracy"`
	Spread        float64    `json:"spreadOfSeeds"`
	MeanRecall    float64    `json:"meanOutOfScopeRecall"`
	MeanRejection float64    `json:"meanFalseRejection"`
	Baselines     []Baseline `json:"baselines"`
	Shuffled      Rate       `json:"shuffledLabels"`
	Shots         []NShot    `json:"shots,omitempty"`
	Added         *Added     `json:"routeAdded,omitempty"`
	Bins          []Bin      `json:"reliability"`  // of the first seed
	Curve         []Point    `json:"riskCoverage"` // of the first seed
	Confusions    []Named    `json:"confusions"`   // of the first seed
}

// fixed is everything that is decided before the test split is opened.
type fixed struct {
	routers  []*Prototypes
	shuffled *Prototypes
	shots    map[int][]*Prototypes
	added    *adding
}

// Measure trains by the plan, takes thresholds and scales from validation, then reads the test split, once.
func Measure(ctx context.Context, d *dataset.Dataset, p Plan) (*Report, error) {
	if len(p.Seeds) == 0 {
		return nil, fmt.Errorf("%w: no seeds", dataset.ErrData)
	}
	r := &Report{
		Model: p.Model, Data: d.Name, DataDigest: d.Digest, Attribution: d.Attribution, Configuration: p.Configuration,
		Classes: len(d.Classes), Train: len(d.Train),
	}
	f, err := r.fix(ctx, d, p)
	if err != nil {
		return nil, err
	}
	if r.ConfigDigest, err = dataset.Digest(p.Configuration); err != nil {
		return nil, err
	}
	test, err := d.Open(p.Log, p.Configuration)
	if err != nil {
		return nil, err
	}
	return r, r.measure(ctx, d, p, f, test)
}

// fix does everything that precedes the test split.
func (r *Report) fix(ctx context.Context, d *dataset.Dataset, p Plan) (f fixed, err error) {
	for _, seed := range p.Seeds {
		if err := ctx.Err(); err != nil {
			return f, err
		}
		begin, spent := p.Now(), p.CPU()
		router, err := p.Learn(d.Train, len(d.Classes), seed)
		if err != nil {
			return f, err
		}
		s := Seeded{Seed: seed, ModelDigest: router.Encoder.Identity().Digest, Seconds: p.Now().Sub(begin).Seconds(), CPU: (p.CPU() - spent).Seconds()}
		if s.Scale, err = router.FitScale(d.Validation); err != nil {
			return f, err
		}
		ds, err := router.Decide(d.Validation, s.Scale)
		if err != nil {
			return f, err
		}
		s.Validation, s.Threshold = Accuracy(ds), NewThreshold("validation", ds, Quantile)
		r.Seeds, f.routers = append(r.Seeds, s), append(f.routers, router)
		if _, err := fmt.Fprintf(p.Log, "seed %d: model %.12s, %.1f s (CPU %.1f s), validation %.2f %%\n", seed, s.ModelDigest, s.Seconds, s.CPU, 100*s.Validation.Share()); err != nil {
			return f, err
		}
	}
	if f.shuffled, err = p.Learn(dataset.Shuffled(d.Train, shuffleSeed), len(d.Classes), p.Seeds[0]); err != nil {
		return f, err
	}
	if f.added, err = newAdding(d, p); err != nil {
		return f, err
	}
	f.shots, err = fewShots(d, p)
	return f, err
}

func fewShots(d *dataset.Dataset, p Plan) (map[int][]*Prototypes, error) {
	out := map[int][]*Prototypes{}
	for _, n := range p.Shots {
		for _, seed := range p.Seeds {
			shots, err := dataset.Shots(d.Train, len(d.Classes), n, seed)
			if err != nil {
				return nil, err
			}
			router, err := NewPrototypes(p.Few, len(d.Classes), shots)
			if err != nil {
				return nil, err
			}
			out[n] = append(out[n], router)
		}
	}
	return out, nil
}

func (r *Report) measure(ctx context.Context, d *dataset.Dataset, p Plan, f fixed, test []dataset.Example) error {
	r.TestIn, r.TestOut = len(dataset.InScope(test)), len(dataset.OutOfScope(test))
	var accuracy []float64
	for i := range r.Seeds {
		ds, err := f.routers[i].Decide(test, r.Seeds[i].Scale)
		if err != nil {
			return err
		}
		r.Seeds[i].judge(ds)
		accuracy = append(accuracy, r.Seeds[i].Accuracy.Share())
		r.MeanRecall += r.Seeds[i].Recall.Share() / float64(len(r.Seeds))
		r.MeanRejection += r.Seeds[i].FalseRejection.Share() / float64(len(r.Seeds))
		if i == 0 {
			r.detail(d, ds)
		}
	}
	r.Mean, r.Spread = meanSpread(accuracy)
	if err := ctx.Err(); err != nil {
		return err
	}
	return r.compare(d, p, f, test)
}

func (s *Seeded) judge(ds []Decision) {
	a := Abstain(ds, s.Threshold)
	s.Accuracy, s.Recall, s.FalseRejection, s.Kept = Accuracy(ds), a.Recall, a.FalseRejection, a.Kept
	_, s.ECE = calibrate(ds, bins)
	_, s.AURC = RiskCoverage(ds, curvePoints)
}

// detail fills what is shown of the first seed alone.
func (r *Report) detail(d *dataset.Dataset, ds []Decision) {
	r.Bins, _ = calibrate(ds, bins)
	r.Curve, _ = RiskCoverage(ds, curvePoints)
	for _, c := range confusions(ds)[:min(mostConfusions, len(confusions(ds)))] {
		r.Confusions = append(r.Confusions, Named{d.Classes[c.Truth], d.Classes[c.Answer], c.Count, c.Example})
	}
}

// compare fills baselines, the control and the figures from few examples.
func (r *Report) compare(d *dataset.Dataset, p Plan, f fixed, test []dataset.Example) error {
	in := dataset.InScope(test)
	near, err := nearest(f.routers[0].Encoder, d.Train, in, len(d.Classes), neighbours)
	if err != nil {
		return err
	}
	r.Baselines = []Baseline{
		{"oracle", Accuracy(oracle(in))},
		{fmt.Sprintf("k-nn over the training texts, k=%d", neighbours), Accuracy(near)},
		{"random", Accuracy(randomly(in, len(d.Classes), p.Seeds[0]))},
		{"zero (most frequent class)", Accuracy(constant(d.Train, in))},
	}
	ds, err := f.shuffled.Decide(in, 0)
	if err != nil {
		return err
	}
	r.Shuffled = Accuracy(ds)
	if r.Added, err = f.added.measure(in); err != nil {
		return err
	}
	for _, n := range p.Shots {
		s := NShot{N: n}
		for _, router := range f.shots[n] {
			ds, err := router.Decide(in, 0)
			if err != nil {
				return err
			}
			s.Each = append(s.Each, Accuracy(ds).Share())
		}
		s.Mean, s.Spread = meanSpread(s.Each)
		r.Shots = append(r.Shots, s)
	}
	return nil
}
