// Command train writes synthetic.onnx, the shipped towers. It runs in models/tower.
package main

import (
	"fmt"
	"os"

	"github.com/assay-bench/assay/models/static"
	"github.com/assay-bench/assay/models/tower"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "train:", err)
		os.Exit(1)
	}
}

func run() error {
	text, err := static.Load()
	if err != nil {
		return err
	}
	task, err := tower.NewTask(text)
	if err != nil {
		return err
	}
	b, err := tower.TrainShipped(task)
	if err != nil {
		return err
	}
	return os.WriteFile("synthetic.onnx", b, 0o644)
}
