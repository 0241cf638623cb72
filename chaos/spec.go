package chaos

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// Spec asks for one fault. Magnitude is in the SI base unit of the fault: seconds for a delay or a
// pause, a plain fraction for a loss rate. The catalogue says which.
type Spec struct {
	Name      string
	Magnitude float64
}

var specName = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*(/[a-z0-9]+(-[a-z0-9]+)*)+$`)

const maxSpec = 128 // bytes; the longest name in the catalogue is far below

// String returns the form that ParseSpec reads: "net/delay=0.05", or the bare name when the
// magnitude is zero.
func (s Spec) String() string {
	if s.Magnitude == 0 {
		return s.Name
	}
	return s.Name + "=" + strconv.FormatFloat(s.Magnitude, 'g', -1, 64)
}

// ParseSpec reads "name=magnitude". A name without magnitude has magnitude zero. Negative and
// non-finite magnitudes, hexadecimal floats and digit separators are refused.
func ParseSpec(text string) (Spec, error) {
	if len(text) > maxSpec {
		return Spec{}, fmt.Errorf("fault of %d bytes: longer than %d", len(text), maxSpec)
	}
	name, number, given := strings.Cut(text, "=")
	if !specName.MatchString(name) {
		return Spec{}, fmt.Errorf("fault %q: name is not of the form group/name in lower case", text)
	}
	if !given {
		return Spec{Name: name}, nil
	}
	if strings.ContainsAny(number, "xX_") {
		return Spec{}, fmt.Errorf("fault %q: magnitude is not a decimal number", text)
	}
	magnitude, err := strconv.ParseFloat(number, 64)
	if err != nil || math.IsNaN(magnitude) || math.IsInf(magnitude, 0) {
		return Spec{}, fmt.Errorf("fault %q: magnitude is not a finite decimal number", text)
	}
	if math.Signbit(magnitude) {
		return Spec{}, fmt.Errorf("fault %q: magnitude is negative", text)
	}
	return Spec{Name: name, Magnitude: magnitude}, nil
}
