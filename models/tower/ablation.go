package tower

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"text/template"
	"time"

	"github.com/assay-bench/assay/models/encode"
	"github.com/assay-bench/assay/models/engine"
)

// The synthetic task: the text says which of the topics, the access times say which part of the week, and a
// route is both. Nothing else says the part of the week, so that whoever does not see the times guesses it.
const (
	parts  = 3 // of the week: office hours, nights, the weekend
	routes = len(topics) * parts
)

// topics are phrases, the last quarter of them held out of training.
var topics = [...][12]string{
	{
		"show me the latest invoice", "when is the payment due", "download my billing statement", "update the credit card on file",
		"why was I charged twice", "apply a discount code", "refund my last order", "change the billing address",
		"list unpaid invoices", "send the receipt again", "split the bill by department", "cancel my subscription plan",
	},
	{
		"restart the failing server", "check disk usage on the host", "why is the deployment stuck", "roll back to the last release",
		"scale the cluster to five nodes", "show the error logs", "rotate the access keys", "is the database healthy",
		"drain this node", "what changed in the last deploy", "open an incident", "increase the memory limit",
	},
	{
		"translate this paragraph to French", "summarise the meeting notes", "correct the grammar of my letter", "write a short product description",
		"make this text more polite", "what does this word mean", "draft a reply to the customer", "turn the bullet points into prose",
		"shorten the article", "suggest a title for my essay", "rewrite it for children", "explain the idiom",
	},
	{
		"book a flight to Berlin", "find a hotel near the station", "is my train on time", "rent a car for the weekend",
		"change the seat on my flight", "how far is the airport", "plan a route through the city", "reserve a table for two",
		"cancel the hotel room", "which gate does the plane leave from", "buy a ticket for the museum", "order a taxi for tomorrow",
	},
}

const held = 3 // phrases of each topic that training does not see

// Task is the synthetic task with the vectors of its phrases.
type Task struct {
	vectors [len(topics)][len(topics[0])][]float32
	text    string // digest of the text encoder's model
}

// NewTask encodes the phrases. Errors are the encoder's.
func NewTask(e encode.Encoder) (*Task, error) {
	t, s := &Task{text: e.Identity().Digest}, e.NewSession()
	for i, phrases := range topics {
		for j, phrase := range phrases {
			t.vectors[i][j] = make([]float32, engine.Dimension)
			if known, err := s.Encode(t.vectors[i][j], phrase); err != nil || known == 0 {
				return nil, fmt.Errorf("%q: %d known features: %w", phrase, known, err)
			}
			coarse(t.vectors[i][j])
		}
	}
	return t, nil
}

// coarse rounds a vector to steps of 1/256 and normalises it, so that the bytes of what is trained do not hang on
// the order of the encoder's sums.
func coarse(v []float32) {
	for i, x := range v {
		v[i] = float32(math.Round(float64(x)*256) / 256)
	}
	norm := engine.Norm(v)
	for i, x := range v {
		v[i] = float32(float64(x) / norm)
	}
}

// Routes returns the number of routes.
func (t *Task) Routes() int { return routes }

// Train returns examples, which depend on the seed alone.
func (t *Task) Train(seed uint64, n int) ([]Example, error) {
	return t.examples(seed, n, 0, len(topics[0])-held)
}

// Test returns examples with phrases that Train does not use.
func (t *Task) Test(seed uint64, n int) ([]Example, error) {
	return t.examples(seed+1<<32, n, len(topics[0])-held, held)
}

func (t *Task) examples(seed uint64, n, first, count int) ([]Example, error) {
	r := rand.New(rand.NewPCG(seed, 0x73796e74))
	out := make([]Example, n)
	for i := range out {
		topic, part := r.IntN(len(topics)), r.IntN(parts)
		out[i].Route = topic*parts + part
		req := request(r, part)
		if err := out[i].Input.Set(&req, t.vectors[topic][first+r.IntN(count)]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// strays is the share of access times that are of any part of the week.
const strays = 0.3

// request returns a request most of whose access times are of one part of the week, and whose other fields
// say nothing of it.
func request(r *rand.Rand, part int) Request {
	agents := []string{"Mozilla/5.0 (X11; Linux x86_64)", "Mozilla/5.0 (iPhone) Mobile", "curl/8.5.0", "Googlebot/2.1", ""}
	var days [12]float64
	for i := range days {
		days[i] = moment(r, part)
		if r.Float64() < strays {
			days[i] = moment(r, r.IntN(parts))
		}
	}
	monday := time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)
	q := Request{
		URL: fmt.Sprintf("/v%d/x", r.IntN(4)), UserAgent: agents[r.IntN(len(agents))], Region: fmt.Sprintf("r%d", r.IntN(8)),
		ASN: uint32(64500 + r.IntN(30)), Latency: time.Duration(r.ExpFloat64() * float64(20*time.Millisecond)),
		ErrorCode: []int{0, 0, 0, 404, 503}[r.IntN(5)],
	}
	for week, d := range days[:1+r.IntN(len(days))] { // one access a week, the last is the request
		at := monday.AddDate(0, 0, 7*week).Add(time.Duration(d * 24 * float64(time.Hour)))
		q.Accesses, q.At = append(q.Accesses, at), at
	}
	q.Accesses = q.Accesses[:len(q.Accesses)-1]
	return q
}

// moment returns a day of the week, 0 to 7, of a part.
func moment(r *rand.Rand, part int) float64 {
	switch part {
	case 0: // Monday to Friday, 9 to 17
		return float64(r.IntN(5)) + (9+8*r.Float64())/24
	case 1: // Monday to Friday, 22 to 5
		return math.Min(float64(r.IntN(5))+(22+7*r.Float64())/24, 4.99+0.01*r.Float64())
	}
	return 5 + 2*r.Float64()
}

// Accuracy returns on how many examples the nearest prototype is the route's.
func (m *Model) Accuracy(examples []Example) (right int, err error) {
	p, err := m.Prototypes()
	if err != nil {
		return 0, err
	}
	var work pass
	scores := make([]float32, m.routes)
	for i := range examples {
		m.forward(&work, &examples[i].Input)
		if err := p.Score(work.vector[:], scores); err != nil {
			return 0, err
		}
		best := 0
		for r, s := range scores {
			if s > scores[best] {
				best = r
			}
		}
		if best == examples[i].Route {
			right++
		}
	}
	return right, nil
}

// Result is one seed of the ablation.
type Result struct {
	Seed    uint64        `json:"seed"`
	N       int           `json:"n"`
	With    int           `json:"rightWithTime"`
	Without int           `json:"rightWithoutTime"`
	Trained time.Duration `json:"trainedNanos"` // with time
}

// Ablation says what time features give on the synthetic task, and only there: no public set of requests has
// access times and routes, so nothing is claimed of real traffic (spec row router/vector/time-ablation).
type Ablation struct {
	Synthetic bool     `json:"synthetic"` // always
	Text      string   `json:"text"`      // digest of the text encoder's model
	Train     int      `json:"train"`
	Routes    int      `json:"routes"`
	Results   []Result `json:"results"`
}

// Ablate trains with and without access times, on the same examples and from the same seed, for each seed.
func Ablate(ctx context.Context, task *Task, train, test int, seeds ...uint64) (*Ablation, error) {
	a := &Ablation{Synthetic: true, Train: train, Routes: task.Routes(), Text: task.text}
	for _, seed := range seeds {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		r, err := task.ablate(seed, train, test)
		if err != nil {
			return nil, err
		}
		a.Results = append(a.Results, r)
	}
	return a, nil
}

func (t *Task) ablate(seed uint64, train, test int) (Result, error) {
	r := Result{Seed: seed, N: test}
	examples, err := t.Train(seed, train)
	if err != nil {
		return r, err
	}
	unseen, err := t.Test(seed, test)
	if err != nil {
		return r, err
	}
	for _, way := range []struct {
		noTime bool
		right  *int
	}{{false, &r.With}, {true, &r.Without}} {
		start := time.Now()
		m, err := Train(examples, t.Routes(), Training{Seed: seed, NoTime: way.noTime})
		if err != nil {
			return r, err
		}
		if !way.noTime {
			r.Trained = time.Since(start)
		}
		if *way.right, err = m.Accuracy(unseen); err != nil {
			return r, err
		}
	}
	return r, nil
}

// Markdown writes the ablation as a table.
func (a *Ablation) Markdown(w io.Writer) error { return ablation.Execute(w, a) }

var ablation = template.Must(template.New("ablation").Funcs(template.FuncMap{
	"percent": func(right, n int) string {
		return fmt.Sprintf("%.1f %% ± %.1f", 100*float64(right)/float64(n), interval(right, n))
	},
	"seconds": func(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) },
}).Parse(`# Access times in the request encoder: an ablation on synthetic requests

**Synthetic.** {{.Routes}} routes; a phrase says which of four topics, the access times alone say which of three parts of the week (three in ten of them stray), and a
route is both. So the table shows that Time2Vec's gradient, export and engines carry what access times hold. It does not show that real traffic holds anything: no
public set of requests has access times and routes. Each row trains the towers twice on the same {{.Train}} examples from the same seed and tests with phrases that training
did not see; without times, Time2Vec's output is zero in training and in use. Text vectors are those of the model {{printf "%.12s" .Text}}.

| seed | test | with access times | without | training |
|--:|--:|--:|--:|--:|
{{range .Results}}| {{.Seed}} | {{.N}} | {{percent .With .N}} | {{percent .Without .N}} | {{seconds .Trained}} |
{{end}}
Guessing the part of the week gives a third where the topic is always right. Intervals are binomial, 95 %.
`))

// interval is half the 95 % interval of a share in percent, by Wald.
func interval(right, n int) float64 {
	p := float64(right) / float64(n)
	return 196 * math.Sqrt(p*(1-p)/float64(n))
}
