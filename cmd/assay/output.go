package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/assay-bench/assay/results"
)

// writeWhole writes a file that is there whole or not at all.
func writeWhole(path string, write func(io.Writer) error) error {
	var buf bytes.Buffer
	if err := write(&buf); err != nil {
		return err
	}
	return writeOutput(path, buf.Bytes())
}

// writeOutput writes what a user asked for to a path of their own. /dev/null, /dev/stdout and pipes are written to: a file
// that took their place would break more than this run.
func writeOutput(path string, data []byte) error {
	info, err := os.Stat(path)
	if err != nil || info.Mode().IsRegular() && filepath.Dir(path) != "/dev" {
		return results.WriteFileAtomic(path, data)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}
