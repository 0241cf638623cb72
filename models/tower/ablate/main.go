// Command ablate prints what access times give the request encoder on synthetic requests, with and without
// them, as Markdown.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/assay-bench/assay/models/static"
	"github.com/assay-bench/assay/models/tower"
)

func main() { os.Exit(run()) }

func run() int {
	if err := ablate(); err != nil {
		fmt.Fprintln(os.Stderr, "ablate:", err)
		return 1
	}
	return 0
}

func ablate() error {
	text, err := static.Load()
	if err != nil {
		return err
	}
	task, err := tower.NewTask(text)
	if err != nil {
		return err
	}
	a, err := tower.Ablate(context.Background(), task, 4000, 2000, 1, 2, 3, 4, 5)
	if err != nil {
		return err
	}
	return a.Markdown(os.Stdout)
}
