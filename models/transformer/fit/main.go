// Command fit makes the projection of package transformer from the teacher that `assay models pull` fetches and from
// texts on standard input, one a line. The one that is embedded is of the training requests of assay's own corpus:
//
//	awk '/^\[/{n=0;next} NF&&!/^#/&&n++<10' fixtures/routes/routes.txt | go run ./models/transformer/fit TEACHER.onnx models/transformer/projection.model
package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/assay-bench/assay/models/engine/ort"
	"github.com/assay-bench/assay/models/transformer"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "fit:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: fit TEACHER.onnx projection.model < texts")
	}
	file, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	texts, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	library, err := ort.Open("")
	if err != nil {
		return err
	}
	m, err := transformer.Open(file, library)
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(string(texts)), "\n")
	b, err := m.Fit(lines, map[string]string{
		"teacher": fmt.Sprintf("%x", sha256.Sum256(file)), "texts": fmt.Sprintf("%d, SHA-256 %x", len(lines), sha256.Sum256(texts)),
		"method": "128 directions of most energy, no mean taken off", "licence": "Apache-2.0",
	})
	if err != nil {
		return err
	}
	return os.WriteFile(args[1], b, 0o644)
}
