package proxywasm

import (
	"errors"
	"fmt"

	"github.com/tetratelabs/wazero/api"
)

const (
	fuelGlobal    = "__assay_fuel"
	startFunction = "__assay_start"
	meterModule   = "assay_meter"
	refillName    = "refill"

	fuelSlice = 100_000 // units between two refills: short enough for the collector's stop-the-world
)

// defaultFuel is what one call into a filter may use without Options.Meter, in units of the rewriter.
const defaultFuel = 500_000_000

// ErrFuel ends a call that used all of its fuel.
var ErrFuel = errors.New("fuel exhausted")

// Meter supplies rewritten guests with fuel. The filter calls it under its lock: an implementation that
// serves one filter needs no lock of its own.
type Meter interface {
	// Begin is called before each call into the guest, also before its start function runs.
	Begin(guest api.Module)
	// Refill is called when the guest's fuel ran below zero. It adds to the guest's __assay_fuel, or
	// returns an error, which ends the call as a trap and wraps into the error that the filter reports.
	Refill(guest api.Module) error
}

// fuelMeter gives each call into the guest the same amount of fuel, in slices.
type fuelMeter struct {
	perCall int64
	left    int64
}

// NewFuelMeter returns a Meter that allows perCall units a call.
func NewFuelMeter(perCall int64) Meter { return &fuelMeter{perCall: perCall} }

// Begin grants the first slice.
func (m *fuelMeter) Begin(guest api.Module) {
	m.left = m.perCall
	if fuel, ok := guest.ExportedGlobal(fuelGlobal).(api.MutableGlobal); ok {
		fuel.Set(api.EncodeI64(m.take()))
	}
}

// Refill grants the next slice, less what the guest overdrew. It returns ErrFuel when nothing is left.
func (m *fuelMeter) Refill(guest api.Module) error {
	fuel, ok := guest.ExportedGlobal(fuelGlobal).(api.MutableGlobal)
	if !ok {
		return fmt.Errorf("refill: global %s is not exported", fuelGlobal)
	}
	have := int64(fuel.Get())
	for have < 0 { // a bulk operation may have cost more than a slice
		slice := m.take()
		if slice == 0 {
			return ErrFuel
		}
		have += slice
	}
	fuel.Set(api.EncodeI64(have))
	return nil
}

func (m *fuelMeter) take() int64 {
	n := min(m.left, fuelSlice)
	m.left -= n
	return n
}
