package eval

import (
	"fmt"
	"io"
	"strings"
)

// WriteMarkdown renders reports one after the other; notes stand at the end, a line each. The output is a function of
// its arguments.
func WriteMarkdown(w io.Writer, reports []*Report, notes ...string) error {
	var b strings.Builder
	b.WriteString("# Accuracy of the text router\n")
	for _, r := range reports {
		r.markdown(&b)
	}
	if len(notes) > 0 {
		b.WriteString("\n## Notes\n\n")
		for _, n := range notes {
			fmt.Fprintf(&b, "* %s\n", n)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Report) markdown(b *strings.Builder) {
	fmt.Fprintf(b, "\n## %s on %s\n\n", r.Model, r.Data)
	fmt.Fprintf(b, "%d classes, %d training texts; test: %d in scope, %d out of scope. Data digest %s.\nConfiguration %s, fixed on validation before the test split was read once.\n",
		r.Classes, r.Train, r.TestIn, r.TestOut, r.DataDigest, r.ConfigDigest)
	if r.Attribution != "" {
		fmt.Fprintf(b, "Data: %s.\n", r.Attribution)
	}
	fmt.Fprintf(b, "\n**In scope %.2f %%** (mean of %d seeds, standard deviation %.2f); out-of-scope recall %.1f %% at %.1f %% false rejection.\n\n",
		100*r.Mean, len(r.Seeds), 100*r.Spread, 100*r.MeanRecall, 100*r.MeanRejection)
	r.seeds(b)
	r.others(b)
	r.curves(b)
}

func percent(r Rate) string {
	return fmt.Sprintf("%.2f %% [%.2f, %.2f]", 100*r.Share(), 100*r.Low, 100*r.High)
}

func (s Seeded) cpu() string {
	if s.CPU == 0 {
		return "not known"
	}
	return fmt.Sprintf("%.1f s", s.CPU)
}

func (r *Report) seeds(b *strings.Builder) {
	b.WriteString("| seed | model | training | CPU | validation | test, 95 % interval | threshold (split, quantile) | out-of-scope recall | false rejection | accuracy of the kept | ECE | AURC |\n|--:|---|--:|--:|--:|---|---|---|---|---|--:|--:|\n")
	for _, s := range r.Seeds {
		fmt.Fprintf(b, "| %d | %.12s | %.1f s | %s | %.2f %% | %s | %.4f (%s, %g) | %s | %s | %s | %.3f | %.4f |\n", s.Seed, s.ModelDigest, s.Seconds, s.cpu(), 100*s.Validation.Share(),
			percent(s.Accuracy), s.Threshold.Value, s.Threshold.Split, s.Threshold.Quantile, percent(s.Recall), percent(s.FalseRejection), percent(s.Kept), s.ECE, s.AURC)
	}
}

func (r *Report) others(b *strings.Builder) {
	b.WriteString("\n| beside it | in scope |\n|---|---|\n")
	for _, x := range r.Baselines {
		fmt.Fprintf(b, "| %s | %s |\n", x.Name, percent(x.Accuracy))
	}
	fmt.Fprintf(b, "| trained on shuffled labels (must stay under 5 %%) | %s |\n", percent(r.Shuffled))
	for _, s := range r.Shots {
		fmt.Fprintf(b, "| prototypes of the %s model from %d examples a class, %d seeds | %.2f %% ± %.2f |\n", r.Model, s.N, len(s.Each), 100*s.Mean, 100*s.Spread)
	}
	if a := r.Added; a != nil {
		fmt.Fprintf(b, "| %d routes added one at a time from %d examples, without training: their own texts | %s |\n| the most that one of them costs the old routes | %.2f points |\n",
			a.Routes, a.Shots, percent(a.New), 100*a.LargestDrop)
	}
}

func (r *Report) curves(b *strings.Builder) {
	fmt.Fprintf(b, "\nRisk and coverage of seed %d (an answer to an out-of-scope text is wrong):\n\n| coverage | risk |\n|--:|--:|\n", r.Seeds[0].Seed)
	for _, p := range r.Curve {
		fmt.Fprintf(b, "| %.1f %% | %.2f %% |\n", 100*p.Coverage, 100*p.Risk)
	}
	b.WriteString("\nReliability (texts in scope):\n\n| texts | mean confidence | accuracy |\n|--:|--:|--:|\n")
	for _, x := range r.Bins {
		if x.N > 0 {
			fmt.Fprintf(b, "| %d | %.3f | %.3f |\n", x.N, x.Confidence, x.Accuracy)
		}
	}
	b.WriteString("\nWhich were wrong, the most frequent first:\n\n| is | was answered | times |\n|---|---|--:|\n")
	for _, c := range r.Confusions {
		fmt.Fprintf(b, "| %s | %s | %d |\n", c.Truth, c.Answer, c.Count)
	}
}
