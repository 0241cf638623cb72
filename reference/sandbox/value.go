package sandbox

import (
	"fmt"
	"math"
	"strconv"

	"github.com/tetratelabs/wazero/api"
)

// valueTypes are the types of plain arguments and results, by their names.
var valueTypes = [...]struct {
	name string
	kind api.ValueType
}{{"i32", api.ValueTypeI32}, {"i64", api.ValueTypeI64}, {"f32", api.ValueTypeF32}, {"f64", api.ValueTypeF64}}

// parseValue reads a decimal number of a type. Integers may be signed or unsigned.
func parseValue(kind api.ValueType, text string) (uint64, error) {
	switch kind {
	case api.ValueTypeI32:
		v, err := strconv.ParseInt(text, 10, 64)
		if err != nil || v < math.MinInt32 || v > math.MaxUint32 {
			return 0, fmt.Errorf("%w: %q is no i32", ErrArguments, clip(text))
		}
		return uint64(uint32(v)), nil
	case api.ValueTypeI64:
		if v, err := strconv.ParseInt(text, 10, 64); err == nil {
			return uint64(v), nil
		}
		v, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%w: %q is no i64", ErrArguments, clip(text))
		}
		return v, nil
	case api.ValueTypeF32:
		v, err := strconv.ParseFloat(text, 32)
		if err != nil {
			return 0, fmt.Errorf("%w: %q is no f32", ErrArguments, clip(text))
		}
		return api.EncodeF32(float32(v)), nil
	case api.ValueTypeF64:
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return 0, fmt.Errorf("%w: %q is no f64", ErrArguments, clip(text))
		}
		return api.EncodeF64(v), nil
	}
	return 0, fmt.Errorf("%w: type %s cannot be given", ErrArguments, api.ValueTypeName(kind))
}

// formatValue writes a value as decimal; floats in the shortest form, nan and inf by name.
func formatValue(kind api.ValueType, v uint64) string {
	switch kind {
	case api.ValueTypeI32:
		return strconv.FormatInt(int64(int32(uint32(v))), 10)
	case api.ValueTypeI64:
		return strconv.FormatInt(int64(v), 10)
	case api.ValueTypeF32:
		return formatFloat(float64(api.DecodeF32(v)), 32)
	case api.ValueTypeF64:
		return formatFloat(api.DecodeF64(v), 64)
	}
	return strconv.FormatUint(v, 10)
}

func formatFloat(v float64, bits int) string {
	switch {
	case math.IsNaN(v):
		return "nan"
	case math.IsInf(v, 1):
		return "inf"
	case math.IsInf(v, -1):
		return "-inf"
	}
	return strconv.FormatFloat(v, 'g', -1, bits)
}

func typeNames(kinds []api.ValueType) []string {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = api.ValueTypeName(k)
	}
	return names
}

// clip bounds text from outside before it goes into an error.
func clip(text string) string {
	const most = 64
	if len(text) > most {
		return text[:most] + "..."
	}
	return text
}
