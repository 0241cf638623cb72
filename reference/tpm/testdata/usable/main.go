// Command usable prints which TPM backends work and why the others do not.
package main

import (
	"context"
	"fmt"

	"github.com/assay-bench/assay/reference/tpm"
)

func main() {
	for _, f := range tpm.Probe(context.Background()) {
		if f.Err != nil {
			fmt.Printf("%s: %v\n", f.Backend, f.Err)
			continue
		}
		fmt.Printf("%s: works\n", f.Backend)
	}
}
