//go:build !linux

package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
)

var errNoCgroup = fmt.Errorf("cgroups on %s: %w", runtime.GOOS, errors.ErrUnsupported)

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func cgroupThaw(context.Context, string) error   { return errNoCgroup }
func cgroupEmpty(string, string) error           { return errNoCgroup }
func cgroupRemove(context.Context, string) error { return errNoCgroup }
