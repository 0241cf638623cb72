package reports

import (
	"fmt"
	"io"
	"os"

	"github.com/assay-bench/assay/results"
)

// headline is a whole format: one file with a type and this line of registration. Every test of
// this package that loops over the formats now covers it, the golden and the hostile one included.
type headline struct{}

var _ = add(headline{})

func (headline) Name() string { return "headline" }

func (headline) Write(w io.Writer, b *results.Bundle) error {
	m := build(b) // the model has clean strings, joined rows, counts and the outcome
	_, err := fmt.Fprintf(w, "%s %s. %s\n", m.Digest, m.Plan(), m.verdictLine())
	return err
}

// A new format is one file. It is found by its name.
func Example() {
	f, err := Find("headline")
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := f.Write(os.Stdout, empty()); err != nil {
		fmt.Println(err)
	}
	// Output: not sealed 0 planned (0 standard, 0 house), 0 left out, 0 not runnable here, profile quick, seed 7. NOTHING PROVEN: Nothing was executed, so this run says nothing about the target. [exit 4]
}
