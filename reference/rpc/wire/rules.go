package wire

import "github.com/assay-bench/assay/reference/defect"

// Limits of a correct implementation.
const (
	DefaultMaxFrame = 16 << 20 // bytes of LENGTH, of a frame length, or of a buffered message
	DefaultMaxDepth = 64       // levels of structs and containers; the argument struct is level 1
	maxElements     = 1 << 16  // decoded list, map and operation entries of one message
)

// Rules are the limits that decoders apply, and the planted defects that weaken them.
type Rules struct {
	MaxFrame int
	MaxDepth int
	Defects  defect.Set
}

// NewRules returns the rules for a maximum frame size in bytes; 0 means DefaultMaxFrame.
func NewRules(maxFrame int, defects defect.Set) Rules {
	r := Rules{MaxFrame: maxFrame, MaxDepth: DefaultMaxDepth, Defects: defects}
	if r.MaxFrame == 0 {
		r.MaxFrame = DefaultMaxFrame
	}
	if defects.On(defect.NestingStrict) {
		r.MaxDepth = 32
	}
	if defects.On(defect.NestingUnbounded) {
		r.MaxDepth = 1 << 12 // enough to serve what must be refused, too little to exhaust a stack
	}
	return r
}

// CheckLength refuses a LENGTH or frame length over the limit. Call it before anything is allocated.
func (r Rules) CheckLength(length uint32) error {
	if uint64(length) > uint64(r.MaxFrame) {
		return refuse(ReasonTooLarge, "length %d is over the limit of %d bytes", length, r.MaxFrame)
	}
	return nil
}
