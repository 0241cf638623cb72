//go:build !cgo

package tpm

import (
	"context"
	"errors"
)

const simulatorBuilt = false

func openSimulator(context.Context) (backend, error) { return nil, errors.New(noSimulator) }
